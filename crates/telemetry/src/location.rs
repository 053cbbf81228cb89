//! Location of the values: a SQLite file, or the URL of a PostgreSQL database.

use std::fmt;
use std::path::PathBuf;

use martlet_database_url::{DatabaseUrl, NotPostgres};

use crate::StorageError;

/// Location of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file, which is created if it does not exist.
    File(PathBuf),
    /// A PostgreSQL database. The tables are in the schema `martlet_telemetry`.
    Postgres(DatabaseUrl),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl From<NotPostgres> for StorageError {
    fn from(_: NotPostgres) -> Self {
        let why = "the URL of the telemetry database must begin with postgres://";
        Self::Location(why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url = DatabaseUrl::parse("postgres://u:secret@h/d").expect("it is one");
        let location = Location::Postgres(url);
        assert_eq!(location.to_string(), "postgres://u@h/d");
        assert!(!format!("{location:?}").contains("secret"), "{location:?}");
    }
}
