//! Why the tables are not read or changed: causes as types, and what helps.
//!
//! Nothing here names a route of HTTP or a command: a [`Remedy`] is what to do, and the API and the
//! commands word it.

mod conflict;
mod exists;
mod not_found;
mod refused;
mod remedy;

use crate::Expected;
use std::path::PathBuf;

pub use conflict::Conflict;
pub use exists::Exists;
pub use not_found::NotFound;
pub use refused::Refused;
pub use remedy::{ObjectKind, ObjectName, Remedies, Remedy};

/// Why the tables are not read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The file cannot be made or opened.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The database cannot be used.
    #[error("{place}: {error}")]
    Database {
        /// Which one, without a password.
        place: String,
        /// The error of the database.
        error: sqlx::Error,
    },
    /// The file existed, and does not any more. It is not created again: the users in it would be
    /// unknown.
    #[error(
        "{place} was deleted. Restore it from a backup, or restart the node to create an empty one"
    )]
    Gone {
        /// Which one.
        place: String,
    },
    /// Others stand where the tables stood that the node was started with.
    #[error(
        "{place} is not the database that this node started with. Restore that one, or restart the \
         node to use this one"
    )]
    Others {
        /// Which place.
        place: String,
    },
    /// The database was written by a newer program.
    #[error(
        "{place} was written by a newer version of this program (its migration {version} is not \
         known here): use that one, or another data directory"
    )]
    Newer {
        /// Which one.
        place: String,
        /// The migration.
        version: i64,
    },
    /// The system does not give what is needed, such as random bytes.
    #[error("{0}")]
    System(String),
    /// The tables could not be brought to this version.
    #[error("{place}: its tables cannot be brought to this version: {why}")]
    Migration {
        /// Which one.
        place: String,
        /// The error.
        why: String,
    },
    /// A value in the tables is invalid.
    #[error("{place}: {what}")]
    Damaged {
        /// Which ones.
        place: String,
        /// The fault.
        what: String,
    },
    /// Refusal: what was asked for cannot be done, and what to do instead.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no such object, or the caller does not see it.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// There is one of that name.
    #[error(transparent)]
    Exists(#[from] Exists),
    /// The object has been changed since it was read.
    #[error("{what} was changed in the meantime: its revision is {found}, not {expected}")]
    Stale {
        /// The object, as text.
        what: String,
        /// The revisions that it was thought to have.
        expected: Expected,
        /// The revision that it has.
        found: i64,
    },
    /// Another device has this name, which one alone may have there.
    #[error("a device named {0:?} exists: choose another name")]
    NameTaken(String),
    /// There may be no more, or the state of something rules it out.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl RegistryError {
    /// Whether the server of the database does not respond, is starting or stopping, has no free
    /// connection, or has not created the database yet. All other errors need a change by an
    /// operator.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        let Self::Database { error, .. } = self else {
            return false;
        };
        match error {
            sqlx::Error::Io(_) => true,
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                // 3D000: no database of this name.
                code.len() == 5
                    && ["08", "3D", "53", "57"]
                        .iter()
                        .any(|class| code.starts_with(class))
            }
            _ => false,
        }
    }
}

impl Expected {
    /// Refuses a change of an object that has another revision.
    ///
    /// # Errors
    /// [`RegistryError::Stale`]: `found` is not among the revisions.
    pub(crate) fn check(&self, what: &str, found: i64) -> Result<(), RegistryError> {
        match self.has(found) {
            true => Ok(()),
            false => Err(RegistryError::Stale {
                what: what.to_owned(),
                expected: self.clone(),
                found,
            }),
        }
    }
}

impl Remedies for RegistryError {
    fn remedies(&self) -> Vec<Remedy> {
        match self {
            Self::Refused(why) => why.remedies(),
            Self::NotFound(why) => why.remedies(),
            Self::Exists(why) => why.remedies(),
            Self::Conflict(why) => why.remedies(),
            Self::File { .. }
            | Self::Database { .. }
            | Self::Gone { .. }
            | Self::Others { .. }
            | Self::Newer { .. }
            | Self::System(_)
            | Self::Migration { .. }
            | Self::Damaged { .. }
            | Self::Stale { .. }
            | Self::NameTaken(_) => Vec::new(),
        }
    }
}

impl RegistryError {
    /// Cause that may be shown to callers that may not see the address of the database.
    #[must_use]
    pub fn public_cause(&self) -> &'static str {
        match self {
            Self::Database { error, .. } => public_cause(error),
            _ => "its database returned an unexpected error; see the log",
        }
    }
}

/// Cause of an error of a database that may be shown to callers that may not see its address.
fn public_cause(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "the connection to its database was refused: nothing listens there"
        }
        sqlx::Error::Io(_) => "the connection to its database failed; see the log",
        sqlx::Error::Tls(_) => "its database and the node do not agree on TLS; see the log",
        sqlx::Error::PoolTimedOut => "its database did not answer in time",
        sqlx::Error::Database(error) if error.code().is_some_and(|code| code.starts_with("28")) => {
            "its database refused the user name or password"
        }
        sqlx::Error::Database(error)
            if error.code().is_some_and(|code| code.starts_with("57P")) =>
        {
            "its database is starting or stopping"
        }
        _ => "its database returned an unexpected error; see the log",
    }
}
