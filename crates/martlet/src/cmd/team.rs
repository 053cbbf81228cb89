//! `martlet team`: teams, their members and tokens.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use martlet_control::text::{printable, typed_names};
use martlet_registry::Team;
use serde_json::{Value, json};

use crate::cmd::answers::{ListForm, done};
use crate::cmd::door::Door;
use crate::cmd::fields::FieldOptions;
use crate::cmd::member::MemberCommand;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::query::team_path;
use crate::cmd::role;
use crate::cmd::team_shares::ShowTeam;
use crate::cmd::team_token::TokenCommand;
use crate::cmd::view::text;
use crate::cmd::{member, prompt, team_shares, team_token, user};

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
    form: ListForm,
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
    said: FieldOptions<Team>,
    #[command(flatten)]
    on: NodeAndForm,
}

/// The path of teams in the API.
const PATH: &str = "/api/v1/teams";

/// Runs `martlet team`.
pub(crate) fn team(command: &TeamCommand) -> ExitCode {
    role::finish(match command {
        TeamCommand::Add(options) => add(options),
        TeamCommand::Ls(options) => list(options),
        TeamCommand::Show(options) => team_shares::show(options),
        TeamCommand::Rm(options) if options.purge => purge(options),
        TeamCommand::Rm(options) => remove(&options.team),
        TeamCommand::Restore(options) => restore(options),
        TeamCommand::Member(command) => member::run(command),
        TeamCommand::Token(command) => team_token::run(command),
    })
}

fn add(options: &AddTeam) -> anyhow::Result<String> {
    let door = Door::of(&options.on.node)?;
    let mut body = json!({ "name": options.name, "owns_tenant": options.own_tenant });
    options.said.add_to(&mut body);
    let team = door.ask("POST", PATH, Some(&body))?;
    let line = format!(
        "Added the team {} ({})",
        text(&team, "name"),
        text(&team, "id")
    );
    Ok(done(&options.on, &team, &line, &door.note()))
}

fn list(options: &ListTeams) -> anyhow::Result<String> {
    let form = &options.form;
    let deleted = options.deleted.then_some(("deleted", "true"));
    let all = form.read(&Door::of(&form.on.node)?, PATH, deleted.as_slice())?;
    let row = |team: &Value| ["id", "name", "tenant"].map(|member| text(team, member));
    let headers = ["ID", "TEAM", ">TENANT"];
    form.show(all, headers, row, "There are no teams.")
}

fn remove(named: &NamedTeam) -> anyhow::Result<String> {
    let on = &named.on;
    let door = Door::of(&on.node)?;
    let team = door.get(&team_path(&named.team))?;
    let (id, name) = (text(&team, "id"), text(&team, "name"));
    door.ask("DELETE", &team_path(&id), None)?;
    let (node, typed) = (on.node.in_command(), typed_names(&[&name]));
    let line = format!(
        "Deleted the team {name}; martlet team restore {node}{typed} restores it, martlet team rm \
         --purge {node}{typed} removes it permanently"
    );
    Ok(done(on, &json!({ "removed": id }), &line, &door.note()))
}

fn restore(named: &NamedTeam) -> anyhow::Result<String> {
    let door = Door::of(&named.on.node)?;
    let team = door.ask("POST", &format!("{}/restore", team_path(&named.team)), None)?;
    let line = format!("Restored the team {}", text(&team, "name"));
    Ok(done(&named.on, &team, &line, &door.note()))
}

fn purge(options: &RemoveTeam) -> anyhow::Result<String> {
    let RemoveTeam {
        team: named,
        with_members,
        ..
    } = options;
    let on = &named.on;
    if !options.yes {
        let team = printable(&named.team);
        prompt::expect_agreed(&match with_members {
            true => format!("Remove the team {team} permanently, with all its devices and users?"),
            false => {
                format!("Remove the team {team} permanently, with everything that belongs to it?")
            }
        })?;
    }
    let before = user::administrators(&on.node)?;
    let door = Door::of(&on.node)?;
    let path = format!(
        "{}/purge?with_members={with_members}",
        team_path(&named.team)
    );
    let gone = door.ask("POST", &path, None)?;
    user::warn_of_none(&on.node, before)?;
    let members = ["name", "devices", "users", "groups", "keys"];
    let [name, devices, users, groups, keys] = members.map(|member| text(&gone, member));
    let line = format!(
        "Removed the team {name} permanently; devices: {devices}, users: {users}, groups: \
         {groups}, keys: {keys}"
    );
    Ok(done(on, &gone, &line, &door.note()))
}
