//! Errors of the storage.

use std::sync::Arc;

use sqlx::error::DatabaseError;

/// An error of the storage. The points of a failed write were not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The database does not answer in time. Retry later.
    #[error("{place}: the telemetry database cannot be reached: {error}")]
    Unreachable {
        /// The location, without a password.
        place: String,
        /// Error of the driver.
        error: Arc<sqlx::Error>,
    },
    /// The memory for results is used up. Retry later, or ask for less.
    #[error(
        "the results of queries take as much memory as they may: ask for fewer devices, keys or \
         items, or try again later"
    )]
    Memory,
    /// The disk is full, or the limit of the file is reached. Writing continues by itself when
    /// there is room again.
    #[error(
        "{place}: no room for telemetry: {what}; free space on the disk, shorten the retention or \
         raise the limit of the telemetry file"
    )]
    Full {
        /// The location, without a password.
        place: String,
        /// Error of the database.
        what: String,
    },
    /// The file or a row of it is damaged.
    #[error(
        "{place}: the telemetry is damaged: {what}; restore the file from a backup, or stop the \
         node, copy what can be read with `sqlite3 {place} .recover | sqlite3 NEW`, and put NEW in \
         its place"
    )]
    Damaged {
        /// The location, without a password.
        place: String,
        /// The damage.
        what: String,
    },
    /// The file cannot be opened or written to.
    #[error("{place}: the telemetry file cannot be used: {what}")]
    File {
        /// The file.
        place: String,
        /// Error of the system or the database.
        what: String,
    },
    /// The tables have a version that this program does not support.
    #[error(
        "{place}: the telemetry tables have version {found}, this program supports version \
         {known}; use the program that wrote them, or a newer one"
    )]
    Newer {
        /// The location, without a password.
        place: String,
        /// Version of the tables.
        found: i64,
        /// Version of this program.
        known: i64,
    },
    /// Another error of the database.
    #[error("{place}: the telemetry database reported: {error}")]
    Database {
        /// The location, without a password.
        place: String,
        /// Error of the database.
        error: Arc<sqlx::Error>,
    },
    /// The location is invalid.
    #[error("{0}")]
    Location(String),
    /// The query is invalid.
    #[error("{0}")]
    Query(String),
    /// The storage was closed.
    #[error("the telemetry storage was closed")]
    Closed,
}

impl StorageError {
    /// Cause that may be shown to callers that may not see the address of the database.
    pub fn public_cause(&self) -> &'static str {
        match self {
            Self::Unreachable { error, .. } | Self::Database { error, .. } => public_cause(error),
            Self::Full { .. } => "its database has no room",
            _ => "its database returned an unexpected error; see the log",
        }
    }

    /// Whether an error of the driver says that there is no room.
    pub(crate) fn is_full(error: &sqlx::Error) -> bool {
        let found = error.as_database_error();
        found.is_some_and(|found| matches!(kind_of(found), Kind::Full))
    }

    /// Converts an error of the driver.
    pub(crate) fn of_sql(place: &str, error: sqlx::Error) -> Self {
        let place = place.to_owned();
        if let Some(found) = error.as_database_error() {
            let what = found.message().to_owned();
            match kind_of(found) {
                Kind::Full => return Self::Full { place, what },
                Kind::Damaged => return Self::Damaged { place, what },
                Kind::File => return Self::File { place, what },
                Kind::Unreachable => {
                    let error = Arc::new(error);
                    return Self::Unreachable { place, error };
                }
                Kind::Other => {}
            }
        }
        let error = Arc::new(error);
        match *error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => Self::Unreachable { place, error },
            _ => Self::Database { place, error },
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

enum Kind {
    Full,
    Damaged,
    File,
    Unreachable,
    Other,
}

/// SQLite has numeric codes, PostgreSQL has five characters.
fn kind_of(error: &dyn DatabaseError) -> Kind {
    let Some(code) = error.code() else {
        return Kind::Other;
    };
    if code.len() == 5 {
        return match &*code {
            "53100" => Kind::Full,
            "XX001" | "XX002" => Kind::Damaged,
            // Connection errors, shutdown, and cancellation by a time limit.
            code if code.starts_with("08") || code.starts_with("57") => Kind::Unreachable,
            "53300" => Kind::Unreachable,
            _ => Kind::Other,
        };
    }
    // The lowest byte is the primary code, the others extend it.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(13) => Kind::Full,
        Ok(11 | 26) => Kind::Damaged,
        Ok(8 | 10 | 14) => Kind::File,
        // Another process holds the lock.
        Ok(5 | 6) => Kind::Unreachable,
        _ => Kind::Other,
    }
}
