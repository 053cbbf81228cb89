//! Statements that are put together, and where the two engines differ.

use sqlx::any::{AnyArguments, AnyQueryResult, AnyRow};
use sqlx::{AnyConnection, Arguments as _, AssertSqlSafe, Encode, Row as _, Type};

use crate::error::{Conflict, Exists, NotFound, Refused, RegistryError};

/// Engine that keeps the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// Why work in the tables came to nothing, before it is known where they are.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(sqlx::Error),
    Told(RegistryError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        Self::Told(error)
    }
}

/// An error of the registry, or what it is made of, as what work in the tables came to.
macro_rules! told {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Told(error.into())
            }
        })*
    };
}

told!(NotFound, Exists, Conflict, Refused);

/// Replaces zero characters, which no row has in it, and PostgreSQL does not take.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A number as the tables have it. One that is too large is the largest.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of the tables. One below 0 is 0.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A statement that is built in steps. Nothing from outside is in its text.
pub(crate) struct Sql {
    text: String,
    arguments: AnyArguments,
    engine: Engine,
}

impl Sql {
    pub(crate) fn new(engine: Engine, text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            arguments: AnyArguments::default(),
            engine,
        }
    }

    /// One with few values, whose places both engines read.
    pub(crate) fn short(text: &'static str) -> Self {
        Self::new(Engine::Postgres, text)
    }

    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// A value, and where it stands. SQLite looks for numbered ones by name, one after the other.
    pub(crate) fn bind<'t, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'t, sqlx::Any> + Type<sqlx::Any>,
    {
        // Text and numbers always can be.
        let added = self.arguments.add(value);
        debug_assert!(added.is_ok());
        match self.engine {
            Engine::Sqlite => self.text.push('?'),
            Engine::Postgres => self.text.push_str(&format!("${}", self.arguments.len())),
        }
        self
    }

    /// `(a, b, c)`.
    pub(crate) fn list<'t, T>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self
    where
        T: Encode<'t, sqlx::Any> + Type<sqlx::Any>,
    {
        self.push("(");
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.push(", ");
            }
            self.bind(value);
        }
        self.push(")")
    }

    pub(crate) async fn execute(self, on: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        let done: AnyQueryResult = query.execute(on).await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn all(self, on: &mut AnyConnection) -> Result<Vec<AnyRow>, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        query.fetch_all(on).await
    }

    pub(crate) async fn first(self, on: &mut AnyConnection) -> Result<Option<AnyRow>, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        query.fetch_optional(on).await
    }

    /// The number in the first column of the only row.
    pub(crate) async fn count(self, on: &mut AnyConnection) -> Result<i64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        query.fetch_one(on).await?.try_get(0)
    }
}
