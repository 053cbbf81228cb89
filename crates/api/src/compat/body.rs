//! Bodies as the documents of other systems print them: JSON whatever its Content-Type is, with
//! comments.

use axum::extract::{FromRequest, Request};
use martlet_text_file::without_bom;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::extract::{object_from_json, read_with, reader_of, whole_body};
use crate::problem::Problem;

/// A body that is a JSON object. Its Content-Type is not looked at, since their `curl -d` sends
/// that of a form; `# …` and `// …` up to the end of the line are left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompatBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for CompatBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let reader = reader_of(&request);
        let bytes = whole_body(request, state).await?;
        read_with(reader, bytes, object_with_comments)
            .await
            .map(Self)
    }
}

/// A JSON object with comments.
pub(super) fn object_with_comments<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    object_from_json(&without_comments(json))
}

/// The members of a body, which are looked at one by one; what is no JSON object has none.
#[derive(Clone, Debug)]
pub(super) struct Members(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Members {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let reader = reader_of(&request);
        let bytes = whole_body(request, state).await?;
        let read = |bytes: &[u8]| {
            let found = serde_json::from_slice(&without_comments(without_bom(bytes)));
            Ok(Self(found.unwrap_or_default()))
        };
        read_with(reader, bytes, read).await
    }
}

/// JSON without comments, which are not in texts. Lines stay where they are, so that a place that
/// an error names is right.
pub(super) fn without_comments(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let (mut in_text, mut is_escaped) = (false, false);
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let begins = byte == b'#' || json[at..].starts_with(b"//");
        if begins && !in_text {
            let rest = &json[at..];
            let len = rest.iter().position(|byte| *byte == b'\n');
            at += len.unwrap_or(rest.len());
            continue;
        }
        in_text ^= byte == b'"' && !is_escaped;
        is_escaped = in_text && byte == b'\\' && !is_escaped;
        out.push(byte);
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_left_out_and_texts_stay() {
        let left = |json: &str| String::from_utf8(without_comments(json.as_bytes())).unwrap();
        let json = "{\"a\": 1, # one\n \"b\": \"x # y // z\" // two\n}";
        assert_eq!(left(json), "{\"a\": 1, \n \"b\": \"x # y // z\" \n}");
        assert_eq!(left(r#"{"a": "\" # \\"} # end"#), r#"{"a": "\" # \\"} "#);
        assert_eq!(left(r#"{"a/b": 1}"#), r#"{"a/b": 1}"#);
        assert_eq!(left("# all"), "");
        assert_eq!(left("{\"a\": \"#"), "{\"a\": \"#");
    }
}
