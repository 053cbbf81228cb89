//! Values that a key accepts.

use std::ops::RangeInclusive;

use crate::value::Value;

/// Values that a key of the configuration accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A whole number.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// 0 for no limit, or a whole number of at least `min`.
    NoneOrAtLeast {
        /// The smallest value besides 0.
        min: u64,
    },
    /// true or false.
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text; empty means none.
    Text,
    /// A list of texts, which may contain commas. Only in configuration files.
    Texts,
    /// Topics of a bridge: a list of tables, or of texts. Only in configuration files.
    Topics,
    /// A list of texts `Name: value`, whose values are not shown. Only in configuration files.
    Headers,
    /// A text that is never shown.
    Secret,
}

/// A whole number in a range.
pub const fn whole_number(range: RangeInclusive<u64>) -> Takes {
    Takes::Integer {
        min: *range.start(),
        max: *range.end(),
    }
}

impl Takes {
    /// Whether it accepts a value.
    pub fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Integer { min, max }, Value::Integer(number)) => (min..=max).contains(number),
            (Self::NoneOrAtLeast { min }, Value::Integer(number)) => *number == 0 || *number >= min,
            (Self::Boolean, Value::Boolean(_))
            | (Self::Text, Value::Text(_))
            | (Self::Secret, Value::Secret(_))
            | (Self::Texts | Self::Topics, Value::Texts(_))
            | (Self::Headers, Value::Headers(_)) => true,
            (Self::Word(words), Value::Text(word)) => words.contains(&word.as_str()),
            _ => false,
        }
    }

    /// Description of the values that it accepts, for errors and the reference page. `is_list`:
    /// several, separated by commas.
    pub fn expectation(self, is_list: bool) -> String {
        match self {
            Self::Integer { min, max: u64::MAX } => format!("a whole number of at least {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::NoneOrAtLeast { min } => format!("0, or a whole number of at least {min}"),
            Self::Boolean => "true or false".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Text if is_list => "text in quotes, or a list of such texts".to_owned(),
            Self::Text => "text in quotes".to_owned(),
            Self::Texts | Self::Headers => "a list of texts, such as [\"a\", \"b\"]".to_owned(),
            Self::Topics => {
                "a list of topics, such as [{ filter = \"a/#\", direction = \"out\" }]".to_owned()
            }
            Self::Secret if is_list => {
                "a secret: text in quotes, or a list of such texts".to_owned()
            }
            Self::Secret => "a secret: text in quotes".to_owned(),
        }
    }
}
