//! The last lines of the log, for who has no access to where it is written.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Lines that are kept, and bytes of them.
const LINES: usize = 4_000;
const BYTES: usize = 2 << 20;

/// What stands before a secret that the log shows, for who starts a node: the link by which the
/// first administrator is made.
const SECRET: &str = "/setup#";

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// Its number, from 1 at the start of the node.
    pub seq: u64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Which part of the node wrote it.
    pub area: String,
    /// What it says.
    pub text: String,
    /// What it says it of, by name.
    #[schema(value_type = Object)]
    pub fields: Map<String, Value>,
}

/// The last lines. Written to as JSON, a line at a time.
#[derive(Clone, Debug, Default)]
pub struct LogLines(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Box<str>>,
    bytes: usize,
    /// The number of the last line.
    last: u64,
}

impl LogLines {
    /// Those after this number that are wanted, `limit` at most, in order; and the number of the
    /// last line that was looked at.
    pub fn after(
        &self,
        after: u64,
        limit: usize,
        is_wanted: impl Fn(&LogLine) -> bool,
    ) -> (Vec<LogLine>, u64) {
        let kept = self.lock();
        let first = kept.last + 1 - kept.lines.len() as u64;
        let skipped = (after + 1).saturating_sub(first) as usize;
        let mut found = Vec::new();
        let mut last = after.min(kept.last).max(first.saturating_sub(1));
        for (number, line) in (first..).zip(&kept.lines).skip(skipped) {
            if found.len() >= limit {
                break;
            }
            last = number;
            found.extend(parsed(number, line).filter(&is_wanted));
        }
        (found, last)
    }

    /// The last `limit` that are wanted, in order; and the number of the last line.
    pub fn last(&self, limit: usize, is_wanted: impl Fn(&LogLine) -> bool) -> (Vec<LogLine>, u64) {
        let kept = self.lock();
        let numbers = (1..=kept.last).rev();
        let lines = numbers.zip(kept.lines.iter().rev());
        let lines = lines.filter_map(|(number, line)| parsed(number, line));
        let mut found: Vec<LogLine> = lines.filter(&is_wanted).take(limit).collect();
        found.reverse();
        (found, kept.last)
    }

    fn put(&self, line: &str) {
        let mut kept = self.lock();
        kept.last += 1;
        kept.bytes += line.len();
        kept.lines.push_back(line.into());
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= oldest.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LogLines {
    /// One line, whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if !line.contains(SECRET) {
            self.put(line.trim_end());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parsed(seq: u64, line: &str) -> Option<LogLine> {
    let mut fields: Map<String, Value> = serde_json::from_str(line).ok()?;
    let mut take = |name| match fields.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    Some(LogLine {
        seq,
        at: take("timestamp"),
        level: take("level").to_ascii_lowercase(),
        area: take("target"),
        text: take("message"),
        fields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        format!(
            r#"{{"timestamp":"t","level":"WARN","target":"a","message":"{text}","client_id":"c"}}"#
        )
    }

    #[test]
    fn the_last_lines_are_there_and_no_secret_among_them() {
        let lines = LogLines::default();
        let write = |text: &str| {
            let mut to = lines.clone();
            to.write_all(format!("{}\n", line(text)).as_bytes())
                .unwrap();
        };
        assert_eq!(lines.last(10, |_| true), (Vec::new(), 0));
        write("one");
        write("make the first at http://127.0.0.1/setup#secret");
        write("two");
        let (found, last) = lines.last(10, |_| true);
        let texts: Vec<_> = found.iter().map(|line| (line.seq, &*line.text)).collect();
        assert_eq!((texts, last), (vec![(1, "one"), (2, "two")], 2));
        assert_eq!(found[0].level, "warn");
        assert_eq!(found[0].fields["client_id"], "c");
        assert_eq!(lines.after(1, 10, |_| true).0, found[1..]);
        assert_eq!(lines.after(2, 10, |_| true), (Vec::new(), 2));
        (0..LINES + 5).for_each(|number| write(&number.to_string()));
        let (found, last) = lines.after(0, 3, |line| line.text.ends_with('9'));
        assert_eq!((found[0].text.as_str(), last), ("9", 32));
        assert_eq!(lines.last(usize::MAX, |_| true).0.len(), LINES);
    }
}
