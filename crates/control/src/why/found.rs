//! Findings of the parts of a diagnosis, and the words that they share.

use super::Finding;
pub(crate) use crate::cause::Bearing;

/// Findings, each with how it bears on the question.
pub(crate) type Found = Vec<(Bearing, Finding)>;

/// Time after which a single failure is no longer the cause of a present one.
pub(crate) const RECENT_MS: u64 = 15 * 60 * 1000;

/// Time after which a command or rollout that has ended is no longer the cause of a present
/// failure. People look at those later than at connections.
pub(crate) const ENDED_RECENTLY_MS: u64 = 4 * RECENT_MS;

pub(crate) fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

pub(crate) fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

pub(crate) fn messages_wait(count: usize) -> String {
    match count {
        1 => "1 message waits".to_owned(),
        count => format!("{count} messages wait"),
    }
}

pub(crate) fn devices_in_words(count: u64) -> String {
    match count {
        1 => "1 device".to_owned(),
        count => format!("{count} devices"),
    }
}

/// The times of the end of a connection, of a session and of a message are not of one clock.
pub(crate) const CLOCKS_DIFFER_MS: u64 = 1_000;

/// Time after which a message that is not acknowledged holds up those behind it.
const UNACKNOWLEDGED_MS: u64 = 5_000;

/// Whether it was so for long enough.
pub(crate) fn is_unacknowledged(now_ms: u64, since_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) >= UNACKNOWLEDGED_MS
}

/// Remedy for a client that does not acknowledge.
pub(crate) const ACKNOWLEDGE: &str = "see why the client does not send PUBACK or PUBREC: it may be \
     busy with a message, or acknowledge by hand; or have it set a larger Receive Maximum";

/// The first of some names, at most this many, and the number of the others.
pub(crate) fn first_of<N: AsRef<str>>(names: &[N], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    let more = match names.len().saturating_sub(most) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    shown.join(", ") + &more
}

/// Within a sentence.
pub(crate) fn uncapitalized(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters
        .next()
        .map(|letter| letter.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
