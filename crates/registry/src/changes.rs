//! What has changed in the tables since they were last read.

use std::collections::BTreeSet;

use sqlx::Row as _;

use crate::database::database_error;
use crate::{Registry, RegistryError};

/// The last change that a reading has seen; the empty mark is before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    number: i64,
    mark: String,
}

/// What has changed since.
#[derive(Debug)]
pub(crate) enum Changes {
    /// So much, or what is of so many, that everything is to be read.
    Everything,
    /// What these users and devices are, some of which may be gone.
    Of {
        users: BTreeSet<String>,
        devices: BTreeSet<String>,
        /// With these it is seen.
        seen: Seen,
    },
}

/// Beyond so many it is quicker to read everything.
const CHANGES_MAX: usize = 2_000;

impl Registry {
    pub(crate) async fn seen(&mut self) -> Result<Seen, RegistryError> {
        let failed = database_error(self.path());
        let sql = "SELECT number, mark FROM changes ORDER BY number DESC LIMIT 1";
        let last = sqlx::query(sql).fetch_optional(&mut self.connection).await;
        match last.map_err(&failed)? {
            None => Ok(Seen::default()),
            Some(row) => Ok(Seen {
                number: row.try_get("number").map_err(&failed)?,
                mark: row.try_get("mark").map_err(&failed)?,
            }),
        }
    }

    pub(crate) async fn changes_since(&mut self, seen: &Seen) -> Result<Changes, RegistryError> {
        let failed = database_error(self.path());
        let sql = "SELECT number, kind, name, mark FROM changes WHERE number >= $1 \
                   ORDER BY number LIMIT $2";
        let query = sqlx::query(sql).bind(seen.number);
        let query = query.bind(CHANGES_MAX as i64 + 2);
        let rows = query.fetch_all(&mut self.connection).await;
        let rows = rows.map_err(&failed)?;
        let (mut users, mut devices) = (BTreeSet::new(), BTreeSet::new());
        let mut last = Seen::default();
        for (at, row) in rows.iter().enumerate() {
            let next = Seen {
                number: row.try_get("number").map_err(&failed)?,
                mark: row.try_get("mark").map_err(&failed)?,
            };
            let is_known = at == 0 && seen.number > 0;
            if is_known && next != *seen || !is_known && next.number != last.number + 1 {
                // Another copy of the database, or changes that are not kept any more.
                return Ok(Changes::Everything);
            }
            last = next;
            if is_known {
                continue;
            }
            let name: String = row.try_get("name").map_err(&failed)?;
            match row.try_get("kind").map_err(&failed)? {
                "user" => users.insert(name),
                "device" => devices.insert(name),
                _ => return Ok(Changes::Everything),
            };
        }
        if last.number < seen.number || rows.len() > CHANGES_MAX + 1 {
            return Ok(Changes::Everything);
        }
        Ok(Changes::Of {
            users,
            devices,
            seen: last,
        })
    }
}
