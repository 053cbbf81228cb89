//! Rows as text: NDJSON and InfluxDB's line protocol.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::query::Row;
use crate::value::{Time, Value};

/// A format of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object per line:
    /// `{"time":"2025-03-28T00:00:00.000000Z","device":"a","key":"k","value":1}`.
    Ndjson,
    /// InfluxDB's line protocol with times in nanoseconds: `telemetry,device=a k=1
    /// 1743120000000000000`. InfluxDB refuses a field of a measurement that has two types: integers
    /// are written as numbers, and other values have the measurements `telemetry_bool` and
    /// `telemetry_text`. JSON is a text. Of two values with the same time and key, InfluxDB keeps
    /// the last one.
    LineProtocol,
}

impl Format {
    /// Media type of the format.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::LineProtocol => "text/plain; charset=utf-8",
        }
    }

    /// Appends a row. `device` is the name of its device.
    pub fn write(self, to: &mut String, device: &str, row: &Row) {
        match self {
            Self::Ndjson => ndjson(to, device, row),
            Self::LineProtocol => line_protocol(to, device, row),
        }
    }
}

/// A time in RFC 3339, in UTC, always with six digits. A time outside the calendar, which is never
/// stored, is printed as a number.
pub fn time_text(time: Time) -> String {
    match Timestamp::from_microsecond(time) {
        Ok(at) => format!("{at:.6}"),
        Err(_) => time.to_string(),
    }
}

fn ndjson(to: &mut String, device: &str, row: &Row) {
    let text = |text: &str| serde_json::Value::from(text);
    let (time, device, key) = (text(&time_text(row.time)), text(device), text(&row.key));
    // Writing to a string does not fail.
    let _ = write!(
        to,
        "{{\"time\":{time},\"device\":{device},\"key\":{key},\"value\":"
    );
    match &row.value {
        Value::Integer(number) => {
            let _ = write!(to, "{number}");
        }
        Value::Number(number) => {
            let _ = write!(to, "{}", serde_json::Value::from(*number));
        }
        Value::Bool(truth) => {
            let _ = write!(to, "{truth}");
        }
        Value::Text(value) => {
            let _ = write!(to, "{}", text(value));
        }
        // A line break in it would end the line.
        Value::Json(value) => match serde_json::from_str::<serde_json::Value>(value) {
            Ok(json) => {
                let _ = write!(to, "{json}");
            }
            Err(_) => {
                let _ = write!(to, "{}", text(value));
            }
        },
    }
    to.push_str("}\n");
}

fn line_protocol(to: &mut String, device: &str, row: &Row) {
    to.push_str(match &row.value {
        Value::Integer(_) | Value::Number(_) => "telemetry,device=",
        Value::Bool(_) => "telemetry_bool,device=",
        Value::Text(_) | Value::Json(_) => "telemetry_text,device=",
    });
    influx_name(to, device);
    to.push(' ');
    influx_name(to, &row.key);
    to.push('=');
    match &row.value {
        Value::Integer(number) => {
            let _ = write!(to, "{number}");
        }
        Value::Number(number) => {
            let _ = write!(to, "{number}");
        }
        Value::Bool(truth) => {
            let _ = write!(to, "{truth}");
        }
        Value::Text(text) | Value::Json(text) => {
            to.push('"');
            for letter in text.chars() {
                match letter {
                    '\\' | '"' => to.extend(['\\', letter]),
                    '\n' => to.push_str("\\n"),
                    '\r' => to.push_str("\\r"),
                    _ => to.push(letter),
                }
            }
            to.push('"');
        }
    }
    let nanoseconds = i128::from(row.time) * 1_000;
    let _ = writeln!(to, " {nanoseconds}");
}

/// A tag value or field key. Line protocol has no way to write a backslash, a quotation mark or a
/// line break in one, so that a name could end where it does not: they are percent-encoded.
fn influx_name(to: &mut String, name: &str) {
    for letter in name.chars() {
        match letter {
            ',' | '=' | ' ' => to.extend(['\\', letter]),
            '\\' | '"' | '\n' | '\r' => {
                let _ = write!(to, "%{:02X}", u32::from(letter));
            }
            _ => to.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, device: &str, key: &str, value: Value) -> String {
        let row = Row {
            device: 1,
            key: key.into(),
            time: 1_743_120_000_500_000,
            origin: 0,
            value,
        };
        let mut text = String::new();
        format.write(&mut text, device, &row);
        text
    }

    #[test]
    fn each_line_of_ndjson_is_an_object_with_the_value_as_it_is() {
        for (value, expected) in [
            (Value::Integer(i64::MAX), "9223372036854775807"),
            (Value::Number(2.0), "2.0"),
            (Value::Text("a\"\n".into()), r#""a\"\n""#),
            (Value::Json("{\n\"a\": [1]}".into()), r#"{"a":[1]}"#),
        ] {
            let expected = format!(
                "{{\"time\":\"2025-03-28T00:00:00.500000Z\",\"device\":\"d\",\"key\":\"k\",\
                 \"value\":{expected}}}\n"
            );
            assert_eq!(written(Format::Ndjson, "d", "k", value), expected);
        }
    }

    #[test]
    fn line_protocol_escapes_names_and_texts() {
        for (device, key, value, expected) in [
            (
                "d 1",
                "k,=",
                Value::Integer(-3),
                r"telemetry,device=d\ 1 k\,\==-3",
            ),
            ("d", "k", Value::Number(0.1), "telemetry,device=d k=0.1"),
            (
                "d",
                "k",
                Value::Bool(false),
                "telemetry_bool,device=d k=false",
            ),
            (
                "d\n",
                "k\\\"",
                Value::Text("a\\\"b\nc".into()),
                r#"telemetry_text,device=d%0A k%5C%22="a\\\"b\nc""#,
            ),
        ] {
            let expected = format!("{expected} 1743120000500000000\n");
            assert_eq!(written(Format::LineProtocol, device, key, value), expected);
        }
    }
}
