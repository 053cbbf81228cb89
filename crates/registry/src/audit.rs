//! The audit log: a row for each change, with its caller, written in the same transaction.

mod actor;
pub(crate) mod entry;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::page::{Cursor, Page, PageRequest, page_of};
use crate::sql::{Fault, Sql, clean};
use crate::{Registry, RegistryError, now_ms};
pub use actor::{Actor, Visibility};
use entry::write_rows;
pub use entry::{AuditLine, NewAuditEntry};

/// A row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Rises, and is never used again.
    pub number: i64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The caller.
    pub who: String,
    /// How: by an API key, a session or the command line.
    pub by: String,
    /// From where.
    pub address: String,
    /// The request.
    pub request_id: String,
    /// Entry about what was done.
    pub entry: NewAuditEntry,
}

/// Limits of the audit log. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditKept {
    /// Days whose lines are kept.
    pub days: u64,
    /// Newest lines that are kept.
    pub lines: u64,
}

pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Which rows of the audit log are asked for; empty is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only entries of this caller: `user:ada`, `key:ID`, `device:ID`, `uid 0`, or without the
    /// kind, `ada`.
    pub who: Option<String>,
    /// Action; `device.` stands for all actions that begin with it.
    pub action: Option<String>,
    /// The kind of object.
    pub object_kind: Option<String>,
    /// Which object.
    pub object_id: Option<String>,
    /// At this time or later.
    pub from_ms: Option<i64>,
    /// Before this time.
    pub before_ms: Option<i64>,
}

impl Registry {
    /// Writes about something that changed no table: a log-in, an attempt that was refused.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn audit(
        &mut self,
        actor: &Actor,
        entry: &NewAuditEntry,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = work.write_audit(std::slice::from_ref(entry)).await;
        work.end(done).await
    }

    /// Writes about many such things at once.
    ///
    /// # Errors
    /// The database cannot be changed; then none is written.
    pub async fn write_audit_lines(&mut self, lines: &[AuditLine]) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let engine = work.engine;
        let rows: Vec<_> = lines
            .iter()
            .map(|line| (line.at_ms, &line.actor, &line.entry))
            .collect();
        let done = write_rows(&mut work.all, |text| Sql::new(engine, text), &rows).await;
        work.end(done.map_err(Fault::Sql)).await
    }

    /// The audit log, newest first.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is none.
    pub async fn audit_log(
        &mut self,
        visibility: &Visibility,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let found = read_log(on, visibility, filter, page, |text| Sql::new(engine, text)).await;
        reading.end(found).await
    }

    /// Deletes the oldest rows above the limits, up to a given number of rows. Returns the number
    /// of rows that were deleted.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn trim_audit(
        &mut self,
        kept: AuditKept,
        rows_max: u32,
    ) -> Result<u64, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let trim = async {
            let last = sqlx::query_scalar::<_, i64>("SELECT COALESCE(MAX(number), 0) FROM audit");
            let last = last.fetch_one(&mut *on).await?;
            let beyond = match i64::try_from(kept.lines).unwrap_or(i64::MAX) {
                0 => 0,
                lines => last.saturating_sub(lines),
            };
            let before_ms = match i64::try_from(kept.days).unwrap_or(i64::MAX) {
                0 => 0,
                days => now_ms().saturating_sub(days.saturating_mul(DAY_MS)),
            };
            let sql = "DELETE FROM audit WHERE number IN (SELECT number FROM audit WHERE \
                       number <= $1 OR at_ms < $2 ORDER BY number LIMIT $3)";
            let query = sqlx::query(sql).bind(beyond).bind(before_ms);
            let done = query.bind(i64::from(rows_max)).execute(on).await?;
            Ok(done.rows_affected())
        };
        let trimmed: Result<_, Fault> = trim.await;
        reading.end(trimmed).await
    }
}

async fn read_log(
    on: &mut AnyConnection,
    visibility: &Visibility,
    filter: &AuditFilter,
    page: &PageRequest,
    new: impl Fn(&'static str) -> Sql,
) -> Result<Page<AuditEntry>, Fault> {
    let conditions = |sql: &mut Sql| {
        if let Some(team) = visibility.team() {
            sql.push(" AND team = ").bind(team.to_owned());
        }
        if let Some(who) = &filter.who {
            // A user, a key and a device are written with what they are.
            let names = ["", "user:", "key:", "device:", "uid "];
            sql.push(" AND who IN ");
            sql.list(
                names
                    .into_iter()
                    .map(|kind| format!("{kind}{}", clean(who))),
            );
        }
        for (column, value) in [
            (" AND object_kind = ", &filter.object_kind),
            (" AND object_id = ", &filter.object_id),
        ] {
            if let Some(value) = value {
                sql.push(column).bind(clean(value));
            }
        }
        if let Some(action) = &filter.action {
            match action.ends_with('.') {
                false => sql.push(" AND action = ").bind(clean(action)),
                true => {
                    // The next after all that begin so.
                    let end = format!("{}/", clean(action.trim_end_matches('.')));
                    sql.push(" AND action >= ").bind(clean(action));
                    sql.push(" AND action < ").bind(end)
                }
            };
        }
        if let Some(from_ms) = filter.from_ms {
            sql.push(" AND at_ms >= ").bind(from_ms);
        }
        if let Some(before_ms) = filter.before_ms {
            sql.push(" AND at_ms < ").bind(before_ms);
        }
    };
    let total = match page.with_total {
        false => None,
        true => {
            let mut sql = new("SELECT COUNT(*) FROM audit WHERE 1 = 1");
            conditions(&mut sql);
            Some(sql.count(on).await?)
        }
    };
    let mut sql = new("SELECT * FROM audit WHERE 1 = 1");
    conditions(&mut sql);
    if let Some(cursor) = Cursor::of(page)? {
        sql.push(" AND number < ").bind(cursor.number);
    }
    sql.push(" ORDER BY number DESC LIMIT ");
    sql.bind(page.rows_to_read());
    let rows = sql.all(on).await?;
    let entries: Result<Vec<_>, _> = rows.iter().map(entry).collect();
    Ok(page_of(page, entries?, total, |entry| Cursor {
        text: String::new(),
        number: entry.number,
    }))
}

fn entry(row: &AnyRow) -> Result<AuditEntry, sqlx::Error> {
    Ok(AuditEntry {
        number: row.try_get("number")?,
        at_ms: row.try_get("at_ms")?,
        who: row.try_get("who")?,
        by: row.try_get("by_what")?,
        address: row.try_get("address")?,
        request_id: row.try_get("request_id")?,
        entry: NewAuditEntry {
            team: row.try_get("team")?,
            action: row.try_get("action")?,
            object_kind: row.try_get("object_kind")?,
            object_id: row.try_get("object_id")?,
            changed: row.try_get("changed")?,
            outcome: row.try_get("outcome")?,
        },
    })
}
