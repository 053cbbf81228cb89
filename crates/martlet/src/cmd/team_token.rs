//! `martlet team token`: credentials shared by the devices of a team.

use clap::{Args, Subcommand};
use martlet_control::text::typed_names;
use martlet_control::use_cases::{AddTeamToken, ListTeamTokens, RestoreTeamToken, RevokeTeamToken};
use martlet_registry::TeamToken;
use serde_json::{Value, json};

use crate::cmd::answers::{done, listed};
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::{listing, tables};

/// Arguments of `martlet team token`.
#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Add a team token; its key and secret are printed once
    #[command(alias = "create")]
    Add {
        /// Id or name of the team
        #[arg(value_name = "TEAM")]
        team: String,
        /// Name of the token
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        on: NodeAndForm,
    },
    /// List the team tokens of a team, without keys and secrets
    #[command(alias = "list")]
    Ls {
        /// Id or name of the team
        #[arg(value_name = "TEAM")]
        team: String,
        #[command(flatten)]
        on: NodeAndForm,
    },
    /// Revoke a team token; it can be restored
    Rm(NamedToken),
    /// Restore a revoked team token
    Restore(NamedToken),
}

/// A token and its team.
#[derive(Args, Debug)]
pub(crate) struct NamedToken {
    /// Id or name of the team
    #[arg(value_name = "TEAM")]
    team: String,
    /// Id of the token
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    on: NodeAndForm,
}

fn view(token: &TeamToken) -> Value {
    json!({
        "id": token.id, "number": token.number, "team": token.team, "name": token.name,
        "created_at": listing::time(token.created_ms), "revoked_at": listing::time(token.revoked_ms),
    })
}

/// Runs the command.
pub(super) fn run(command: &TokenCommand) -> anyhow::Result<String> {
    match command {
        TokenCommand::Add { team, name, on } => {
            let add = AddTeamToken {
                team: team.clone(),
                name: name.clone(),
            };
            let added = tables::run(&on.node, add)?;
            let (key, secret) = (added.key.text(), added.secret.text());
            let mut view = view(&added.token);
            view["credentials"] = json!({ "key": key, "secret": secret });
            let line = format!("Added the team token {name} ({})", added.token.id);
            let reload_note = tables::reload_tables(&on.node);
            let shown = format!(
                "Devices of the team log in with it, shown this once:\n  user name {key}\n  password  \
                 {secret}\n{reload_note}"
            );
            Ok(done(on, &view, &line, &shown))
        }
        TokenCommand::Ls { team, on } => {
            let team = team.clone();
            let all = tables::run(&on.node, ListTeamTokens { team })?;
            let row = |token: TeamToken| {
                let state = if token.revoked_ms > 0 {
                    "revoked"
                } else {
                    "valid"
                };
                let view = view(&token);
                (view, [token.id, token.name, state.to_owned()])
            };
            let rows = all.into_iter().map(row).collect();
            let none = "The team has no team tokens.";
            Ok(listed(on, ["ID", "TOKEN", "STATE"], rows, none))
        }
        TokenCommand::Rm(NamedToken { team, id, on }) => {
            let revoke = RevokeTeamToken {
                team: team.clone(),
                token: id.clone(),
            };
            let token = tables::run(&on.node, revoke)?;
            let line = format!(
                "Revoked the team token {}; martlet team token restore {}{} restores it",
                token.name,
                on.node.in_command(),
                typed_names(&[team, id])
            );
            Ok(done(
                on,
                &view(&token),
                &line,
                &tables::reload_tables(&on.node),
            ))
        }
        TokenCommand::Restore(NamedToken { team, id, on }) => {
            let restore = RestoreTeamToken {
                team: team.clone(),
                token: id.clone(),
            };
            let token = tables::run(&on.node, restore)?;
            let line = format!("Restored the team token {}", token.name);
            Ok(done(
                on,
                &view(&token),
                &line,
                &tables::reload_tables(&on.node),
            ))
        }
    }
}
