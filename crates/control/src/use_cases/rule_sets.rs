//! Types of devices and roles of users: their rules.

use martlet_registry::{
    Expected, NotFound, Owner, Registry, RegistryError, RuleLine, RuleSet, TypeSettings,
};

use crate::callers::{Caller, rights};
use crate::use_cases::error::{SelectorKind, UseCaseError};
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Checks that the caller has the rights that rules give, before a change and after it.
pub(crate) async fn check_rules(
    registry: &mut Registry,
    caller: &Caller,
    (owner, name): (Owner, &str),
    rules: &[RuleLine],
) -> Result<(), UseCaseError> {
    let given = rights::of_rules(caller, owner, rules);
    let before = match owner {
        Owner::Group => registry.group_rules(&caller.visibility(), name).await,
        Owner::DeviceType | Owner::Role => registry.rule_set(owner, name).await,
    };
    let needed = match before {
        // The call itself returns that error.
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
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

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
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

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

/// Checks that a type of devices exists that the caller names to select devices.
#[derive(Debug)]
pub struct CheckDeviceType {
    /// Name of the type or role.
    pub name: String,
}

impl UseCase for CheckDeviceType {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, _: &Caller) -> Result<(), UseCaseError> {
        let found = registry.rule_set(Owner::DeviceType, &self.name).await;
        found
            .map(drop)
            .map_err(|error| UseCaseError::of_look_up(SelectorKind::DeviceType, error))
    }
}

/// Adds a type or role. The caller needs the rights that its rules give.
#[derive(Debug)]
pub struct AddRuleSet {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
    /// Name of the type or role.
    pub name: String,
    /// Rules of the set, in their order.
    pub rules: Vec<RuleLine>,
    /// Settings of a type.
    pub settings: TypeSettings,
}

impl UseCase for AddRuleSet {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self {
            owner,
            name,
            rules,
            settings,
        } = self;
        check_rules(registry, caller, (owner, &name), &rules).await?;
        let added = registry.create_rule_set(&caller.actor, owner, &name, &rules, settings);
        Ok(added.await?)
    }
}

/// Changes the rules of a type or role, the settings of a type, or both. The caller needs the
/// rights that rules give before and after.
#[derive(Debug)]
pub struct ChangeRuleSet {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
    /// Name of the type or role.
    pub name: String,
    /// All of its rules, in their order; none: they stay.
    pub rules: Option<Vec<RuleLine>>,
    /// Settings of a type.
    pub settings: TypeSettings,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for ChangeRuleSet {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self {
            owner,
            name,
            rules,
            settings,
            expected_revision,
        } = self;
        let (actor, of) = (&caller.actor, (owner, &*name));
        if let Some(rules) = &rules {
            check_rules(registry, caller, of, rules).await?;
        }
        let rules = rules.as_deref();
        let changed =
            registry.change_rule_set(actor, owner, &name, rules, settings, expected_revision);
        Ok(changed.await?)
    }
}

/// How one rule is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleChange {
    /// The rule is the first of the rules, so that it decides.
    First,
    /// The rule is removed.
    Removed,
}

impl RuleChange {
    /// The rules after the change; none: they stay as they are.
    fn applied(self, rule: &RuleLine, rules: &[RuleLine]) -> Option<Vec<RuleLine>> {
        let others = rules.iter().filter(|other| *other != rule).cloned();
        match self {
            Self::First if rules.first() == Some(rule) => None,
            Self::First => Some([rule.clone()].into_iter().chain(others).collect()),
            Self::Removed => rules.contains(rule).then(|| others.collect()),
        }
    }
}

/// Attempts of a change if another change of the rules comes in between.
const ATTEMPTS: usize = 10;

/// Changes one rule of a type or role; the others stay in their order. The answer is whether the
/// rules were changed, and the type or role after that. The caller needs the rights that the rules
/// give before and after.
#[derive(Debug)]
pub struct ChangeOneRule {
    /// Whose rules they are: types of devices or roles of users.
    pub owner: Owner,
    /// Name of the type or role.
    pub name: String,
    /// The rule.
    pub rule: RuleLine,
    /// How it is changed.
    pub change: RuleChange,
}

impl UseCase for ChangeOneRule {
    type Output = (bool, RuleSet);
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(bool, RuleSet), UseCaseError> {
        let Self {
            owner,
            name,
            rule,
            change,
        } = self;
        let (actor, mut attempt) = (&caller.actor, 1);
        loop {
            let set = registry.rule_set(owner, &name).await?;
            let after = change.applied(&rule, &set.rules);
            if after.is_none() && !set.is_builtin {
                return Ok((false, set));
            }
            // The registry refuses to change what is built in.
            let rules = after.unwrap_or_else(|| set.rules.clone());
            check_rules(registry, caller, (owner, &name), &rules).await?;
            let expected = Expected::from(set.revision);
            match registry
                .change_rules(actor, owner, &name, &rules, expected)
                .await
            {
                // Another change came first: it stays.
                Err(RegistryError::Stale { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok((true, registry.rule_set(owner, &name).await?)),
            }
        }
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
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self { owner, name } = self;
        check_rules(registry, caller, (owner, &name), &[]).await?;
        Ok(registry
            .delete_rule_set(&caller.actor, owner, &name)
            .await?)
    }
}
