//! Versions of what is there: `ETag`, `If-None-Match`, `If-Match` (RFC 9110, 13).

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_registry::Expected;

use crate::problem::{Problem, ProblemKind};
use crate::secret::digest_of;

/// A version of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(HeaderValue);

impl Version {
    /// Makes the tag from the bytes that are sent.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let digest = digest_of(bytes);
        let hex: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self::quoted(&hex)
    }

    /// Makes the tag from a number that its keeper counts up with each change.
    pub fn of_number(number: u64) -> Self {
        Self::quoted(&number.to_string())
    }

    fn quoted(text: &str) -> Self {
        // Digits and letters alone: that cannot fail.
        let value = HeaderValue::from_str(&format!("\"{text}\""));
        Self(value.unwrap_or(HeaderValue::from_static("\"\"")))
    }

    /// As a header of the answer.
    pub fn header(&self) -> (HeaderName, HeaderValue) {
        (header::ETAG, self.0.clone())
    }

    /// 304 where the reader has this version already.
    pub fn unless_unchanged(&self, headers: &HeaderMap, answer: impl IntoResponse) -> Response {
        let conditions = headers.get_all(header::IF_NONE_MATCH);
        let is_unchanged = conditions.iter().any(|list| self.is_in(list));
        match is_unchanged {
            true => (StatusCode::NOT_MODIFIED, [self.header()]).into_response(),
            false => ([self.header()], answer).into_response(),
        }
    }

    /// Whether a list has this version, by the weak comparison: `W/` may stand before.
    fn is_in(&self, list: &HeaderValue) -> bool {
        tags(list).any(|tag| {
            let strong = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || strong.as_bytes() == self.0.as_bytes()
        })
    }
}

/// The revisions that `If-Match` names, by the strong comparison (RFC 9110, 13.1.1).
///
/// # Errors
/// There is no `If-Match` (428), or it has no tag that a revision can have (412).
pub(crate) fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let lists = headers.get_all(header::IF_MATCH);
    if lists.iter().next().is_none() {
        let detail = "give the version to be changed in If-Match: its ETag, or *";
        return Err(Problem::new(ProblemKind::PreconditionRequired, detail));
    }
    if lists.iter().flat_map(tags).any(|tag| tag == "*") {
        return Ok(Expected::any());
    }
    let number = |tag: &str| {
        let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
        tag.parse().ok()
    };
    let revisions: Vec<i64> = lists.iter().flat_map(tags).filter_map(number).collect();
    if revisions.is_empty() {
        let detail = "If-Match names no version of it: read it again";
        return Err(Problem::new(ProblemKind::PreconditionFailed, detail));
    }
    Ok(revisions.into_iter().collect())
}

/// As [`expected`]; any revision without `If-Match`.
///
/// # Errors
/// `If-Match` has no tag that a revision can have (412).
pub(crate) fn expected_if_any(headers: &HeaderMap) -> Result<Expected, Problem> {
    match headers.contains_key(header::IF_MATCH) {
        true => expected(headers),
        false => Ok(Expected::any()),
    }
}

/// The tags of a list; none where it is no text.
fn tags(list: &HeaderValue) -> impl Iterator<Item = &str> {
    list.to_str().unwrap_or_default().split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn who_writes_says_which_revisions_they_know() {
        let check = |headers: HeaderMap| expected(&headers).map_err(|it| it.kind());
        let of = |value| check(headers(header::IF_MATCH, value));
        assert_eq!(of("\"6\", \"7\""), Ok(Expected::from_iter([6, 7])));
        assert_eq!(of("W/\"6\", \"7\", \"x\""), Ok(Expected::from(7)));
        assert_eq!(of("\"6\", *"), Ok(Expected::any()));
        let failed = Err(ProblemKind::PreconditionFailed);
        assert_eq!(of("W/\"7\""), failed);
        assert_eq!(of("7"), failed);
        let mut both = HeaderMap::new();
        for line in ["\"6\"", "\"7\""] {
            both.append(header::IF_MATCH, HeaderValue::from_static(line));
        }
        assert_eq!(check(both), Ok(Expected::from_iter([6, 7])));
        let required = Err(ProblemKind::PreconditionRequired);
        assert_eq!(check(HeaderMap::new()), required);
        assert_eq!(
            expected_if_any(&HeaderMap::new()).ok(),
            Some(Expected::any())
        );
    }

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let version = Version::of_bytes(b"x");
        let (_, tag) = version.header();
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        assert_eq!(version.unless_unchanged(&known, "x").status(), 304);
        let other = headers(header::IF_NONE_MATCH, "\"1\"");
        assert_eq!(version.unless_unchanged(&other, "x").status(), 200);
    }
}
