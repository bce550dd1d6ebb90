//! Counters as a table, and as JSON for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, json};

use super::protocol::{GroupKind, MetricGroup, Stats};

impl Stats {
    /// Returns a table for each kind of group: a row for each value, a column for each group,
    /// totals first. Rows of zeroes are left out unless `all`.
    pub fn to_table(&self, all: bool) -> String {
        let mut out = format!("lockgate {} (process {})\n", self.release, self.pid);
        for (kind, title) in KINDS {
            let groups = self.of(kind);
            let columns = columns(kind, &groups);
            let mut lines = vec![heading(title, &columns)];
            for name in names(&groups) {
                let values: Vec<u64> = columns.iter().map(|c| c.value(name)).collect();
                if all || values.iter().any(|value| *value != 0) {
                    let cells = values.iter().map(u64::to_string);
                    lines.push(core::iter::once(name.to_owned()).chain(cells).collect());
                }
            }
            if lines.len() > 1 {
                out.push('\n');
                align(&mut out, lines);
            }
        }
        out
    }

    /// Returns `{"pid", "release", "process": {..}, "workers": {"0": {..}}, "ports": {"p0": {..}},
    /// "totals": {..}}`; the totals are over the workers.
    pub fn to_json(&self) -> String {
        let values = |groups: &[&MetricGroup]| -> Map<String, serde_json::Value> {
            let sums = names(groups)
                .into_iter()
                .map(|name| (name, sum(groups, name)));
            sums.map(|(name, value)| (name.to_owned(), json!(value)))
                .collect()
        };
        let each = |kind| -> Map<String, serde_json::Value> {
            let groups = self.of(kind);
            groups
                .iter()
                .map(|g| (g.name.clone(), json!(values(&[*g]))))
                .collect()
        };
        let document = json!({
            "pid": self.pid,
            "release": self.release,
            "process": values(&self.of(GroupKind::Process)),
            "workers": each(GroupKind::Worker),
            "ports": each(GroupKind::Port),
            "totals": values(&self.of(GroupKind::Worker)),
        });
        format!("{document:#}")
    }

    fn of(&self, kind: GroupKind) -> Vec<&MetricGroup> {
        self.snapshot
            .groups
            .iter()
            .filter(|group| group.kind == kind)
            .collect()
    }
}

/// A column of values: one group's, or the sum of several.
struct Column<'a> {
    title: String,
    groups: Vec<&'a MetricGroup>,
}

impl Column<'_> {
    fn value(&self, name: &str) -> u64 {
        sum(&self.groups, name)
    }
}

fn columns<'a>(kind: GroupKind, groups: &[&'a MetricGroup]) -> Vec<Column<'a>> {
    let mut columns = Vec::new();
    if kind == GroupKind::Worker && groups.len() > 1 {
        columns.push(Column {
            title: "total".to_owned(),
            groups: groups.to_vec(),
        });
    }
    columns.extend(groups.iter().map(|group| Column {
        title: match kind {
            GroupKind::Worker => format!("worker {}", group.name),
            GroupKind::Port | GroupKind::Process => group.name.clone(),
        },
        groups: vec![*group],
    }));
    columns
}

fn heading(title: &str, columns: &[Column<'_>]) -> Vec<String> {
    core::iter::once(title.to_owned())
        .chain(columns.iter().map(|c| c.title.clone()))
        .collect()
}

/// Returns every name once, in the order in which the groups have them.
fn names<'a>(groups: &[&'a MetricGroup]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for value in groups.iter().flat_map(|group| &group.values) {
        if !names.contains(&value.name.as_ref()) {
            names.push(&value.name);
        }
    }
    names
}

fn sum(groups: &[&MetricGroup], name: &str) -> u64 {
    let values = groups
        .iter()
        .flat_map(|group| &group.values)
        .filter(|v| v.name == name);
    values.fold(0, |sum, value| sum.saturating_add(value.value))
}

/// Appends the lines as a table: the first column aligned left, numbers right.
fn align(out: &mut String, lines: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(lines);
    for (number, column) in table.column_iter_mut().enumerate() {
        if number == 0 {
            column.set_padding((0, 0));
        } else {
            column.set_padding((COLUMN_GAP, 0));
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    out.push_str(&table.trim_fmt());
    out.push('\n');
}

/// Spaces between two columns.
const COLUMN_GAP: u16 = 2;

const KINDS: [(GroupKind, &str); 3] = [
    (GroupKind::Process, "process"),
    (GroupKind::Worker, "counter"),
    (GroupKind::Port, "port"),
];
