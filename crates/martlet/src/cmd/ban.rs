//! `martlet ban`: clients, users and addresses that are refused.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cmd::answers::{ListForm, done};
use crate::cmd::door::Door;
use crate::cmd::duration::end_ms;
use crate::cmd::node_options::NodeAndForm;
use crate::cmd::query::encoded;
use crate::cmd::role;
use crate::cmd::view::{moment, text, time};

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
    /// Only bans in the tenant of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    form: ListForm,
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
    /// The word for it in the API.
    fn word(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::User => "user_name",
            Self::Address => "address",
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

/// The path of bans in the API.
const PATH: &str = "/api/v1/bans";

/// Runs `martlet ban`.
pub(crate) fn ban(command: &BanCommand) -> ExitCode {
    role::finish(match command {
        BanCommand::Add(options) => add(options),
        BanCommand::Ls(options) => list(options),
        BanCommand::Rm(options) => remove(options),
    })
}

fn add(options: &AddBan) -> anyhow::Result<String> {
    let door = Door::of(&options.on.node)?;
    let body = json!({
        "kind": options.kind.word(), "value": options.value, "team": options.team,
        "why": options.why, "until": moment(options.ends_ms),
    });
    let ban = door.ask("POST", PATH, Some(&body))?;
    let team = match ban["team"].is_null() {
        true => String::new(),
        false => format!(" of the team {}", door.team_of(&ban)),
    };
    let until = match ban["until"].is_null() {
        true => "for ever".to_owned(),
        false => format!("until {} UTC", time(&ban, "until")),
    };
    let replaced = match &ban["replaced"] {
        Value::String(id) => format!("; it replaces the ban {id}"),
        _ => String::new(),
    };
    let (value, id) = (text(&ban, "value"), text(&ban, "id"));
    let line = format!("{value}{team} is banned {until} ({id}){replaced}");
    Ok(done(&options.on, &ban, &line, &door.note()))
}

fn list(options: &ListOfBans) -> anyhow::Result<String> {
    let form = &options.form;
    let ended = options.ended.then_some(("ended", "true"));
    let team = options.team.as_deref().map(|team| ("team", team));
    let filters: Vec<_> = ended.into_iter().chain(team).collect();
    let door = Door::of(&form.on.node)?;
    let all = form.read(&door, PATH, &filters)?;
    let until = |ban: &Value| {
        let ended = if ban["holds"] == true { "" } else { " (ended)" };
        format!("{}{ended}", time(ban, "until"))
    };
    let none = "There are no bans.";
    if all.items.iter().any(|ban| !ban["team"].is_null()) {
        let row = |ban: &Value| {
            let [id, kind, value] = ["id", "kind", "value"].map(|member| text(ban, member));
            let team = door.team_of(ban);
            [id, kind, value, team, until(ban), text(ban, "why")]
        };
        let headers = ["ID", "KIND", "VALUE", "TEAM", "UNTIL", "WHY"];
        return form.show(all, headers, row, none);
    }
    let row = |ban: &Value| {
        let [id, kind, value] = ["id", "kind", "value"].map(|member| text(ban, member));
        [id, kind, value, until(ban), text(ban, "why")]
    };
    let headers = ["ID", "KIND", "VALUE", "UNTIL", "WHY"];
    form.show(all, headers, row, none)
}

fn remove(options: &RemoveBan) -> anyhow::Result<String> {
    let RemoveBan {
        id,
        value,
        team,
        on,
    } = options;
    let door = Door::of(&on.node)?;
    let id = match value {
        None => id.clone(),
        Some(value) => {
            let kind = match ByWhat::from_str(id, false) {
                Ok(kind) => kind.word(),
                Err(_) => id.as_str(),
            };
            let filters = [("kind", kind), ("value", value)];
            let team = team.as_deref().map(|team| ("team", team));
            let filters: Vec<_> = filters.into_iter().chain(team).collect();
            let found = door.all(PATH, &filters)?;
            found
                .first()
                .map_or_else(String::new, |ban| text(ban, "id"))
        }
    };
    door.ask("DELETE", &format!("{PATH}/{}", encoded(&id)), None)?;
    let line = format!("Removed the ban {id}");
    Ok(done(on, &json!({ "removed": id }), &line, &door.note()))
}
