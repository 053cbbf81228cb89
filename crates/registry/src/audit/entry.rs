//! Lines of the audit log, and writing them.

use sqlx::AnyConnection;

use super::actor::Actor;
use crate::now_ms;
use crate::sql::{Sql, clean};

/// Entry to be written about something that was done, or refused, outside of these tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAuditEntry {
    /// The team whose people may see it; empty is none.
    pub team: String,
    /// `device.add`.
    pub action: String,
    /// `device`.
    pub object_kind: String,
    /// Which.
    pub object_id: String,
    /// A JSON object, without secrets.
    pub changed: String,
    /// `done`, or why not.
    pub outcome: String,
}

/// Entry of the audit log, with the caller and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// The caller.
    pub actor: Actor,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The entry.
    pub entry: NewAuditEntry,
}

impl AuditLine {
    /// Bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let texts = texts_of(&self.actor, &self.entry);
        texts.iter().map(|text| text.len()).sum()
    }
}

/// The texts of a row, in the order of their columns.
fn texts_of<'a>(actor: &'a Actor, entry: &'a NewAuditEntry) -> [&'a String; 10] {
    [
        &actor.who,
        &actor.by,
        &actor.address,
        &actor.request_id,
        &entry.team,
        &entry.action,
        &entry.object_kind,
        &entry.object_id,
        &entry.changed,
        &entry.outcome,
    ]
}

/// Rows of one statement, in the transaction of the changes that they record.
pub(crate) async fn write(
    on: &mut AnyConnection,
    sql: impl Fn(&'static str) -> Sql,
    actor: &Actor,
    entries: &[NewAuditEntry],
) -> Result<(), sqlx::Error> {
    let at_ms = now_ms();
    let rows: Vec<_> = entries.iter().map(|entry| (at_ms, actor, entry)).collect();
    write_rows(on, sql, &rows).await
}

pub(super) async fn write_rows(
    on: &mut AnyConnection,
    sql: impl Fn(&'static str) -> Sql,
    rows: &[(i64, &Actor, &NewAuditEntry)],
) -> Result<(), sqlx::Error> {
    for some in rows.chunks(200) {
        let mut sql = sql(
            "INSERT INTO audit (at_ms, who, by_what, address, request_id, team, action, \
             object_kind, object_id, changed, outcome) VALUES ",
        );
        for (at, (at_ms, actor, entry)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" }).bind(*at_ms);
            for text in texts_of(actor, entry) {
                sql.push(", ").bind(clean(text));
            }
            sql.push(")");
        }
        sql.execute(on).await?;
    }
    Ok(())
}
