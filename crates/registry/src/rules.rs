//! Rules that were added by the API, and the facts about devices that rules need.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::device_numbers::{CHUNK, by_tenant};
use crate::sql::{Fault, Sql, clean};
use crate::teams::{home, team_seen_of_several};
use crate::{Actor, Conflict, Exists, Expected, Registry, RegistryError, Visibility};

/// Rules in the tables, at most.
pub const RULES_MAX: i64 = 1_000;
/// Name of the object in the audit log.
const KIND: &str = "rule";

/// A rule in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRule {
    /// Name, which no other rule of its team has.
    pub name: String,
    /// Id of the team whose messages it looks at; empty: the common tenant.
    pub team: String,
    /// JSON, as it was written.
    pub definition: String,
    /// Counts its changes.
    pub revision: i64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub changed_ms: i64,
    /// The caller that changed it last, as in the audit log.
    pub changed_by: String,
}

/// The facts about a device for rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDevice {
    /// Number of its tenant.
    pub tenant: u32,
    /// Id of the device.
    pub id: String,
    /// Type of the device.
    pub device_type: String,
    /// Tags of the device, in their order.
    pub tags: Vec<String>,
}

/// State of all rules, to be compared with an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesStamp {
    /// Number of rules.
    pub rules: i64,
    /// Sum of their revisions: two changes may come within a millisecond.
    revisions: i64,
    /// When one was changed last, milliseconds since the Unix epoch.
    changed_ms: i64,
}

impl Registry {
    /// The rules that the caller sees, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn stored_rules(
        &mut self,
        visibility: &Visibility,
    ) -> Result<Vec<StoredRule>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT name, team, definition, revision, created_ms, changed_ms, \
                       changed_by FROM message_rules ORDER BY name, team";
            let rows = sqlx::query(sql).fetch_all(on).await?;
            let all: Result<Vec<_>, Fault> = rows.iter().map(read_rule).collect();
            let mut all = all?;
            all.retain(|one| visibility.sees(&one.team));
            Ok(all)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Returns what changes whenever a rule does.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rules_stamp(&mut self) -> Result<RulesStamp, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT COUNT(*) AS rules, CAST(COALESCE(SUM(revision), 0) AS BIGINT) AS \
                       revisions, COALESCE(MAX(changed_ms), 0) AS changed_ms FROM message_rules";
            let row = sqlx::query(sql).fetch_one(on).await?;
            Ok(RulesStamp {
                rules: row.try_get("rules")?,
                revisions: row.try_get("revisions")?,
                changed_ms: row.try_get("changed_ms")?,
            })
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Writes a rule of this name and of the team of this id; empty: the common tenant. With a
    /// `revision`, the rule has to be at that one; 0: it must not exist. Returns whether it is new.
    ///
    /// # Errors
    /// The caller does not see the team, the rule has another revision, or there are
    /// [`RULES_MAX`].
    pub async fn set_rule(
        &mut self,
        actor: &Actor,
        name: &str,
        team: &str,
        definition: &str,
        expected: Expected,
    ) -> Result<bool, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_one(&mut work, name, team, definition, expected).await;
        work.end(done).await
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// There is none that the caller sees, or several teams have one.
    pub async fn remove_rule(&mut self, actor: &Actor, name: &str) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            let query = sqlx::query_scalar("SELECT team FROM message_rules WHERE name = $1");
            let teams = query.bind(clean(name)).fetch_all(&mut *work.all).await?;
            let team = team_seen_of_several(&work.actor.visibility, teams, KIND, name)?;
            let sql = "DELETE FROM message_rules WHERE team = $1 AND name = $2";
            let query = sqlx::query(sql).bind(team.clone()).bind(clean(name));
            query.execute(&mut *work.all).await?;
            work.audit("rule.remove", (KIND, name), &team, json!({}))
                .await
        };
        let done = done.await;
        work.end(done).await
    }

    /// The facts about the devices of these tenants and ids. Unknown ids are left out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rule_devices(
        &mut self,
        names: &[(u32, String)],
    ) -> Result<Vec<RuleDevice>, RegistryError> {
        let named = by_tenant(names);
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut found = Vec::new();
            for (tenant, ids) in named {
                for ids in ids.chunks(CHUNK) {
                    let mut sql = Sql::new(
                        engine,
                        "SELECT devices.id AS id, devices.type AS type, device_tags.tag AS tag \
                         FROM devices LEFT JOIN device_tags ON device_tags.device = \
                         devices.number WHERE devices.deleted_ms = 0 AND devices.tenant = ",
                    );
                    sql.bind(i64::from(tenant)).push(" AND devices.id IN ");
                    sql.list(ids.iter().map(|id| clean(id)));
                    sql.push(" ORDER BY devices.id, device_tags.tag");
                    for row in sql.all(on).await? {
                        add_device(&mut found, tenant, &row)?;
                    }
                }
            }
            Ok(found)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}

/// Adds a row: a device has one for each of its tags, or one without.
fn add_device(found: &mut Vec<RuleDevice>, tenant: u32, row: &AnyRow) -> Result<(), Fault> {
    let id: String = row.try_get("id")?;
    let tag: Option<String> = row.try_get("tag")?;
    match found.last_mut() {
        Some(last) if last.tenant == tenant && last.id == id => last.tags.extend(tag),
        _ => found.push(RuleDevice {
            tenant,
            id,
            device_type: row.try_get("type")?,
            tags: tag.into_iter().collect(),
        }),
    }
    Ok(())
}

fn read_rule(row: &AnyRow) -> Result<StoredRule, Fault> {
    Ok(StoredRule {
        name: row.try_get("name")?,
        team: row.try_get("team")?,
        definition: row.try_get("definition")?,
        revision: row.try_get("revision")?,
        created_ms: row.try_get("created_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        changed_by: row.try_get("changed_by")?,
    })
}

/// Revision of a rule of a team; 0: there is no such one.
async fn revision_of(on: &mut AnyConnection, name: &str, team: &str) -> Result<i64, Fault> {
    let sql = "SELECT revision FROM message_rules WHERE team = $1 AND name = $2";
    let query = sqlx::query_scalar(sql).bind(team.to_owned());
    let found: Option<i64> = query.bind(clean(name)).fetch_optional(on).await?;
    Ok(found.unwrap_or_default())
}

async fn set_one(
    work: &mut Work<'_>,
    name: &str,
    team: &str,
    definition: &str,
    expected: Expected,
) -> Result<bool, Fault> {
    let team = home(&mut work.all, &work.actor.visibility, team)
        .await?
        .team;
    let current = revision_of(&mut work.all, name, &team).await?;
    let is_new = current == 0;
    if expected == Expected::from(0) && current > 0 {
        return Err(Exists::Rule(name.to_owned()).into());
    }
    expected.check(&format!("the rule {name:?}"), current)?;
    if is_new {
        let query = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM message_rules");
        let all = query.fetch_one(&mut *work.all).await?;
        if all >= RULES_MAX {
            return Err(Conflict::AddedRules(RULES_MAX).into());
        }
        let sql = "SELECT COUNT(*) FROM message_rules WHERE team = $1";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(team.clone());
        let own = query.fetch_one(&mut *work.all).await?;
        if !work.is_in_share(&team, own, all, RULES_MAX) {
            return Err(Conflict::RulesOfTeam(own).into());
        }
    }
    // Nodes with the same tables notice a change by its time.
    let sql = "INSERT INTO message_rules (name, team, definition, revision, created_ms, changed_ms, \
               changed_by) VALUES ($1, $2, $3, $4, $5, $5, $6) ON CONFLICT (team, name) DO UPDATE \
               SET definition = excluded.definition, revision = excluded.revision, changed_ms = \
               excluded.changed_ms, changed_by = excluded.changed_by";
    let query = sqlx::query(sql).bind(clean(name)).bind(team.clone());
    let query = query
        .bind(clean(definition))
        .bind(current + 1)
        .bind(work.now_ms)
        .bind(clean(&work.actor.who));
    query.execute(&mut *work.all).await?;
    let what = match is_new {
        true => "rule.add",
        false => "rule.change",
    };
    let changed: serde_json::Value = serde_json::from_str(definition).unwrap_or_default();
    work.audit(what, (KIND, name), &team, json!({ "definition": changed }))
        .await?;
    Ok(is_new)
}
