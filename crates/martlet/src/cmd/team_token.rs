//! `martlet team token`: credentials shared by the devices of a team.

use clap::{Args, Subcommand};
use martlet_control::text::typed_names;
use serde_json::{Value, json};

use crate::cmd::answers::{done, listed};
use crate::cmd::door::Door;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::query::{encoded, team_path};
use crate::cmd::view::text;

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

impl NamedToken {
    fn path(&self) -> String {
        format!("{}/{}", tokens(&self.team), encoded(&self.id))
    }
}

/// The path of the tokens of a team.
fn tokens(team: &str) -> String {
    format!("{}/tokens", team_path(team))
}

/// Runs the command.
pub(super) fn run(command: &TokenCommand) -> anyhow::Result<String> {
    match command {
        TokenCommand::Add { team, name, on } => {
            let door = Door::of(&on.node)?;
            let body = json!({ "name": name });
            let token = door.ask("POST", &tokens(team), Some(&body))?;
            let shown = &token["credentials"];
            let (key, secret) = (text(shown, "key"), text(shown, "secret"));
            let line = format!("Added the team token {name} ({})", text(&token, "id"));
            let shown = format!(
                "Devices of the team log in with it, shown this once:\n  user name {key}\n  password  \
                 {secret}\n{}",
                door.note()
            );
            Ok(done(on, &token, &line, &shown))
        }
        TokenCommand::Ls { team, on } => {
            let all = Door::of(&on.node)?.whole(&tokens(team))?;
            let row = |token: &Value| {
                let is_valid = token["revoked_at"].is_null();
                let state = if is_valid { "valid" } else { "revoked" };
                [text(token, "id"), text(token, "name"), state.to_owned()]
            };
            let none = "The team has no team tokens.";
            Ok(listed(on, ["ID", "TOKEN", "STATE"], all, row, none))
        }
        TokenCommand::Rm(named) => {
            let NamedToken { team, id, on } = named;
            let door = Door::of(&on.node)?;
            door.ask("DELETE", &named.path(), None)?;
            let line = format!(
                "Revoked the team token {id}; martlet team token restore {}{} restores it",
                on.node.in_command(),
                typed_names(&[team, id])
            );
            Ok(done(on, &json!({ "revoked": id }), &line, &door.note()))
        }
        TokenCommand::Restore(named) => {
            let on = &named.on;
            let door = Door::of(&on.node)?;
            let token = door.ask("POST", &format!("{}/restore", named.path()), None)?;
            let line = format!("Restored the team token {}", text(&token, "name"));
            Ok(done(on, &token, &line, &door.note()))
        }
    }
}
