//! Errors of the file within a transaction.

use crate::StorageError;
use crate::damage::Findings;

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

    /// The error, whose damage is among the findings then.
    pub(crate) fn noted_at(self, place: &str, damage: &Findings) -> StorageError {
        let is_row = matches!(self, Self::Damaged(_));
        let error = self.at(place);
        if let StorageError::Damaged { what, .. } = &error {
            damage.note(vec![match is_row {
                true => what.clone(),
                false => format!("pages of the file ({what}): what needs them is an error"),
            }]);
        }
        error
    }
}
