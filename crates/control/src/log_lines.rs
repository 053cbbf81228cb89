//! The last lines of the log, for readers without access to its file.

use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// Lines that are kept, and bytes of them.
const LINES: usize = 2_000;
const BYTES: usize = 2 << 20;

/// The text before a secret that the log shows to the operator that starts a node: the link that
/// creates the first administrator.
const SECRET: &str = "/setup#";

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// Number of the line, from 1 at the start of the node.
    pub seq: u64,
    /// Time of the line.
    #[schema(format = DateTime)]
    pub at: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Which part of the node wrote it.
    pub area: String,
    /// Text of the line.
    pub text: String,
    /// Fields, by name.
    #[schema(value_type = Object)]
    pub fields: Map<String, Value>,
}

/// The last lines, put into words for readers: each client that comes or goes has one.
#[derive(Clone, Debug, Default)]
pub struct LogLines(Arc<Mutex<LogBuffer>>);

/// Record of what was logged.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a> {
    at: Timestamp,
    /// Level, area and the names of the fields.
    metadata: &'static Metadata<'static>,
    /// See [`Values`].
    values: &'a [u8],
}

/// A line that is kept.
#[derive(Debug)]
struct KeptLine {
    at: Timestamp,
    metadata: &'static Metadata<'static>,
    values: Box<[u8]>,
}

/// A ring of lines.
#[derive(Debug, Default)]
struct LogBuffer {
    lines: VecDeque<KeptLine>,
    /// Bytes of all values.
    bytes: usize,
    /// The number of the last line.
    last: u64,
}

impl LogBuffer {
    fn put(&mut self, logged: Logged<'_>) {
        self.lines.push_back(KeptLine {
            at: logged.at,
            metadata: logged.metadata,
            values: logged.values.into(),
        });
        self.bytes += logged.values.len();
        self.last += 1;
        while self.lines.len() > LINES || self.bytes > BYTES {
            let oldest = self.lines.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.values.len());
        }
    }

    /// Lines with their numbers, in order.
    fn lines(&self) -> impl DoubleEndedIterator<Item = (u64, Logged<'_>)> {
        let before = self.last - self.lines.len() as u64;
        self.lines.iter().enumerate().map(move |(at, line)| {
            let logged = Logged {
                at: line.at,
                metadata: line.metadata,
                values: &line.values,
            };
            (before + 1 + at as u64, logged)
        })
    }
}

impl LogLines {
    /// Lines after this number that are wanted, `limit` at most, in order; and the number of the
    /// last line that was looked at.
    pub fn after(
        &self,
        after: u64,
        limit: usize,
        is_match: impl Fn(&LogLine) -> bool,
    ) -> (Vec<LogLine>, u64) {
        let kept = self.lock();
        let mut found = Vec::new();
        let mut last = after.min(kept.last);
        for (number, line) in kept.lines().filter(|(number, _)| *number > after) {
            if found.len() >= limit {
                break;
            }
            last = number;
            found.extend(Some(shown(number, line)).filter(&is_match));
        }
        (found, last)
    }

    /// The last `limit` that are wanted, in order; and the number of the last line.
    pub fn last(&self, limit: usize, is_match: impl Fn(&LogLine) -> bool) -> (Vec<LogLine>, u64) {
        let kept = self.lock();
        let lines = kept.lines().rev().map(|(number, line)| shown(number, line));
        let mut found: Vec<LogLine> = lines.filter(&is_match).take(limit).collect();
        found.reverse();
        (found, kept.last)
    }

    /// Bytes that the lines take.
    pub(crate) fn memory_bytes(&self) -> usize {
        let kept = self.lock();
        kept.bytes + kept.lines.capacity() * size_of::<KeptLine>()
    }

    /// Keeps what was logged.
    pub fn note(&self, event: &Event<'_>) {
        self.note_and(event, |_| ());
    }

    /// Keeps what was logged and gives it on, to be shown.
    pub fn note_and(&self, event: &Event<'_>, then: impl FnOnce(Logged<'_>)) {
        // What an event shows of itself may be logged too, so nothing is borrowed meanwhile.
        let mut values = VALUES.take();
        values.is_of_library = event.metadata().target() == LIBRARY;
        event.record(&mut values);
        let logged = Logged {
            at: Timestamp::now(),
            metadata: event.metadata(),
            values: &values.bytes,
        };
        if !logged.is_secret() {
            self.lock().put(logged);
        }
        then(logged);
        if values.bytes.capacity() <= VALUES_KEPT_BYTES {
            values.bytes.clear();
            VALUES.set(values);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LogBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Buffer for the values of a line, reused for the next line.
    static VALUES: Cell<Values> = Cell::default();
}

/// Largest buffer that is kept, in bytes.
const VALUES_KEPT_BYTES: usize = 4096;

fn shown(seq: u64, line: Logged<'_>) -> LogLine {
    let mut fields = line.fields();
    let mut take = |name| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    LogLine {
        seq,
        at: format!("{:.6}", line.at),
        level: line.metadata.level().as_str().to_ascii_lowercase(),
        area: take(LOG_TARGET).unwrap_or_else(|| line.metadata.target().to_owned()),
        text: take("message").unwrap_or_default(),
        fields,
    }
}

/// The target of all that libraries log which use another interface,
const LIBRARY: &str = "log";
/// and the name of the part of the program.
const LOG_TARGET: &str = "log.target";

/// The fields, one after the other: the number of the field, the type of its value, its length, and
/// the value as text.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    /// Some of the fields are about the event itself.
    is_of_library: bool,
}

/// Kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text = 0,
    /// Text that JSON makes of a number or a truth value.
    Json = 1,
    /// Something else, as text.
    Shown = 2,
    /// An error.
    Error = 3,
    /// Causes of the error before it.
    Sources = 4,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Text,
        Self::Json,
        Self::Shown,
        Self::Error,
        Self::Sources,
    ];
}

/// Marks a length of this value or more, which follows in four bytes.
const LONG: u8 = u8::MAX;

impl Values {
    /// `put` appends the value as text.
    fn put(&mut self, field: &Field, kind: Kind, put: impl FnOnce(&mut Vec<u8>)) {
        if self.is_of_library && field.name() != LOG_TARGET && field.name().starts_with("log.") {
            return;
        }
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(&[field.index() as u8, kind as u8, 0]);
        let start = bytes.len();
        put(bytes);
        let length = bytes.len() - start;
        match u8::try_from(length) {
            Ok(short) if short < LONG => bytes[start - 1] = short,
            _ => {
                bytes[start - 1] = LONG;
                bytes.splice(start..start, (length as u32).to_le_bytes());
            }
        }
    }

    fn put_shown(&mut self, field: &Field, kind: Kind, value: fmt::Arguments<'_>) {
        // A list of bytes takes all that is written to it.
        self.put(field, kind, |bytes| match value.as_str() {
            Some(text) => bytes.extend_from_slice(text.as_bytes()),
            None => drop(io::Write::write_fmt(bytes, value)),
        });
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_shown(field, Kind::Shown, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let bytes = value.as_bytes();
        self.put(field, Kind::Text, |to| to.extend_from_slice(bytes));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put_shown(field, Kind::Json, format_args!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put_shown(field, Kind::Json, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put_shown(field, Kind::Json, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.put(field, Kind::Json, |to| to.extend_from_slice(text));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put_shown(field, Kind::Error, format_args!("{value}"));
        let (mut sources, mut source) = (Vec::new(), value.source());
        while let Some(one) = source {
            sources.push(one.to_string());
            source = one.source();
        }
        if !sources.is_empty() {
            let sources = sources.join(", ");
            self.put_shown(field, Kind::Sources, format_args!("{sources}"));
        }
    }
}

impl<'a> Logged<'a> {
    /// When it was logged.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How grave it is.
    pub fn level(&self) -> Level {
        *self.metadata.level()
    }

    /// The values by the names of the fields, in order: text that is nearly always UTF-8.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Kind, &'a [u8])> {
        let all = self.metadata.fields();
        let (mut names, mut rest) = (all.iter().enumerate(), self.values);
        std::iter::from_fn(move || {
            let (number, kind, text) = next(&mut rest)?;
            let kind = *Kind::ALL.get(usize::from(kind))?;
            let is_it = |(at, _): &(usize, Field)| *at == usize::from(number);
            // They come in the order of the fields.
            let field = names.find(is_it).or_else(|| {
                names = all.iter().enumerate();
                names.find(is_it)
            });
            let name = field.map_or("", |(_, field)| field.name());
            Some((name.strip_prefix("r#").unwrap_or(name), kind, text))
        })
    }

    /// Whether it is not for readers of the log in other places than where it is written.
    fn is_secret(&self) -> bool {
        let mut parts = self.values.split(|byte| *byte == b'#').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() && part.ends_with(SECRET.trim_end_matches('#').as_bytes()) {
                return true;
            }
        }
        false
    }

    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        for (name, kind, text) in self.values() {
            let value = match kind {
                Kind::Sources => continue,
                Kind::Json => serde_json::from_slice(text).unwrap_or(Value::Null),
                _ => Value::String(String::from_utf8_lossy(text).into_owned()),
            };
            fields.insert(name.to_owned(), value);
        }
        fields
    }
}

/// The number of the next field, what its value is, and that.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, u8, &'a [u8])> {
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
    Some((number, kind, text))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    use tracing::Subscriber;
    use tracing::span::{Attributes, Id, Record};

    /// Notes what is logged.
    pub(crate) struct To(pub(crate) LogLines);

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
        write("one");
        let (found, last) = lines.last(10, |_| true);
        let texts: Vec<_> = found.iter().map(|line| (line.seq, &*line.text)).collect();
        assert_eq!((texts, last), (vec![(1, "one"), (2, "two"), (3, "one")], 3));
        assert_eq!(found[0].level, "warn");
        assert_eq!(found[0].fields["client_id"], "c");
        assert_eq!(lines.after(1, 10, |_| true).0, found[1..]);
        assert_eq!(lines.after(3, 10, |_| true), (Vec::new(), 3));
        (0..LINES + 5).for_each(|number| write(&number.to_string()));
        let (found, last) = lines.after(0, 3, |line| line.text.ends_with('9'));
        assert_eq!((found[0].text.as_str(), last), ("9", 33));
        assert_eq!(lines.last(usize::MAX, |_| true).0.len(), LINES);
    }
}
