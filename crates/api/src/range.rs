//! Part of a file that a request asks for (RFC 9110, 13 and 14).

use axum::http::{HeaderMap, HeaderName, header};

/// Part of the file that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeAnswer {
    /// All of it.
    Whole,
    /// The bytes from the first to the last one, both included.
    Range(u64, u64),
    /// Nothing: no byte of the range is in the file.
    Unsatisfiable,
    /// Nothing: the reader has the file.
    NotModified,
}

/// Reads the headers of a request for a file of `size` bytes with this entity tag, which has quotes
/// around it. A range that is not understood, and several ranges, are as if none was asked for.
pub(crate) fn part_of(headers: &HeaderMap, size: u64, etag: &str) -> RangeAnswer {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    if text(header::IF_NONE_MATCH).is_some_and(|list| is_in(list, etag)) {
        return RangeAnswer::NotModified;
    }
    // A date is too inexact for a file that is named by its digest.
    if text(header::IF_RANGE).is_some_and(|known| known.trim() != etag) {
        return RangeAnswer::Whole;
    }
    let Some(range) = text(header::RANGE) else {
        return RangeAnswer::Whole;
    };
    match bounds(range) {
        None => RangeAnswer::Whole,
        Some((None, None | Some(0))) => RangeAnswer::Unsatisfiable,
        Some((None, Some(last))) if size > 0 => RangeAnswer::Range(size - last.min(size), size - 1),
        Some((Some(first), last)) if first < size => {
            RangeAnswer::Range(first, last.map_or(size - 1, |last| last.min(size - 1)))
        }
        Some(_) => RangeAnswer::Unsatisfiable,
    }
}

/// The part of a token of `http.rate` that a request takes: one, or less for a piece of a file of
/// firmware. A device with little memory asks for many small pieces.
pub(crate) fn part_of_token(path: &str, headers: &HeaderMap) -> f64 {
    /// Bytes of a file for a token.
    const BYTES: f64 = 64.0 * 1024.0;
    /// Requests for a token, however small their pieces are.
    const REQUESTS: f64 = 64.0;
    let of_firmware = path.strip_prefix("/api/v1/firmware/");
    match of_firmware.is_some_and(|rest| rest.ends_with("/file")) {
        true => asked_bytes(headers).map_or(1.0, |bytes| {
            (bytes as f64 / BYTES).clamp(1.0 / REQUESTS, 1.0)
        }),
        false => 1.0,
    }
}

/// Bytes of the range that a request asks for; `None`: it has no range with two ends.
fn asked_bytes(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    match bounds(range)? {
        (Some(first), Some(last)) => (last - first).checked_add(1),
        (None, last) => last,
        (Some(_), None) => None,
    }
}

/// Whether a list of entity tags has this one, or is `*`.
fn is_in(list: &str, etag: &str) -> bool {
    let mut tags = list.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// `bytes=first-last`; without the first one, `last` is how many bytes at the end.
fn bounds(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = text.trim().split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    };
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if last < first => None,
        both => Some(both),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"abc\"";

    fn range_answer(range: &str, more: &[(&'static str, &str)]) -> RangeAnswer {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        for (name, value) in more {
            headers.insert(*name, value.parse().unwrap());
        }
        part_of(&headers, 100, ETAG)
    }

    #[test]
    fn a_range_is_cut_at_the_end_of_the_file() {
        assert_eq!(part_of(&HeaderMap::new(), 100, ETAG), RangeAnswer::Whole);
        assert_eq!(range_answer("bytes=0-9", &[]), RangeAnswer::Range(0, 9));
        assert_eq!(
            range_answer("bytes=90-200", &[]),
            RangeAnswer::Range(90, 99)
        );
        assert_eq!(range_answer("bytes=99-", &[]), RangeAnswer::Range(99, 99));
        assert_eq!(range_answer("bytes=-10", &[]), RangeAnswer::Range(90, 99));
        assert_eq!(range_answer("bytes=-1000", &[]), RangeAnswer::Range(0, 99));
        assert_eq!(range_answer("bytes=100-", &[]), RangeAnswer::Unsatisfiable);
        assert_eq!(range_answer("bytes=-0", &[]), RangeAnswer::Unsatisfiable);
    }

    #[test]
    fn what_is_not_understood_is_as_if_nothing_was_asked_for() {
        for wrong in [
            "bytes=9-1",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "lines=1-2",
            "bytes=0-1,5-6",
        ] {
            assert_eq!(range_answer(wrong, &[]), RangeAnswer::Whole, "{wrong}");
        }
    }

    #[test]
    fn conditions_come_before_the_range() {
        assert_eq!(
            range_answer("bytes=0-9", &[("if-range", ETAG)]),
            RangeAnswer::Range(0, 9)
        );
        assert_eq!(
            range_answer("bytes=0-9", &[("if-range", "\"other\"")]),
            RangeAnswer::Whole
        );
        assert_eq!(
            range_answer("bytes=0-9", &[("if-none-match", "\"x\", W/\"abc\"")]),
            RangeAnswer::NotModified
        );
        assert_eq!(
            range_answer("bytes=0-9", &[("if-none-match", "\"x\"")]),
            RangeAnswer::Range(0, 9)
        );
    }
}
