//! Groups of devices, their members and their rules.

use martlet_registry::{
    DeviceRef, Expected, Group, GroupChange, NewGroup, Owner, Registry, RuleLine, RuleSet,
    Visibility,
};

use crate::callers::Caller;
use crate::devices::DeviceName;
use crate::principal::{Scope, Scopes};
use crate::use_cases::error::{SelectorKind, UseCaseError};
use crate::use_cases::rule_sets::check_rules;
use crate::use_cases::teams::team_id;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Name of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    /// Id or name of the group.
    pub text: String,
    /// Id or name of the team among whose groups it is looked for.
    pub team: Option<String>,
}

impl GroupName {
    /// The id of the group if a team is named, else what names it.
    async fn id(self, registry: &mut Registry, caller: &Caller) -> Result<String, UseCaseError> {
        let Some(team) = &self.team else {
            return Ok(self.text);
        };
        let of_team = Visibility::Team(team_id(registry, caller, team).await?);
        Ok(registry.group_named(&of_team, &self.text).await?.id)
    }

    /// The group, and the devices that are added or removed: those of the named team. Without a
    /// team, the group of the devices' team is chosen among several of one name.
    async fn members(
        self,
        registry: &mut Registry,
        caller: &Caller,
        ids: Vec<String>,
    ) -> Result<(Group, Vec<DeviceName>), UseCaseError> {
        let (Some(team), true) = (&self.team, caller.sees_all()) else {
            let text = self.id(registry, caller).await?;
            let devices: Vec<DeviceName> = ids.into_iter().map(DeviceName::Id).collect();
            let named: Vec<DeviceRef<'_>> = devices.iter().map(DeviceName::of).collect();
            let group = registry
                .group_with(&caller.visibility(), &text, &named)
                .await?;
            return Ok((group, devices));
        };
        let team = team_id(registry, caller, team).await?;
        let group = registry.group_for_team(&team, &self.text).await?;
        let (of_team, mut devices) = (Visibility::Team(team), Vec::new());
        for id in &ids {
            let device = registry.device(&of_team, DeviceRef::Id(id)).await?;
            devices.push(DeviceName::Number(device.number));
        }
        Ok((group, devices))
    }
}

/// Finds the id of a group that the caller names to select devices.
#[derive(Debug)]
pub struct FindGroupId {
    /// Id or name of the group.
    pub group: String,
}

impl UseCase for FindGroupId {
    type Output = String;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<String, UseCaseError> {
        let found = registry
            .group_named(&caller.visibility(), &self.group)
            .await;
        let found = found.map_err(|error| UseCaseError::of_look_up(SelectorKind::Group, error));
        Ok(found?.id)
    }
}

/// Lists the groups.
#[derive(Debug)]
pub struct ListGroups;

impl UseCase for ListGroups {
    type Output = Vec<Group>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<Group>, UseCaseError> {
        Ok(registry.groups(&caller.visibility()).await?)
    }
}

/// Finds a group.
#[derive(Debug)]
pub struct FindGroup {
    /// Which group.
    pub group: GroupName,
}

impl UseCase for FindGroup {
    type Output = Group;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Group, UseCaseError> {
        let id = self.group.id(registry, caller).await?;
        Ok(registry.group_named(&caller.visibility(), &id).await?)
    }
}

/// Adds a group.
#[derive(Debug)]
pub struct AddGroup {
    /// The group.
    pub group: NewGroup,
}

impl UseCase for AddGroup {
    type Output = Group;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Group, UseCaseError> {
        Ok(registry.add_group(&caller.actor, self.group).await?)
    }
}

/// Changes a group.
#[derive(Debug)]
pub struct ChangeGroup {
    /// Which group.
    pub group: GroupName,
    /// Changes of the group.
    pub change: GroupChange,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for ChangeGroup {
    type Output = Group;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Group, UseCaseError> {
        let id = self.group.id(registry, caller).await?;
        let changed =
            registry.change_group(&caller.actor, &id, self.change, self.expected_revision);
        Ok(changed.await?)
    }
}

/// Removes a group with its rules; its devices stay.
#[derive(Debug)]
pub struct RemoveGroup {
    /// Which group.
    pub group: GroupName,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for RemoveGroup {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let id = self.group.id(registry, caller).await?;
        let removed = registry.remove_group(&caller.actor, &id, self.expected_revision);
        Ok(removed.await?)
    }
}

/// Adds devices to a group, or removes them from it. The answer is the group as it was before, and
/// how many devices were not in it, or were in it.
#[derive(Debug)]
pub struct ChangeMembers {
    /// Which group.
    pub group: GroupName,
    /// Ids of the devices.
    pub devices: Vec<String>,
    /// They are added; else removed.
    pub is_added: bool,
}

impl UseCase for ChangeMembers {
    type Output = (Group, u64);
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(Group, u64), UseCaseError> {
        let (group, devices) = self.group.members(registry, caller, self.devices).await?;
        let devices: Vec<DeviceRef<'_>> = devices.iter().map(DeviceName::of).collect();
        let actor = &caller.actor;
        let changed = match self.is_added {
            true => registry.add_to_group(actor, &group.id, &devices).await?,
            false => {
                registry
                    .remove_from_group(actor, &group.id, &devices)
                    .await?
            }
        };
        Ok((group, changed))
    }
}

/// Reads the rules of a group.
#[derive(Debug)]
pub struct ReadGroupRules {
    /// Which group.
    pub group: GroupName,
}

impl UseCase for ReadGroupRules {
    type Output = RuleSet;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<RuleSet, UseCaseError> {
        let id = self.group.id(registry, caller).await?;
        Ok(registry.group_rules(&caller.visibility(), &id).await?)
    }
}

/// Gives a group other rules. The caller needs the rights that they give before and after.
#[derive(Debug)]
pub struct SetGroupRules {
    /// Which group.
    pub group: GroupName,
    /// All of its rules, in their order.
    pub rules: Vec<RuleLine>,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for SetGroupRules {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self {
            group,
            rules,
            expected_revision,
        } = self;
        let needed: Scopes = match caller.sees_all() {
            // They are rules like those of types.
            true => [Scope::AclWrite].into(),
            // All topics of its tenant, at the most.
            false => [Scope::MessagesRead, Scope::MessagesWrite].into(),
        };
        caller.check_scopes(needed)?;
        let id = group.id(registry, caller).await?;
        check_rules(registry, caller, (Owner::Group, &id), &rules).await?;
        let actor = &caller.actor;
        let changed = registry.change_rules(actor, Owner::Group, &id, &rules, expected_revision);
        Ok(changed.await?)
    }
}
