//! Why the storage did not do something.

use std::sync::Arc;

use sqlx::error::DatabaseError;

/// Why the storage did not do something. Nothing that it was asked to write has been acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The database does not answer, or not in time. Retry later.
    #[error("{place}: the telemetry database cannot be reached: {error}")]
    Unreachable {
        /// The location, without a password.
        place: String,
        /// What the driver says.
        error: Arc<sqlx::Error>,
    },
    /// The disk is full, or the limit of the file is reached. Writing goes on by itself when there
    /// is room again.
    #[error(
        "{place}: no room for telemetry: {what}; free space on the disk, shorten the retention or \
         raise the limit of the telemetry file"
    )]
    Full {
        /// The location, without a password.
        place: String,
        /// What the database says.
        what: String,
    },
    /// The file or a row of it is not as it was written.
    #[error("{place}: the telemetry is damaged: {what}; restore it from a backup")]
    Damaged {
        /// The location, without a password.
        place: String,
        /// What was found.
        what: String,
    },
    /// The file cannot be opened or written to.
    #[error("{place}: the telemetry file cannot be used: {what}")]
    File {
        /// The file.
        place: String,
        /// What the system or the database says.
        what: String,
    },
    /// The tables are of a version that this program does not know.
    #[error(
        "{place}: the telemetry tables have version {found}, this program knows version {known}; \
         use the program that wrote them, or a newer one"
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
    #[error("{place}: the telemetry database says: {error}")]
    Database {
        /// The location, without a password.
        place: String,
        /// What it says.
        error: Arc<sqlx::Error>,
    },
    /// The location is not usable.
    #[error("{0}")]
    Location(String),
    /// The question cannot be answered as it was asked.
    #[error("{0}")]
    Query(String),
    /// The storage was closed.
    #[error("the telemetry storage was closed")]
    Closed,
}

impl StorageError {
    /// Whether the same call may succeed later: the trouble is in the database or its disk, not in
    /// the call.
    pub fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Full { .. }
            | Self::File { .. }
            | Self::Database { .. } => true,
            Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Location(_)
            | Self::Query(_)
            | Self::Closed => false,
        }
    }

    /// What an error of the driver means.
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

enum Kind {
    Full,
    Damaged,
    File,
    Unreachable,
    Other,
}

/// Codes of SQLite are numbers, those of PostgreSQL have five characters.
fn kind_of(error: &dyn DatabaseError) -> Kind {
    let Some(code) = error.code() else {
        return Kind::Other;
    };
    if code.len() == 5 {
        return match &*code {
            "53100" => Kind::Full,
            "XX001" | "XX002" => Kind::Damaged,
            // Connections, too many of them, shutting down, cancelled by a time limit.
            code if code.starts_with("08") || code.starts_with("57") => Kind::Unreachable,
            "53300" => Kind::Unreachable,
            _ => Kind::Other,
        };
    }
    // The lowest byte is the code, the others extend it.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(13) => Kind::Full,
        Ok(11 | 26) => Kind::Damaged,
        Ok(8 | 10 | 14) => Kind::File,
        // Another process holds the lock.
        Ok(5 | 6) => Kind::Unreachable,
        _ => Kind::Other,
    }
}
