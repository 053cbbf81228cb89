//! Rows as text: CSV, lines of JSON and line protocol.

use std::borrow::Cow;

use martlet_telemetry::{Format, Row, Value, time_text};

use crate::csv::{self, LineEnd};

/// A format of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// CSV (RFC 4180, lines end with CR LF) with the columns `time,device,key,type,value`. Texts
    /// that a spreadsheet would take for a formula are marked, numbers are not.
    Csv,
    /// One object per line.
    Ndjson,
    /// InfluxDB's line protocol.
    LineProtocol,
}

impl RowFormat {
    /// Media type of the format.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => Format::Ndjson.media_type(),
            Self::LineProtocol => Format::LineProtocol.media_type(),
        }
    }

    /// Header before the first row.
    pub fn head(self) -> String {
        match self {
            Self::Csv => csv_line(["time", "device", "key", "type", "value"].map(Cow::from)),
            Self::Ndjson | Self::LineProtocol => String::new(),
        }
    }

    /// Appends a row. `device` is the name of its device.
    pub fn write(self, to: &mut String, device: &str, row: &Row) {
        match self {
            Self::Csv => {
                let kind = match &row.value {
                    Value::Integer(_) => "integer",
                    Value::Number(_) => "number",
                    Value::Bool(_) => "bool",
                    Value::Text(_) => "text",
                    Value::Json(_) => "json",
                };
                to.push_str(&csv_line([
                    time_text(row.time).into(),
                    csv::marked(device),
                    csv::marked(&row.key),
                    kind.into(),
                    csv_value(&row.value),
                ]));
            }
            Self::Ndjson => Format::Ndjson.write(to, device, row),
            Self::LineProtocol => Format::LineProtocol.write(to, device, row),
        }
    }
}

/// A value as a field of CSV, for [`csv_line`].
pub fn csv_value(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Integer(number) => number.to_string().into(),
        Value::Number(number) => number.to_string().into(),
        Value::Bool(truth) => truth.to_string().into(),
        Value::Text(text) | Value::Json(text) => csv::marked(text),
    }
}

/// A row of fields that are marked where they need it.
pub fn csv_line<'a>(fields: impl IntoIterator<Item = Cow<'a, str>>) -> String {
    let fields: Vec<Cow<'a, str>> = fields.into_iter().collect();
    csv::exact_line(fields.iter().map(|field| &**field), LineEnd::CrLf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_would_end_a_field_and_marks_formulas() {
        for (device, value, expected) in [
            ("a", Value::Number(-21.5), "a,k,number,-21.5"),
            ("a", Value::Integer(-3), "a,k,integer,-3"),
            ("a,b", Value::Bool(true), "\"a,b\",k,bool,true"),
            (
                "a",
                Value::Text("x \"y\"".into()),
                "a,k,text,\"x \"\"y\"\"\"",
            ),
            ("=a", Value::Text("=1+1".into()), "'=a,k,text,'=1+1"),
            ("a", Value::Text("-off".into()), "a,k,text,'-off"),
            ("a", Value::Text("\t@x".into()), "a,k,text,'\t@x"),
            ("a", Value::Json("[1,2]".into()), "a,k,json,\"[1,2]\""),
        ] {
            let row = Row {
                device: 1,
                key: "k".into(),
                time: 1_743_120_000_500_000,
                origin: 0,
                value,
            };
            let mut text = String::new();
            RowFormat::Csv.write(&mut text, device, &row);
            assert_eq!(text, format!("2025-03-28T00:00:00.500000Z,{expected}\r\n"));
        }
    }
}
