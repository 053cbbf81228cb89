//! Topic Names and Topic Filters.
//!
//! Both are validated at construction and have different types, so that they cannot be confused.
//! Matching here follows the specification literally, as the reference for faster algorithms.
//! Limits of levels and characters are up to the server. MQTT 5.0 §4.7, §4.8.

use std::fmt;

use crate::primitive::{HIGH_BITS, LOW_BITS, holds_any};

/// The highest length of a Topic Name or Topic Filter in bytes [MQTT-4.7.3-3].
pub const MAX_TOPIC_LEN: usize = 65_535;

/// Why a text is not a valid Topic Name, Topic Filter or Shared Subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// The topic is empty [MQTT-4.7.3-1].
    Empty,
    /// The topic is longer than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// The topic contains U+0000 [MQTT-4.7.3-2].
    Nul,
    /// A Topic Name contains `+` or `#` [MQTT-3.3.2-2].
    WildcardInName,
    /// `#` is not alone in its level or not in the last one [MQTT-4.7.1-1].
    MultiLevelWildcard,
    /// `+` is not alone in its level [MQTT-4.7.1-2].
    SingleLevelWildcard,
    /// The ShareName is missing, empty or contains a wildcard [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    ShareName,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is longer than 65,535 bytes",
            Self::Nul => "it contains U+0000",
            Self::WildcardInName => "a Topic Name must not contain + or #",
            Self::MultiLevelWildcard => "# must be alone in the last level",
            Self::SingleLevelWildcard => "+ must be alone in its level",
            Self::ShareName => "$share/ must be followed by a ShareName, / and a Topic Filter",
        })
    }
}

impl std::error::Error for TopicError {}

/// A valid Topic Name: the address of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks `text`.
    ///
    /// # Errors
    /// Empty, too long, U+0000 or a wildcard [MQTT-4.7.0-1].
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_text(text)?;
        if holds_any(text.as_bytes(), [b'+', b'#']) {
            return Err(TopicError::WildcardInName);
        }
        Ok(Self(text))
    }

    /// Wraps a text that was checked during decoding.
    #[inline]
    pub(crate) const fn from_checked(text: &'a str) -> Self {
        Self(text)
    }

    /// The text.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels between the `/`, at least one; a level may be empty.
    pub fn levels(self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }

    /// Number of levels.
    pub fn level_count(self) -> usize {
        level_count(self.0)
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A valid Topic Filter: the topics of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks `text`. The prefix `$share/` has no meaning here, see [`SubscriptionFilter`].
    ///
    /// # Errors
    /// Empty, too long, U+0000, or a wildcard at an invalid position.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_text(text)?;
        if !holds_any(text.as_bytes(), [b'+', b'#']) {
            return Ok(Self(text));
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let bytes = level.as_bytes();
            let is_last = levels.peek().is_none();
            if bytes.contains(&b'#') && !(bytes == b"#" && is_last) {
                return Err(TopicError::MultiLevelWildcard);
            }
            if bytes.contains(&b'+') && bytes != b"+" {
                return Err(TopicError::SingleLevelWildcard);
            }
        }
        Ok(Self(text))
    }

    /// The text.
    #[inline]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels between the `/`, at least one; a level may be empty.
    pub fn levels(self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }

    /// Number of levels.
    pub fn level_count(self) -> usize {
        level_count(self.0)
    }

    /// Whether it contains `+` or `#`.
    pub fn has_wildcard(self) -> bool {
        holds_any(self.0.as_bytes(), [b'+', b'#'])
    }

    /// Whether this filter matches `topic`.
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        // [MQTT-4.7.2-1]: a filter that begins with a wildcard does not match a topic with $.
        if topic.0.starts_with('$') && matches!(self.0.as_bytes()[0], b'+' | b'#') {
            return false;
        }
        let mut topic_levels = topic.levels();
        for level in self.levels() {
            // `#` also matches the parent level: `sport/#` matches `sport` (§4.7.1.2).
            if level == "#" {
                return true;
            }
            match topic_levels.next() {
                Some(topic_level) if level == "+" || level == topic_level => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }

    /// The topics that both filters match, as a Topic Filter; `None`: no topic matches both.
    pub fn intersection(self, other: TopicFilter<'_>) -> Option<String> {
        let is_apart =
            |one: &str, other: &str| one.starts_with('$') && other.starts_with(['+', '#']);
        // [MQTT-4.7.2-1]
        if is_apart(self.0, other.0) || is_apart(other.0, self.0) {
            return None;
        }
        let (mut one, mut other) = (self.levels(), other.levels());
        let mut common = Vec::new();
        loop {
            match (one.next(), other.next()) {
                (None, None) => break,
                // `a/#` matches `a` too.
                (Some("#"), next) => {
                    common.extend(next.into_iter().chain(other));
                    break;
                }
                (next, Some("#")) => {
                    common.extend(next.into_iter().chain(one));
                    break;
                }
                (Some("+"), Some(level)) | (Some(level), Some("+")) => common.push(level),
                (Some(level), Some(of_other)) if level == of_other => common.push(level),
                _ => return None,
            }
        }
        Some(common.join("/"))
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The filter in a SUBSCRIBE or UNSUBSCRIBE: a Topic Filter, possibly of a Shared Subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionFilter<'a> {
    /// The ShareName of `$share/{ShareName}/{filter}`.
    pub share_name: Option<&'a str>,
    /// The Topic Filter without the prefix `$share/{ShareName}/`.
    pub filter: TopicFilter<'a>,
}

impl<'a> SubscriptionFilter<'a> {
    /// Whether `text` is meant as a Shared Subscription, valid or not: its first level is `$share`.
    pub fn is_shared(text: &str) -> bool {
        let rest = text.strip_prefix("$share");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Parses `text`: a Shared Subscription if it begins with `$share/` or equals `$share`.
    ///
    /// # Errors
    /// The errors of [`TopicFilter::new`]; a ShareName that is empty, contains `+` or `#`, or is
    /// not followed by `/` and a Topic Filter.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        let shared = match text.strip_prefix("$share") {
            Some("") => return Err(TopicError::ShareName),
            Some(rest) => rest.strip_prefix('/'),
            None => None,
        };
        let Some(shared) = shared else {
            return Ok(Self {
                share_name: None,
                filter: TopicFilter::new(text)?,
            });
        };
        if text.len() > MAX_TOPIC_LEN {
            return Err(TopicError::TooLong);
        }
        let (name, filter) = shared.split_once('/').ok_or(TopicError::ShareName)?;
        if name.is_empty() || holds_any(name.as_bytes(), [b'+', b'#', 0]) || filter.is_empty() {
            return Err(TopicError::ShareName);
        }
        Ok(Self {
            share_name: Some(name),
            filter: TopicFilter::new(filter)?,
        })
    }
}

/// Number of levels of a Topic Name or Topic Filter: one more than the number of `/`.
pub fn level_count(text: &str) -> usize {
    1 + text.bytes().filter(|byte| *byte == b'/').count()
}

/// Whether all characters of a Topic Name or Topic Filter are ASCII and not control characters.
#[inline]
pub fn is_plain(text: &str) -> bool {
    const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);
    let bytes = text.as_bytes();
    let (words, rest) = bytes.as_chunks::<8>();
    let unusual = words.iter().fold(0, |unusual, word| {
        unusual | unusual_marks(u64::from_le_bytes(*word))
    });
    let last = match bytes.last_chunk::<8>() {
        // It overlaps the word before.
        Some(last) => u64::from_le_bytes(*last),
        None => rest
            .iter()
            .fold(SPACES, |word, byte| word << 8 | u64::from(*byte)),
    };
    unusual | unusual_marks(last) == 0
}

/// The highest bit of each byte below 0x20 or above 0x7E.
#[inline]
fn unusual_marks(word: u64) -> u64 {
    let low = word & !HIGH_BITS;
    let printable = low + LOW_BITS * 0x60;
    let delete = low + LOW_BITS;
    (word | delete | !printable) & HIGH_BITS
}

/// Whether a text contains a character that §1.5.4 advises against: U+0001 to U+001F, U+007F to
/// U+009F or a noncharacter (U+FDD0 to U+FDEF, the last two of each plane).
pub fn has_control_characters(text: &str) -> bool {
    // The usual case needs no decoding.
    !is_plain(text)
        && text.chars().any(|c| {
            let code = c as u32;
            matches!(code, 0x01..=0x1F | 0x7F..=0x9F | 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
        })
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_LEN {
        return Err(TopicError::TooLong);
    }
    if holds_any(text.as_bytes(), [0]) {
        return Err(TopicError::Nul);
    }
    Ok(())
}
