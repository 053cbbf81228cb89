//! Types of devices and roles of users: their rules.

use martlet_registry::{ClientIds, NotFound, Owner, Registry, RegistryError, RuleLine, RuleSet};

use crate::callers::{Caller, rights};
use crate::use_cases::error::{Named, UseCaseError};
use crate::use_cases::use_case::{Effect, UseCase};

/// Checks that the caller has the rights that rules give, before a change and after it.
pub(crate) async fn check_rules(
    registry: &mut Registry,
    caller: &Caller,
    (owner, name): (Owner, &str),
    rules: &[RuleLine],
) -> Result<(), UseCaseError> {
    let given = rights::of_rules(caller, owner, rules);
    let before = match owner {
        Owner::Group => registry.group_rules(&caller.scope(), name).await,
        Owner::DeviceType | Owner::Role => registry.rule_set(owner, name).await,
    };
    let needed = match before {
        // The call itself says so.
        Err(RegistryError::NotFound(_)) => given,
        before => given.or(rights::of_rules(caller, owner, &before?.rules)),
    };
    Ok(caller.check_scopes(needed)?)
}

/// A caller that sees one team is shown what it may give: without a tenant of its own, no rules
/// with topics that others have too.
fn is_shown(caller: &Caller, owner: Owner, set: &RuleSet) -> bool {
    caller.gives_topics() || set.beyond_own(owner).is_none()
}

/// Lists the types or roles that the caller may give.
#[derive(Debug)]
pub struct ListRuleSets {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
}

impl UseCase for ListRuleSets {
    type Output = Vec<RuleSet>;
    const EFFECT: Effect = Effect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<RuleSet>, UseCaseError> {
        let all = registry.rule_sets(self.owner).await?.into_iter();
        Ok(all
            .filter(|set| is_shown(caller, self.owner, set))
            .collect())
    }
}

/// Finds a type or role that the caller may give.
#[derive(Debug)]
pub struct FindRuleSet {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
    /// Name of the type or role.
    pub name: String,
}

impl UseCase for FindRuleSet {
    type Output = RuleSet;
    const EFFECT: Effect = Effect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<RuleSet, UseCaseError> {
        let Self { owner, name } = self;
        let set = registry.rule_set(owner, &name).await?;
        match is_shown(caller, owner, &set) {
            true => Ok(set),
            false => {
                let why = NotFound::Grantable(owner.into(), name);
                Err(RegistryError::NotFound(why).into())
            }
        }
    }
}

/// Checks that there is a type of devices, which the caller names to say which devices it means.
#[derive(Debug)]
pub struct CheckDeviceType {
    /// Name of the type or role.
    pub name: String,
}

impl UseCase for CheckDeviceType {
    type Output = ();
    const EFFECT: Effect = Effect::Reads;

    async fn run(self, registry: &mut Registry, _: &Caller) -> Result<(), UseCaseError> {
        let found = registry.rule_set(Owner::DeviceType, &self.name).await;
        found
            .map(drop)
            .map_err(|error| UseCaseError::of_look_up(Named::DeviceType, error))
    }
}

/// Adds a type or role. The caller needs the rights that its rules give.
#[derive(Debug)]
pub struct AddRuleSet {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
    /// Name of the type or role.
    pub name: String,
    /// Its rules, in their order.
    pub rules: Vec<RuleLine>,
    /// Client Identifiers that devices of a type may use; none: the default, or as before.
    pub client_ids: Option<ClientIds>,
}

impl UseCase for AddRuleSet {
    type Output = ();
    const EFFECT: Effect = Effect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self {
            owner,
            name,
            rules,
            client_ids,
        } = self;
        check_rules(registry, caller, (owner, &name), &rules).await?;
        let added = registry.create_rule_set(&caller.actor, owner, &name, &rules, client_ids);
        Ok(added.await?)
    }
}

/// Gives a type or role other rules. The caller needs the rights that they give before and after.
#[derive(Debug)]
pub struct ChangeRuleSet {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
    /// Name of the type or role.
    pub name: String,
    /// All of its rules, in their order.
    pub rules: Vec<RuleLine>,
    /// Client Identifiers that devices of a type may use; none: the default, or as before.
    pub client_ids: Option<ClientIds>,
    /// The revision that it must have, if any.
    pub expected_revision: Option<i64>,
}

impl UseCase for ChangeRuleSet {
    type Output = ();
    const EFFECT: Effect = Effect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self {
            owner,
            name,
            rules,
            client_ids,
            expected_revision,
        } = self;
        check_rules(registry, caller, (owner, &name), &rules).await?;
        let expected = (expected_revision, client_ids);
        let changed = registry.change_rules(&caller.actor, owner, &name, &rules, expected);
        Ok(changed.await?)
    }
}

/// Deletes a type or role. The caller needs the rights that its rules give.
#[derive(Debug)]
pub struct DeleteRuleSet {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
    /// Name of the type or role.
    pub name: String,
}

impl UseCase for DeleteRuleSet {
    type Output = ();
    const EFFECT: Effect = Effect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self { owner, name } = self;
        check_rules(registry, caller, (owner, &name), &[]).await?;
        Ok(registry
            .delete_rule_set(&caller.actor, owner, &name)
            .await?)
    }
}

/// Sets after how long without a message devices of a type are inactive.
#[derive(Debug)]
pub struct SetInactiveAfter {
    /// Name of the type or role.
    pub name: String,
    /// Seconds; 0: never.
    pub secs: u32,
}

impl UseCase for SetInactiveAfter {
    type Output = ();
    const EFFECT: Effect = Effect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let set = registry.set_inactive_after(&caller.actor, &self.name, self.secs);
        Ok(set.await?)
    }
}
