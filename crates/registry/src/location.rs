//! Where the tables are: a file of SQLite, or a database of PostgreSQL by its URL.

use std::fmt;
use std::path::{Path, PathBuf};

use martlet_database_url::{DatabaseUrl, NotPostgres};

use crate::{Refused, RegistryError};

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file of SQLite, which is made if it is not there.
    File(PathBuf),
    /// A database of PostgreSQL.
    Url(DatabaseUrl),
}

impl Location {
    /// The file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Url(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Self> for Location {
    fn from(location: &Self) -> Self {
        location.clone()
    }
}

impl From<DatabaseUrl> for Location {
    fn from(url: DatabaseUrl) -> Self {
        Self::Url(url)
    }
}

impl From<NotPostgres> for RegistryError {
    fn from(_: NotPostgres) -> Self {
        Refused::NotPostgres.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url = DatabaseUrl::parse("postgres://u:secret@h/d").expect("it is one");
        let location = Location::from(url);
        assert_eq!(location.to_string(), "postgres://u@h/d");
        assert!(!format!("{location:?}").contains("secret"), "{location:?}");
    }
}
