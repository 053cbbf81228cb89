//! Fields of objects, and the statements that read and write objects.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;

use super::value::FieldValue;
use crate::RegistryError;
use crate::sql::{Engine, Fault, Sql};

/// A field of an object, which has a column in the object's table.
pub(crate) struct Field<O: 'static> {
    /// Name of the column, also in the audit log and in exports.
    pub(crate) column: &'static str,
    /// The API changes it. Then each change writes it, the audit log has its changes, and exports
    /// have it.
    pub(crate) is_changed_by_api: bool,
    /// Other uses of the field.
    pub(crate) uses: &'static [Use],
    /// The value of an object.
    pub(crate) value: fn(&O) -> &dyn FieldValue,
}

/// Use of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Each change of the object writes the column. Always so if the API changes the field.
    Changed,
    /// Exports and imports have it. Always so if the API changes the field.
    Exported,
    /// The audit log has it, unless it is empty, when the object is added.
    Audited,
    /// A search for a text looks into it.
    Searched,
}

impl<O> Field<O> {
    pub(crate) fn is(&self, field_use: Use) -> bool {
        let implied = matches!(field_use, Use::Changed | Use::Exported);
        self.uses.contains(&field_use) || implied && self.is_changed_by_api
    }

    pub(crate) fn text<'o>(&self, object: &'o O) -> Cow<'o, str> {
        (self.value)(object).text()
    }
}

/// An object of the tables, as its list declares it.
pub(crate) trait Object: Sized + 'static {
    /// Its table.
    const TABLE: &'static str;

    /// Its fields.
    const FIELDS: &'static [Field<Self>];

    /// Expressions that are read beside the columns, each with its name: `(SELECT …) AS devices`.
    const DERIVED: &'static [&'static str];

    /// Reads an object from the columns and expressions of [`push_columns`].
    fn read(row: &AnyRow) -> Result<Self, Fault>;
}

/// A field that the API takes from people, for programs that make requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettableField {
    /// Name in JSON.
    pub name: &'static str,
    /// Description of the field.
    pub doc: &'static str,
}

/// Writes the columns of an object, and what is read beside them.
pub(crate) fn push_columns<O: Object>(sql: &mut Sql) {
    let names = O::FIELDS.iter().map(|field| field.column);
    for (at, name) in names.chain(O::DERIVED.iter().copied()).enumerate() {
        sql.push(if at == 0 { "" } else { ", " }).push(name);
    }
}

/// `SELECT … FROM …` of an object's table.
pub(crate) fn select<O: Object>(engine: Engine) -> Sql {
    let mut sql = Sql::new(engine, "SELECT ");
    push_columns::<O>(&mut sql);
    sql.push(" FROM ").push(O::TABLE);
    sql
}

/// As [`select`], with few values.
pub(crate) fn select_short<O: Object>() -> Sql {
    select::<O>(Engine::Postgres)
}

/// Reads all objects that a statement finds.
pub(crate) async fn read_all<O: Object>(
    sql: Sql,
    on: &mut sqlx::AnyConnection,
) -> Result<Vec<O>, Fault> {
    sql.all(on).await?.iter().map(O::read).collect()
}

/// Reads the object that a statement finds.
pub(crate) async fn read_first<O: Object>(
    sql: Sql,
    on: &mut sqlx::AnyConnection,
) -> Result<Option<O>, Fault> {
    sql.first(on).await?.as_ref().map(O::read).transpose()
}

/// `INSERT INTO … VALUES `, before the rows of [`push_row`]. `beside` are columns that no field
/// has.
pub(crate) fn push_insert<O: Object>(
    sql: &mut Sql,
    beside: impl IntoIterator<Item = &'static str>,
) {
    sql.push("INSERT INTO ").push(O::TABLE);
    let names = O::FIELDS.iter().map(|field| field.column);
    for (at, name) in names.chain(beside).enumerate() {
        sql.push(if at == 0 { " (" } else { ", " }).push(name);
    }
    sql.push(") VALUES ");
}

/// The values of a new object: `(…)`. `beside` are texts for columns that no field has.
pub(crate) fn push_row<O: Object>(
    sql: &mut Sql,
    object: &O,
    beside: impl IntoIterator<Item = String>,
) {
    for (at, field) in O::FIELDS.iter().enumerate() {
        sql.push(if at == 0 { "(" } else { ", " });
        (field.value)(object).bind(sql);
    }
    for text in beside {
        sql.push(", ").bind(text);
    }
    sql.push(")");
}

/// `UPDATE … SET …`, with all that a change writes; at least one column is.
pub(crate) fn push_update<O: Object>(sql: &mut Sql, object: &O) {
    sql.push("UPDATE ").push(O::TABLE);
    let changed = O::FIELDS.iter().filter(|field| field.is(Use::Changed));
    for (at, field) in changed.enumerate() {
        sql.push(if at == 0 { " SET " } else { ", " });
        sql.push(field.column).push(" = ");
        (field.value)(object).bind(sql);
    }
}

/// The details of a new object in the audit log.
pub(crate) fn details_of_new<O: Object>(object: &O) -> Map<String, Value> {
    let fields = O::FIELDS.iter().filter(|field| field.is(Use::Audited));
    let details = fields.map(|field| (field.column.to_owned(), (field.value)(object).json()));
    let is_there = |value: &Value| *value != json!("") && *value != json!([]);
    details.filter(|(_, value)| is_there(value)).collect()
}

/// The details of a change in the audit log: for each field `[before, after]`.
pub(crate) fn details_of_change<O: Object>(old: &O, new: &O) -> Map<String, Value> {
    let fields = O::FIELDS.iter().filter(|field| field.is_changed_by_api);
    let values = fields.map(|field| {
        let [before, after] = [old, new].map(|object| (field.value)(object).json());
        (field.column.to_owned(), before, after)
    });
    let changed = values.filter(|(_, before, after)| before != after);
    changed
        .map(|(column, before, after)| (column, json!([before, after])))
        .collect()
}

/// Accepts each value.
pub(crate) fn unchecked<T>(_: &T) -> Result<(), RegistryError> {
    Ok(())
}
