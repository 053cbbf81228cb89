//! Parts of a request that handlers take; what does not fit is a problem that names the field.

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{Method, header};
use martlet_text_file::without_bom;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::body::large::BodyReader;
use crate::keys::KEY_PARAMETER;
use crate::problem::{Problem, ProblemKind};
use crate::tenant::{TEAM_PARAMETER, TeamTaken};
use crate::wording::{Worded, worded};

/// A body that is a JSON object. A `POST` without one has `{}`, with any Content-Type: required
/// members are then missing.
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let reader = reader_of(&request);
        let body = json_of(request, state).await?;
        read_with(reader, body, object_from_json).await.map(Self)
    }
}

/// Body in JSON where a list is as good as an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonOrList<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for JsonOrList<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let reader = reader_of(&request);
        let body = json_of(request, state).await?;
        read_with(reader, body, from_json).await.map(Self)
    }
}

/// Reader of the body of a request; none: nothing stands before its route.
pub(crate) fn reader_of(request: &Request) -> Option<BodyReader> {
    request.extensions().get().cloned()
}

/// Reads a body; a large one waits for a slot.
pub(crate) async fn read_with<T: Send + 'static>(
    reader: Option<BodyReader>,
    body: Bytes,
    read: fn(&[u8]) -> Result<T, Problem>,
) -> Result<T, Problem> {
    match reader {
        Some(reader) => reader.read(body.len(), move || read(&body)).await?,
        None => read(&body),
    }
}

async fn json_of<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let may_be_none = request.method() == Method::POST;
    if may_be_none && request.body().size_hint().exact() == Some(0) {
        return Ok(Bytes::from_static(b"{}"));
    }
    if !is_json(request.headers().get(header::CONTENT_TYPE)) {
        let detail = "the body must be JSON: send Content-Type: application/json";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    whole_body(request, state).await
}

/// All bytes of a body.
pub(crate) async fn whole_body<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, Problem> {
    let bytes = Bytes::from_request(request, state).await;
    bytes.map_err(|_| Problem::bad_request("the body cannot be read"))
}

fn is_json(content_type: Option<&header::HeaderValue>) -> bool {
    let text = content_type.and_then(|value| value.to_str().ok());
    let essence = text
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A JSON object. A list is rejected: its items would be taken as members, by their order.
pub(crate) fn object_from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match without_bom(bytes).trim_ascii_start().first() {
        Some(b'[') => {
            from_json::<IgnoredAny>(bytes)?;
            Err(Problem::of_body("", "expected an object, found a list"))
        }
        _ => from_json(bytes),
    }
}

pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(without_bom(bytes));
    let value = serde_path_to_error::deserialize(&mut json);
    let value = value.map_err(|error| match error.inner().classify() {
        serde_json::error::Category::Data => of_field(error, ""),
        _ => Problem::bad_request(format!("the body is not JSON: {}", error.into_inner())),
    })?;
    let more = |error| Problem::bad_request(format!("the body is not JSON: {error}"));
    json.end().map_err(more)?;
    Ok(value)
}

/// Reads a part of a body, which stands at this JSON Pointer.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| of_field(error, at))
}

/// The problem that the field is which an error names.
fn of_field(error: serde_path_to_error::Error<serde_json::Error>, at: &str) -> Problem {
    let mut at = format!("{at}{}", pointer(error.path().iter()));
    let Worded { detail, member } = worded(&error.into_inner().to_string());
    if let Some(member) = member.as_deref().map(escaped)
        && !at.ends_with(&format!("/{member}"))
    {
        at.push_str(&format!("/{member}"));
    }
    Problem::of_body(&at, detail)
}

/// As RFC 6901 has it.
fn pointer<'a>(segments: impl Iterator<Item = &'a Segment>) -> String {
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        match segment {
            Segment::Seq { index } => text.push_str(&index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                text.push_str(&escaped(key));
            }
            Segment::Unknown => text.push('?'),
        }
    }
    text
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The query.
#[derive(Clone, Copy, Debug)]
pub struct QueryOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let is_taken = parts.extensions.get::<TeamTaken>().is_some();
        from_query(parts.uri.query().unwrap_or_default(), is_taken).map(Self)
    }
}

fn from_query<T: DeserializeOwned>(query: &str, is_team_taken: bool) -> Result<T, Problem> {
    let mut kept = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
            let problem = Problem::bad_request("the query is not UTF-8");
            return Err(problem.of_parameter(&name, "not UTF-8"));
        }
        if name != KEY_PARAMETER && !(is_team_taken && name == TEAM_PARAMETER) {
            kept.append_pair(&name, &value);
        }
    }
    let kept = kept.finish();
    let parsed = form_urlencoded::parse(kept.as_bytes());
    let query = serde_urlencoded::Deserializer::new(parsed);
    serde_path_to_error::deserialize(query).map_err(|error| {
        let name = match error.path().iter().next() {
            Some(Segment::Map { key }) => key.clone(),
            _ => String::new(),
        };
        let Worded { detail, member } = worded(&error.into_inner().to_string());
        let name = match name.is_empty() {
            true => member.unwrap_or_default(),
            false => name,
        };
        match name.is_empty() {
            true => Problem::bad_request(format!("the query: {detail}")),
            false => Problem::of_query(&name, detail),
        }
    })
}

/// Parameters of the path.
#[derive(Clone, Copy, Debug)]
pub struct PathOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = Path::<T>::from_request_parts(parts, state).await;
        found.map(|Path(value)| Self(value)).map_err(|rejection| {
            Problem::bad_request(format!("the path: {}", rejection.body_text()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ExampleParams {
        limit: Option<u32>,
        topic: Option<String>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "only its form matters")]
        inner: Vec<ExampleParams>,
    }

    #[test]
    fn a_field_of_the_wrong_kind_is_named() {
        let problem = from_json::<Outer>(br#"{"inner": [{}, {"limit": "x"}]}"#).unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::Invalid);
        let body = problem.body(None, "");
        assert!(body.contains(r#""pointer":"/inner/1/limit""#), "{body}");
        let expected = "the body: /inner/1/limit: expected a whole number from 0 on, and found the \
                    text \\\"x\\\"";
        assert!(body.contains(expected), "{body}");
    }

    #[test]
    fn a_member_that_is_missing_or_too_many_is_named() {
        let pointer = |bytes: &[u8]| {
            let problem = from_json::<Outer>(bytes).unwrap_err();
            let body: serde_json::Value = serde_json::from_str(&problem.body(None, "")).unwrap();
            body["errors"][0]["pointer"].as_str().map(str::to_owned)
        };
        assert_eq!(pointer(b"{}").as_deref(), Some("/inner"));
        let unknown = br#"{"inner": [{"li/mit": 1}]}"#;
        assert_eq!(pointer(unknown).as_deref(), Some("/inner/0/li~1mit"));
        assert_eq!(pointer(b"[7, 8]").as_deref(), Some("/0"));
        assert_eq!(pointer(b"7").as_deref(), Some(""));
        let body = from_query::<ExampleParams>("limti=7", false)
            .unwrap_err()
            .body(None, "");
        assert!(body.contains(r#""parameter":"limti""#), "{body}");
    }

    #[test]
    fn a_list_is_no_object() {
        let kind =
            |bytes| object_from_json::<ExampleParams>(bytes).map_err(|problem| problem.kind());
        assert_eq!(kind(b" [7, \"t\"]").unwrap_err(), ProblemKind::Invalid);
        assert_eq!(kind(b"[]").unwrap_err(), ProblemKind::Invalid);
        assert_eq!(kind(b"[7").unwrap_err(), ProblemKind::BadRequest);
        assert_eq!(kind(b"{\"limit\": 7}").unwrap().limit, Some(7));
    }

    #[test]
    fn what_is_no_json_is_a_bad_request() {
        for bytes in [&b"{"[..], b"{} {}", b"", b"\xff", b"nul"] {
            let problem = from_json::<ExampleParams>(bytes).unwrap_err();
            assert_eq!(problem.kind(), ProblemKind::BadRequest, "{bytes:?}");
        }
    }

    #[test]
    fn a_parameter_is_named() {
        let found = from_query::<ExampleParams>("limit=7&topic=a%2Fb&api_key=s3", false).unwrap();
        assert_eq!(
            (found.limit, found.topic.as_deref()),
            (Some(7), Some("a/b"))
        );
        for query in ["limit=x", "limit=-1", "limit=99999999999"] {
            let body = from_query::<ExampleParams>(query, false)
                .unwrap_err()
                .body(None, "");
            assert!(body.contains(r#""parameter":"limit""#), "{body}");
        }
        assert!(from_query::<ExampleParams>("limti=7", false).is_err());
        assert!(from_query::<ExampleParams>("limit=7&limit=8", false).is_err());
        assert!(from_query::<ExampleParams>("topic=%ff", false).is_err());
    }
}
