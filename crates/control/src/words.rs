//! Closed lists of words, as the document of the API has them.

use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// A text that is one of these.
pub fn one_of(words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}
