//! Rows of other systems' databases, read so that a row with odd values keeps no other from being
//! read: SQLite stores any bytes in any column.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use crate::sql::{Engine, Fault};

/// A row that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableRow {
    /// `device` or `setting`, for example.
    pub what: &'static str,
    /// Id of the object, as far as it can be shown.
    pub id: String,
    /// The reason, with the table and the number of the row.
    pub why: String,
}

/// Why a value of a row is not read.
pub(crate) enum Unread {
    /// The value is odd: this row is skipped.
    Row(String),
    /// Nothing can be read.
    Fault(Fault),
}

impl From<sqlx::Error> for Unread {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// A table, and the columns of it that are read. Texts are read as bytes.
pub(crate) struct ForeignTable {
    name: &'static str,
    columns: Vec<&'static str>,
    /// The columns as expressions, the number of the row first.
    expressions: Vec<String>,
}

impl ForeignTable {
    /// Columns of a table, or of tables that `columns` join to it.
    pub(crate) async fn read(
        on: &mut AnyConnection,
        engine: Engine,
        name: &'static str,
        columns: &[&'static str],
    ) -> Result<Self, Fault> {
        let mut expressions = vec![number_of_rows(&mut *on, engine, name).await];
        let is_utf8 = engine == Engine::Postgres || is_utf8(on).await?;
        expressions.extend(columns.iter().map(|column| match engine {
            Engine::Postgres => format!("textsend(CAST({column} AS TEXT))"),
            Engine::Sqlite if is_utf8 => format!("CAST({column} AS BLOB)"),
            // Bytes of such a database are UTF-16; as a text they are converted.
            Engine::Sqlite => {
                format!("CASE typeof({column}) WHEN 'blob' THEN {column} ELSE CAST({column} AS TEXT) END")
            }
        }));
        Ok(Self {
            name,
            columns: columns.to_vec(),
            expressions,
        })
    }

    /// Returns the columns likewise, where rows are counted, and none has a number.
    pub(crate) async fn counting(
        on: &mut AnyConnection,
        engine: Engine,
        name: &'static str,
        columns: &[&'static str],
    ) -> Result<Self, Fault> {
        let mut table = Self::read(on, engine, name, columns).await?;
        table.expressions[0] = "''".to_owned();
        Ok(table)
    }

    /// The statement that selects them; `rest` begins with the table.
    pub(crate) fn select(&self, rest: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(format!(
            "SELECT {} FROM {rest}",
            self.expressions.join(", ")
        ))
    }

    /// A row that this statement has found.
    pub(crate) fn row<'a>(&'a self, row: &'a AnyRow) -> ForeignRow<'a> {
        ForeignRow { table: self, row }
    }
}

/// The expression for the number of a row; an empty text where rows have none.
async fn number_of_rows(on: &mut AnyConnection, engine: Engine, table: &str) -> String {
    let none = || "''".to_owned();
    if engine == Engine::Postgres {
        return none();
    }
    let rowid = format!("{table}.rowid");
    let sql = AssertSqlSafe(format!("SELECT {rowid} FROM {table} LIMIT 1"));
    // A table may be without such numbers.
    match sqlx::query(sql).fetch_optional(on).await {
        Ok(_) => format!("CAST({rowid} AS TEXT)"),
        Err(_) => none(),
    }
}

async fn is_utf8(on: &mut AnyConnection) -> Result<bool, Fault> {
    let encoding = sqlx::query_scalar::<_, String>("SELECT encoding FROM pragma_encoding");
    Ok(encoding.fetch_one(on).await? == "UTF-8")
}

/// A row with texts.
#[derive(Clone, Copy)]
pub(crate) struct ForeignRow<'a> {
    table: &'a ForeignTable,
    row: &'a AnyRow,
}

impl ForeignRow<'_> {
    /// The bytes of a column, by its place among those that are read; none: it is NULL.
    pub(crate) fn bytes(self, at: usize) -> Result<Option<Vec<u8>>, Unread> {
        if let Ok(bytes) = self.row.try_get_unchecked(at + 1) {
            return Ok(bytes);
        }
        let text: Option<String> = self.row.try_get_unchecked(at + 1)?;
        Ok(text.map(String::into_bytes))
    }

    /// The text of a column; none: it is NULL.
    pub(crate) fn text(self, at: usize) -> Result<Option<String>, Unread> {
        let text = self.bytes(at)?.map(String::from_utf8).transpose();
        text.map_err(|_| self.odd(at, "is not UTF-8"))
    }

    /// The text of a column, an empty one if it is NULL.
    pub(crate) fn text_or_empty(self, at: usize) -> Result<String, Unread> {
        self.text(at).map(Option::unwrap_or_default)
    }

    /// The whole number of a column; none: it is NULL.
    pub(crate) fn number(self, at: usize) -> Result<Option<i64>, Unread> {
        let Some(text) = self.text(at)? else {
            return Ok(None);
        };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.odd(at, "is not a whole number")),
        }
    }

    /// Yes or no: a number, `true` or `false`. NULL is no.
    pub(crate) fn flag(self, at: usize) -> Result<bool, Unread> {
        let text = self.text_or_empty(at)?;
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "false" => Ok(false),
            "true" => Ok(true),
            number => match number.parse::<i64>() {
                Ok(number) => Ok(number != 0),
                Err(_) => Err(self.odd(at, "is neither true nor false")),
            },
        }
    }

    /// A value that keeps the row from being read.
    pub(crate) fn odd(self, at: usize, what: &str) -> Unread {
        let column = self.table.columns.get(at);
        Unread::Row(format!("its {} {what}", column.unwrap_or(&"value")))
    }

    /// Returns what a column has, to be shown.
    pub(crate) fn shown(self, at: usize) -> String {
        match self.bytes(at) {
            Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Ok(None) => "NULL".to_owned(),
            Err(_) => String::new(),
        }
    }

    /// Returns the row's number in the table; empty: it has none.
    pub(crate) fn number_in_table(self) -> String {
        let number: Result<Option<String>, _> = self.row.try_get_unchecked(0);
        number.ok().flatten().unwrap_or_default()
    }

    /// Which row this is.
    pub(crate) fn place(self) -> String {
        let number = self.number_in_table();
        let (space, table) = (if number.is_empty() { "" } else { " " }, self.table.name);
        format!("row{space}{number} of the table {table}")
    }

    /// This row, which is not read for that reason.
    pub(crate) fn unreadable(self, what: &'static str, id: String, why: &str) -> UnreadableRow {
        let why = format!("{why} ({})", self.place());
        UnreadableRow { what, id, why }
    }
}

/// Sorts rows that are read from those that are not.
pub(crate) fn read_each<T>(
    table: &ForeignTable,
    rows: &[AnyRow],
    what: &'static str,
    id: impl Fn(ForeignRow<'_>) -> String,
    unreadable: &mut Vec<UnreadableRow>,
    read: impl Fn(ForeignRow<'_>) -> Result<T, Unread>,
) -> Result<Vec<T>, Fault> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let row = table.row(row);
        match read(row) {
            Ok(one) => found.push(one),
            Err(Unread::Row(why)) => unreadable.push(row.unreadable(what, id(row), &why)),
            Err(Unread::Fault(fault)) => return Err(fault),
        }
    }
    Ok(found)
}
