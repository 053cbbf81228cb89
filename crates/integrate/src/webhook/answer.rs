//! The answer of a webhook, as the outcome of a message.

use std::num::IntErrorKind;
use std::time::Duration;

use hyper::StatusCode;
use jiff::Timestamp;

use crate::http::Body;
use crate::masking::SecretTexts;
use crate::outcome::Outcome;

/// Number of characters of an answer in a dead letter.
const LETTERS_MAX: usize = 200;
/// Longest pause that `Retry-After` may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// The outcome of a message from the status and the beginning of the answer. `is_for_good`: a 4xx
/// answer is permanent for this message.
pub(super) fn outcome(
    status: StatusCode,
    is_for_good: bool,
    retry_after: Option<&str>,
    body: &Body,
    secrets: &SecretTexts,
) -> Outcome {
    if status.is_success() {
        return Outcome::Done;
    }
    // Masked before it is shortened, so that no part of a secret remains.
    let body = secrets.mask(&body.bytes, body.is_cut);
    let body = cleaned(&String::from_utf8_lossy(&body));
    let said = if body.is_empty() {
        format!("the target answered {status}")
    } else {
        format!("the target answered {status}: {body}")
    };
    if status.is_redirection() {
        return Outcome::FailedAtMessage(format!(
            "{said}; redirects are not followed: set `url` to the correct address"
        ));
    }
    let is_refused = status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429);
    if is_refused && is_for_good {
        return Outcome::Refused(said);
    }
    match retry_after.and_then(|text| pause(text, Timestamp::now())) {
        Some(pause) => Outcome::Later(said, pause),
        None if says_it_is_down(status) => Outcome::Failed(said),
        None => Outcome::FailedAtMessage(said),
    }
}

/// Whether a status is caused by the target and not by the message.
fn says_it_is_down(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504)
}

/// The pause that `Retry-After` requests: seconds, or a date.
fn pause(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => PAUSE_MAX,
        Err(_) => {
            let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(asked.min(PAUSE_MAX))
}

/// The beginning of an answer in one line, without control characters.
fn cleaned(text: &str) -> String {
    let is_plain = |letter: char| !letter.is_control() && !letter.is_whitespace();
    let words = text.split(|letter| !is_plain(letter));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(LETTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, retry_after: Option<&str>, body: &str) -> Outcome {
        of_target(status, true, retry_after, body)
    }

    fn of_target(status: u16, is_for_good: bool, retry_after: Option<&str>, body: &str) -> Outcome {
        let status = StatusCode::from_u16(status).expect("a status");
        let mut secrets = SecretTexts::default();
        secrets.add(b"known");
        let body = Body {
            bytes: body.as_bytes().to_vec(),
            is_cut: false,
        };
        outcome(status, is_for_good, retry_after, &body, &secrets)
    }

    #[test]
    fn only_2xx_is_success_and_most_of_4xx_is_for_good() {
        assert_eq!(of(204, None, ""), Outcome::Done);
        for status in [400, 401, 404, 410, 422] {
            assert!(
                matches!(of(status, None, ""), Outcome::Refused(_)),
                "{status}"
            );
        }
        for status in [400, 404, 422] {
            let outcome = of_target(status, false, None, "");
            assert!(matches!(outcome, Outcome::FailedAtMessage(_)), "{status}");
        }
        for status in [408, 425, 429, 502, 503, 504] {
            assert!(
                matches!(of(status, None, ""), Outcome::Failed(_)),
                "{status}"
            );
        }
        for status in [301, 307, 500, 501, 507, 520] {
            assert!(
                matches!(of(status, None, ""), Outcome::FailedAtMessage(_)),
                "{status}"
            );
        }
    }

    #[test]
    fn an_answer_is_shown_in_one_line_without_secrets() {
        let body = format!("no\u{1b}[31m\r\nknown {}", "x".repeat(300));
        let Outcome::Refused(why) = of(400, None, &body) else {
            panic!("it is refused");
        };
        assert!(
            why.starts_with("the target answered 400 Bad Request: no [31m *** xxx"),
            "{why}"
        );
        assert!(why.len() < 250);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let seconds = |secs| Some(Duration::from_secs(secs));
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
        assert_eq!(pause("7", now), seconds(7));
        assert_eq!(pause("Sun, 01 Mar 2026 12:00:30 GMT", now), seconds(30));
        assert_eq!(pause("Sun, 01 Mar 2026 11:00:00 GMT", now), seconds(0));
        assert_eq!(pause("9999999", now), Some(PAUSE_MAX));
        assert_eq!(pause("soon", now), None);
        let later = of(503, Some("2"), "");
        assert!(matches!(later, Outcome::Later(_, pause) if pause.as_secs() == 2));
    }
}
