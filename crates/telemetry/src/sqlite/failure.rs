//! Errors of the file within a transaction.

use crate::StorageError;

/// An error of SQLite, or damage that only a checksum shows.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(sqlx::Error),
    Damaged(String),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Failure {
    pub(crate) fn at(self, place: &str) -> StorageError {
        match self {
            Self::Sql(error) => StorageError::of_sql(place, error),
            Self::Damaged(what) => StorageError::Damaged {
                place: place.to_owned(),
                what,
            },
        }
    }
}
