//! Findings, as lines and as JSON.

use core::fmt;

use serde::Serialize;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works; there may be something better.
    Note,
    /// Works badly, or doesn't work for some clients.
    Warning,
    /// The appliance doesn't start, or serves nothing.
    Fault,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub level: Level,
    /// What was checked, as `port p0` or `core 2`.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do about it, if something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The command line that does it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Finding {
    pub(super) fn new(
        level: Level,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            level,
            subject: subject.into(),
            message: message.into(),
            advice: None,
            command: None,
        }
    }

    pub(super) fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Level::Ok, subject, message)
    }

    pub(super) fn note(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Level::Note, subject, message)
    }

    pub(super) fn warning(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, subject, message)
    }

    pub(super) fn fault(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Level::Fault, subject, message)
    }

    /// Returns `message; advice: command`.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        for (separator, part) in [("; ", &self.advice), (": ", &self.command)] {
            if let Some(part) = part {
                text.push_str(separator);
                text.push_str(part);
            }
        }
        text
    }

    /// Adds what to do.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Adds what to do, and the command line for it.
    pub(super) fn run(self, advice: impl Into<String>, command: impl Into<String>) -> Self {
        let mut advised = self.advise(advice);
        advised.command = Some(command.into());
        advised
    }
}

impl fmt::Display for Finding {
    /// `level subject: message; advice: command`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.level.name(), self.subject, self.text())
    }
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// Returns whether the appliance can't start or can't serve.
    pub fn has_faults(&self) -> bool {
        self.findings.iter().any(|f| f.level == Level::Fault)
    }

    /// Returns a JSON document with the same findings.
    pub fn to_json(&self) -> String {
        // A structure of strings can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    /// One line for each finding: `level subject: message; advice: command`, the subjects and
    /// messages aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |finding: &Finding| finding.subject.chars().count() + 1;
        let width = self.findings.iter().map(width).max().unwrap_or_default();
        for finding in &self.findings {
            let subject = format!("{}:", finding.subject);
            write!(f, "{:<7}  {subject:<width$}  ", finding.level.name())?;
            // Names of files and interfaces may contain anything.
            writeln!(f, "{}", finding.text().replace(char::is_control, "?"))?;
        }
        Ok(())
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}
