//! Closed lists of words.

use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// A text that is one of these, and what it means: a field that has this schema has no other
/// description.
pub fn one_of(what: &str, words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new()
        .description(Some(what))
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}

/// Makes an enumeration with `ALL`, `word` and `from_word` into a value of fields, in JSON and in
/// the document of the API, where it has a name of its own. A word of the tables that is none is
/// read as `$unknown`, or is an error.
macro_rules! word_type {
    ($type:ident as $name:literal, $what:literal, unknown $unknown:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_word(&text).ok_or_else(|| {
                    let words = Self::ALL.map(Self::word).join(", ");
                    serde::de::Error::custom(format_args!("{text:?} is not one of {words}"))
                })
            }
        }

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                crate::object::words::one_of($what, Self::ALL.map(Self::word)).into()
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                std::borrow::Cow::Borrowed($name)
            }
        }

        impl crate::object::value::FieldValue for $type {
            fn read(
                row: &sqlx::any::AnyRow,
                name: &'static str,
            ) -> Result<Self, crate::sql::Fault> {
                let word: String = sqlx::Row::try_get(row, name)?;
                match Self::from_word(&word) {
                    Some(value) => Ok(value),
                    None => ($unknown)(row, &word),
                }
            }

            fn bind(&self, sql: &mut crate::sql::Sql) {
                sql.bind(self.word());
            }

            fn text(&self) -> std::borrow::Cow<'_, str> {
                std::borrow::Cow::Borrowed(self.word())
            }
        }
    };
}

pub(crate) use word_type;
