//! `martlet key`, `team`, `ban`, `provision` and `audit`: other entries in the tables of a node.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use martlet_control::principal::{Role, Scopes};
use martlet_control::text::{printable, typed_names};
use martlet_control::use_cases;
use martlet_registry::{
    AddedBan, AuditFilter, Ban, BanKind, DEVICE_TYPE, Expected, NewApiKey, NewBan,
    NewProvisioningKey, NewTeam, PageRequest, Refused, RegistryError,
};
use serde_json::{Value, json};

use crate::cmd::answers::{done, listed};
use crate::cmd::duration::end_ms;
use crate::cmd::listing;
use crate::cmd::member::MemberCommand;
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::role;
use crate::cmd::team_shares::ShowTeam;
use crate::cmd::team_token::TokenCommand;
use crate::cmd::{member, prompt, tables, team_shares, team_token, user};

/// Arguments of `martlet key`.
#[derive(Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// Add an API key; it is printed once
    #[command(alias = "create")]
    Add(AddKey),
    /// List API keys, without the keys
    #[command(alias = "list")]
    Ls(NodeAndForm),
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

/// Arguments of `martlet team`.
#[derive(Subcommand, Debug)]
pub(crate) enum TeamCommand {
    /// Add a team
    #[command(alias = "create")]
    Add(AddTeam),
    /// List teams
    #[command(alias = "list")]
    Ls(ListTeams),
    /// Show how much a team uses of what all teams share
    Show(ShowTeam),
    /// Delete a team with its devices; it can be restored
    Rm(RemoveTeam),
    /// Restore a deleted team, and the devices that were deleted with it
    Restore(NamedTeam),
    /// Members of a team, with their roles in the API and the panel
    #[command(subcommand)]
    Member(MemberCommand),
    /// Team tokens: a user name and password for all devices of a team
    #[command(subcommand)]
    Token(TokenCommand),
}

/// A team, by its id or name.
#[derive(Args, Debug)]
pub(crate) struct NamedTeam {
    /// Id or name of the team
    #[arg(value_name = "TEAM")]
    team: String,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Arguments of `martlet team rm`.
#[derive(Args, Debug)]
pub(crate) struct RemoveTeam {
    #[command(flatten)]
    team: NamedTeam,
    /// Remove it permanently, with its groups, keys and bans and its deleted devices and users,
    /// whether it was deleted before or not; asks for confirmation at a terminal
    #[arg(long)]
    purge: bool,
    /// Also remove its devices and its users
    #[arg(long, requires = "purge")]
    with_members: bool,
    /// Do not ask for confirmation
    #[arg(long, requires = "purge")]
    yes: bool,
}

/// Arguments of `martlet team ls`.
#[derive(Args, Debug)]
pub(crate) struct ListTeams {
    /// Only deleted teams
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Arguments of `martlet team add`.
#[derive(Args, Debug)]
pub(crate) struct AddTeam {
    /// Name of the team
    #[arg(value_name = "NAME")]
    name: String,
    /// Give it its own tenant: its devices and topics are separate from all others. This cannot be
    /// changed later
    #[arg(long)]
    own_tenant: bool,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Arguments of `martlet ban`.
#[derive(Subcommand, Debug)]
pub(crate) enum BanCommand {
    /// Add a ban; the connections of the banned client, user or address end
    Add(AddBan),
    /// List bans
    #[command(alias = "list")]
    Ls(ListOfBans),
    /// Remove a ban, by its id or by the arguments of ban add
    Rm(RemoveBan),
}

/// Arguments of `martlet ban ls`.
#[derive(Args, Debug)]
pub(crate) struct ListOfBans {
    /// Bans that have ended too; they are kept for a day
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Arguments of `martlet ban rm`.
#[derive(Args, Debug)]
pub(crate) struct RemoveBan {
    /// Id of the ban; or its kind, as for add
    #[arg(value_name = "ID|KIND")]
    id: String,
    /// Value of the ban, as for add
    #[arg(value_name = "VALUE")]
    value: Option<String>,
    /// In the tenant of this team, by id or name
    #[arg(long, value_name = "TEAM", requires = "value")]
    team: Option<String>,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ByWhat {
    // In the format of JSON and lists.
    #[value(alias = "client_id")]
    ClientId,
    User,
    Address,
}

impl ByWhat {
    fn kind(self) -> BanKind {
        match self {
            Self::ClientId => BanKind::ClientId,
            Self::User => BanKind::UserName,
            Self::Address => BanKind::Address,
        }
    }
}

/// Arguments of `martlet ban add`.
#[derive(Args, Debug)]
pub(crate) struct AddBan {
    /// Kind of the ban
    #[arg(value_name = "KIND")]
    kind: ByWhat,
    /// Client Identifier, user name, address or network such as 10.0.0.0/8 to ban; NAME@TEAM for a
    /// client or user of a team with its own tenant
    #[arg(value_name = "VALUE")]
    value: String,
    /// In the tenant of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Reason, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Duration: 90m, 24h, 7d [default: for ever]
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
    Ls(NodeAndForm),
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

/// Arguments of `martlet audit`.
#[derive(Args, Debug)]
pub(crate) struct AuditCommand {
    /// Only actions of this caller: ada, or as in the output, user:ada, key:ID, device:ID, "uid 0"
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// Only this action; device. means all actions that begin with it
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Show the newest N lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    on: NodeAndForm,
}

fn time(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).ok();
    at.filter(|_| ms > 0).map_or_else(
        || "-".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// Runs `martlet key`.
pub(crate) fn key(command: &KeyCommand) -> ExitCode {
    role::finish(try_key(command))
}

fn try_key(command: &KeyCommand) -> anyhow::Result<String> {
    match command {
        KeyCommand::Add(options) => {
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
            let key = NewApiKey {
                name: options.name.clone(),
                scopes: options.scopes.clone(),
                team: options.team.clone(),
                owner: String::new(),
                expires_ms: options.ends_ms.unwrap_or(0),
            };
            let (key, secret) = tables::run(&options.on.node, use_cases::AddApiKey { key })?;
            let view = json!({ "id": key.id, "name": key.name, "key": secret.text() });
            let line = format!("Added the API key {} ({})", key.name, key.id);
            let reload_note = tables::reload_tables(&options.on.node);
            let shown = format!("The key, shown this once: {}\n{reload_note}", secret.text());
            Ok(done(&options.on, &view, &line, &shown))
        }
        KeyCommand::Ls(on) => {
            let (all, teams) = tables::read(&on.node, async |open| {
                let all = open.run(use_cases::ListApiKeys).await?;
                Ok((all, open.run(use_cases::ListTeamNames).await?))
            })?;
            let row = |key: martlet_registry::ApiKey| {
                let state = if key.revoked_ms > 0 { "revoked" } else { "" };
                let scopes = key.scopes.join("+");
                let team_name = teams.get(&key.team).map_or("", String::as_str);
                let team = team_name.to_owned();
                let row = [
                    key.id.clone(),
                    key.name.clone(),
                    scopes,
                    team,
                    state.to_owned(),
                ];
                let view = json!({
                    "id": key.id, "name": key.name, "scopes": key.scopes, "team": key.team,
                    "team_name": team_name,
                    "expires_at": listing::time(key.expires_ms), "revoked_at": listing::time(key.revoked_ms),
                });
                (view, row)
            };
            let headers = ["ID", "KEY", "SCOPES", "TEAM", "STATE"];
            let rows = all.into_iter().map(row).collect();
            Ok(listed(on, headers, rows, "There are no API keys."))
        }
        KeyCommand::Rm(ById { id, on }) => {
            let all = tables::run(&on.node, use_cases::ListApiKeys)?;
            let good = all.iter().filter(|key| key.revoked_ms == 0);
            let id = id_of(good.map(|key| (&*key.id, &*key.name)), id, "key")?;
            tables::run(&on.node, use_cases::RevokeApiKey { id: id.clone() })?;
            let line = format!("Revoked the API key {id}");
            Ok(done(on, &json!({ "revoked": id }), &line, ""))
        }
    }
}

/// The id of the key with this name, if there is exactly one. Otherwise returns the argument as an
/// id. `keys` are ids and names.
///
/// # Errors
/// Several keys have this name.
fn id_of<'a>(
    keys: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    given: &str,
    command: &str,
) -> anyhow::Result<String> {
    if keys.clone().any(|(id, _)| id == given) {
        return Ok(given.to_owned());
    }
    let ids = keys.filter(|(_, name)| *name == given).map(|(id, _)| id);
    let ids: Vec<&str> = ids.collect();
    if ids.len() > 1 {
        anyhow::bail!(
            "{} keys have the name {given}, with the ids {}: name one by its id (martlet {command} \
             ls lists them)",
            ids.len(),
            ids.join(", ")
        );
    }
    Ok((*ids.first().unwrap_or(&given)).to_owned())
}

/// Runs `martlet team`.
pub(crate) fn team(command: &TeamCommand) -> ExitCode {
    role::finish(try_team(command))
}

fn try_team(command: &TeamCommand) -> anyhow::Result<String> {
    match command {
        TeamCommand::Add(options) => {
            let new = NewTeam {
                name: options.name.clone(),
                description: String::new(),
                owns_tenant: options.own_tenant,
            };
            let team = tables::run(&options.on.node, use_cases::AddTeam { team: new })?;
            let reload_note = tables::reload_tables(&options.on.node);
            let view = json!({ "id": team.id, "name": team.name, "tenant": team.tenant });
            let line = format!("Added the team {} ({})", team.name, team.id);
            Ok(done(&options.on, &view, &line, &reload_note))
        }
        TeamCommand::Ls(ListTeams { deleted, on }) => {
            let all = tables::run(&on.node, use_cases::ListTeams { deleted: *deleted })?;
            let row = |team: martlet_registry::Team| {
                let view = json!({ "id": team.id, "name": team.name, "tenant": team.tenant });
                (view, [team.id, team.name, team.tenant.to_string()])
            };
            let rows = all.into_iter().map(row).collect();
            let headers = ["ID", "TEAM", ">TENANT"];
            Ok(listed(on, headers, rows, "There are no teams."))
        }
        TeamCommand::Show(options) => team_shares::show(options),
        TeamCommand::Rm(options) if options.purge => purge_team(options),
        TeamCommand::Rm(RemoveTeam {
            team: NamedTeam { team, on },
            ..
        }) => {
            let find = use_cases::FindTeam { team: team.clone() };
            let team = tables::with(&on.node, async |open| {
                let found = open.run(find).await?;
                let delete = use_cases::DeleteTeam {
                    team: found.id.clone(),
                    expected_revision: Expected::any(),
                };
                open.run(delete).await?;
                Ok(found)
            })?;
            let reload_note = tables::reload_tables(&on.node);
            let (node, name) = (on.node.in_command(), typed_names(&[&team.name]));
            let line = format!(
                "Deleted the team {}; martlet team restore {node}{name} restores it, martlet team \
                 rm --purge {node}{name} removes it permanently",
                team.name
            );
            Ok(done(
                on,
                &json!({ "removed": team.id }),
                &line,
                &reload_note,
            ))
        }
        TeamCommand::Member(command) => member::run(command),
        TeamCommand::Token(command) => team_token::run(command),
        TeamCommand::Restore(NamedTeam { team, on }) => {
            let team = team.clone();
            let team = tables::run(&on.node, use_cases::RestoreTeam { team })?;
            let reload_note = tables::reload_tables(&on.node);
            let view = json!({ "id": team.id, "name": team.name, "tenant": team.tenant });
            let line = format!("Restored the team {}", team.name);
            Ok(done(on, &view, &line, &reload_note))
        }
    }
}

fn purge_team(options: &RemoveTeam) -> anyhow::Result<String> {
    let RemoveTeam {
        team: NamedTeam { team, on },
        with_members,
        ..
    } = options;
    if !options.yes {
        let named = printable(team);
        prompt::expect_agreed(&match with_members {
            true => format!("Remove the team {named} permanently, with all its devices and users?"),
            false => format!(
                "Remove the team {named} permanently, with everything that belongs to \
                 it?"
            ),
        })?;
    }
    let before = user::administrators(&on.node)?;
    let purge = use_cases::PurgeTeam {
        team: team.clone(),
        with_members: *with_members,
    };
    let gone = tables::run(&on.node, purge)?;
    user::warn_of_none(&on.node, before)?;
    let reload_note = tables::reload_tables(&on.node);
    let view = json!({
        "removed": gone.id, "can_be_restored": false, "devices": gone.devices,
        "users": gone.users, "groups": gone.groups, "keys": gone.keys,
    });
    let line = format!(
        "Removed the team {} permanently; devices: {}, users: {}, groups: {}, keys: {}",
        gone.name, gone.devices, gone.users, gone.groups, gone.keys
    );
    Ok(done(on, &view, &line, &reload_note))
}

/// Runs `martlet ban`.
pub(crate) fn ban(command: &BanCommand) -> ExitCode {
    role::finish(try_ban(command))
}

/// A ban in JSON.
fn ban_view(ban: &Ban, teams: &HashMap<String, String>) -> Value {
    json!({
        "id": ban.id, "kind": ban.kind.word(), "value": ban.value, "team": ban.team,
        "team_name": teams.get(&ban.team).map_or("", String::as_str), "why": ban.why,
        "until": listing::time(ban.until_ms), "has_ended": !ban.holds(now_ms()),
    })
}

/// Describes what a new ban refuses, and until when.
fn ban_line(added: &AddedBan, teams: &HashMap<String, String>) -> String {
    let ban = &added.ban;
    let team = teams.get(&ban.team);
    let team = team.map_or_else(String::new, |team| format!(" of the team {team}"));
    let until = match ban.until_ms {
        0 => "for ever".to_owned(),
        ms => format!("until {} UTC", time(ms)),
    };
    let replaced = added.replaced.as_ref();
    let replaced = replaced.map_or_else(String::new, |id| format!("; it replaces the ban {id}"));
    let (value, id) = (&ban.value, &ban.id);
    format!("{value}{team} is banned {until} ({id}){replaced}")
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn try_ban(command: &BanCommand) -> anyhow::Result<String> {
    match command {
        BanCommand::Add(options) => {
            let new = NewBan {
                kind: options.kind.kind(),
                value: options.value.clone(),
                team: options.team.clone(),
                why: options.why.clone(),
                until_ms: options.ends_ms.unwrap_or(0),
            };
            let add = use_cases::AddBan {
                ban: new,
                users: Vec::new(),
            };
            let (added, teams) = tables::with(&options.on.node, async |open| {
                let added = open.run(add).await?;
                Ok((added, open.run(use_cases::ListTeamNames).await?))
            })?;
            let reload_note = tables::reload_tables(&options.on.node);
            let mut view = ban_view(&added.ban, &teams);
            view["replaced"] = added.replaced.clone().into();
            let line = ban_line(&added, &teams);
            Ok(done(&options.on, &view, &line, &reload_note))
        }
        BanCommand::Ls(options) => {
            let on = &options.on;
            let with_ended = options.ended;
            let (all, teams) = tables::read(&on.node, async |open| {
                let all = open.run(use_cases::ListBans { with_ended }).await?;
                Ok((all, open.run(use_cases::ListTeamNames).await?))
            })?;
            let row = |ban: Ban| {
                let ended = if ban.holds(now_ms()) { "" } else { " (ended)" };
                let until = format!("{}{ended}", time(ban.until_ms));
                let team = teams.get(&ban.team).cloned().unwrap_or_default();
                let (view, kind) = (ban_view(&ban, &teams), ban.kind.word().to_owned());
                (view, [ban.id, kind, ban.value, team, until, ban.why])
            };
            let none = "There are no bans.";
            let is_any_of_team = all.iter().any(|ban| !ban.team.is_empty());
            let rows = all.into_iter().map(row);
            if is_any_of_team {
                let headers = ["ID", "KIND", "VALUE", "TEAM", "UNTIL", "WHY"];
                return Ok(listed(on, headers, rows.collect(), none));
            }
            let without_team = rows.map(|(view, [id, kind, value, _, until, why])| {
                (view, [id, kind, value, until, why])
            });
            let headers = ["ID", "KIND", "VALUE", "UNTIL", "WHY"];
            Ok(listed(on, headers, without_team.collect(), none))
        }
        BanCommand::Rm(options) => {
            let (on, find) = (&options.on, options.find()?);
            let id = tables::with(&on.node, async |open| {
                let id = match find {
                    Some(find) => open.run(find).await?.id,
                    None => options.id.clone(),
                };
                open.run(use_cases::RemoveBan { id: id.clone() }).await?;
                Ok(id)
            })?;
            let reload_note = tables::reload_tables(&on.node);
            let line = format!("Removed the ban {id}");
            Ok(done(on, &json!({ "removed": id }), &line, &reload_note))
        }
    }
}

impl RemoveBan {
    /// A query for the ban, unless the argument is its id.
    fn find(&self) -> anyhow::Result<Option<use_cases::FindBan>> {
        let Some(value) = &self.value else {
            return Ok(None);
        };
        let kind = ByWhat::from_str(&self.id, false);
        let kind = kind.map_err(|_| RegistryError::from(Refused::BanKind(self.id.clone())))?;
        Ok(Some(use_cases::FindBan {
            kind: kind.kind(),
            value: value.clone(),
            team: self.team.clone(),
        }))
    }
}

/// Runs `martlet provision`.
pub(crate) fn provision(command: &ProvisionCommand) -> ExitCode {
    role::finish(try_provision(command))
}

fn try_provision(command: &ProvisionCommand) -> anyhow::Result<String> {
    match command {
        ProvisionCommand::Add(options) => {
            let key = NewProvisioningKey {
                device_type: options.device_type.clone(),
                team: options.team.clone(),
                id_pattern: options.id_pattern.clone(),
                devices_max: i64::from(options.devices),
                expires_ms: options.ends_ms.unwrap_or(0),
                ..NewProvisioningKey::new(&options.name)
            };
            let add = use_cases::AddProvisioningKey { key };
            let (key, secret) = tables::run(&options.on.node, add)?;
            let view = json!({ "id": key.id, "name": key.name, "key": secret.text() });
            let line = format!("Added the provisioning key {} ({})", key.name, key.id);
            let reload_note = tables::reload_tables(&options.on.node);
            let shown = format!("The key, shown this once: {}\n{reload_note}", secret.text());
            Ok(done(&options.on, &view, &line, &shown))
        }
        ProvisionCommand::Ls(on) => {
            let all = tables::run(&on.node, use_cases::ListProvisioningKeys)?;
            let row = |key: martlet_registry::ProvisioningKey| {
                let state = if key.revoked_ms > 0 { "revoked" } else { "" };
                let (made, of_type) = (key.devices_made, key.device_type);
                let view = json!({
                    "id": key.id, "name": key.name, "type": of_type, "devices_made": made,
                    "devices_max": key.devices_max, "revoked_at": listing::time(key.revoked_ms),
                });
                let made = made.to_string();
                (view, [key.id, key.name, of_type, made, state.to_owned()])
            };
            let rows = all.into_iter().map(row).collect();
            let headers = ["ID", "KEY", "TYPE", ">DEVICES", "STATE"];
            Ok(listed(on, headers, rows, "There are no provisioning keys."))
        }
        ProvisionCommand::Rm(ById { id, on }) => {
            let all = tables::run(&on.node, use_cases::ListProvisioningKeys)?;
            let good = all.iter().filter(|key| key.revoked_ms == 0);
            let id = id_of(good.map(|key| (&*key.id, &*key.name)), id, "provision")?;
            let revoke = use_cases::RevokeProvisioningKey { id: id.clone() };
            tables::run(&on.node, revoke)?;
            let line = format!("Revoked the provisioning key {id}");
            Ok(done(on, &json!({ "revoked": id }), &line, ""))
        }
    }
}

/// Runs `martlet audit`.
pub(crate) fn audit(options: &AuditCommand) -> ExitCode {
    role::finish(try_audit(options))
}

fn try_audit(options: &AuditCommand) -> anyhow::Result<String> {
    let filter = AuditFilter {
        who: options.who.clone(),
        action: options.action.clone(),
        ..AuditFilter::default()
    };
    let page = PageRequest::first(options.limit);
    let found = tables::run(&options.on.node, use_cases::ReadAuditLog { filter, page })?;
    let row = |line: martlet_registry::AuditEntry| {
        let entry = line.entry;
        let row = [
            time(line.at_ms),
            line.who.clone(),
            entry.action.clone(),
            entry.object_id.clone(),
            entry.outcome.to_string(),
            entry.changed.clone(),
        ];
        let changed: Value = serde_json::from_str(&entry.changed).unwrap_or_default();
        let view = json!({
            "number": line.number, "at": listing::time(line.at_ms), "who": line.who, "by": line.by,
            "address": line.address, "request_id": line.request_id, "action": entry.action,
            "object_kind": entry.object_kind, "object_id": entry.object_id, "changed": changed,
            "outcome": entry.outcome,
        });
        (view, row)
    };
    let rows = found.items.into_iter().map(row).collect();
    let headers = ["TIME", "WHO", "ACTION", "OBJECT", "OUTCOME", "CHANGED"];
    let none = "There are no entries.";
    Ok(listed(&options.on, headers, rows, none))
}
