//! The rows of the table.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Command, Stdio};

/// One figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// The baseline's value, in the same unit, from the same run.
    pub(crate) baseline: Option<f64>,
    /// The value divided by the baseline's.
    pub(crate) ratio: Option<f64>,
    /// If the value counts only the time in which the measured side had work: the ratio by the
    /// clock.
    #[serde(default)]
    pub(crate) wall_ratio: Option<f64>,
    /// The least ratio aimed at; for bytes, the largest value.
    pub(crate) aim: Option<f64>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &str, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.to_owned(),
            baseline: None,
            ratio: None,
            wall_ratio: None,
            aim: None,
        }
    }

    pub(crate) fn against(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self.ratio = Some(self.value / baseline);
        self
    }

    /// Adds the value by the clock, after [`Row::against`].
    pub(crate) fn wall(mut self, value: f64) -> Self {
        self.wall_ratio = self.baseline.map(|baseline| value / baseline);
        self
    }

    pub(crate) fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    /// Prints the row for the parent process.
    pub(crate) fn emit(&self) {
        println!("{}", serde_json::to_string(self).unwrap());
    }

    /// Returns whether the aim is met, for the table.
    fn verdict(&self) -> &'static str {
        let reached = match (self.aim, self.ratio) {
            (None, _) => return "",
            (Some(aim), _) if self.unit == "bytes" => self.value <= aim,
            (Some(aim), Some(ratio)) => ratio >= aim,
            (Some(_), None) => return "",
        };
        if reached { "reached" } else { "missed" }
    }
}

/// Reports that a measurement can't run here.
pub(crate) fn skip(what: &str, why: &str) {
    println!("{SKIPPED}{what}: {why}");
}

/// The rows and skipped measurements.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    skipped: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    /// Runs a measurement in a child process.
    pub(crate) fn run(&mut self, name: &str, mut command: Command) {
        eprintln!("==> measuring: {name}");
        let command = command.args(["--measure", name]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program runs");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines
            .map_while(Result::ok)
            .for_each(|line| self.line(&line));
        if !child.wait().unwrap().success() {
            self.failed.push(name.to_owned());
        }
    }

    /// Parses a line of a measurement's output.
    pub(crate) fn line(&mut self, line: &str) {
        if let Ok(row) = serde_json::from_str(line) {
            self.rows.push(row);
        } else if let Some(what) = line.strip_prefix(SKIPPED) {
            self.skipped.push(what.to_owned());
        } else {
            eprintln!("{line}");
        }
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<62} {:>12} {:<12} {:>12} {:>6} {:>6} {:>6}",
            "name", "value", "unit", "baseline", "ratio", "wall", "aim"
        );
        for row in &self.rows {
            let some = |value: Option<f64>, digits| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let digits = if row.value < 1000.0 { 2 } else { 0 };
            println!(
                "{:<62} {:>12.digits$} {:<12} {:>12} {:>6} {:>6} {:>6} {}",
                row.name,
                row.value,
                row.unit,
                some(row.baseline, digits),
                some(row.ratio, 3),
                some(row.wall_ratio, 3),
                some(row.aim, 2),
                row.verdict()
            );
        }
        for what in &self.skipped {
            println!("{SKIPPED}{what}");
        }
        for what in &self.failed {
            println!("FAILED {what}");
        }
    }

    pub(crate) fn write(&self, to: &Path) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, serde_json::to_string_pretty(&self.rows).unwrap() + "\n").unwrap();
        println!("written: {}", to.display());
    }

    pub(crate) fn failed(&self) -> bool {
        !self.failed.is_empty()
    }
}

/// Returns the median.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const SKIPPED: &str = "SKIPPED ";
