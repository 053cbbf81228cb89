//! Many devices at once, and the names that an export has.

use std::collections::HashMap;

use martlet_registry::{Device, Group, Import, NewDevice, Registry, RowOutcome};

use crate::callers::Caller;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Tries what would become of each device if it were added. Nothing is added.
#[derive(Debug)]
pub struct TryDevices {
    /// The devices.
    pub devices: Vec<NewDevice>,
}

impl UseCase for TryDevices {
    type Output = Vec<RowOutcome>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<RowOutcome>, UseCaseError> {
        Ok(registry.try_devices(&caller.actor, self.devices).await?)
    }
}

/// Adds devices, and answers what has become of each.
#[derive(Debug)]
pub struct AddDevices {
    /// The devices.
    pub devices: Vec<NewDevice>,
    /// Treatment of devices that cannot be added.
    pub import: Import,
}

impl UseCase for AddDevices {
    type Output = Vec<RowOutcome>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<RowOutcome>, UseCaseError> {
        let added = registry.add_devices(&caller.actor, self.devices, self.import);
        Ok(added.await?)
    }
}

/// Reads the names of the teams and groups that the caller sees.
#[derive(Debug)]
pub struct ReadExportNames;

impl UseCase for ReadExportNames {
    type Output = ExportNames;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<ExportNames, UseCaseError> {
        let visibility = caller.visibility();
        let teams = registry.teams(&visibility, false).await?.into_iter();
        let groups = registry.groups(&visibility).await?.into_iter();
        Ok(ExportNames {
            teams: teams.map(|team| (team.id, team.name)).collect(),
            groups: groups.map(|group| (group.id.clone(), group)).collect(),
        })
    }
}

/// Names instead of ids, as a table of devices has them that may be read by another node.
#[derive(Clone, Debug, Default)]
pub struct ExportNames {
    /// Names of teams, by their ids.
    teams: HashMap<String, String>,
    groups: HashMap<String, Group>,
}

impl ExportNames {
    /// The device with the names of its team and its groups, wherever an import finds the same ones
    /// by them; else with their ids.
    pub fn named(&self, mut device: Device) -> Device {
        for group in &mut device.groups {
            if let Some(name) = self.of_group(group, &device.team) {
                *group = name.to_owned();
            }
        }
        let team = self.teams.get(&device.team);
        if let Some(name) = team.filter(|name| !self.teams.contains_key(*name)) {
            device.team.clone_from(name);
        }
        device
    }

    fn of_group(&self, id: &str, team: &str) -> Option<&str> {
        let group = self.groups.get(id)?;
        let name = &*group.name;
        // Of two groups of one name that of the device's team is meant.
        let is_hidden = group.team != team
            && self
                .groups
                .values()
                .any(|other| other.team == team && other.name == name);
        let is_whole = name == name.trim() && !self.groups.contains_key(name);
        (is_whole && !is_hidden).then_some(name)
    }
}
