//! Declaration of sections and tables of the configuration.

use crate::takes::Takes;
use crate::value::{Value, Values};

/// A key of a section or of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name, such as `path`.
    pub name: &'static str,
    /// Values that it accepts.
    pub takes: Takes,
    /// Default; none: a missing key has no value, and its description says what that means.
    pub default: Option<fn() -> Value>,
    /// Description, in sentences.
    pub what: &'static str,
    /// Whether it is comma-separated text, for which a file may also contain a list of texts.
    pub is_list: bool,
}

impl Key {
    /// The default, as TOML.
    pub fn shown_default(&self) -> Option<String> {
        self.default.map(|default| default().to_string())
    }

    /// Description of the values that it accepts.
    pub fn expectation(&self) -> String {
        self.takes.expectation(self.is_list)
    }
}

/// A section of the file, such as `[mqtt]`.
pub trait Section {
    /// Returns the keys, in the order of the reference page.
    fn keys() -> Vec<Key>;

    /// Sets a key. Returns false if there is no such key, or the value has another type.
    fn set(&mut self, key: &str, value: &Value) -> bool;
}

/// Keys of one table of a list, such as `[[listeners]]`.
pub trait TableKeys: Default {
    /// Returns the keys, in the order of the reference page.
    fn keys() -> Vec<Key>;

    /// Sets a key. Returns false if there is no such key, or the value has another type.
    fn set(&mut self, key: &str, value: &Value) -> bool;

    /// The table with these values. Those of other keys are left out.
    fn of(values: &Values) -> Self {
        let mut table = Self::default();
        for (key, value) in values {
            table.set(key, value);
        }
        table
    }
}

/// A table with the keys of both; a name that both have is the first one's.
#[derive(Clone, Debug, Default)]
pub struct Both<A, B>(pub A, pub B);

impl<A: TableKeys, B: TableKeys> TableKeys for Both<A, B> {
    fn keys() -> Vec<Key> {
        let mut keys = A::keys();
        for key in B::keys() {
            if !keys.iter().any(|known| known.name == key.name) {
                keys.push(key);
            }
        }
        keys
    }

    fn set(&mut self, key: &str, value: &Value) -> bool {
        // A word that only the first one knows is not the second one's.
        let is_set = self.0.set(key, value);
        self.1.set(key, value) || is_set
    }
}

/// Accepted values of a key: all of its type, or a range.
#[doc(hidden)]
#[macro_export]
macro_rules! takes_of {
    ($type:ty) => {
        <$type as $crate::Setting<Here>>::TAKES
    };
    ($type:ty, in $range:expr) => {
        $crate::whole_number($range)
    };
    ($type:ty, zero or from $min:expr) => {
        $crate::Takes::NoneOrAtLeast { min: $min }
    };
}

/// The name of a key in the file, which may differ from the name of the field.
#[doc(hidden)]
#[macro_export]
macro_rules! name_of_key {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident as $name:literal) => {
        $name
    };
}

/// Declares a section:
///
/// ```text
/// section! {
///     /// What the section is about.
///     Store {
///         /// What the reference page says about the key.
///         interval_ms: u64 = 1_000, in 1..=60_000;
///     }
/// }
/// ```
///
/// It is a struct with these fields. Numbers have a range, `in MIN..=MAX`, or `zero or from MIN`.
/// `Here`, a type of the crate, must be in scope, see [`Setting`](crate::Setting).
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $what:literal])+
                $key:ident: $type:ty = $default:expr
                    $(, in $range:expr)? $(, zero or from $min:expr)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $($(#[doc = $what])+ pub(crate) $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: <$type as $crate::Setting<Here>>::of_default($default),)+ }
            }
        }

        impl $crate::Section for $name {
            fn keys() -> Vec<$crate::Key> {
                vec![$($crate::Key {
                    name: stringify!($key),
                    takes: $crate::takes_of!($type $(, in $range)? $(, zero or from $min)?),
                    default: Some($crate::default_of!($type, $default)),
                    what: concat!($($what),+).trim_ascii_start(),
                    is_list: <$type as $crate::Setting<Here>>::IS_LIST,
                },)+]
            }

            fn set(&mut self, key: &str, value: &$crate::Value) -> bool {
                match key {
                    $(stringify!($key) => $crate::store!($type, self.$key, value),)+
                    _ => false,
                }
            }
        }
    };
}

/// A function that makes the default of a key.
#[doc(hidden)]
#[macro_export]
macro_rules! default_of {
    ($type:ty, $default:expr) => {
        || {
            let default = <$type as $crate::Setting<Here>>::of_default($default);
            <$type as $crate::Setting<Here>>::value(&default)
        }
    };
}

/// Stores a value in a field; false: it has another type.
#[doc(hidden)]
#[macro_export]
macro_rules! store {
    ($type:ty, $field:expr, $value:expr) => {
        match <$type as $crate::Setting<Here>>::of_value($value) {
            Some(found) => {
                $field = found.into();
                true
            }
            None => false,
        }
    };
}

/// Type of a field of a table: an `Option`, unless the key has a default.
#[doc(hidden)]
#[macro_export]
macro_rules! field_of {
    ($type:ty) => { Option<$type> };
    ($type:ty, $default:expr) => { $type };
}

/// Value of a field of a table before it is set.
#[doc(hidden)]
#[macro_export]
macro_rules! unset {
    ($type:ty) => {
        None
    };
    ($type:ty, $default:expr) => {
        <$type as $crate::Setting<Here>>::of_default($default)
    };
}

/// The default of a key of a table, if it has one.
#[doc(hidden)]
#[macro_export]
macro_rules! some_default {
    ($type:ty) => {
        None
    };
    ($type:ty, $default:expr) => {
        Some($crate::default_of!($type, $default))
    };
}

/// Declares the keys of a table of a list, like [`section!`]. A key without a default is an
/// `Option`: what it means if it is missing depends on the place of the table.
#[macro_export]
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $what:literal])+
                $key:ident $(as $other:literal)?: $type:ty $(= $default:expr)?
                    $(, in $range:expr)? $(, zero or from $min:expr)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $($(#[doc = $what])+ pub(crate) $key: $crate::field_of!($type $(, $default)?),)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $crate::unset!($type $(, $default)?),)+ }
            }
        }

        impl $crate::TableKeys for $name {
            fn keys() -> Vec<$crate::Key> {
                vec![$($crate::Key {
                    name: $crate::name_of_key!($key $(as $other)?),
                    takes: $crate::takes_of!($type $(, in $range)? $(, zero or from $min)?),
                    default: $crate::some_default!($type $(, $default)?),
                    what: concat!($($what),+).trim_ascii_start(),
                    is_list: <$type as $crate::Setting<Here>>::IS_LIST,
                },)+]
            }

            fn set(&mut self, key: &str, value: &$crate::Value) -> bool {
                $(
                    if key == $crate::name_of_key!($key $(as $other)?) {
                        return $crate::store!($type, self.$key, value);
                    }
                )+
                false
            }
        }
    };
}

/// Declares the words of a key and their values. With `or`, that word means `None`.
#[macro_export]
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident,)+ }) => {
        impl $crate::Setting<Here> for $type {
            type Written = Self;
            const TAKES: $crate::Takes = $crate::Takes::Word(&[$($word),+]);

            fn of_default(written: Self) -> Self {
                written
            }

            fn of_value(value: &$crate::Value) -> Option<Self> {
                match value.as_text()? {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn value(&self) -> $crate::Value {
                let word = match self {
                    $(Self::$variant => $word,)+
                };
                $crate::Value::Text(word.to_owned())
            }
        }
    };
    ($type:ident or $none:literal { $($word:literal => $variant:ident,)+ }) => {
        impl $crate::Setting<Here> for Option<$type> {
            type Written = Self;
            const TAKES: $crate::Takes = $crate::Takes::Word(&[$none, $($word),+]);

            fn of_default(written: Self) -> Self {
                written
            }

            fn of_value(value: &$crate::Value) -> Option<Self> {
                match value.as_text()? {
                    $none => Some(None),
                    $($word => Some(Some($type::$variant)),)+
                    _ => None,
                }
            }

            fn value(&self) -> $crate::Value {
                let all = [(None, $none), $((Some($type::$variant), $word)),+];
                // Every stored value has a word.
                let found = all.into_iter().find(|(value, _)| value == self);
                let word = found.map_or($none, |(_, word)| word);
                $crate::Value::Text(word.to_owned())
            }
        }
    };
}
