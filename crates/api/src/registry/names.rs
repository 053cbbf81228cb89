//! Names instead of ids, as a table of devices has them that may be read by another node.

use std::collections::HashMap;

use martlet_registry::{Device, Group, Registry, RegistryError, Scope};

/// What teams and groups are called.
#[derive(Clone, Debug, Default)]
pub struct ExportNames {
    /// Names of teams, by their ids.
    teams: HashMap<String, String>,
    groups: HashMap<String, Group>,
}

impl ExportNames {
    /// Names of the teams and groups that the caller sees.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn read(registry: &mut Registry, scope: &Scope) -> Result<Self, RegistryError> {
        let teams = registry.teams(scope, false).await?.into_iter();
        let groups = registry.groups(scope).await?.into_iter();
        Ok(Self {
            teams: teams.map(|team| (team.id, team.name)).collect(),
            groups: groups.map(|group| (group.id.clone(), group)).collect(),
        })
    }

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
