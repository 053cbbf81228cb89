//! Results of an import. Contains no secrets.

use std::collections::HashSet;

use martlet_control::text::printable;
use serde_json::{Value, json};

/// Result for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Imported,
    /// The object existed before.
    Exists,
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Exists => "exists",
            Self::Skipped => "skipped",
        }
    }
}

/// A line of the report.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// `device`, `setting`, `telemetry`, `user`, `role`, `line` (of an ACL file), `messages` or
    /// `webhook`.
    pub(super) what: &'static str,
    /// Id or name of the object here; of a line about several objects, their number.
    pub(super) id: String,
    /// How many objects the line is about.
    pub(super) count: u64,
    pub(super) outcome: Outcome,
    /// Why it was skipped, or a note.
    pub(super) note: String,
}

/// The plural of a kind of object.
fn plural(what: &str) -> String {
    match what {
        "telemetry" => "telemetry of devices".to_owned(),
        "line" => "lines of the ACL file".to_owned(),
        what if what.ends_with('s') => what.to_owned(),
        what => format!("{what}s"),
    }
}

/// Skipped rows of a table; the first ones with the reason.
#[derive(Debug)]
pub(super) struct Skipped {
    table: &'static str,
    count: i64,
    first: Vec<String>,
}

impl Skipped {
    /// Most rows that are listed individually.
    const LISTED_MAX: usize = 20;

    pub(super) fn new(table: &'static str) -> Self {
        Self {
            table,
            count: 0,
            first: Vec::new(),
        }
    }

    /// Counts a row. `row` identifies it and contains the reason.
    pub(super) fn add(&mut self, row: String) {
        self.count += 1;
        if self.first.len() < Self::LISTED_MAX {
            self.first.push(row);
        }
    }

    pub(super) fn count(&self) -> i64 {
        self.count
    }

    /// The text for the report; `None` if there are none.
    pub(super) fn note(&self) -> Option<String> {
        let first = self.first.join("; ");
        let (count, table) = (self.count, self.table);
        match (count, count - self.first.len() as i64) {
            (0, _) => None,
            (1, _) => Some(format!("1 row of the table {table}: {first}")),
            (_, 0) => Some(format!("{count} rows of the table {table}: {first}")),
            (_, more) => Some(format!(
                "{count} rows of the table {table}: {first}; and {more} more"
            )),
        }
    }
}

/// The whole report.
#[derive(Debug)]
pub(super) struct Report {
    /// Source of the import.
    from: String,
    is_dry_run: bool,
    rows: Vec<Row>,
    /// Tables that are not imported, with their number of rows.
    left: Vec<(&'static str, i64)>,
    /// Messages of the running node.
    pub(super) node: String,
}

impl Report {
    pub(super) fn new(from: String, is_dry_run: bool) -> Self {
        Self {
            from,
            is_dry_run,
            rows: Vec::new(),
            left: Vec::new(),
            node: String::new(),
        }
    }

    pub(super) fn add(&mut self, what: &'static str, id: &str, outcome: Outcome, note: &str) {
        self.rows.push(Row {
            what,
            id: id.to_owned(),
            count: 1,
            outcome,
            note: note.to_owned(),
        });
    }

    /// Adds one line about several objects.
    pub(super) fn add_many(
        &mut self,
        what: &'static str,
        count: u64,
        outcome: Outcome,
        note: &str,
    ) {
        self.rows.push(Row {
            what,
            id: count.to_string(),
            count,
            outcome,
            note: note.to_owned(),
        });
    }

    pub(super) fn leave(&mut self, left: Vec<(&'static str, i64)>) {
        self.left.extend(left);
    }

    /// Ids of objects of this kind that exist now, or would exist.
    pub(super) fn there(&self, what: &str) -> HashSet<String> {
        let rows = self.rows.iter();
        let there = rows.filter(|row| row.what == what && row.outcome != Outcome::Skipped);
        there.map(|row| row.id.clone()).collect()
    }

    fn count(&self, what: &str, outcome: Outcome) -> u64 {
        let of = |row: &&Row| row.what == what && row.outcome == outcome;
        self.rows.iter().filter(of).map(|row| row.count).sum()
    }

    /// Whether anything was skipped.
    pub(super) fn has_skipped(&self) -> bool {
        self.rows.iter().any(|row| row.outcome == Outcome::Skipped)
    }

    /// Whether anything was changed.
    pub(super) fn has_imported(&self) -> bool {
        !self.is_dry_run && self.rows.iter().any(|row| row.outcome == Outcome::Imported)
    }

    fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<&'static str> = Vec::new();
        for row in &self.rows {
            if !kinds.contains(&row.what) {
                kinds.push(row.what);
            }
        }
        kinds
    }

    /// The report as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let (what, id) = (row.what, printable(&row.id));
            let (outcome, width) = match (self.is_dry_run, row.outcome) {
                (false, outcome) => (outcome.word(), 9),
                (true, Outcome::Imported) => ("would be imported", 17),
                (true, outcome) => (outcome.word(), 17),
            };
            text.push_str(&format!("{outcome:<width$} {what} {id}"));
            if !row.note.is_empty() {
                text.push_str(&format!(": {}", printable(&row.note)));
            }
            text.push('\n');
        }
        let (done, dry) = match self.is_dry_run {
            true => ("to import", ", nothing was changed"),
            false => ("imported", ""),
        };
        for what in self.kinds() {
            let count = |outcome| self.count(what, outcome);
            text.push_str(&format!(
                "{}: {} {done}, {} there before, {} skipped{dry}\n",
                plural(what),
                count(Outcome::Imported),
                count(Outcome::Exists),
                count(Outcome::Skipped),
            ));
        }
        if self.rows.is_empty() {
            text.push_str(&format!("{}: nothing to import\n", self.from));
        }
        for (table, rows) in &self.left {
            let noun = if *rows == 1 { "row" } else { "rows" };
            text.push_str(&format!(
                "not imported: {rows} {noun} of the table {table}\n"
            ));
        }
        text.push_str(&self.node);
        text
    }

    /// The report as JSON.
    pub(super) fn json(&self) -> String {
        let items: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let outcome = row.outcome.word();
                json!({"kind": row.what, "id": row.id, "outcome": outcome, "note": row.note})
            })
            .collect();
        let left = self.left.iter();
        let left: Vec<Value> = left
            .map(|(table, rows)| json!({"table": table, "rows": rows}))
            .collect();
        let report = json!({
            "from": self.from, "dry_run": self.is_dry_run, "items": items, "not_imported": left,
        });
        format!("{report}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_skipped_are_told_up_to_a_limit_and_counted() {
        let mut skipped = Skipped::new("t");
        assert_eq!(skipped.note(), None);
        skipped.add("row 1: odd".to_owned());
        assert_eq!(
            skipped.note().as_deref(),
            Some("1 row of the table t: row 1: odd")
        );
        for number in 2..=22 {
            skipped.add(format!("row {number}: odd"));
        }
        let note = skipped.note().unwrap_or_default();
        assert!(
            note.starts_with("22 rows of the table t: row 1: odd; row 2: odd; "),
            "{note}"
        );
        assert!(note.ends_with("; row 20: odd; and 2 more"), "{note}");
    }
}
