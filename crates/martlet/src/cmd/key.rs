//! `martlet key` and `martlet provision`: keys for the API, and keys with which devices register
//! themselves.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use martlet_control::principal::{Role, Scopes};
use martlet_registry::DEVICE_TYPE;
use serde_json::{Value, json};

use crate::cmd::answers::{ListForm, done};
use crate::cmd::door::Door;
use crate::cmd::duration::end_ms;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::query::encoded;
use crate::cmd::role;
use crate::cmd::view::{moment, text};

/// Arguments of `martlet key`.
#[derive(Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// Add an API key; it is printed once
    #[command(alias = "create")]
    Add(AddKey),
    /// List API keys, without the keys
    #[command(alias = "list")]
    Ls(ListForm),
    /// Revoke an API key
    Rm(ById),
}

/// One, by its id.
#[derive(Args, Debug)]
pub(crate) struct ById {
    /// Id of the key, or its name if no other valid key has that name
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Arguments of `martlet key add`.
#[derive(Args, Debug)]
pub(crate) struct AddKey {
    /// Name of the key
    #[arg(value_name = "NAME")]
    name: String,
    /// Rights of the key, repeatable: a scope such as devices:write, or administrator, operator or
    /// viewer
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    /// Team whose objects the key can access, by id or name [default: all teams]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Time until it expires: 90m, 24h, 7d [default: never]
    #[arg(long = "for", value_name = "TIME", value_parser = end_ms)]
    ends_ms: Option<i64>,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Arguments of `martlet provision`.
#[derive(Subcommand, Debug)]
pub(crate) enum ProvisionCommand {
    /// Add a provisioning key, with which devices register themselves; it is printed once
    #[command(alias = "create")]
    Add(AddProvision),
    /// List provisioning keys, without the keys
    #[command(alias = "list")]
    Ls(ListForm),
    /// Revoke a provisioning key; devices that it has added are kept
    Rm(ById),
}

/// Arguments of `martlet provision add`.
#[derive(Args, Debug)]
pub(crate) struct AddProvision {
    /// Name of the key
    #[arg(value_name = "NAME")]
    name: String,
    /// Type of the devices
    #[arg(long = "type", value_name = "TYPE", default_value = DEVICE_TYPE)]
    device_type: String,
    /// Team of the devices, by id or name [default: none]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Pattern for the ids of devices; it may contain one *, which matches any text
    #[arg(long, value_name = "PATTERN", default_value = "")]
    id_pattern: String,
    /// Maximum number of devices that it may add; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    devices: u32,
    /// Time until it expires: 90m, 24h, 7d [default: never]
    #[arg(long = "for", value_name = "TIME", value_parser = end_ms)]
    ends_ms: Option<i64>,
    #[command(flatten)]
    on: NodeAndForm,
}

/// A kind of keys.
struct KeyKind {
    /// Path in the API.
    path: &'static str,
    /// The command, as in `martlet key ls`.
    command: &'static str,
    noun: &'static str,
}

const API_KEYS: KeyKind = KeyKind {
    path: "/api/v1/keys",
    command: "key",
    noun: "API key",
};

const PROVISIONING_KEYS: KeyKind = KeyKind {
    path: "/api/v1/provisioning-keys",
    command: "provision",
    noun: "provisioning key",
};

impl KeyKind {
    fn add(&self, on: &NodeAndForm, body: &Value) -> anyhow::Result<String> {
        let door = Door::of(&on.node)?;
        let key = door.ask("POST", self.path, Some(body))?;
        let [id, name, secret] = ["id", "name", "key"].map(|member| text(&key, member));
        let line = format!("Added the {} {name} ({id})", self.noun);
        let shown = format!("The key, shown this once: {secret}\n{}", door.note());
        Ok(done(on, &key, &line, &shown))
    }

    /// Revokes the key of this id or, if exactly one valid key has it, name.
    fn revoke(&self, ById { id, on }: &ById) -> anyhow::Result<String> {
        let door = Door::of(&on.node)?;
        let all = door.all(self.path, &[])?;
        let id = self.id_of(&all, id)?;
        door.ask("DELETE", &format!("{}/{}", self.path, encoded(&id)), None)?;
        let line = format!("Revoked the {} {id}", self.noun);
        Ok(done(on, &json!({ "revoked": id }), &line, ""))
    }

    /// The id of the valid key with this name, if there is exactly one; else the argument.
    ///
    /// # Errors
    /// Several keys have this name.
    fn id_of(&self, all: &[Value], given: &str) -> anyhow::Result<String> {
        let valid = all.iter().filter(|key| key["revoked_at"].is_null());
        let named = |member: &'static str| valid.clone().filter(move |key| key[member] == given);
        if named("id").next().is_some() {
            return Ok(given.to_owned());
        }
        let ids: Vec<String> = named("name").map(|key| text(key, "id")).collect();
        if ids.len() > 1 {
            anyhow::bail!(
                "{} keys have the name {given}, with the ids {}: name one by its id (martlet {} ls \
                 lists them)",
                ids.len(),
                ids.join(", "),
                self.command
            );
        }
        Ok(ids.into_iter().next().unwrap_or_else(|| given.to_owned()))
    }
}

/// State of a key in a list.
fn state(key: &Value) -> String {
    let state = if key["revoked_at"].is_null() {
        ""
    } else {
        "revoked"
    };
    state.to_owned()
}

/// Runs `martlet key`.
pub(crate) fn key(command: &KeyCommand) -> ExitCode {
    role::finish(match command {
        KeyCommand::Add(options) => add(options),
        KeyCommand::Ls(form) => list(form),
        KeyCommand::Rm(which) => API_KEYS.revoke(which),
    })
}

fn add(options: &AddKey) -> anyhow::Result<String> {
    for scope in &options.scopes {
        Scopes::parse(scope).map_err(|name| {
            let roles: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
            anyhow::anyhow!(
                "{name:?} is neither a scope nor a role; roles are {}, and scopes {}",
                roles.join(", "),
                Scopes::all().names().join(", ")
            )
        })?;
    }
    let body = json!({
        "name": options.name, "scopes": options.scopes, "team": options.team,
        "expires_at": moment(options.ends_ms),
    });
    API_KEYS.add(&options.on, &body)
}

fn list(form: &ListForm) -> anyhow::Result<String> {
    let door = Door::of(&form.on.node)?;
    let all = form.read(&door, API_KEYS.path, &[])?;
    let row = |key: &Value| {
        let scopes = text(key, "scopes").replace(", ", "+");
        let [id, name] = ["id", "name"].map(|member| text(key, member));
        [id, name, scopes, door.team_of(key), state(key)]
    };
    let headers = ["ID", "KEY", "SCOPES", "TEAM", "STATE"];
    form.show(all, headers, row, "There are no API keys.")
}

/// Runs `martlet provision`.
pub(crate) fn provision(command: &ProvisionCommand) -> ExitCode {
    role::finish(match command {
        ProvisionCommand::Add(options) => add_provision(options),
        ProvisionCommand::Ls(form) => list_provision(form),
        ProvisionCommand::Rm(which) => PROVISIONING_KEYS.revoke(which),
    })
}

fn add_provision(options: &AddProvision) -> anyhow::Result<String> {
    let body = json!({
        "name": options.name, "device_type": options.device_type, "team": options.team,
        "id_pattern": options.id_pattern, "devices_max": options.devices,
        "expires_at": moment(options.ends_ms),
    });
    PROVISIONING_KEYS.add(&options.on, &body)
}

fn list_provision(form: &ListForm) -> anyhow::Result<String> {
    let all = form.read(&Door::of(&form.on.node)?, PROVISIONING_KEYS.path, &[])?;
    let row = |key: &Value| {
        let members = ["id", "name", "device_type", "devices_made"];
        let [id, name, of_type, made] = members.map(|member| text(key, member));
        [id, name, of_type, made, state(key)]
    };
    let headers = ["ID", "KEY", "TYPE", ">DEVICES", "STATE"];
    let none = "There are no provisioning keys.";
    form.show(all, headers, row, none)
}
