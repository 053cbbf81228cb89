//! The last lines of the log, for who has no access to where it is written.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::{Debug, Display, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use crate::rfc3339;

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

/// The last lines, put into words for who asks: each client that comes or goes has one.
#[derive(Clone, Debug, Default)]
pub struct LogLines(Arc<Mutex<Kept>>);

/// A line as it is kept.
#[derive(Debug)]
struct Line {
    /// Microseconds since the Unix epoch.
    at_us: u64,
    /// Level, area and the names of the fields.
    metadata: &'static Metadata<'static>,
    /// See [`Values`].
    values: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
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
            found.extend(Some(shown(number, line)).filter(&is_wanted));
        }
        (found, last)
    }

    /// The last `limit` that are wanted, in order; and the number of the last line.
    pub fn last(&self, limit: usize, is_wanted: impl Fn(&LogLine) -> bool) -> (Vec<LogLine>, u64) {
        let kept = self.lock();
        let numbers = (1..=kept.last).rev();
        let lines = numbers.zip(kept.lines.iter().rev());
        let lines = lines.map(|(number, line)| shown(number, line));
        let mut found: Vec<LogLine> = lines.filter(&is_wanted).take(limit).collect();
        found.reverse();
        (found, kept.last)
    }

    /// Keeps what was logged.
    pub fn note(&self, event: &Event<'_>) {
        let mut values = Values::default();
        event.record(&mut values);
        if values.is_secret {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.put(Line {
            at_us: now.unwrap_or_default().as_micros() as u64,
            metadata: event.metadata(),
            values: values.bytes.as_slice().into(),
        });
    }

    fn put(&self, line: Line) {
        let mut kept = self.lock();
        kept.last += 1;
        kept.bytes += size_of::<Line>() + line.values.len();
        kept.lines.push_back(line);
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= size_of::<Line>() + oldest.values.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(seq: u64, line: &Line) -> LogLine {
    let mut fields = line.fields();
    let mut take = |name| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    LogLine {
        seq,
        at: rfc3339::text_of_us(line.at_us),
        level: line.metadata.level().as_str().to_ascii_lowercase(),
        area: take(LOG_TARGET).unwrap_or_else(|| line.metadata.target().to_owned()),
        text: take("message").unwrap_or_default(),
        fields,
    }
}

/// By this name libraries that use another interface for their log say which part they are.
const LOG_TARGET: &str = "log.target";

/// What fields say, one behind the other: the number of the field, what its value is, the length of
/// that, and the value as text.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    is_secret: bool,
    /// Reused for each value that is not text.
    text: String,
}

/// A value is a text, or what JSON makes of a number or a truth value.
const TEXT: u8 = 0;
const JSON: u8 = 1;

/// A length of so much or more follows in four bytes.
const LONG: u8 = u8::MAX;

impl Values {
    fn put(&mut self, field: &Field, kind: u8, text: &str) {
        // Most texts have not even its last byte.
        self.is_secret |= text.as_bytes().contains(&b'#') && text.contains(SECRET);
        let name = field.name();
        if name.starts_with("log.") && name != LOG_TARGET {
            return;
        }
        self.bytes.extend([field.index() as u8, kind]);
        match u8::try_from(text.len()) {
            Ok(length) if length < LONG => self.bytes.push(length),
            _ => {
                self.bytes.push(LONG);
                self.bytes.extend((text.len() as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn put_shown(&mut self, field: &Field, kind: u8, value: impl Display) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // A string takes all that is written to it.
        let _ = write!(text, "{value}");
        self.put(field, kind, &text);
        self.text = text;
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_shown(field, TEXT, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, TEXT, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put_shown(field, JSON, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put_shown(field, JSON, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put_shown(field, JSON, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put_shown(field, JSON, value);
    }
}

impl Line {
    fn fields(&self) -> Map<String, Value> {
        let names: Vec<&str> = self.metadata.fields().iter().map(|it| it.name()).collect();
        let mut fields = Map::new();
        let mut rest = &*self.values;
        while let Some((number, kind, text)) = next(&mut rest) {
            let name = names.get(usize::from(number)).copied().unwrap_or_default();
            let name = name.strip_prefix("r#").unwrap_or(name);
            let value = match kind {
                JSON => serde_json::from_str(&text).unwrap_or(Value::Null),
                _ => Value::String(text.into_owned()),
            };
            fields.insert(name.to_owned(), value);
        }
        fields
    }
}

/// The number of the next field, what its value is, and that.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, u8, Cow<'a, str>)> {
    let (&[number, kind, length], behind) = rest.split_first_chunk::<3>()?;
    let (length, behind) = match length {
        LONG => {
            let (length, behind) = behind.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*length) as usize, behind)
        }
        length => (usize::from(length), behind),
    };
    let (text, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some((number, kind, String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use tracing::Subscriber;
    use tracing::span::{Attributes, Id, Record};

    struct To(LogLines);

    impl Subscriber for To {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.0.note(event);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn fields_are_what_they_were() {
        let lines = LogLines::default();
        let long = "é".repeat(300);
        tracing::subscriber::with_default(To(lines.clone()), || {
            let (count, none) = (-3_i64, None::<u64>);
            tracing::info!(count, none, secs = 0.5, is = true, r#type = ?Some("x"), long, "a \"b\"");
        });
        let (found, _) = lines.last(1, |_| true);
        let line = serde_json::to_value(&found[0]).unwrap();
        assert_eq!(
            (&line["level"], &line["text"]),
            (&"info".into(), &"a \"b\"".into())
        );
        assert_eq!(line["area"], module_path!());
        let expected = serde_json::json!({
            "count": -3, "secs": 0.5, "is": true, "type": "Some(\"x\")", "long": long,
        });
        assert_eq!(line["fields"], expected);
        assert!(
            line["at"]
                .as_str()
                .is_some_and(|at| at.ends_with('Z') && at.len() == 27)
        );
    }

    #[test]
    fn the_last_lines_are_there_and_no_secret_among_them() {
        let lines = LogLines::default();
        let write = |text: &str| {
            let to = To(lines.clone());
            tracing::subscriber::with_default(to, || tracing::warn!(client_id = "c", "{text}"));
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
