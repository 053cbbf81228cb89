//! `martlet trace`: logs all activity of a client, an address or a topic for some minutes.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use martlet_api::{TraceView, TracesView};
use martlet_control::text::{printable, typed};
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, ask_with, finish_as};
use crate::cmd::columns::columns;
use crate::cmd::query::encoded;

/// Arguments of `martlet trace`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TraceOptions {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: Subject,
    /// Duration in minutes
    #[arg(long, short = 'm', value_name = "N", default_value_t = 10)]
    minutes: u32,
    /// End the trace now
    #[arg(long, requires = "subject")]
    end: bool,
}

/// Subject of the trace.
#[derive(Args, Debug)]
#[group(skip)]
struct Subject {
    /// Client Identifier
    #[arg(value_name = "CLIENT", group = "subject")]
    client: Option<String>,
    /// All clients from this address
    #[arg(long, value_name = "ADDRESS", group = "subject")]
    address: Option<IpAddr>,
    /// Messages with a topic that this Topic Filter matches
    #[arg(long, value_name = "FILTER", group = "subject")]
    topic: Option<String>,
    /// Team of the client, by id or name, if the team has its own tenant
    #[arg(long, value_name = "TEAM", requires = "client")]
    team: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List active traces; to trace a client named ls: martlet trace -- ls
    #[command(alias = "list")]
    Ls(AdminOptions),
    /// End a trace, as --end does
    #[command(alias = "rm")]
    Stop(StopOptions),
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("ended").args(["client", "address", "topic"]).required(true))]
struct StopOptions {
    #[command(flatten)]
    of: Subject,
    #[command(flatten)]
    admin: AdminOptions,
}

const PATH: &str = "/api/v1/traces";

/// Runs the command.
pub(crate) fn run(options: &TraceOptions) -> ExitCode {
    match &options.action {
        Some(Action::Ls(admin)) => finish_as(admin.json, listed(admin)),
        Some(Action::Stop(StopOptions { of, admin })) => {
            let ended = of.named().map(|(name, value)| end(admin, of, name, &value));
            finish_as(admin.json, ended.unwrap_or_else(|| listed(admin)))
        }
        None => finish_as(options.admin.json, work(options)),
    }
}

impl Subject {
    /// The option's name in a request, and its value; `None` if there is none.
    fn named(&self) -> Option<(&'static str, String)> {
        let client = self.client.clone().map(|client| ("client", client));
        let address = self.address.map(|address| ("address", address.to_string()));
        let topic = self.topic.clone().map(|topic| ("topic", topic));
        client.or(address).or(topic)
    }

    fn team_query(&self) -> String {
        let team = self.team.as_deref();
        team.map_or(String::new(), |team| format!("team={}&", encoded(team)))
    }
}

fn end(admin: &AdminOptions, of: &Subject, name: &str, value: &str) -> anyhow::Result<String> {
    let target = format!("{PATH}?{}{name}={}", of.team_query(), encoded(value));
    ask(&admin.node.data_dir()?, "DELETE", &target)?;
    Ok(match admin.json {
        true => json!({ "ended": value }).to_string(),
        false => format!("the trace of {} has ended", printable(value)),
    })
}

fn listed(admin: &AdminOptions) -> anyhow::Result<String> {
    list(admin.json, &ask(&admin.node.data_dir()?, "GET", PATH)?)
}

fn work(options: &TraceOptions) -> anyhow::Result<String> {
    let of = &options.of;
    let Some((name, value)) = of.named() else {
        return listed(&options.admin);
    };
    if options.end {
        return end(&options.admin, of, name, &value);
    }
    let data_dir = options.admin.node.data_dir()?;
    let team = of.team_query();
    let mut body = json!({ "minutes": options.minutes });
    body[name] = Value::String(value.clone());
    let target = format!("{PATH}?{team}");
    let target = target.trim_end_matches(['?', '&']);
    let answer = ask_with(&data_dir, "POST", target, &body.to_string(), Duration::ZERO)?;
    if options.admin.json {
        return Ok(answer);
    }
    let begun: TraceView = serde_json::from_str(&answer)?;
    let until = begun.until.as_deref().unwrap_or("it is ended");
    // An argument `ID@TEAM` may refer to a client with another identifier.
    let (read, team) = match (&begun.client, begun.tenant) {
        (Some(client), Some(_)) => {
            let of_name = value.strip_prefix(&**client);
            let of_name = of_name.and_then(|rest| rest.strip_prefix('@'));
            let team = of.team.as_deref().or(of_name);
            let team = team.map(|team| format!(" --team={}", typed(team)));
            (client, team.unwrap_or_default())
        }
        _ => (&value, String::new()),
    };
    let node = options.admin.node.in_command();
    Ok(format!(
        "{} is traced until {until}: its lines go to the log of the node\nTo follow it: martlet \
         events --{name}={}{team} {node}--type all",
        printable(&value),
        typed(read)
    ))
}

fn list(is_json: bool, body: &str) -> anyhow::Result<String> {
    if is_json {
        return Ok(body.to_owned());
    }
    let TracesView { items: all } = serde_json::from_str(body)?;
    let row = |one: &TraceView| {
        let address = one.address.map(|address| address.to_string());
        let (kind, name) = match (&one.client, address, &one.topic) {
            (Some(client), ..) => match one.tenant {
                Some(tenant) => ("client", format!("{client} of tenant {tenant}")),
                None => ("client", client.to_string()),
            },
            (_, Some(address), _) => ("address", address),
            (.., topic) => ("topic", topic.as_deref().unwrap_or_default().to_owned()),
        };
        let until = one.until.as_deref().unwrap_or("ended").to_owned();
        [kind.to_owned(), until, name]
    };
    let headers = ["KIND", "UNTIL", "OF"];
    Ok(columns(headers, all.iter().map(row), "Nothing is traced."))
}
