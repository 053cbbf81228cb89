//! Rows as CSV, lines of JSON and line protocol, as they are read: however many there are, no more
//! than a page of them is in memory.

use std::collections::HashMap;
use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use martlet_control::telemetry::{Order, Range, Row, Storage, Value};

use super::view::{DeviceReadingView, id_of, time_text};
use crate::problem::Problem;

/// Rows of a page.
const PAGE: usize = 5_000;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A head, and a line for each row.
    Csv,
    /// An object a line.
    JsonLines,
    /// InfluxDB line protocol.
    Line,
}

impl Format {
    /// By its word; none: the answer is JSON.
    ///
    /// # Errors
    /// It is no format.
    pub(super) fn read(word: Option<&str>) -> Result<Option<Self>, Problem> {
        match word {
            None | Some("json") => Ok(None),
            Some("csv") => Ok(Some(Self::Csv)),
            Some("ndjson") => Ok(Some(Self::JsonLines)),
            Some("line") => Ok(Some(Self::Line)),
            Some(other) => {
                let detail = format!("{other:?} is none of json, csv, ndjson, line");
                Err(Problem::of_query("format", detail))
            }
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::JsonLines => "application/x-ndjson",
            Self::Line => "text/plain; charset=utf-8",
        }
    }

    fn head(self) -> &'static str {
        match self {
            Self::Csv => "time,device,key,value\r\n",
            Self::JsonLines | Self::Line => "",
        }
    }

    fn write(self, row: Row, ids: &HashMap<i64, String>, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Csv => {
                let device = id_of(row.device, ids);
                let (device, key) = (cell(&device), cell(&row.key));
                let value = match &row.value {
                    Value::Text(text) | Value::Json(text) => cell(text).into_owned(),
                    other => super::json_of(other).to_string(),
                };
                write!(out, "{},{device},{key},{value}\r\n", time_text(row.time))
            }
            Self::JsonLines => {
                let view = DeviceReadingView::new(row, ids);
                // Texts and numbers always become JSON.
                writeln!(out, "{}", serde_json::to_string(&view).unwrap_or_default())
            }
            Self::Line => {
                let device = name(&id_of(row.device, ids));
                let (key, time) = (name(&row.key), row.time.saturating_mul(1_000));
                let value = field(&row.value);
                writeln!(out, "telemetry,device={device} {key}={value} {time}")
            }
        };
    }
}

/// A cell of CSV (RFC 4180). What a spreadsheet would calculate is text to it.
pub(super) fn cell(text: &str) -> std::borrow::Cow<'_, str> {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    match text.contains(['"', ',', '\n', '\r']) || is_formula {
        true => {
            let mark = if is_formula { "'" } else { "" };
            format!("\"{mark}{}\"", text.replace('"', "\"\"")).into()
        }
        false => text.into(),
    }
}

/// A name of line protocol.
fn name(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => out.push(' '),
            ',' | '=' | ' ' => out.extend(['\\', character]),
            other => out.push(other),
        }
    }
    // A backslash at the end would escape what follows.
    match out.ends_with('\\') {
        true => out + "\\",
        false => out,
    }
}

/// A value of line protocol.
fn field(value: &Value) -> String {
    match value {
        Value::Integer(number) => format!("{number}i"),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Text(text) | Value::Json(text) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
    }
}

struct Source {
    storage: Storage,
    range: Range,
    ids: HashMap<i64, String>,
    format: Format,
    is_first: bool,
    has_more: bool,
}

impl Source {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        if !self.has_more {
            return None;
        }
        let found = match self.storage.range(&self.range).await {
            Ok(found) => found,
            Err(error) => {
                // The answer has begun: it ends without its end, so that nobody takes it for whole.
                self.has_more = false;
                tracing::warn!(%error, "an export of telemetry is broken off");
                return Some(Err(std::io::Error::other("telemetry cannot be read")));
            }
        };
        let mut text = String::new();
        if std::mem::take(&mut self.is_first) {
            text.push_str(self.format.head());
        }
        self.has_more = found.next.is_some();
        self.range.after = found.next;
        for row in found.rows {
            self.format.write(row, &self.ids, &mut text);
        }
        Some(Ok(text.into()))
    }
}

/// All rows of a range, by device, key and time.
pub(super) fn answer(
    storage: Storage,
    range: Range,
    ids: HashMap<i64, String>,
    format: Format,
) -> Response {
    let source = Source {
        storage,
        range: Range {
            order: Order::BySeries,
            limit: PAGE,
            after: None,
            ..range
        },
        ids,
        format,
        is_first: true,
        has_more: true,
    };
    let chunks = futures_util::stream::unfold(source, |mut source| async move {
        let chunk = source.next().await?;
        Some((chunk, source))
    });
    let headers = [(header::CONTENT_TYPE, format.content_type())];
    (headers, Body::from_stream(chunks)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, key: &str, value: Value) -> String {
        let row = Row {
            device: 7,
            key: key.into(),
            time: 1_772_366_400_000_000,
            origin: 0,
            value,
        };
        let ids = HashMap::from([(7, "pump 7".to_owned())]);
        let mut out = String::new();
        format.write(row, &ids, &mut out);
        out
    }

    #[test]
    fn rows_of_csv_are_quoted_where_needed() {
        let text = written(Format::Csv, "a", Value::Text("x,\"y\"".into()));
        assert_eq!(text, "2026-03-01T12:00:00.000000Z,pump 7,a,\"x,\"\"y\"\"\"\r\n");
        let formula = written(Format::Csv, "a", Value::Text("=1+1".into()));
        assert!(formula.ends_with(",\"'=1+1\"\r\n"), "{formula}");
        let number = written(Format::Csv, "a", Value::Number(-1.5));
        assert!(number.ends_with(",-1.5\r\n"), "{number}");
    }

    #[test]
    fn lines_are_read_again_as_they_were() {
        let text = written(Format::Line, "a b", Value::Text("x \"y\"\\".into()));
        let expected = "telemetry,device=pump\\ 7 a\\ b=\"x \\\"y\\\"\\\\\" 1772366400000000000\n";
        assert_eq!(text, expected);
        assert!(written(Format::Line, "n", Value::Integer(7)).contains(" n=7i "));
        let json = written(Format::JsonLines, "n", Value::Bool(true));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["device"], "pump 7");
        assert_eq!(json["value"], true);
    }
}
