//! Alarms, until some time after they are cleared.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::outbox;
use crate::page::{Cursor, page_of};
use crate::sql::{Fault, Sql, clean};
use crate::table_change::OutboxRow;
use crate::{Actor, Page, PageRequest, Registry, RegistryError};

/// An alarm in the tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlarmRow {
    /// Name of the node that has raised it.
    pub node: String,
    /// Number of the alarm in its node.
    pub id: i64,
    /// Number of the tenant.
    pub tenant: u32,
    /// Name.
    pub name: String,
    /// Subject of the alarm: a device, a topic, or a part of the node.
    pub subject: String,
    /// Id of the device; empty: none.
    pub device: String,
    /// How bad it is, as a word.
    pub severity: String,
    /// State, as a word.
    pub state: String,
    /// Text of the alarm.
    pub message: String,
    /// The value that has raised it.
    pub value: Option<f64>,
    /// Milliseconds since the Unix epoch.
    pub raised_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// The user or key that changed it last; empty: the node.
    pub changed_by: String,
    /// Until when it is shelved, milliseconds since the Unix epoch; 0: it is not.
    pub shelved_until_ms: i64,
    /// Whether it was acknowledged before it was shelved.
    pub was_acknowledged: bool,
    /// Milliseconds since the Unix epoch; 0: it is not cleared.
    pub cleared_ms: i64,
}

/// Which alarms are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlarmFilter {
    /// Only alarms of this tenant; none: of all.
    pub tenant: Option<u32>,
    /// In one of these states; empty: in any.
    pub states: Vec<String>,
    /// With one of these severities; empty: with any.
    pub severities: Vec<String>,
    /// Only alarms of this device.
    pub device: Option<String>,
    /// Only alarms of this name.
    pub name: Option<String>,
    /// Only the alarm of this number.
    pub id: Option<i64>,
}

/// How long and how many alarms are kept once they are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmsKept {
    /// Milliseconds.
    pub age_ms: i64,
    /// Number of them.
    pub alarms: i64,
}

const COLUMNS: &str = "node, id, tenant, name, subject, device, severity, state, message, value, \
                       raised_ms, changed_ms, changed_by, shelved_until_ms, was_acknowledged, \
                       cleared_ms";

impl Registry {
    /// Writes alarms as they are now, and in the same transaction the messages about their changes.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn save_alarms(
        &mut self,
        alarms: &[AlarmRow],
        messages: &[OutboxRow],
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            for alarm in alarms {
                let sql = "INSERT INTO alarms (node, id, tenant, name, subject, device, \
                           severity, state, message, value, raised_ms, changed_ms, changed_by, \
                           shelved_until_ms, was_acknowledged, cleared_ms) VALUES ($1, $2, $3, \
                           $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON \
                           CONFLICT (node, id) DO UPDATE SET severity = excluded.severity, state \
                           = excluded.state, message = excluded.message, value = excluded.value, \
                           changed_ms = excluded.changed_ms, changed_by = excluded.changed_by, \
                           shelved_until_ms = excluded.shelved_until_ms, was_acknowledged = \
                           excluded.was_acknowledged, cleared_ms = excluded.cleared_ms";
                let value = alarm.value.map_or(String::new(), |value| value.to_string());
                let query = sqlx::query(sql).bind(clean(&alarm.node)).bind(alarm.id);
                let query = query
                    .bind(i64::from(alarm.tenant))
                    .bind(clean(&alarm.name))
                    .bind(clean(&alarm.subject))
                    .bind(clean(&alarm.device))
                    .bind(clean(&alarm.severity))
                    .bind(clean(&alarm.state))
                    .bind(clean(&alarm.message))
                    .bind(value)
                    .bind(alarm.raised_ms)
                    .bind(alarm.changed_ms)
                    .bind(clean(&alarm.changed_by))
                    .bind(alarm.shelved_until_ms)
                    .bind(i64::from(alarm.was_acknowledged))
                    .bind(alarm.cleared_ms);
                query.execute(&mut *work.all).await?;
            }
            outbox::put(&mut work, messages).await
        };
        let done: Result<(), Fault> = done.await;
        work.end(done).await
    }

    /// Alarms of a node that are not cleared.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn open_alarms(&mut self, node: &str) -> Result<Vec<AlarmRow>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS)
                .push(" FROM alarms WHERE cleared_ms = 0 AND node = ");
            sql.bind(clean(node)).push(" ORDER BY id");
            sql.all(on).await?.iter().map(read_alarm).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// A page of alarms, the newest one first.
    ///
    /// # Errors
    /// The database cannot be read, or the cursor is none.
    pub async fn alarms(
        &mut self,
        filter: &AlarmFilter,
        page: &PageRequest,
    ) -> Result<Page<AlarmRow>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(COLUMNS)
                .push(" FROM alarms WHERE id > ")
                .bind(0_i64);
            if let Some(tenant) = filter.tenant {
                sql.push(" AND tenant = ").bind(i64::from(tenant));
            }
            if !filter.states.is_empty() {
                sql.push(" AND state IN ");
                sql.list(filter.states.iter().map(String::as_str));
            }
            if !filter.severities.is_empty() {
                sql.push(" AND severity IN ");
                sql.list(filter.severities.iter().map(String::as_str));
            }
            if let Some(device) = &filter.device {
                sql.push(" AND device = ").bind(clean(device));
            }
            if let Some(name) = &filter.name {
                sql.push(" AND name = ").bind(clean(name));
            }
            if let Some(id) = filter.id {
                sql.push(" AND id = ").bind(id);
            }
            if let Some(cursor) = Cursor::of(page)? {
                sql.push(" AND id < ").bind(cursor.number);
            }
            sql.push(" ORDER BY id DESC LIMIT ");
            sql.bind(page.rows_to_read());
            let rows = sql.all(on).await?;
            let items: Result<Vec<AlarmRow>, Fault> = rows.iter().map(read_alarm).collect();
            Ok(page_of(page, items?, None, |alarm| Cursor {
                text: String::new(),
                number: alarm.id,
            }))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Forgets alarms that were cleared too long ago, and those beyond the number that is kept.
    /// Returns how many.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn trim_alarms(
        &mut self,
        kept: AlarmsKept,
        now_ms: i64,
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "DELETE FROM alarms WHERE cleared_ms > 0 AND (cleared_ms < $1 OR id <= \
                       (SELECT COALESCE(MAX(id), 0) FROM (SELECT id FROM alarms WHERE cleared_ms \
                       > 0 ORDER BY id DESC LIMIT 1 OFFSET $2) AS oldest))";
            let query = sqlx::query(sql)
                .bind(now_ms.saturating_sub(kept.age_ms))
                .bind(kept.alarms);
            let done = query.execute(&mut *work.all).await?;
            Ok(done.rows_affected())
        };
        let done: Result<u64, Fault> = done.await;
        work.end(done).await
    }
}

fn read_alarm(row: &AnyRow) -> Result<AlarmRow, Fault> {
    let tenant: i64 = row.try_get("tenant")?;
    let value: String = row.try_get("value")?;
    Ok(AlarmRow {
        node: row.try_get("node")?,
        id: row.try_get("id")?,
        tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
        name: row.try_get("name")?,
        subject: row.try_get("subject")?,
        device: row.try_get("device")?,
        severity: row.try_get("severity")?,
        state: row.try_get("state")?,
        message: row.try_get("message")?,
        value: value.parse().ok(),
        raised_ms: row.try_get("raised_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        changed_by: row.try_get("changed_by")?,
        shelved_until_ms: row.try_get("shelved_until_ms")?,
        was_acknowledged: row.try_get::<i64, _>("was_acknowledged")? != 0,
        cleared_ms: row.try_get("cleared_ms")?,
    })
}
