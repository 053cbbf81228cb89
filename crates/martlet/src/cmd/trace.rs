//! `martlet trace`: everything that a client, an address or a topic does goes to the node's log,
//! for some minutes.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use martlet_api::{TraceView, TracesView};
use martlet_control::text::{printable, typed};
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, ask_with, encoded, finish_as};

/// Arguments of `martlet trace`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TraceOptions {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    admin: AdminOptions,
    /// Client Identifier [default: list what is traced]
    #[arg(value_name = "CLIENT", group = "subject")]
    client: Option<String>,
    /// All clients from this address
    #[arg(long, value_name = "ADDRESS", group = "subject")]
    address: Option<IpAddr>,
    /// Messages with a topic that this Topic Filter matches
    #[arg(long, value_name = "FILTER", group = "subject")]
    topic: Option<String>,
    /// The client belongs to this team, by id or name, which has a tenant of its own
    #[arg(long, value_name = "TEAM", requires = "client")]
    team: Option<String>,
    /// Minutes that it lasts
    #[arg(long, short = 'm', value_name = "N", default_value_t = 10)]
    minutes: u32,
    /// End it now
    #[arg(long, requires = "subject")]
    end: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List what is traced; a client of the name ls is traced with: martlet trace -- ls
    #[command(alias = "list")]
    Ls(AdminOptions),
}

const PATH: &str = "/api/v1/traces";

/// Runs the command.
pub(crate) fn run(options: &TraceOptions) -> ExitCode {
    match &options.action {
        Some(Action::Ls(admin)) => finish_as(admin.json, listed(admin)),
        None => finish_as(options.admin.json, work(options)),
    }
}

fn listed(admin: &AdminOptions) -> anyhow::Result<String> {
    list(admin.json, &ask(&admin.node.data_dir()?, "GET", PATH)?)
}

fn work(options: &TraceOptions) -> anyhow::Result<String> {
    let data_dir = options.admin.node.data_dir()?;
    let (name, value) = match (&options.client, &options.address, &options.topic) {
        (Some(client), ..) => ("client", client.clone()),
        (_, Some(address), _) => ("address", address.to_string()),
        (.., Some(topic)) => ("topic", topic.clone()),
        _ => return listed(&options.admin),
    };
    let team = options.team.as_deref();
    let team = team.map_or(String::new(), |team| format!("team={}&", encoded(team)));
    if options.end {
        let target = format!("{PATH}?{team}{name}={}", encoded(&value));
        ask(&data_dir, "DELETE", &target)?;
        return Ok(match options.admin.json {
            true => json!({ "ended": value }).to_string(),
            false => format!("the trace of {} has ended", printable(&value)),
        });
    }
    let mut body = json!({ "minutes": options.minutes });
    body[name] = Value::String(value.clone());
    let target = format!("{PATH}?{team}");
    let asked = ("POST", target.trim_end_matches(['?', '&']));
    let answer = ask_with(&data_dir, asked, &body.to_string(), Duration::ZERO)?;
    if options.admin.json {
        return Ok(answer);
    }
    let begun: TraceView = serde_json::from_str(&answer)?;
    let until = begun.until.as_deref().unwrap_or("it is ended");
    // By `ID@TEAM` it may be another's than was named.
    let (read, team) = match (&begun.client, begun.tenant) {
        (Some(client), Some(_)) => {
            let of_name = value.strip_prefix(&**client);
            let of_name = of_name.and_then(|rest| rest.strip_prefix('@'));
            let team = options.team.as_deref().or(of_name);
            let team = team.map(|team| format!(" --team {}", typed(team)));
            (client, team.unwrap_or_default())
        }
        _ => (&value, String::new()),
    };
    Ok(format!(
        "{} is traced until {until}: its lines go to the log of the node\n\
         To read along: martlet events --{name} {}{team} --type all",
        printable(&value),
        typed(read)
    ))
}

fn list(is_json: bool, body: &str) -> anyhow::Result<String> {
    if is_json {
        return Ok(body.to_owned());
    }
    let TracesView { items: all } = serde_json::from_str(body)?;
    if all.is_empty() {
        return Ok("Nothing is traced".to_owned());
    }
    let line = |one: &TraceView| {
        let address = one.address.map(|address| address.to_string());
        let subject = match (&one.client, address, &one.topic) {
            (Some(client), ..) => match one.tenant {
                Some(tenant) => format!("client  {client} of tenant {tenant}"),
                None => format!("client  {client}"),
            },
            (_, Some(address), _) => format!("address {address}"),
            (.., topic) => format!("topic   {}", topic.as_deref().unwrap_or_default()),
        };
        let until = one.until.as_deref().unwrap_or("ended");
        format!("{}  until {until}\n", printable(&subject))
    };
    Ok(all.iter().map(line).collect())
}
