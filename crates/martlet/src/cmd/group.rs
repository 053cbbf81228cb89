//! `martlet group`: groups of devices in the tables of a node, and who is in them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use martlet_control::text::printable;
use martlet_registry::{Actor, DeviceRef, Group, NewGroup, RegistryError, Scope};
use serde_json::json;

use crate::cmd::node_options::TeamOption;
use crate::cmd::role::{self, NodeAndForm};
use crate::cmd::tables;

/// Arguments of `martlet group`.
#[derive(Subcommand, Debug)]
pub(crate) enum GroupCommand {
    /// List groups
    Ls(NodeAndForm),
    /// Add a group
    #[command(alias = "new")]
    Create(CreateGroup),
    /// Remove a group; its devices stay
    Rm(NamedGroup),
    /// Have devices be in a group
    Add(Members),
    /// Take devices out of a group
    Remove(Members),
}

#[derive(Args, Debug)]
pub(crate) struct CreateGroup {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// For people
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Its team, by id or name [default: none]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
pub(crate) struct NamedGroup {
    /// Its name or id
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
pub(crate) struct Members {
    /// Its name or id
    #[arg(value_name = "GROUP")]
    group: String,
    /// Devices
    #[arg(value_name = "DEVICE", required = true)]
    devices: Vec<String>,
    #[command(flatten)]
    of: TeamOption,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Runs the command.
pub(crate) fn run(command: &GroupCommand) -> ExitCode {
    role::finish(work(command))
}

fn work(command: &GroupCommand) -> anyhow::Result<String> {
    match command {
        GroupCommand::Ls(on) => list(on),
        GroupCommand::Create(options) => {
            let group = tables::with(&options.on.node, async |registry| {
                let new = NewGroup {
                    name: options.name.clone(),
                    description: options.description.clone(),
                    colour: String::new(),
                    team: tables::team_if_any(registry, options.team.as_deref()).await?,
                };
                registry.add_group(&Actor::local(), new).await
            })?;
            let line = format!("Added the group {} ({})", group.name, group.id);
            Ok(match options.on.json {
                true => format!("{}\n", json!({ "id": group.id, "name": group.name })),
                false => format!("{}\n", printable(&line)),
            })
        }
        GroupCommand::Rm(NamedGroup { group, on }) => {
            let found = find(on, group)?;
            tables::with(&on.node, async |registry| {
                registry
                    .remove_group(&Actor::local(), &found.id, None)
                    .await
            })?;
            let told = tables::tell_node(&on.node);
            Ok(match on.json {
                true => format!("{}\n", json!({ "removed": found.id })),
                false => format!("Removed the group {}\n{told}", printable(&found.name)),
            })
        }
        GroupCommand::Add(members) => change(members, true),
        GroupCommand::Remove(members) => change(members, false),
    }
}

fn groups(on: &NodeAndForm) -> anyhow::Result<Vec<Group>> {
    tables::read(&on.node, async |registry| {
        registry.groups(&Scope::All).await
    })
}

/// By its id or its name.
fn find(on: &NodeAndForm, named: &str) -> anyhow::Result<Group> {
    tables::read(&on.node, async |registry| {
        let found = registry.group_named(&Scope::All, named).await;
        found.map_err(|error| match error {
            RegistryError::NotFound(why) => {
                RegistryError::NotFound(format!("{why}: martlet group ls shows which there are"))
            }
            error => error,
        })
    })
}

fn list(on: &NodeAndForm) -> anyhow::Result<String> {
    let all = groups(on)?;
    if on.json {
        let views: Vec<_> = all
            .iter()
            .map(|group| {
                json!({
                    "id": group.id, "name": group.name, "description": group.description,
                    "team": group.team, "devices": group.devices,
                })
            })
            .collect();
        return Ok(format!("{}\n", json!({ "groups": views })));
    }
    let line = |group: &Group| {
        let line = format!(
            "{:<34} {:<24} {:>7} {} {}",
            group.id,
            group.name,
            group.devices,
            if group.devices == 1 {
                "device"
            } else {
                "devices"
            },
            group.description
        );
        format!("{}\n", printable(line.trim_end()))
    };
    Ok(all.iter().map(line).collect())
}

fn change(members: &Members, is_added: bool) -> anyhow::Result<String> {
    let Members {
        group,
        devices,
        of,
        on,
    } = members;
    let found = find(on, group)?;
    // Where no team is named, that of the group.
    let own = Some(&*found.team).filter(|team| !team.is_empty());
    let team = of.team.as_deref().or(own);
    let changed = tables::with(&on.node, async |registry| {
        let scope = tables::actor(registry, team).await?.scope;
        let mut numbers = Vec::new();
        for id in devices {
            let device = registry.device(&scope, DeviceRef::Id(id)).await?;
            numbers.push(DeviceRef::Number(device.number));
        }
        let actor = Actor::local();
        match is_added {
            true => registry.add_to_group(&actor, &found.id, &numbers).await,
            false => {
                registry
                    .remove_from_group(&actor, &found.id, &numbers)
                    .await
            }
        }
    })?;
    // What a group permits decides from now on.
    let told = tables::tell_node(&on.node);
    let name = printable(&found.name);
    Ok(match (on.json, is_added) {
        (true, _) => format!("{}\n", json!({ "group": found.id, "changed": changed })),
        (_, true) => format!("{changed} more are in the group {name}\n{told}"),
        (_, false) => format!("{changed} are in the group {name} no more\n{told}"),
    })
}
