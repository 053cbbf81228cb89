//! Types of keys.

use crate::secret::SecretValue;
use crate::takes::{Takes, whole_number};
use crate::value::Value;

/// A type of keys. `Here` is a type of the crate that declares the keys: so a crate can declare the
/// words of a type that it does not own, which Rust permits only with a type of its own.
pub trait Setting<Here>: Sized {
    /// Type of a default in the declaration.
    type Written;
    /// Accepted values if the declaration contains no range.
    const TAKES: Takes;
    /// Whether it is comma-separated text, for which a file may also contain a list of texts.
    const IS_LIST: bool = false;

    /// The default that a declaration contains.
    fn of_default(written: Self::Written) -> Self;

    /// Converts a value; `None` if it has another type.
    fn of_value(value: &Value) -> Option<Self>;

    /// Returns the value.
    fn value(&self) -> Value;
}

/// Unsigned integers with up to 64 bits.
macro_rules! numbers {
    ($($type:ident)+) => {$(
        impl<Here> Setting<Here> for $type {
            type Written = Self;
            const TAKES: Takes = whole_number(0..=$type::MAX as u64);

            fn of_default(written: Self) -> Self {
                written
            }

            fn of_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Integer(number) => (*number).try_into().ok(),
                    _ => None,
                }
            }

            fn value(&self) -> Value {
                Value::Integer(*self as u64)
            }
        }
    )+};
}

numbers! { u8 u16 u32 u64 usize }

/// Types with one form of values.
macro_rules! texts {
    ($(
        $(#[$doc:meta])*
        $type:ty, $written:ty, $takes:ident, $value:ident, |$of:ident| $into:expr,
            |$own:ident| $from:expr;
    )+) => {$(
        $(#[$doc])*
        impl<Here> Setting<Here> for $type {
            type Written = $written;
            const TAKES: Takes = Takes::$takes;

            fn of_default($of: $written) -> Self {
                $into
            }

            fn of_value(value: &Value) -> Option<Self> {
                match value {
                    Value::$value($own) => Some($from),
                    _ => None,
                }
            }

            fn value(&self) -> Value {
                Value::$value(self.clone().into())
            }
        }
    )+};
}

texts! {
    String, &'static str, Text, Text, |text| text.to_owned(), |text| text.clone();
    SecretValue, &'static str, Secret, Secret, |text| Self::new(text.to_owned()),
        |text| text.clone();
    bool, Self, Boolean, Boolean, |flag| flag, |flag| *flag;
    /// A list of texts, which may contain commas.
    Vec<String>, Self, Texts, Texts, |texts| texts, |texts| texts.clone();
    TopicLines, Self, Topics, Texts, |lines| lines, |lines| Self(lines.clone());
    HeaderLines, Self, Headers, Headers, |lines| lines, |lines| Self(lines.clone());
}

/// Topics of a bridge, as lines.
#[derive(Clone, Debug, Default)]
pub struct TopicLines(pub Vec<String>);

impl From<TopicLines> for Vec<String> {
    fn from(lines: TopicLines) -> Self {
        lines.0
    }
}

/// Headers of HTTP requests, as lines `Name: value`.
#[derive(Clone, Debug, Default)]
pub struct HeaderLines(pub Vec<String>);

impl From<HeaderLines> for Vec<String> {
    fn from(lines: HeaderLines) -> Self {
        lines.0
    }
}

/// Several values separated by commas.
#[derive(Clone, Debug, Default)]
pub struct List<T>(T);

impl List<String> {
    /// The values without surrounding spaces; empty ones are skipped.
    pub fn items(&self) -> impl Iterator<Item = &str> + Clone {
        let items = self.0.split(',').map(str::trim);
        items.filter(|item| !item.is_empty())
    }

    /// Returns the values as owned texts.
    pub fn to_vec(&self) -> Vec<String> {
        self.items().map(str::to_owned).collect()
    }
}

/// The text as written.
impl<T> std::ops::Deref for List<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<Here, T: Setting<Here>> Setting<Here> for List<T> {
    type Written = T::Written;
    const TAKES: Takes = T::TAKES;
    const IS_LIST: bool = true;

    fn of_default(written: T::Written) -> Self {
        Self(T::of_default(written))
    }

    fn of_value(value: &Value) -> Option<Self> {
        T::of_value(value).map(Self)
    }

    fn value(&self) -> Value {
        self.0.value()
    }
}
