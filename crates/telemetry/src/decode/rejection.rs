//! Why a payload is rejected.

/// Names of all reasons in metrics.
pub const REASONS: [&str; 13] = [
    "not_text",
    "not_json",
    "not_line",
    "not_object",
    "no_values",
    "too_many_values",
    "bad_key",
    "text_too_long",
    "too_deep",
    "bad_time",
    "no_time",
    "skewed_time",
    "bad_number",
];

/// Why a payload is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The payload is not UTF-8.
    #[error("the payload is not UTF-8 text")]
    NotText,
    /// The payload is compressed without an indication of it.
    #[error(
        "the payload is compressed with gzip: over HTTP, send the header Content-Encoding: gzip; \
         over MQTT, send it without compression"
    )]
    Gzip,
    /// The payload is not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// A line is not valid line protocol.
    #[error("line {line}: {why}")]
    NotLine {
        /// Number of the line, from 1.
        line: usize,
        /// The error.
        why: String,
    },
    /// JSON other than an object or an array of objects.
    #[error("expected an object of values or an array of them, found {0}")]
    NotObject(&'static str),
    /// The payload has no values.
    #[error("the payload has no values")]
    NoValues,
    /// The payload has too many values.
    #[error("the payload has more than {max} values")]
    TooManyValues {
        /// The limit.
        max: usize,
    },
    /// An object in it has too many values, lists and objects.
    #[error("an object of the payload has more than {max} values, lists and objects in it")]
    TooManyParts {
        /// The limit.
        max: usize,
    },
    /// A key is empty.
    #[error("a key is empty")]
    KeyEmpty,
    /// A key is too long.
    #[error("a key has {bytes} bytes, at most {max} are allowed")]
    KeyTooLong {
        /// Length of the key, bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A key contains an invalid character.
    #[error("the key {key:?} has the character {character:?}")]
    KeyCharacter {
        /// The key.
        key: String,
        /// The character.
        character: char,
    },
    /// A text is too long.
    #[error("{} has {bytes} bytes, at most {max} are allowed", value_of(.key))]
    TextTooLong {
        /// Key of the text; empty: the payload is a single value, here and below.
        key: String,
        /// Length of the text, bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A value is nested too deeply.
    #[error("{} is nested more than {max} deep", value_of(.key))]
    TooDeep {
        /// Key of the value.
        key: String,
        /// The limit.
        max: usize,
    },
    /// The time cannot be parsed.
    #[error("{0} is not a valid time: expected ISO 8601 or a number of s, ms, µs or ns since 1970")]
    BadTime(String),
    /// The time is outside the stored range.
    #[error("the time of the payload is not in the years 1 to 9997")]
    TimeRange,
    /// There is no time, and the policy needs one.
    #[error("the payload has no time: add it {place}, since {why}")]
    NoTime {
        /// Where the time is expected.
        place: String,
        /// The policy.
        why: &'static str,
    },
    /// The time differs too much from the time of receipt, and the policy rejects that.
    #[error("the time of the payload is {}, and skew is \"reject\"", off(*.ahead_secs))]
    Skewed {
        /// Difference from the time of receipt, seconds; negative: before it.
        ahead_secs: i64,
    },
    /// A number is not finite.
    #[error("{} is not a finite number (NaN, infinite or too large)", value_of(.0))]
    NotFinite(String),
    /// An integer does not fit.
    #[error(
        "the integer {digits}{} is not in -9223372036854775808 to 9223372036854775807; send it as a \
         text, or with a decimal point if an approximate number is enough", of(.key)
    )]
    TooLarge {
        /// Key of the integer.
        key: String,
        /// Digits of the integer; the first of them if there are many.
        digits: String,
    },
    /// A text has a zero byte, which cannot be stored.
    #[error(
        "the text{} has a zero byte, which cannot be stored: the length of the text may be one too \
         large", of(.0)
    )]
    ZeroByte(String),
    /// A part of the payload is rejected.
    #[error("{place}{rejection}")]
    At {
        /// Which part.
        place: Box<Place>,
        /// Why.
        rejection: Box<Rejection>,
    },
}

/// A part of a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of its line, from 1.
    line: Option<usize>,
    /// Number of its element of a JSON array, from 1.
    item: Option<usize>,
    /// JSON pointer of its member of the object.
    member: String,
}

impl std::fmt::Display for Place {
    /// Writes the line and element, as the beginning of a sentence. The sentence names the member.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, number) in [("line", self.line), ("item", self.item)] {
            if let Some(number) = number {
                write!(f, "{name} {number}: ")?;
            }
        }
        Ok(())
    }
}

impl Place {
    /// JSON pointer of the part of the payload, whose lines are elements too.
    pub fn pointer(&self) -> String {
        let numbers = [self.line, self.item].into_iter().flatten();
        numbers.map(pointer_of).collect::<String>() + &self.member
    }
}

/// JSON pointer of an element by its number, from 1.
fn pointer_of(number: usize) -> String {
    format!("/{}", number.saturating_sub(1))
}

impl Rejection {
    /// The rejection of a payload that is a single value, whose key is not in the payload.
    pub(super) fn of_single_value(mut self) -> Self {
        match &mut self {
            Self::At { rejection, .. } => {
                let inner = std::mem::replace(&mut **rejection, Self::NoValues);
                **rejection = inner.of_single_value();
            }
            Self::TextTooLong { key, .. }
            | Self::TooDeep { key, .. }
            | Self::TooLarge { key, .. }
            | Self::NotFinite(key)
            | Self::ZeroByte(key) => key.clear(),
            _ => {}
        }
        self
    }

    /// Adds the number of the line, from 1.
    #[must_use]
    pub fn in_line(self, number: usize) -> Self {
        self.in_place(|place| place.line = Some(number))
    }

    /// Adds the number of the element, from 1.
    pub(super) fn in_item(self, number: usize) -> Self {
        self.in_place(|place| place.item = Some(number))
    }

    /// Adds the name of the member that has the part.
    pub(super) fn in_member(self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        self.in_place(|place| place.member = format!("/{name}{}", place.member))
    }

    fn in_place(self, add: impl FnOnce(&mut Place)) -> Self {
        let (mut place, rejection) = match self {
            Self::At { place, rejection } => (place, rejection),
            rejection => (Box::default(), Box::new(rejection)),
        };
        add(&mut place);
        Self::At { place, rejection }
    }

    /// Whether it is about one value or its key: the values beside it can be stored.
    pub(super) fn is_of_value(&self) -> bool {
        match self {
            Self::At { rejection, .. } => rejection.is_of_value(),
            Self::KeyEmpty
            | Self::KeyTooLong { .. }
            | Self::KeyCharacter { .. }
            | Self::TextTooLong { .. }
            | Self::TooDeep { .. }
            | Self::NotFinite(_)
            | Self::TooLarge { .. }
            | Self::ZeroByte(_) => true,
            _ => false,
        }
    }

    /// JSON pointer of the part of the payload, whose lines are elements too; none: it is the whole
    /// payload.
    pub fn pointer(&self) -> Option<String> {
        match self {
            Self::At { place, .. } => Some(place.pointer()),
            Self::NotLine { line, .. } => Some(pointer_of(*line)),
            _ => None,
        }
    }

    /// Returns the reason's name in metrics, one of [`REASONS`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotText | Self::Gzip => "not_text",
            Self::NotJson(_) => "not_json",
            Self::NotLine { .. } => "not_line",
            Self::NotObject(_) => "not_object",
            Self::NoValues => "no_values",
            Self::TooManyValues { .. } | Self::TooManyParts { .. } => "too_many_values",
            Self::KeyEmpty | Self::KeyTooLong { .. } | Self::KeyCharacter { .. } => "bad_key",
            Self::TextTooLong { .. } => "text_too_long",
            Self::TooDeep { .. } => "too_deep",
            Self::BadTime(_) | Self::TimeRange => "bad_time",
            Self::NoTime { .. } => "no_time",
            Self::Skewed { .. } => "skewed_time",
            Self::NotFinite(_) | Self::TooLarge { .. } => "bad_number",
            Self::ZeroByte(_) => "not_text",
            Self::At { rejection, .. } => rejection.reason(),
        }
    }
}

/// The value of a key; of none, the whole payload.
fn value_of(key: &str) -> String {
    match key {
        "" => "the payload".to_owned(),
        key => format!("the value of {key}"),
    }
}

fn of(key: &str) -> String {
    match key {
        "" => String::new(),
        key => format!(" of {key}"),
    }
}

fn off(ahead_secs: i64) -> String {
    match ahead_secs < 0 {
        true => format!("{} s in the past", ahead_secs.unsigned_abs()),
        false => format!("{ahead_secs} s in the future"),
    }
}
