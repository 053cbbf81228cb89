//! Where the values are: a file of SQLite, or a database of PostgreSQL by its URL.

use std::fmt;
use std::path::PathBuf;

use crate::StorageError;

/// Where the values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file of SQLite, which is created if it does not exist.
    File(PathBuf),
    /// A database of PostgreSQL. The tables are in its schema `martlet_telemetry`.
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

/// The URL of a database. Its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`.
    ///
    /// # Errors
    /// The URL is one of another kind of database.
    pub fn parse(text: &str) -> Result<Self, StorageError> {
        let is_known = ["postgres://", "postgresql://"];
        match is_known.iter().any(|scheme| text.starts_with(scheme)) {
            true => Ok(Self(text.to_owned())),
            false => Err(StorageError::Location(
                "the URL of the telemetry database must begin with postgres://".to_owned(),
            )),
        }
    }

    /// All of it, to connect.
    pub(crate) fn whole(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        // A password may stand among the parameters too.
        let place = rest.split(['?', '#']).next().unwrap_or_default();
        match place.rsplit_once('@') {
            Some((who, host)) => {
                let user = who.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}@{host}")
            }
            // One of the separators was part of a password.
            None if rest.contains('@') => write!(f, "{scheme}://***"),
            None => write!(f, "{scheme}://{place}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (given, shown) in [
            ("postgres://u:secret@h:5432/d?a=b", "postgres://u@h:5432/d"),
            ("postgresql://h/d?password=secret", "postgresql://h/d"),
            ("postgres://u:se?cret@h/d", "postgres://***"),
            ("postgres://u:se/cret@h/d", "postgres://u@h/d"),
        ] {
            let location = Location::Postgres(DatabaseUrl::parse(given).expect("it is one"));
            assert_eq!(location.to_string(), shown);
            assert!(!format!("{location:?}").contains("cret"), "{given}");
        }
        assert!(DatabaseUrl::parse("mysql://u:secret@h/d").is_err());
    }
}
