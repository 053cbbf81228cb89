//! Closed lists of words, as the document of the API has them.

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
