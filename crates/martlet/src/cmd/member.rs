//! `martlet team member`: members of a team and their rights.

use clap::{Args, Subcommand};
use martlet_control::use_cases;
use martlet_registry::ApiRole;
use serde_json::json;

use crate::cmd::answers::{done, listed};
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::tables;
use crate::cmd::user::api_role;

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
            let team = team.clone();
            let all = tables::run(&on.node, use_cases::ListMembers { team })?;
            let row = |member: martlet_registry::Member| {
                let role = member.role.word();
                let view = json!({ "user": member.user, "role": role });
                (view, [member.user, role.to_owned()])
            };
            let rows = all.into_iter().map(row).collect();
            let none = "The team has no members.";
            Ok(listed(on, ["USER", "ROLE"], rows, none))
        }
        MemberCommand::Set(SetMember { member, role }) => {
            give(member, Some(*role))?;
            let Member { team, user, on } = member;
            let view = json!({ "user": user, "team": team, "role": role.word() });
            let line = format!("{user} is {} in the team {team}", role.word());
            Ok(done(on, &view, &line, &tables::reload_tables(&on.node)))
        }
        MemberCommand::Rm(member) => {
            give(member, None)?;
            let Member { team, user, on } = member;
            let view = json!({ "user": user, "team": team, "role": null });
            let line = format!("{user} has no role in the team {team}");
            Ok(done(on, &view, &line, &tables::reload_tables(&on.node)))
        }
    }
}

fn give(member: &Member, role: Option<ApiRole>) -> anyhow::Result<()> {
    let Member { team, user, on } = member;
    let set = use_cases::SetMember {
        team: team.clone(),
        user: user.clone(),
        role,
    };
    tables::run(&on.node, set)
}
