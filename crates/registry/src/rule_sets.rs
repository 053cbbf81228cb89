//! Roles of users, types and groups of devices: each is a name with rules in their order.
//!
//! * `owner`: what has rules

pub(crate) mod owner;

use std::sync::Arc;

use martlet_access::{
    IOTFLOW, IotflowBase, RuleLine, administrator_rules, built_in_device_rules, default_rules,
    iotflow_user_rules,
};
use martlet_permission::{Actions, Rule, Rules};
use serde_json::json;
use sqlx::{AnyConnection, Row as _};

use crate::client_ids::{self, ClientIds, TypeSettings};
use crate::database::Work;
use crate::groups::find::find_group;
use crate::inactivity::set_inactive_after;
use crate::names::check_new_name;
use crate::rule_sets::owner::{
    ADMINISTRATOR_ROLE, Owner, USER_ROLE, expect_all, expect_own, unknown,
};
use crate::sql::Fault;
use crate::teams;
use crate::{
    Actor, Conflict, Exists, Expected, Refused, Registry, RegistryError, Visibility, now_ms,
};

/// Rules of one role, type or group.
const RULES_MAX: usize = 1_000;

/// A role or a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// Name of the role or type.
    pub name: String,
    /// Whether it comes with the program and stays as it is.
    pub is_builtin: bool,
    /// The first that matches decides; what none matches is forbidden. Those of built-in ones are
    /// the program's, which [`RuleSet::in_force`] knows.
    pub rules: Vec<RuleLine>,
    /// Which Client Identifiers the devices of a type may use; not used for other rule sets.
    pub client_ids: ClientIds,
    /// After how many seconds without a message the devices of a type are inactive; 0: never.
    pub inactive_after_secs: u32,
    /// Raised with every change.
    pub revision: i64,
    /// Where the topics of IoTFlow begin in the rules of the program.
    pub iotflow_base: IotflowBase,
}

impl RuleSet {
    /// The rules in force, in order, those of the program too. None: everything is permitted,
    /// topics that begin with `$` too, which no list of rules can permit.
    pub fn in_force(&self, owner: Owner) -> Option<Vec<RuleLine>> {
        if self.is_builtin && owner == Owner::Role && self.name == ADMINISTRATOR_ROLE {
            return None;
        }
        let of_program = self.of_program(owner);
        Some(of_program.map_or_else(|| self.rules.clone(), |rules| as_lines(&rules)))
    }

    /// The rules of one that comes with the program; none: they stand in the table.
    pub(crate) fn of_program(&self, owner: Owner) -> Option<Arc<Rules>> {
        match (owner, &*self.name) {
            _ if !self.is_builtin => None,
            (Owner::Role, ADMINISTRATOR_ROLE) => Some(administrator_rules()),
            (Owner::Role, USER_ROLE) => Some(default_rules(&self.iotflow_base)),
            (Owner::Role, IOTFLOW) => Some(iotflow_user_rules(&self.iotflow_base)),
            (Owner::DeviceType, name) => built_in_device_rules(name, &self.iotflow_base),
            _ => None,
        }
    }

    /// A permitted Topic Filter without the name of its holder, so that all holders share it. None:
    /// it permits only topics of the holder's own. A Client Identifier is fixed for a device, and
    /// free for a user.
    pub fn beyond_own(&self, owner: Owner) -> Option<&str> {
        match (owner, &*self.name, self.is_builtin) {
            (Owner::Role, ADMINISTRATOR_ROLE | USER_ROLE, true) => return Some("#"),
            (_, _, true) => return None,
            (_, _, false) => {}
        }
        beyond_own(owner, &self.rules)
            .next()
            .map(|rule| &*rule.filter)
    }
}

/// Rules that allow topics which are not their holder's own.
pub fn beyond_own(owner: Owner, rules: &[RuleLine]) -> impl Iterator<Item = &RuleLine> {
    let names_holder = move |filter: &str| {
        filter.contains("%u") || (owner != Owner::Role && filter.contains("%c"))
    };
    let allowing = rules.iter().filter(|rule| rule.allows);
    allowing.filter(move |rule| !names_holder(&rule.filter))
}

fn as_lines(rules: &Rules) -> Vec<RuleLine> {
    let lines = rules.rules().iter().map(|rule| RuleLine {
        allows: rule.allows,
        actions: rule.actions,
        filter: rule.filter.clone(),
    });
    lines.collect()
}

impl Registry {
    /// Adds a role or a type, with the settings of a type. The caller sees everything. Groups are
    /// added as such.
    ///
    /// # Errors
    /// It exists already, or the name is not valid.
    pub async fn create_rule_set(
        &mut self,
        actor: &Actor,
        owner: Owner,
        name: &str,
        rules: &[RuleLine],
        settings: TypeSettings,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            insert(&mut work, owner, name, rules).await?;
            set_settings(&mut work, name, settings).await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Gives a role or a type other rules.
    ///
    /// # Errors
    /// No entry has that name, or it is built in.
    pub async fn set_rules(
        &mut self,
        owner: Owner,
        name: &str,
        rules: &[RuleLine],
    ) -> Result<(), RegistryError> {
        self.change_rules(&Actor::local(), owner, name, rules, Expected::any())
            .await
    }

    /// As [`Registry::set_rules`], for a caller; one that sees one team only may change only groups
    /// of that team. The revision is the group's.
    ///
    /// # Errors
    /// No entry has that name, it is built in, or it has another revision than expected.
    pub async fn change_rules(
        &mut self,
        actor: &Actor,
        owner: Owner,
        name: &str,
        rules: &[RuleLine],
        expected_revision: Expected,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = change(&mut work, owner, name, rules, expected_revision).await;
        work.end(done).await
    }

    /// Changes the rules of a role or a type, if some are given, and the settings of a type.
    ///
    /// # Errors
    /// No entry has that name, it has another revision than expected, or it is built in.
    /// `inactive_after_secs` of a type that is built in can be set.
    pub async fn change_rule_set(
        &mut self,
        actor: &Actor,
        owner: Owner,
        name: &str,
        rules: Option<&[RuleLine]>,
        settings: TypeSettings,
        expected_revision: Expected,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = async {
            match rules {
                Some(rules) => change(&mut work, owner, name, rules, expected_revision).await?,
                None => {
                    let found = revision_of(&mut work, owner, name).await?;
                    expected_revision.check(name, found)?;
                }
            }
            set_settings(&mut work, name, settings).await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Removes a role or a type. Groups are removed as such.
    ///
    /// # Errors
    /// There is none, it is built in, or it is in use.
    pub async fn delete_rule_set(
        &mut self,
        actor: &Actor,
        owner: Owner,
        name: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = remove(&mut work, owner, name).await;
        work.end(done).await
    }

    /// All of them, by name; groups by id.
    ///
    /// # Errors
    /// The database cannot be read, or a rule means nothing.
    pub async fn rule_sets(&mut self, owner: Owner) -> Result<Vec<RuleSet>, RegistryError> {
        let place = self.place().to_owned();
        let base = self.settings.iotflow_base.clone();
        // Names and rules of one moment.
        let mut reading = self.consistent_reading().await?;
        let read = read_rule_sets(reading.connection(), owner, &place, &base).await;
        reading.end(read).await
    }

    /// The one of this name.
    ///
    /// # Errors
    /// There is none, or the database cannot be read.
    pub async fn rule_set(&mut self, owner: Owner, name: &str) -> Result<RuleSet, RegistryError> {
        let all = self.rule_sets(owner).await?.into_iter();
        named(all, name).ok_or_else(|| unknown(owner, name).into())
    }

    /// The rules of a group, with the group's revision.
    ///
    /// # Errors
    /// There is no such group.
    pub async fn group_rules(
        &mut self,
        visibility: &Visibility,
        group: &str,
    ) -> Result<RuleSet, RegistryError> {
        let group = self.group_named(visibility, group).await?;
        self.rule_set(Owner::Group, &group.id).await
    }
}

fn named(mut all: impl Iterator<Item = RuleSet>, name: &str) -> Option<RuleSet> {
    all.find(|set| set.name == name)
}

/// All of them, by name.
pub(crate) async fn read_rule_sets(
    on: &mut AnyConnection,
    owner: Owner,
    place: &str,
    base: &IotflowBase,
) -> Result<Vec<RuleSet>, Fault> {
    let sql = match owner {
        Owner::Role => {
            "SELECT name, is_builtin, revision, 'id' AS client_id, 0 * revision AS max_sessions, \
             0 * revision AS inactive_after_secs FROM roles ORDER BY name"
        }
        Owner::DeviceType => {
            "SELECT name, is_builtin, revision, client_id, max_sessions, inactive_after_secs \
             FROM device_types ORDER BY name"
        }
        Owner::Group => {
            "SELECT id AS name, 0 * revision AS is_builtin, revision, 'id' AS client_id, \
             0 * revision AS max_sessions, 0 * revision AS inactive_after_secs \
             FROM device_groups ORDER BY id"
        }
    };
    let rows = sqlx::query(sql).fetch_all(&mut *on).await?;
    let mut sets = Vec::new();
    for row in rows {
        sets.push(RuleSet {
            name: row.try_get("name")?,
            is_builtin: row.try_get::<i64, _>("is_builtin")? != 0,
            rules: Vec::new(),
            client_ids: ClientIds::of_row(row.try_get("client_id")?, row.try_get("max_sessions")?),
            inactive_after_secs: u32::try_from(row.try_get::<i64, _>("inactive_after_secs")?)
                .unwrap_or(0),
            revision: row.try_get("revision")?,
            iotflow_base: base.clone(),
        });
    }
    let sql = "SELECT owner, allows, actions, filter FROM rules WHERE owner_kind = $1 \
               ORDER BY owner, position";
    let rows = sqlx::query(sql).bind(owner.kind()).fetch_all(on).await?;
    for row in rows {
        let name: String = row.try_get("owner")?;
        let (actions, filter): (String, String) = (row.try_get("actions")?, row.try_get("filter")?);
        let damaged = |what: String| RegistryError::Damaged {
            place: place.to_owned(),
            what: format!("{} {name}: {what}", owner.word()),
        };
        let found = sets.binary_search_by(|set| set.name.as_str().cmp(&name));
        let at = found.map_err(|_| damaged("rules without it".to_owned()))?;
        sets[at].rules.push(RuleLine {
            allows: row.try_get::<i64, _>("allows")? != 0,
            actions: read_actions(&actions)
                .ok_or_else(|| damaged(format!("{actions:?} are not actions")))?,
            filter: filter.into(),
        });
    }
    Ok(sets)
}

/// Rules that cannot be read again would keep the whole node from reading any.
fn check_rules(rules: &[RuleLine]) -> Result<(), RegistryError> {
    let refused = |why: Refused| Err(RegistryError::from(why));
    if rules.len() > RULES_MAX {
        return refused(Refused::RuleCount(RULES_MAX));
    }
    if let Some(at) = rules.iter().position(|rule| {
        rule.actions.names().next().is_none() || rule.filter.chars().any(char::is_control)
    }) {
        return refused(Refused::EmptyRule(at + 1));
    }
    compile(rules, |number| number.to_string())
        .map(drop)
        .or_else(|why| refused(Refused::Rules(why)))
}

/// As lines, for the audit log.
fn lines(rules: &[RuleLine]) -> Vec<String> {
    rules.iter().map(RuleLine::to_string).collect()
}

/// Refuses a role or type with topics of others to a team without a tenant.
pub(crate) async fn expect_own_topics(
    work: &mut Work<'_>,
    owner: Owner,
    name: &str,
) -> Result<(), Fault> {
    let place = work.place().to_owned();
    // No rule of the program is looked at.
    let base = IotflowBase::default();
    let sets = read_rule_sets(&mut work.all, owner, &place, &base).await?;
    let Some(set) = named(sets.into_iter(), name) else {
        return Err(Refused::from(unknown(owner, name)).into());
    };
    match set.beyond_own(owner) {
        None => Ok(()),
        Some(filter) => {
            let filter = filter.to_string();
            Err(Refused::RuleSetOfAll(owner.into(), name.to_owned(), filter).into())
        }
    }
}

fn refused_for_groups() -> Fault {
    Refused::GroupAsRules.into()
}

async fn insert(
    work: &mut Work<'_>,
    owner: Owner,
    name: &str,
    rules: &[RuleLine],
) -> Result<(), Fault> {
    expect_all(work)?;
    check_new_name(owner.word(), name)?;
    let sql = match owner {
        Owner::Role => {
            "INSERT INTO roles (name, is_builtin, created_ms) VALUES ($1, 0, $2) \
             ON CONFLICT DO NOTHING"
        }
        Owner::DeviceType => {
            "INSERT INTO device_types (name, is_builtin, created_ms) VALUES ($1, 0, $2) \
             ON CONFLICT DO NOTHING"
        }
        Owner::Group => return Err(refused_for_groups()),
    };
    let done = sqlx::query(sql).bind(name.to_owned()).bind(now_ms());
    if done.execute(&mut *work.all).await?.rows_affected() == 0 {
        return Err(Exists::RuleSet(owner.into(), name.to_owned()).into());
    }
    write_rules(work, owner, name, rules).await?;
    let action = format!("{}.add", owner.kind());
    let changed = json!({ "rules": lines(rules) });
    work.audit(&action, (owner.kind(), name), "", changed).await
}

/// Sets the settings of a type that are given.
async fn set_settings(
    work: &mut Work<'_>,
    name: &str,
    settings: TypeSettings,
) -> Result<(), Fault> {
    if let Some(client_ids) = settings.client_ids {
        client_ids::set(work, name, client_ids).await?;
    }
    match settings.inactive_after_secs {
        Some(secs) => set_inactive_after(work, name, secs).await,
        None => Ok(()),
    }
}

/// The revision of a role or type by its name, or of a group by its id.
async fn revision_of(work: &mut Work<'_>, owner: Owner, name: &str) -> Result<i64, Fault> {
    let sql = match owner {
        Owner::Role => "SELECT revision FROM roles WHERE name = $1",
        Owner::DeviceType => "SELECT revision FROM device_types WHERE name = $1",
        Owner::Group => "SELECT revision FROM device_groups WHERE id = $1",
    };
    let found = sqlx::query_scalar(sql).bind(name.to_owned());
    let found = found.fetch_optional(&mut *work.all).await?;
    found.ok_or_else(|| unknown(owner, name).into())
}

async fn change(
    work: &mut Work<'_>,
    owner: Owner,
    name: &str,
    rules: &[RuleLine],
    expected_revision: Expected,
) -> Result<(), Fault> {
    let (mut team, mut name) = (String::new(), name.to_owned());
    let raise = match owner {
        Owner::Role => "UPDATE roles SET revision = revision + 1 WHERE name = $1",
        Owner::DeviceType => "UPDATE device_types SET revision = revision + 1 WHERE name = $1",
        Owner::Group => "UPDATE device_groups SET revision = revision + 1 WHERE id = $1",
    };
    match owner {
        Owner::Group => {
            let found = find_group(&mut work.all, &work.actor.visibility, &name).await?;
            if let Some(own) = work.actor.visibility.team()
                && teams::team_seen(&mut work.all, &work.actor.visibility, own).await? == 0
            {
                // They would give themselves what others publish.
                return Err(Refused::GroupRulesOfAll.into());
            }
            (team, name) = (found.team, found.id);
        }
        Owner::Role | Owner::DeviceType => {
            expect_all(work)?;
            expect_own(&mut work.all, owner, &name).await?;
        }
    }
    let name = &*name;
    let found = revision_of(work, owner, name).await?;
    expected_revision.check(name, found)?;
    let raise = sqlx::query(raise).bind(name.to_owned());
    raise.execute(&mut *work.all).await?;
    let old = sqlx::query("DELETE FROM rules WHERE owner_kind = $1 AND owner = $2");
    let old = old.bind(owner.kind()).bind(name.to_owned());
    old.execute(&mut *work.all).await?;
    write_rules(work, owner, name, rules).await?;
    let action = format!("{}.rules", owner.kind());
    let changed = json!({ "rules": lines(rules) });
    work.audit(&action, (owner.kind(), name), &team, changed)
        .await
}

async fn remove(work: &mut Work<'_>, owner: Owner, name: &str) -> Result<(), Fault> {
    expect_all(work)?;
    let (used, deletion) = match owner {
        Owner::Role => (
            "SELECT name, deleted_ms FROM users WHERE role = $1 ORDER BY deleted_ms LIMIT 1",
            "DELETE FROM roles WHERE name = $1",
        ),
        Owner::DeviceType => (
            "SELECT id AS name, deleted_ms FROM devices WHERE type = $1 UNION ALL SELECT \
             'the provisioning key ' || name AS name, 0 * devices_max AS deleted_ms FROM \
             provisioning_keys WHERE device_type = $1 ORDER BY deleted_ms LIMIT 1",
            "DELETE FROM device_types WHERE name = $1",
        ),
        Owner::Group => return Err(refused_for_groups()),
    };
    expect_own(&mut work.all, owner, name).await?;
    let who = sqlx::query_as::<_, (String, i64)>(used).bind(name.to_owned());
    if let Some((who, deleted_ms)) = who.fetch_optional(&mut *work.all).await? {
        let in_use = Conflict::RuleSetInUse {
            kind: owner.into(),
            name: name.to_owned(),
            user: who,
            is_deleted: deleted_ms != 0,
        };
        return Err(in_use.into());
    }
    let rules = sqlx::query("DELETE FROM rules WHERE owner_kind = $1 AND owner = $2");
    let rules = rules.bind(owner.kind()).bind(name.to_owned());
    rules.execute(&mut *work.all).await?;
    let deletion = sqlx::query(deletion).bind(name.to_owned());
    deletion.execute(&mut *work.all).await?;
    let action = format!("{}.remove", owner.kind());
    work.audit(&action, (owner.kind(), name), "", json!({}))
        .await
}

async fn write_rules(
    work: &mut Work<'_>,
    owner: Owner,
    name: &str,
    rules: &[RuleLine],
) -> Result<(), Fault> {
    check_rules(rules)?;
    for (position, rule) in rules.iter().enumerate() {
        let actions: Vec<&str> = rule.actions.names().collect();
        let sql = "INSERT INTO rules (owner_kind, owner, position, allows, actions, filter) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let query = sqlx::query(sql)
            .bind(owner.kind())
            .bind(name.to_owned())
            .bind(i64::try_from(position).unwrap_or(i64::MAX))
            .bind(i64::from(rule.allows))
            .bind(actions.join(","))
            .bind(rule.filter.to_string());
        query.execute(&mut *work.all).await?;
    }
    Ok(())
}

fn read_actions(text: &str) -> Option<Actions> {
    let mut actions = Actions::NONE;
    for name in text.split(',') {
        actions = actions.and(Actions::from_name(name)?);
    }
    Some(actions)
}

/// Compiles rules. What no rule permits is forbidden, subscribing too.
pub(crate) fn compile(
    lines: &[RuleLine],
    source: impl Fn(usize) -> String,
) -> Result<Rules, String> {
    Rules::compile(rules_of_lines(lines, source), Actions::NONE)
        .map_err(|error| format!("rule {}: {error}", error.rule + 1))
}

pub(crate) fn rules_of_lines(lines: &[RuleLine], source: impl Fn(usize) -> String) -> Vec<Rule> {
    let rules = lines.iter().enumerate().map(|(number, line)| Rule {
        actions: line.actions,
        allows: line.allows,
        filter: line.filter.clone(),
        source: source(number + 1).into(),
    });
    rules.collect()
}
