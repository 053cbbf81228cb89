//! Errors of the file within a transaction.

use std::time::{Duration, Instant};

use crate::StorageError;
use crate::damage::Findings;

/// Work that has failed rests this many times as long as it took.
const REST_OF_TIME: u32 = 4;
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(30);

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

    /// Whether there was no room.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Sql(error) if StorageError::is_full(error))
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

/// The rest after a failure of work that is repeated, such as packing on a full disk: writes would
/// wait for each attempt.
#[derive(Debug, Default)]
pub(crate) struct Rest(Option<(Instant, StorageError)>);

impl Rest {
    /// The last failure, while it was shortly before.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        match &self.0 {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Notes the result of work that began then.
    pub(crate) fn note<T>(&mut self, begin: Instant, done: &Result<T, StorageError>) {
        let rest = (begin.elapsed() * REST_OF_TIME).min(REST_MAX);
        let failed = done.as_ref().err();
        self.0 = failed.map(|error| (Instant::now() + rest, error.clone()));
    }

    /// Ends it: there may be room now.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_failed_rests_in_proportion_to_its_time() {
        let mut rest = Rest::default();
        let full = || StorageError::Full {
            place: "t.db".to_owned(),
            what: "no room".to_owned(),
        };
        let before = |secs| {
            Instant::now()
                .checked_sub(Duration::from_secs(secs))
                .unwrap()
        };
        rest.note(before(2), &Err::<(), _>(full()));
        assert!(matches!(rest.check(), Err(StorageError::Full { .. })));
        rest.end();
        assert!(rest.check().is_ok());
        rest.note(before(2), &Err::<(), _>(full()));
        rest.note(before(2), &Ok(()));
        assert!(rest.check().is_ok());
    }
}
