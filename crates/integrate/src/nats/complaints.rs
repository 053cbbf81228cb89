//! Errors that the server has reported over one connection.

use std::collections::HashSet;

/// Maximum number of stored subjects.
const DENIED_MAX: usize = 10_000;
/// After this number of errors at once, the client may have dropped some.
const HEARD_MAX: usize = 100;

/// A limit of the server. The server closes the connection at a message above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// `max_control_line`: the subject is too long.
    ControlLine,
    /// `max_payload`, if the server has announced a different one.
    Payload,
}

/// Errors reported by the server.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Option<String>,
    /// Subjects to which publishing is not permitted.
    denied: HashSet<String>,
    count: usize,
}

impl Complaints {
    /// Records an error of the server with this text.
    pub(super) fn note(&mut self, words: String) {
        if let Some(subject) = denied_subject(&words).filter(|_| self.denied.len() < DENIED_MAX) {
            self.denied.insert(subject);
        }
        self.last = Some(words);
        self.count += 1;
    }

    /// The last error.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Whether publishing to this subject is not permitted.
    pub(super) fn denies(&self, subject: &str) -> bool {
        self.denied.contains(subject)
    }

    /// Whether errors may have been missed.
    pub(super) fn are_too_many(&self) -> bool {
        self.count >= HEARD_MAX
    }

    /// Whether the last error is one for which the server closes a connection. It does not for a
    /// missing permission.
    pub(super) fn has_ended(&self) -> bool {
        let last = self.last.as_deref();
        last.is_some_and(|words| !words.contains("Permissions Violation"))
    }

    /// The limit that the last error names.
    pub(super) fn limit(&self) -> Option<Limit> {
        let last = self.last.as_deref()?.to_ascii_lowercase();
        if last.contains("maximum control line") {
            return Some(Limit::ControlLine);
        }
        last.contains("maximum payload").then_some(Limit::Payload)
    }
}

/// The subject of `Permissions Violation for Publish to "SUBJECT"`.
fn denied_subject(words: &str) -> Option<String> {
    let (_, quoted) = words.split_once("Permissions Violation for Publish to \"")?;
    let mut subject = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Some(subject),
            '\\' => subject.push(escaped(&mut letters)?),
            letter => subject.push(letter),
        }
    }
    None
}

/// The character after a `\`, in the server's escape syntax.
fn escaped(letters: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match letters.next()? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        'f' => return Some('\x0c'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\x0b'),
        other => return Some(other),
    };
    let text = letters.as_str().get(..digits)?;
    letters.nth(digits - 1)?;
    char::from_u32(u32::from_str_radix(text, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_the_subject_that_is_denied() {
        for (words, expected) in [
            (
                r#"nats: Permissions Violation for Publish to "raw.a""#,
                "raw.a",
            ),
            (
                r#"Permissions Violation for Publish to "a\"\\\u00a0ü" x"#,
                "a\"\\\u{a0}ü",
            ),
        ] {
            let mut complaints = Complaints::default();
            complaints.note(words.to_owned());
            assert!(complaints.denies(expected), "{words}: {complaints:?}");
        }
        for words in [
            r#"Permissions Violation for Subscription to "a""#,
            r#"Permissions Violation for Publish to "a"#,
            r#"Permissions Violation for Publish to "\u00"#,
        ] {
            assert_eq!(denied_subject(words), None, "{words}");
        }
    }
}
