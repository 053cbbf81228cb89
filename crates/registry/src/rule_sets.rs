//! Roles of users and types of devices: each is a name with rules in their order.

use martlet_access::RuleLine;
use martlet_broker::Actions;
use sqlx::{Any, Row as _, Transaction};

use crate::database::database_error;
use crate::{Registry, RegistryError, now_ms};

/// The role of who is given none: all topics but those that begin with `$`, and reading `$SYS/#`.
pub const USER_ROLE: &str = "user";

/// The type of devices that are given none.
pub const DEVICE_TYPE: &str = "device";

/// What has rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A role, of users.
    Role,
    /// A type of devices.
    DeviceType,
}

impl Owner {
    /// As it stands in the table.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::DeviceType => "device_type",
        }
    }

    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::DeviceType => "device type",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Role => "martlet role",
            Self::DeviceType => "martlet device type",
        }
    }
}

/// A role or a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// Its name.
    pub name: String,
    /// It comes with the program and stays as it is.
    pub is_builtin: bool,
    /// The first that matches decides; what none matches is forbidden. Those of built-in ones are
    /// the program's.
    pub rules: Vec<RuleLine>,
}

impl Registry {
    /// Adds a role or a type.
    ///
    /// # Errors
    /// It is there, or the name is none.
    pub async fn add_rule_set(
        &mut self,
        owner: Owner,
        name: &str,
        rules: &[RuleLine],
    ) -> Result<(), RegistryError> {
        check_name(owner.word(), name)?;
        let failed = database_error(self.path());
        let mut all = self.begin().await?;
        let sql = match owner {
            Owner::Role => {
                "INSERT INTO roles (name, is_builtin, created_ms) VALUES ($1, 0, $2) \
                 ON CONFLICT DO NOTHING"
            }
            Owner::DeviceType => {
                "INSERT INTO device_types (name, is_builtin, created_ms) VALUES ($1, 0, $2) \
                 ON CONFLICT DO NOTHING"
            }
        };
        let done = sqlx::query(sql).bind(name).bind(now_ms());
        let done = done.execute(&mut *all).await.map_err(&failed)?;
        if done.rows_affected() == 0 {
            return Err(RegistryError::Refused(format!(
                "the {} {name} is there already: {} rules {name} changes it",
                owner.word(),
                owner.command()
            )));
        }
        write_rules(&mut all, owner, name, rules)
            .await
            .map_err(&failed)?;
        all.commit().await.map_err(failed)
    }

    /// Gives a role or a type other rules.
    ///
    /// # Errors
    /// There is none of that name, or it is built in.
    pub async fn set_rules(
        &mut self,
        owner: Owner,
        name: &str,
        rules: &[RuleLine],
    ) -> Result<(), RegistryError> {
        let failed = database_error(self.path());
        let mut all = self.begin().await?;
        expect_own(&mut all, owner, name)
            .await
            .map_err(|why| why.or(&failed))?;
        let old = sqlx::query("DELETE FROM rules WHERE owner_kind = $1 AND owner = $2");
        let old = old.bind(owner.kind()).bind(name);
        old.execute(&mut *all).await.map_err(&failed)?;
        write_rules(&mut all, owner, name, rules)
            .await
            .map_err(&failed)?;
        all.commit().await.map_err(failed)
    }

    /// Removes a role or a type.
    ///
    /// # Errors
    /// There is none, it is built in, or somebody has it.
    pub async fn remove_rule_set(&mut self, owner: Owner, name: &str) -> Result<(), RegistryError> {
        let failed = database_error(self.path());
        let mut all = self.begin().await?;
        expect_own(&mut all, owner, name)
            .await
            .map_err(|why| why.or(&failed))?;
        let sql = match owner {
            Owner::Role => "SELECT name FROM users WHERE role = $1 LIMIT 1",
            Owner::DeviceType => "SELECT id FROM devices WHERE type = $1 LIMIT 1",
        };
        let who = sqlx::query_scalar::<_, String>(sql).bind(name);
        if let Some(who) = who.fetch_optional(&mut *all).await.map_err(&failed)? {
            return Err(RegistryError::Refused(format!(
                "{who} has the {} {name}, so it stays; give {who} another one first",
                owner.word()
            )));
        }
        let rules = sqlx::query("DELETE FROM rules WHERE owner_kind = $1 AND owner = $2");
        let rules = rules.bind(owner.kind()).bind(name);
        rules.execute(&mut *all).await.map_err(&failed)?;
        let sql = match owner {
            Owner::Role => "DELETE FROM roles WHERE name = $1",
            Owner::DeviceType => "DELETE FROM device_types WHERE name = $1",
        };
        let gone = sqlx::query(sql).bind(name).execute(&mut *all).await;
        gone.map_err(&failed)?;
        all.commit().await.map_err(failed)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// The database cannot be read, or a rule means nothing.
    pub async fn rule_sets(&mut self, owner: Owner) -> Result<Vec<RuleSet>, RegistryError> {
        let path = self.shared_path();
        let failed = database_error(&path);
        let sql = match owner {
            Owner::Role => "SELECT name, is_builtin FROM roles ORDER BY name",
            Owner::DeviceType => "SELECT name, is_builtin FROM device_types ORDER BY name",
        };
        let rows = sqlx::query(sql).fetch_all(&mut self.connection).await;
        let mut sets = Vec::new();
        for row in rows.map_err(&failed)? {
            sets.push(RuleSet {
                name: row.try_get("name").map_err(&failed)?,
                is_builtin: row.try_get::<i64, _>("is_builtin").map_err(&failed)? != 0,
                rules: Vec::new(),
            });
        }
        let sql = "SELECT owner, allows, actions, filter FROM rules WHERE owner_kind = $1 \
                   ORDER BY owner, position";
        let rows = sqlx::query(sql).bind(owner.kind());
        for row in rows
            .fetch_all(&mut self.connection)
            .await
            .map_err(&failed)?
        {
            let name: String = row.try_get("owner").map_err(&failed)?;
            let (actions, filter): (String, String) = (
                row.try_get("actions").map_err(&failed)?,
                row.try_get("filter").map_err(&failed)?,
            );
            let damaged = |what: String| RegistryError::Damaged {
                path: path.to_path_buf(),
                what: format!("{} {name}: {what}", owner.word()),
            };
            let set = sets.iter_mut().find(|set| set.name == name);
            let set = set.ok_or_else(|| damaged("rules without it".to_owned()))?;
            set.rules.push(RuleLine {
                allows: row.try_get::<i64, _>("allows").map_err(&failed)? != 0,
                actions: read_actions(&actions)
                    .ok_or_else(|| damaged(format!("{actions:?} are no actions")))?,
                filter: filter.into(),
            });
        }
        Ok(sets)
    }
}

async fn write_rules(
    all: &mut Transaction<'_, Any>,
    owner: Owner,
    name: &str,
    rules: &[RuleLine],
) -> Result<(), sqlx::Error> {
    for (position, rule) in rules.iter().enumerate() {
        let actions: Vec<&str> = rule.actions.names().collect();
        let sql = "INSERT INTO rules (owner_kind, owner, position, allows, actions, filter) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let query = sqlx::query(sql)
            .bind(owner.kind())
            .bind(name)
            .bind(i64::try_from(position).unwrap_or(i64::MAX))
            .bind(i64::from(rule.allows))
            .bind(actions.join(","))
            .bind(rule.filter.to_string());
        query.execute(&mut **all).await?;
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

/// Why something is not there to be changed.
enum Missing {
    Refused(String),
    Database(sqlx::Error),
}

impl Missing {
    fn or(self, failed: &impl Fn(sqlx::Error) -> RegistryError) -> RegistryError {
        match self {
            Self::Refused(why) => RegistryError::Refused(why),
            Self::Database(error) => failed(error),
        }
    }
}

/// It is there, and may be changed.
async fn expect_own(
    all: &mut Transaction<'_, Any>,
    owner: Owner,
    name: &str,
) -> Result<(), Missing> {
    match is_builtin(all, owner, name).await {
        Err(error) => Err(Missing::Database(error)),
        Ok(Some(false)) => Ok(()),
        Ok(Some(true)) => Err(Missing::Refused(format!(
            "the {} {name} comes with the program and stays as it is: add one of another name",
            owner.word()
        ))),
        Ok(None) => Err(Missing::Refused(unknown(owner, name))),
    }
}

/// Whether there is one of that name, and whether it comes with the program.
pub(crate) async fn is_builtin(
    all: &mut Transaction<'_, Any>,
    owner: Owner,
    name: &str,
) -> Result<Option<bool>, sqlx::Error> {
    let sql = match owner {
        Owner::Role => "SELECT is_builtin FROM roles WHERE name = $1",
        Owner::DeviceType => "SELECT is_builtin FROM device_types WHERE name = $1",
    };
    let found = sqlx::query_scalar::<_, i64>(sql).bind(name);
    Ok(found
        .fetch_optional(&mut **all)
        .await?
        .map(|found| found != 0))
}

pub(crate) fn unknown(owner: Owner, name: &str) -> String {
    let (word, command) = (owner.word(), owner.command());
    format!("there is no {word} {name}; {command} ls names all, {command} add {name} adds it")
}

/// Names are typed and printed: no control characters, and no more than fits on a line.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), RegistryError> {
    let is_name = !name.is_empty() && name.len() <= 256 && name.trim() == name;
    match is_name && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(RegistryError::Refused(format!(
            "{name:?} is no name of a {what}: up to 256 bytes, no control characters, no space at \
             either end"
        ))),
    }
}
