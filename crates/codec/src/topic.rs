//! Topic Names and Topic Filters.
//!
//! Both are validated at construction and differ in type, so that neither stands where the other
//! belongs. Matching here is the plain reading of the specification, the reference for faster
//! ones; limits on levels and characters are the server's. MQTT 5.0 §4.7, §4.8.

use std::fmt;

use crate::primitive::{HIGH_BITS, LOW_BITS, holds_any};

/// The highest length of a Topic Name or Topic Filter in bytes [MQTT-4.7.3-3].
pub const MAX_TOPIC_LEN: usize = 65_535;

/// Why text is no Topic Name, Topic Filter or Shared Subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// It has no character [MQTT-4.7.3-1].
    Empty,
    /// It is longer than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// It holds U+0000 [MQTT-4.7.3-2].
    Nul,
    /// A Topic Name holds `+` or `#` [MQTT-3.3.2-2].
    WildcardInName,
    /// `#` is not alone in its level or not in the last one [MQTT-4.7.1-1].
    MultiLevelWildcard,
    /// `+` is not alone in its level [MQTT-4.7.1-2].
    SingleLevelWildcard,
    /// The ShareName is missing, empty or holds a wildcard [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    ShareName,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is longer than 65,535 bytes",
            Self::Nul => "it holds U+0000",
            Self::WildcardInName => "a Topic Name must not hold + or #",
            Self::MultiLevelWildcard => "# must be alone in the last level",
            Self::SingleLevelWildcard => "+ must be alone in its level",
            Self::ShareName => "$share/ must be followed by a ShareName, / and a Topic Filter",
        })
    }
}

impl std::error::Error for TopicError {}

/// A valid Topic Name: what messages are published to.
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

    /// Wraps text that was checked while it was decoded.
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

    /// How many levels there are.
    pub fn level_count(self) -> usize {
        level_count(self.0)
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A valid Topic Filter: what is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks `text`. The prefix `$share/` has no meaning here, see [`SubscriptionFilter`].
    ///
    /// # Errors
    /// Empty, too long, U+0000, or a wildcard where none may be.
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

    /// How many levels there are.
    pub fn level_count(self) -> usize {
        level_count(self.0)
    }

    /// Whether `+` or `#` occurs.
    pub fn has_wildcard(self) -> bool {
        holds_any(self.0.as_bytes(), [b'+', b'#'])
    }

    /// Whether a message to `topic` belongs to this filter.
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        // [MQTT-4.7.2-1]: a filter that begins with a wildcard does not match a topic with $.
        if topic.0.starts_with('$') && matches!(self.0.as_bytes()[0], b'+' | b'#') {
            return false;
        }
        let mut topic_levels = topic.levels();
        for level in self.levels() {
            // `#` takes the parent level too: `sport/#` matches `sport` (§4.7.1.2).
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
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a SUBSCRIBE or UNSUBSCRIBE names: a Topic Filter, possibly of a Shared Subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionFilter<'a> {
    /// The ShareName of `$share/{ShareName}/{filter}`.
    pub share_name: Option<&'a str>,
    /// The Topic Filter without the `$share/{ShareName}/` in front.
    pub filter: TopicFilter<'a>,
}

impl<'a> SubscriptionFilter<'a> {
    /// Checks `text`, which is a Shared Subscription if it begins with `$share/` or is `$share`.
    ///
    /// # Errors
    /// What [`TopicFilter::new`] refuses; a ShareName that is empty, holds `+` or `#`, or is not
    /// followed by `/` and a Topic Filter.
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

/// How many levels a Topic Name or Topic Filter has: one more than there are `/`.
pub fn level_count(text: &str) -> usize {
    1 + text.bytes().filter(|byte| *byte == b'/').count()
}

/// Every character of a Topic Name or Topic Filter is ASCII, and none a control character.
#[inline]
pub fn is_plain(text: &str) -> bool {
    const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);
    let bytes = text.as_bytes();
    let (words, rest) = bytes.as_chunks::<8>();
    let unusual = words.iter().fold(0, |unusual, word| {
        unusual | unusual_marks(u64::from_le_bytes(*word))
    });
    let last = match bytes.last_chunk::<8>() {
        // It has bytes of the word before once more.
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

/// Whether text holds a character that §1.5.4 advises against: U+0001 to U+001F, U+007F to U+009F
/// or a noncharacter (U+FDD0 to U+FDEF, the last two of each plane).
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
