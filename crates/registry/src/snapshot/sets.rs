//! Rules of users with a role, and of devices of a type and in groups. All clients with the same
//! rules share them by a number. When rules change, these clients need no change.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_access::{IOTFLOW, IotflowBase, RuleLine, explain};
use martlet_permission::{Actions, Names, Rule, Rules};
use sqlx::{AnyConnection, Row as _};

use crate::RegistryError;
use crate::client_ids::ClientIds;
use crate::lines::damaged;
use crate::rule_sets::owner::Owner;
use crate::rule_sets::{RuleSet, compile, read_rule_sets, rules_of_lines};
use crate::sql::Fault;

/// Rules in use, in [`Sets`] and all that follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetNumber(usize);

/// Origin of the rules of a user or device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum By {
    /// A user's role.
    Role(String),
    /// A device's type, and those of its groups, by id and in order, that had rules for its type
    /// when that was last looked at.
    Device(String, Vec<String>),
}

/// All rules, and those in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    roles: HashMap<String, Arc<Rules>>,
    types: HashMap<String, Arc<Rules>>,
    /// Which Client Identifiers the devices of a type may use, of types that permit others than
    /// the id.
    client_ids: HashMap<String, ClientIds>,
    /// All groups, in the order of their names.
    groups: Vec<Group>,
    /// The type of that name is the program's own, not one that was there before.
    knows_iotflow: bool,
    /// The sets by number.
    held: Vec<(By, Arc<Rules>)>,
    numbers: HashMap<By, SetNumber>,
}

/// Groups that are looked at for one that permits something.
const GROUPS_LOOKED_AT: usize = 100;

/// A group of devices, as operators name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    /// Id of the group.
    pub id: String,
    /// Name of the group.
    pub name: String,
}

/// Rights that devices have for being in a group.
#[derive(Clone, Debug)]
struct Group {
    id: String,
    name: String,
    /// The id of its team; empty: none.
    team: String,
    /// For devices of every type.
    rules: Vec<Rule>,
    /// For devices of the type [`IOTFLOW`].
    iotflow: Option<Rule>,
}

impl Group {
    fn as_named(&self) -> GroupName {
        GroupName {
            id: self.id.clone(),
            name: self.name.clone(),
        }
    }
}

impl Sets {
    /// Reads the rule sets, before a user or device has one of them.
    pub(super) async fn read(
        on: &mut AnyConnection,
        place: &str,
        base: &IotflowBase,
    ) -> Result<Self, Fault> {
        let roles = read_rule_sets(on, Owner::Role, place, base).await?;
        let types = read_rule_sets(on, Owner::DeviceType, place, base).await?;
        let rules = read_rule_sets(on, Owner::Group, place, base).await?;
        let with_rules = rules.into_iter().filter(|set| !set.rules.is_empty());
        let mut rules: HashMap<String, Vec<RuleLine>> =
            with_rules.map(|set| (set.name, set.rules)).collect();
        let is_iotflow = |set: &RuleSet| set.is_builtin && set.name == IOTFLOW;
        let any = types.iter();
        let any = any.filter(|set| set.client_ids != ClientIds::Id);
        let mut sets = Self {
            client_ids: any.map(|set| (set.name.clone(), set.client_ids)).collect(),
            knows_iotflow: types.iter().any(is_iotflow),
            roles: compiled(Owner::Role, roles, place)?,
            types: compiled(Owner::DeviceType, types, place)?,
            ..Self::default()
        };
        let sql = "SELECT id, name, team FROM device_groups ORDER BY name, id";
        for row in sqlx::query(sql).fetch_all(on).await? {
            let (id, name): (String, String) = (row.try_get("id")?, row.try_get("name")?);
            let lines = rules.remove(&id).unwrap_or_default();
            let source = |number| format!("group {name} rule {number}");
            let iotflow = base.commands_of(&name).map(|filter| Rule {
                actions: Actions::READ,
                allows: true,
                filter: filter.into(),
                source: format!("device type {IOTFLOW} in the group {name}").into(),
            });
            sets.groups.push(Group {
                id,
                team: row.try_get("team")?,
                rules: rules_of_lines(&lines, source),
                iotflow,
                name,
            });
        }
        Ok(sets)
    }

    /// Reads the sets anew; they keep their numbers. Returns also the groups that have got their
    /// first rules: their devices have other sets.
    pub(super) async fn read_again(
        &self,
        on: &mut AnyConnection,
        place: &str,
        base: &IotflowBase,
    ) -> Result<(Self, Vec<String>), Fault> {
        let mut newer = Self::read(on, place, base).await?;
        for (by, _) in &self.held {
            // No present user or device has a missing role or type, so this one is unused.
            let rules = newer.rules_by(by, place)?;
            newer.hold(
                by.clone(),
                rules.unwrap_or_else(|| Arc::new(Rules::closed())),
            );
        }
        let with_rules = |sets: &Self| -> Vec<String> {
            let groups = sets.groups.iter().filter(|group| !group.rules.is_empty());
            groups.map(|group| group.id.clone()).collect()
        };
        let had_rules = with_rules(self);
        let mut gained = with_rules(&newer);
        gained.retain(|id| !had_rules.contains(id));
        Ok((newer, gained))
    }

    /// The rules of that number.
    pub(super) fn get(&self, number: SetNumber) -> &Arc<Rules> {
        &self.held[number.0].1
    }

    /// Origin of the rules with that number.
    pub(super) fn by(&self, number: SetNumber) -> &By {
        &self.held[number.0].0
    }

    /// Which Client Identifiers the devices with that number may use.
    pub(super) fn client_ids(&self, number: SetNumber) -> ClientIds {
        match self.by(number) {
            By::Device(device_type, _) => {
                let found = self.client_ids.get(device_type);
                found.copied().unwrap_or_default()
            }
            By::Role(_) => ClientIds::Id,
        }
    }

    /// There is a group.
    pub(super) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The first group whose rules permit something, among those of wanted teams that devices with
    /// this number are not in.
    pub(super) fn group_that_permits(
        &self,
        number: SetNumber,
        is_wanted: impl Fn(&str) -> bool,
        (names, action, topic): (Names<'_>, Actions, &str),
    ) -> Option<GroupName> {
        let By::Device(_, own) = self.by(number) else {
            return None;
        };
        let permits = |group: &&Group| {
            let rules = Rules::compile(group.rules.clone(), Actions::NONE);
            rules.is_ok_and(|rules| explain(&rules, names, action, topic).allowed)
        };
        let others = self.groups.iter().filter(|group| {
            !group.rules.is_empty() && !own.contains(&group.id) && is_wanted(&group.team)
        });
        let found = others.take(GROUPS_LOOKED_AT).find(permits)?;
        Some(found.as_named())
    }

    /// The group of devices with this number that has the rule with this source.
    pub(super) fn group_of_rule(&self, number: SetNumber, source: &str) -> Option<GroupName> {
        let By::Device(_, own) = self.by(number) else {
            return None;
        };
        let has_it = |group: &&Group| {
            own.contains(&group.id) && group.rules.iter().any(|rule| *rule.source == *source)
        };
        let found = self.groups.iter().find(has_it)?;
        Some(found.as_named())
    }

    /// All of these groups are known, by their ids.
    pub(super) fn has_all(&self, groups: &[String]) -> bool {
        let mut groups = groups.iter();
        groups.all(|id| self.groups.iter().any(|group| group.id == *id))
    }

    /// The sets of rules of a device of this type and in these groups.
    pub(super) fn by_device(&self, device_type: &str, groups: &[String]) -> By {
        let is_iotflow = self.is_iotflow(device_type);
        let own = self
            .groups
            .iter()
            .filter(|group| (is_iotflow || !group.rules.is_empty()) && groups.contains(&group.id));
        let own = own.map(|group| group.id.clone());
        By::Device(device_type.to_owned(), own.collect())
    }

    fn is_iotflow(&self, device_type: &str) -> bool {
        self.knows_iotflow && device_type == IOTFLOW
    }

    /// Number of rules that are in use already.
    pub(super) fn find(&self, by: &By) -> Option<SetNumber> {
        self.numbers.get(by).copied()
    }

    /// The number of these rules; none: there is no such role or type.
    pub(super) fn number(
        &mut self,
        by: By,
        place: &str,
    ) -> Result<Option<SetNumber>, RegistryError> {
        if let Some(known) = self.find(&by) {
            return Ok(Some(known));
        }
        let rules = self.rules_by(&by, place)?;
        Ok(rules.map(|rules| self.hold(by, rules)))
    }

    fn hold(&mut self, by: By, rules: Arc<Rules>) -> SetNumber {
        let number = SetNumber(self.held.len());
        self.held.push((by.clone(), rules));
        self.numbers.insert(by, number);
        number
    }

    fn rules_by(&self, by: &By, place: &str) -> Result<Option<Arc<Rules>>, RegistryError> {
        let (device_type, groups) = match by {
            By::Role(role) => return Ok(self.roles.get(role).cloned()),
            By::Device(device_type, groups) => (device_type, groups),
        };
        let is_iotflow = self.is_iotflow(device_type);
        let of_groups: Vec<Rule> = self
            .groups
            .iter()
            .filter(|group| groups.contains(&group.id))
            .flat_map(|group| {
                let iotflow = group.iotflow.iter().filter(|_| is_iotflow);
                group.rules.iter().chain(iotflow).cloned()
            })
            .collect();
        let Some(of_type) = self.types.get(device_type) else {
            return Ok(None);
        };
        let is_named_otherwise = self.client_ids.contains_key(device_type);
        if of_groups.is_empty() && !is_named_otherwise {
            return Ok(Some(Arc::clone(of_type)));
        }
        // What a group forbids comes first: behind a rule of the type that permits it, it would
        // never decide.
        let (permitted, forbidden): (Vec<Rule>, Vec<Rule>) =
            of_groups.into_iter().partition(|rule| rule.allows);
        let mut all = [&forbidden, of_type.rules(), &permitted].concat();
        if is_named_otherwise {
            all.iter_mut().for_each(by_user_name);
        }
        let rules = Rules::compile(all, Actions::NONE)
            .map_err(|error| damaged(place, format!("device type {device_type}: {error}")))?;
        Ok(Some(Arc::new(rules)))
    }
}

/// The Client Identifier of a device that may use any is not its id; its user name is.
fn by_user_name(rule: &mut Rule) {
    if rule.filter.contains("%c") {
        rule.filter = rule.filter.replace("%c", "%u").into();
    }
}

/// The rules of each, by name.
fn compiled(
    owner: Owner,
    sets: Vec<RuleSet>,
    place: &str,
) -> Result<HashMap<String, Arc<Rules>>, RegistryError> {
    let mut all = HashMap::new();
    for set in sets {
        let rules = match set.of_program(owner) {
            Some(rules) => rules,
            None => {
                let (word, name) = (owner.word(), &*set.name);
                let rules = compile(&set.rules, |number| format!("{word} {name} rule {number}"));
                Arc::new(rules.map_err(|why| damaged(place, format!("{word} {name}: {why}")))?)
            }
        };
        all.insert(set.name, rules);
    }
    Ok(all)
}
