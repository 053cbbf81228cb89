//! Declaration of sections and tables of the configuration. Each is declared once, with the type,
//! the default, the range and the description of each key.

use super::declaration::{Key, Kind, TableKey};
use super::value::{Secret, Value};

/// A section of the file, such as `[mqtt]`.
pub(super) trait Section {
    /// Returns the keys, in the order of the reference page.
    fn keys(section: &str) -> Vec<Key>;

    /// Sets a key. Returns false if there is no such key, or the value has another type.
    fn set(&mut self, key: &str, value: &Value) -> bool;
}

/// Keys of one table of a list, such as `[[listeners]]`. All are optional.
pub(crate) trait TableKeys: Default {
    /// The keys, in the order of the reference page.
    const KEYS: &'static [TableKey];

    /// Sets a key. Returns false if there is no such key, or the value has another type.
    fn set(&mut self, key: &str, value: &Value) -> bool;
}

/// A type of values.
pub(crate) trait Setting: Sized {
    /// Type of a default in the declaration.
    type Written;
    /// Accepted values if the declaration contains no range.
    const KIND: Kind;
    /// Whether it is comma-separated text, for which a file may also contain a list of texts.
    const IS_LIST: bool = false;

    fn of_default(written: Self::Written) -> Self;

    /// Converts a value; `None` if it has another type.
    fn of_value(value: &Value) -> Option<Self>;

    fn value(&self) -> Value;
}

/// Stores a value. Returns false if it has another type.
pub(super) fn store<T: Setting>(field: &mut T, value: &Value) -> bool {
    match T::of_value(value) {
        Some(found) => {
            *field = found;
            true
        }
        None => false,
    }
}

/// Stores a value of a table. Returns false if it has another type.
pub(super) fn store_some<T: Setting>(field: &mut Option<T>, value: &Value) -> bool {
    match T::of_value(value) {
        Some(found) => {
            *field = Some(found);
            true
        }
        None => false,
    }
}

/// Accepted values of a key: all of its type, or a range.
macro_rules! kind {
    ($type:ty) => {
        <$type as $crate::config::schema::section::Setting>::KIND
    };
    ($type:ty, in $range:expr) => {
        $crate::config::schema::section::whole_number($range)
    };
    ($type:ty, zero or from $min:expr) => {
        $crate::config::schema::Kind::NoneOrAtLeast { min: $min }
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
                use $crate::config::schema::section::Setting;
                Self { $($key: <$type as Setting>::of_default($default),)+ }
            }
        }

        impl $crate::config::schema::section::Section for $name {
            fn keys(section: &str) -> Vec<$crate::config::schema::Key> {
                use $crate::config::schema::section::{Setting, kind};
                let defaults = Self::default();
                vec![$($crate::config::schema::Key {
                    path: format!("{section}.{}", stringify!($key)),
                    kind: kind!($type $(, in $range)? $(, zero or from $min)?),
                    default: defaults.$key.value(),
                    what: concat!($($what),+).trim_ascii_start(),
                    at_limit: None,
                    is_list: <$type as Setting>::IS_LIST,
                },)+]
            }

            fn set(&mut self, key: &str, value: &$crate::config::schema::Value) -> bool {
                use $crate::config::schema::section::store;
                match key {
                    $(stringify!($key) => store(&mut self.$key, value),)+
                    _ => false,
                }
            }
        }
    };
}

/// The name of a key in the file, which may differ from the name of the field.
macro_rules! name_of {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident as $name:literal) => {
        $name
    };
}

/// Declares the keys of a table of a list, like `section!`, but without defaults: the meaning of a
/// missing key depends on the place of the table.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $what:literal])+
                $key:ident $(as $other:literal)?: $type:ty
                    $(, in $range:expr)? $(, zero or from $min:expr)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $($(#[doc = $what])+ pub(crate) $key: Option<$type>,)+
        }

        impl $crate::config::schema::section::TableKeys for $name {
            const KEYS: &'static [$crate::config::schema::TableKey] = &[
                $($crate::config::schema::TableKey {
                    name: $crate::config::schema::section::name_of!($key $(as $other)?),
                    kind: $crate::config::schema::section::kind!(
                        $type $(, in $range)? $(, zero or from $min)?
                    ),
                    what: concat!($($what),+).trim_ascii_start(),
                    is_list: <$type as $crate::config::schema::section::Setting>::IS_LIST,
                },)+
            ];

            fn set(&mut self, key: &str, value: &$crate::config::schema::Value) -> bool {
                use $crate::config::schema::section::{name_of, store_some};
                $(
                    if key == name_of!($key $(as $other)?) {
                        return store_some(&mut self.$key, value);
                    }
                )+
                false
            }
        }
    };
}

/// Declares the words of a key and their values. With `or`, that word means `None`.
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident,)+ }) => {
        impl $crate::config::schema::section::Setting for $type {
            type Written = Self;
            const KIND: $crate::config::schema::Kind =
                $crate::config::schema::Kind::Word(&[$($word),+]);

            fn of_default(written: Self) -> Self {
                written
            }

            fn of_value(value: &$crate::config::schema::Value) -> Option<Self> {
                match value.as_text()? {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn value(&self) -> $crate::config::schema::Value {
                let word = match self {
                    $(Self::$variant => $word,)+
                };
                $crate::config::schema::Value::Text(word.to_owned())
            }
        }
    };
    ($type:ident or $none:literal { $($word:literal => $variant:ident,)+ }) => {
        impl $crate::config::schema::section::Setting for Option<$type> {
            type Written = Self;
            const KIND: $crate::config::schema::Kind =
                $crate::config::schema::Kind::Word(&[$none, $($word),+]);

            fn of_default(written: Self) -> Self {
                written
            }

            fn of_value(value: &$crate::config::schema::Value) -> Option<Self> {
                match value.as_text()? {
                    $none => Some(None),
                    $($word => Some(Some($type::$variant)),)+
                    _ => None,
                }
            }

            fn value(&self) -> $crate::config::schema::Value {
                let all = [(None, $none), $((Some($type::$variant), $word)),+];
                // Every stored value has a word.
                let found = all.into_iter().find(|(value, _)| value == self);
                let word = found.map_or($none, |(_, word)| word);
                $crate::config::schema::Value::Text(word.to_owned())
            }
        }
    };
}

pub(super) use {kind, name_of, section, table, words};

/// Kind of a number in a range.
pub(super) const fn whole_number(range: std::ops::RangeInclusive<u64>) -> Kind {
    Kind::Integer {
        min: *range.start(),
        max: *range.end(),
    }
}

/// Unsigned integers with up to 64 bits.
macro_rules! numbers {
    ($($type:ident)+) => {$(
        impl Setting for $type {
            type Written = Self;
            const KIND: Kind = whole_number(0..=$type::MAX as u64);

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

impl Setting for bool {
    type Written = Self;
    const KIND: Kind = Kind::Boolean;

    fn of_default(written: Self) -> Self {
        written
    }

    fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        Value::Boolean(*self)
    }
}

/// Empty text means no value.
impl Setting for String {
    type Written = &'static str;
    const KIND: Kind = Kind::Text;

    fn of_default(written: &'static str) -> Self {
        written.to_owned()
    }

    fn of_value(value: &Value) -> Option<Self> {
        value.as_text().map(str::to_owned)
    }

    fn value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Setting for Secret {
    type Written = &'static str;
    const KIND: Kind = Kind::Secret;

    fn of_default(written: &'static str) -> Self {
        written.to_owned().into()
    }

    fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::Secret(secret) => Some(secret.clone()),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        Value::Secret(self.clone())
    }
}

/// A list of texts, which may contain commas.
impl Setting for Vec<String> {
    type Written = Self;
    const KIND: Kind = Kind::Texts;

    fn of_default(written: Self) -> Self {
        written
    }

    fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::Texts(texts) => Some(texts.clone()),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        Value::Texts(self.clone())
    }
}

/// Several values separated by commas.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(T);

impl List<String> {
    /// The values without surrounding spaces; empty ones are skipped.
    pub(crate) fn items(&self) -> impl Iterator<Item = &str> + Clone {
        let items = self.0.split(',').map(str::trim);
        items.filter(|item| !item.is_empty())
    }

    /// Returns the values as owned texts.
    pub(crate) fn to_vec(&self) -> Vec<String> {
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

impl<T: Setting> Setting for List<T> {
    type Written = T::Written;
    const KIND: Kind = T::KIND;
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
