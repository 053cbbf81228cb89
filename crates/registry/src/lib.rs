//! Users, devices, their credentials, types and roles, in the tables of `martlet.db`.
//!
//! The data plane never reads them: [`Snapshot`] is all of what decides who is let in and what they
//! may do, in memory, and is read anew when something has changed. SQL is written so that other
//! databases than SQLite understand it.
//!
//! * `database`: the file, its migrations, and waiting for it where nothing is asynchronous
//! * `users`, `devices`, `rule_sets`: what can be changed
//! * `secret`: credentials that are made up, and the digests that are kept of them
//! * `changes`: what was changed since they were last read
//! * `snapshot`: the tables as they were when they were read
#![forbid(unsafe_code)]

mod changes;
mod database;
mod devices;
mod rule_sets;
mod secret;
mod snapshot;
mod users;

use std::path::PathBuf;

pub use database::{FILE, Registry, copy_of, wait};
pub use devices::{Device, Status};
pub use rule_sets::{DEVICE_TYPE, Owner, RuleSet, USER_ROLE};
pub use secret::Secret;
pub use snapshot::{Known, Refusal, Renewed, Snapshot};
pub use users::User;

/// Why the tables are not read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The file cannot be made or opened.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The database cannot be used.
    #[error("{}: {error}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What the database said.
        error: sqlx::Error,
    },
    /// It was written by a newer program.
    #[error(
        "{} was written by a newer version of this program (its migration {version} is not known \
         here): use that one, or another data directory",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The migration.
        version: i64,
    },
    /// Its tables could not be brought to this version.
    #[error("{}: its tables cannot be brought to this version: {why}", path.display())]
    Migration {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// What stands in the tables means nothing.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What was asked for cannot be done, and what to do instead.
    #[error("{0}")]
    Refused(String),
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
