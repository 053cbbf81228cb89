//! Versions of what is there: `ETag`, `If-None-Match`, `If-Match` (RFC 9110, 13).

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

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
        // By the weak comparison: W/ may stand before.
        let is_unchanged = conditions.iter().any(|list| self.is_in(list, true));
        match is_unchanged {
            true => (StatusCode::NOT_MODIFIED, [self.header()]).into_response(),
            false => ([self.header()], answer).into_response(),
        }
    }

    /// Checks that the version in `If-Match` is this one.
    ///
    /// # Errors
    /// There is no `If-Match` (428), or another version (412).
    pub fn check_write(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut conditions = headers.get_all(header::IF_MATCH).iter().peekable();
        if conditions.peek().is_none() {
            let detail = "give the version to be changed in If-Match: its ETag, or *";
            return Err(Problem::new(ProblemKind::PreconditionRequired, detail));
        }
        if conditions.any(|list| self.is_in(list, false)) {
            return Ok(());
        }
        let detail = "it has been changed since it was read: read it again";
        Err(Problem::new(ProblemKind::PreconditionFailed, detail))
    }

    fn is_in(&self, list: &HeaderValue, is_weak_good: bool) -> bool {
        let Ok(list) = list.to_str() else {
            return false;
        };
        list.split(',').map(str::trim).any(|tag| {
            let strong = match is_weak_good {
                true => tag.strip_prefix("W/").unwrap_or(tag),
                false => tag,
            };
            tag == "*" || strong.as_bytes() == self.0.as_bytes()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn who_writes_says_what_they_know() {
        let version = Version::of_number(7);
        let check = |headers: HeaderMap| version.check_write(&headers).map_err(|it| it.kind());
        assert_eq!(check(headers(header::IF_MATCH, "\"6\", \"7\"")), Ok(()));
        assert_eq!(check(headers(header::IF_MATCH, "*")), Ok(()));
        let failed = Err(ProblemKind::PreconditionFailed);
        assert_eq!(check(headers(header::IF_MATCH, "\"6\"")), failed);
        assert_eq!(check(headers(header::IF_MATCH, "W/\"7\"")), failed);
        assert_eq!(
            check(HeaderMap::new()),
            Err(ProblemKind::PreconditionRequired)
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
