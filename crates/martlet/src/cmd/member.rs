//! `martlet team member`: members of a team and their rights.

use clap::{Args, Subcommand};
use martlet_registry::ApiRole;
use serde_json::{Value, json};

use crate::cmd::answers::{done, listed};
use crate::cmd::door::Door;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::query::{encoded, team_path};
use crate::cmd::user::api_role;
use crate::cmd::view::text;

/// Arguments of `martlet team member`.
#[derive(Subcommand, Debug)]
pub(crate) enum MemberCommand {
    /// List the members of a team
    #[command(alias = "list")]
    Ls {
        /// The team's id or name
        #[arg(value_name = "TEAM")]
        team: String,
        #[command(flatten)]
        on: NodeAndForm,
    },
    /// Give a user a role in a team, or change it
    #[command(alias = "add")]
    Set(SetMember),
    /// Remove a user from a team
    Rm(Member),
}

/// A user and a team.
#[derive(Args, Debug)]
pub(crate) struct Member {
    /// The team's id or name
    #[arg(value_name = "TEAM")]
    team: String,
    /// The user's name
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Arguments of `martlet team member set`.
#[derive(Args, Debug)]
pub(crate) struct SetMember {
    #[command(flatten)]
    member: Member,
    /// Role for the team's objects in the API and the panel: administrator, operator, viewer or
    /// none
    #[arg(long, value_name = "ROLE", value_parser = api_role)]
    role: ApiRole,
}

/// Runs the command.
pub(super) fn run(command: &MemberCommand) -> anyhow::Result<String> {
    match command {
        MemberCommand::Ls { team, on } => {
            let all = Door::of(&on.node)?.whole(&format!("{}/members", team_path(team)))?;
            let row = |member: &Value| ["user", "role"].map(|name| text(member, name));
            Ok(listed(
                on,
                ["USER", "ROLE"],
                all,
                row,
                "The team has no members.",
            ))
        }
        MemberCommand::Set(SetMember { member, role }) => {
            let role = role.word();
            let body = json!({ "role": role });
            let line = format!("{} is {role} in the team {}", member.user, member.team);
            give(member, "PUT", Some(body), &line)
        }
        MemberCommand::Rm(member) => {
            let line = format!("{} has no role in the team {}", member.user, member.team);
            give(member, "DELETE", None, &line)
        }
    }
}

fn give(member: &Member, method: &str, body: Option<Value>, line: &str) -> anyhow::Result<String> {
    let Member { team, user, on } = member;
    let door = Door::of(&on.node)?;
    let path = format!("{}/members/{}", team_path(team), encoded(user));
    door.ask(method, &path, body.as_ref())?;
    let role = body.map_or(Value::Null, |body| body["role"].clone());
    let view = json!({ "user": user, "team": team, "role": role });
    Ok(done(on, &view, line, &door.note()))
}
