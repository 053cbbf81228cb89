//! Telemetry that is sent: an object, or lines of such objects, which may be compressed.

use axum::extract::{FromRequest, Request};
use martlet_control::telemetry::{DecodeLimits, Format, Rejection, StoreError, marked_numbers};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::body::{expect_members, with_heading};
use crate::api::Api;
use crate::compat::body::without_comments;
use crate::extract::object_from_json;
use crate::problem::Problem;
use crate::telemetry::{is_lines, read_payload};

/// The objects of a body.
#[derive(Clone, Debug)]
pub(super) struct BodyObjects {
    objects: Vec<SentObject>,
    format: Format,
}

/// An object of a body.
#[derive(Clone, Debug)]
struct SentObject {
    /// Number of its line in a body of lines, from 1.
    line: usize,
    /// The object as a payload by MQTT has it.
    payload: String,
}

impl BodyObjects {
    /// The body with such objects.
    pub(super) fn body(&self) -> String {
        let mut body = String::new();
        let mut line = 1;
        for object in &self.objects {
            while line < object.line {
                body.push('\n');
                line += 1;
            }
            body.push_str(&object.payload);
        }
        body
    }

    /// Format of the body: one object, or lines of them.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Bytes of all of it.
    pub(super) fn bytes(&self) -> usize {
        self.objects.iter().map(|one| one.payload.len() + 1).sum()
    }

    /// The payload of one message.
    pub(super) fn message(&self) -> String {
        let all: Vec<&str> = self.objects.iter().map(|one| &*one.payload).collect();
        match *all {
            [one] => one.to_owned(),
            _ => format!("[{}]", all.join(",")),
        }
    }
}

impl FromRequest<Api> for BodyObjects {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let limits = api.telemetry().map(|telemetry| telemetry.decoder().limits);
        let limits = limits.unwrap_or_default();
        let read = match is_lines(request.headers()) {
            true => of_lines,
            false => of_object,
        };
        read_payload(api, request, move |body| read(body, limits)).await?
    }
}

/// Rejects what would be too much, before it is read.
fn rejected(rejection: Rejection) -> Problem {
    StoreError::from(rejection).into()
}

fn of_object(body: &[u8], limits: DecodeLimits) -> Result<BodyObjects, Problem> {
    limits.check_parts(body).map_err(rejected)?;
    let one: SentRecord = read_object(&without_comments(body))?;
    Ok(BodyObjects {
        objects: vec![SentObject {
            line: 1,
            payload: one.payload()?,
        }],
        format: Format::Json,
    })
}

fn read_object(json: &[u8]) -> Result<SentRecord, Problem> {
    let marked = str::from_utf8(json).ok().and_then(marked_numbers);
    let json = marked.as_deref().map_or(json, str::as_bytes);
    object_from_json(json).map_err(with_heading)
}

/// Lines of JSON; empty ones are skipped. Each has a value at least.
fn of_lines(body: &[u8], limits: DecodeLimits) -> Result<BodyObjects, Problem> {
    let mut all = Vec::new();
    for (at, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (read, max) = (line, limits.values);
        let line = at + 1;
        let exceeds = match all.len() >= max {
            true => Err(Rejection::TooManyValues { max }),
            false => limits.check_parts(read),
        };
        exceeds.map_err(|rejection| rejected(rejection.in_line(line)))?;
        let read = read_object(read);
        let payload = read.and_then(SentRecord::payload);
        let payload = payload.map_err(|problem| of_line(line, &problem))?;
        all.push(SentObject { line, payload });
    }
    expect_members(&[("data", !all.is_empty())])?;
    Ok(BodyObjects {
        objects: all,
        format: Format::JsonLines,
    })
}

/// Problem with the number of its line.
fn of_line(number: usize, problem: &Problem) -> Problem {
    // Each line is read alone.
    let detail = problem
        .detail()
        .replace(" at line 1 column ", " at column ");
    let detail = format!("line {number}: {detail}");
    let told = Problem::new(problem.kind(), detail);
    match problem.extra().heading {
        Some(heading) => told.with_heading(heading),
        None => told,
    }
}

/// Values that a device sends of one time.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Telemetry)]
pub(super) struct SentRecord {
    /// Values by key: an object.
    #[schema(value_type = Object)]
    data: Option<Value>,
    /// Values about these, by key: an object.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// When they were measured; default: when they are received.
    timestamp: Option<Value>,
    /// Becomes `type` of the metadata.
    #[serde(rename = "type")]
    data_type: Option<String>,
}

impl SentRecord {
    /// Payload of the record, as a device sends it by MQTT.
    fn payload(self) -> Result<String, Problem> {
        expect_members(&[("data", self.data.is_some())])?;
        let is_object = |value: &Value| value.as_object().is_some_and(|all| !all.is_empty());
        let data = self.data.filter(is_object);
        let data = data.ok_or_else(|| {
            let detail = "data must be an object that is not empty";
            Problem::bad_request(detail).with_heading("Invalid data format")
        })?;
        let mut metadata = match self.metadata {
            Some(Value::Object(members)) => members,
            None | Some(Value::Null) => Map::new(),
            Some(_) => {
                let detail = "metadata must be an object";
                return Err(Problem::bad_request(detail).with_heading("Invalid metadata format"));
            }
        };
        if let Some(data_type) = self.data_type {
            metadata.insert("type".to_owned(), data_type.into());
        }
        let mut payload = json!({ "data": data, "metadata": metadata });
        if let Some(timestamp) = self.timestamp.filter(|value| !value.is_null()) {
            payload["timestamp"] = timestamp;
        }
        Ok(payload.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_a_whole_and_errors_name_theirs() {
        let body = b"{\"data\": {\"a\": 1}}\r\n\n{\"data\": {\"a\": 2}, \"timestamp\": 7}\n";
        let sent = of_lines(body, DecodeLimits::default()).unwrap();
        assert_eq!(
            sent.message(),
            r#"[{"data":{"a":1},"metadata":{}},{"data":{"a":2},"metadata":{},"timestamp":7}]"#
        );
        let lines: Vec<_> = sent.body().lines().map(str::len).collect();
        assert_eq!(lines, [30, 0, 44]);
        let one = of_lines(b"{\"data\": {\"a\": 1}}", DecodeLimits::default()).unwrap();
        assert_eq!(one.message(), r#"{"data":{"a":1},"metadata":{}}"#);
        let told = |body: &[u8]| {
            let problem = of_lines(body, DecodeLimits::default()).unwrap_err();
            (problem.extra().heading, problem.detail().to_owned())
        };
        let (heading, detail) = told(b"{\"data\": {\"a\": 1}}\nno");
        assert_eq!(heading, Some("Invalid JSON"));
        assert!(detail.starts_with("line 2: "), "{detail}");
        let (heading, detail) = told(b"{\"metadata\": {}}");
        assert_eq!(heading, Some("Missing required fields"));
        assert_eq!(detail, "line 1: Required fields: data");
        assert_eq!(told(b"\n").0, Some("Missing required fields"));
        assert!(told(b"[{\"data\": {\"a\": 1}}]").1.starts_with("line 1: "));
    }
}
