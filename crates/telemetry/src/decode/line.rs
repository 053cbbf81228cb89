//! InfluxDB line protocol: `measurement,tag=value field=value,… time`.
//!
//! The key of a value consists of the measurement, the tag values in the order of their names, and
//! the field, separated by dots: `cpu,cpu=cpu0 idle=99` has the key `cpu.cpu0.idle`. So values
//! with different tags stay separate.

use std::num::IntErrorKind;

use super::collected::Collected;
use super::rejection::Rejection;
use super::time::{TimeUnit, of_integer};
use crate::Value;

pub(super) fn read(text: &str, out: &mut Collected<'_>) -> Result<(), Rejection> {
    for (at, line) in split(text, '\n', true).enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        read_line(at + 1, line, out).map_err(|error| match error {
            Wrong::Syntax(_) if line.starts_with(['{', '[']) => Rejection::NotLine {
                line: at + 1,
                why: "it is JSON, and the format of this rule or Content-Type is line protocol: \
                      send JSON as application/json, or set format = \"json\" for the rule"
                    .to_owned(),
            },
            Wrong::Syntax(why) => Rejection::NotLine { line: at + 1, why },
            Wrong::Rejected(rejection) => rejection.in_line(at + 1),
        })?;
    }
    Ok(())
}

/// Why a line cannot be parsed.
enum Wrong {
    Syntax(String),
    Rejected(Rejection),
}

impl From<Rejection> for Wrong {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

fn syntax(why: impl Into<String>) -> Wrong {
    Wrong::Syntax(why.into())
}

/// Splits at a character that is not escaped and, if `knows_quotes`, not between quotes. A line
/// break in a text value does not end a line.
fn split(text: &str, separator: char, knows_quotes: bool) -> Split<'_> {
    Split {
        rest: Some(text),
        before: ' ',
        separator,
        knows_quotes,
    }
}

/// The parts of a text.
struct Split<'a> {
    rest: Option<&'a str>,
    /// Character before the rest.
    before: char,
    separator: char,
    knows_quotes: bool,
}

impl<'a> Split<'a> {
    /// The first parts, at most `N`.
    fn first<const N: usize>(self) -> Vec<&'a str> {
        self.take(N).collect()
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let (mut is_escaped, mut is_quoted, mut before) = (false, false, self.before);
        let is_end = |(_, character): &(usize, char)| {
            let before = std::mem::replace(&mut before, *character);
            if is_escaped {
                is_escaped = false;
                return false;
            }
            match *character {
                '\\' => is_escaped = true,
                // A text begins behind `=`; the name of a field may have quotation marks.
                '"' if self.knows_quotes && (is_quoted || before == '=') => is_quoted = !is_quoted,
                character => return character == self.separator && !is_quoted,
            }
            false
        };
        let Some((end, separator)) = rest.char_indices().find(is_end) else {
            self.rest = None;
            return Some(rest);
        };
        self.before = separator;
        self.rest = Some(&rest[end + separator.len_utf8()..]);
        Some(&rest[..end])
    }
}

fn read_line(number: usize, line: &str, out: &mut Collected<'_>) -> Result<(), Wrong> {
    let (series, rest) = match *split(line, ' ', false).first::<2>().as_slice() {
        [series, _] => (series, line[series.len()..].trim_start()),
        _ => return Err(syntax("expected a measurement, a blank and fields")),
    };
    let parts = split(rest, ' ', true).filter(|part| !part.is_empty());
    // A third part is an error.
    let parts: Vec<&str> = parts.take(3).collect();
    let (fields, time) = match *parts.as_slice() {
        [fields] => (fields, None),
        [fields, time] => (fields, Some(time_of(time, out.decoder.time_unit)?)),
        _ => return Err(syntax("expected fields and a time, and no text after it")),
    };
    let prefix = prefix_of(series, out)?;
    let timed = out.timed(time)?;
    for field in split(fields, ',', true) {
        let [name, value] = *split(field, '=', true).first::<3>().as_slice() else {
            return Err(syntax(format!(
                "{field:?} is not a field: expected name=value"
            )));
        };
        let name = unescaped(name);
        if out.decoder.ignores(&name) {
            continue;
        }
        let key = format!("{prefix}.{name}");
        match value_of(&key, value) {
            Ok(value) => out.put(key, timed, value)?,
            Err(Wrong::Rejected(rejection)) => out.leave_out(rejection.in_line(number)),
            Err(wrong) => return Err(wrong),
        }
    }
    Ok(())
}

/// The time of a line: nanoseconds, unless the rule sets another unit.
fn time_of(text: &str, unit: TimeUnit) -> Result<i64, Rejection> {
    let unit = match unit {
        TimeUnit::Auto => TimeUnit::Nanos,
        unit => unit,
    };
    let number = text.parse::<i64>().ok();
    let time = number.and_then(|number| of_integer(number, unit));
    time.ok_or_else(|| Rejection::BadTime(super::time::shown(text)))
}

/// The measurement and its tag values.
fn prefix_of(series: &str, out: &Collected<'_>) -> Result<String, Wrong> {
    let mut parts = split(series, ',', false);
    let measurement = parts.next().unwrap_or_default();
    if measurement.is_empty() {
        return Err(syntax("the measurement is empty"));
    }
    let mut tags = Vec::new();
    for tag in parts {
        let [name, value] = *split(tag, '=', false).first::<3>().as_slice() else {
            return Err(syntax(format!("{tag:?} is not a tag: expected name=value")));
        };
        let name = unescaped(name);
        if !out.decoder.ignores(&name) {
            tags.push((name, unescaped(value)));
        }
        // Each adds a dot to the key.
        let max = out.decoder.limits.key_bytes;
        if tags.len() > max {
            let bytes = tags.len();
            return Err(Rejection::KeyTooLong { bytes, max }.into());
        }
    }
    tags.sort();
    let mut prefix = unescaped(measurement);
    for (_, value) in tags {
        prefix.push('.');
        prefix.push_str(&value);
    }
    Ok(prefix)
}

fn value_of(key: &str, text: &str) -> Result<Value, Wrong> {
    if let Some(rest) = text.strip_prefix('"') {
        let inner = rest.strip_suffix('"');
        let inner = inner.ok_or_else(|| syntax(format!("the text of {key} has no end")))?;
        if inner.contains('\0') {
            return Err(Rejection::ZeroByte(key.to_owned()).into());
        }
        return Ok(Value::Text(unescaped_text(inner).into()));
    }
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "f" | "F" | "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let no_value = || syntax(format!("{text:?} is not a valid value of {key}"));
    if let Some(whole) = text.strip_suffix(['i', 'u']) {
        return match whole.parse::<i64>() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(error) => match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                    let (key, digits) = (key.to_owned(), super::time::shown(whole));
                    Err(Rejection::TooLarge { key, digits }.into())
                }
                _ => Err(no_value()),
            },
        };
    }
    // The standard library also parses "inf" and "nan".
    let number: f64 = text.parse().map_err(|_| no_value())?;
    match number.is_finite() {
        true => Ok(Value::Number(number)),
        false => Err(Rejection::NotFinite(key.to_owned()).into()),
    }
}

/// A name or tag value without its escapes.
fn unescaped(text: &str) -> String {
    unescape(text, &[',', '=', ' ', '\\'])
}

/// A text value without its escapes.
fn unescaped_text(text: &str) -> String {
    unescape(text, &['"', '\\'])
}

fn unescape(text: &str, known: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match characters.peek() {
            Some(next) if character == '\\' && known.contains(next) => {
                out.push(*next);
                characters.next();
            }
            _ => out.push(character),
        }
    }
    out
}
