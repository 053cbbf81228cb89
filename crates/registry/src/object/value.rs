//! Values of fields: in columns of the tables, in the audit log, and as text.

use std::borrow::Cow;

use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::sql::{Fault, Sql, unsigned};

/// A value that a field can have.
pub(crate) trait FieldValue {
    /// Reads the column `name` of an object.
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault>
    where
        Self: Sized;

    /// Binds the value to a statement.
    fn bind(&self, sql: &mut Sql);

    /// The value as exports write it.
    fn text(&self) -> Cow<'_, str>;

    /// The value as the audit log has it.
    fn json(&self) -> Value {
        json!(self.text())
    }
}

impl FieldValue for String {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        Ok(row.try_get(name)?)
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(self.clone());
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl FieldValue for Option<String> {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        Ok(row.try_get(name)?)
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(self.clone());
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.as_deref().unwrap_or_default())
    }
}

impl FieldValue for i64 {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        Ok(row.try_get(name)?)
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(*self);
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

impl FieldValue for u32 {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        let number: i64 = row.try_get(name)?;
        Ok(Self::try_from(number).unwrap_or(Self::MAX))
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(i64::from(*self));
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

/// A count.
impl FieldValue for u64 {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        Ok(unsigned(row.try_get(name)?))
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(crate::sql::signed(*self));
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

impl FieldValue for bool {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        let number: i64 = row.try_get(name)?;
        Ok(number != 0)
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(i64::from(*self));
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(if *self { "yes" } else { "no" })
    }
}

/// Words without spaces, which are in one column.
impl FieldValue for Vec<String> {
    fn read(row: &AnyRow, name: &'static str) -> Result<Self, Fault> {
        let words: String = row.try_get(name)?;
        Ok(words.split_whitespace().map(str::to_owned).collect())
    }

    fn bind(&self, sql: &mut Sql) {
        sql.bind(self.join(" "));
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.join(" "))
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

/// A value of a new object. Missing optional values are those that are the default.
pub(crate) trait Given<T> {
    fn given(self) -> T;
}

impl<T> Given<T> for T {
    fn given(self) -> T {
        self
    }
}

impl<T: Default> Given<T> for Option<T> {
    fn given(self) -> T {
        self.unwrap_or_default()
    }
}
