//! `martlet lockout`: lists names and addresses locked out of a running node for wrong credentials,
//! and clears lockouts.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgGroup, Args, Subcommand};
use martlet_api::LockoutView;
use martlet_control::text::printable;
use serde::Deserialize;

use crate::cmd::admin::{AdminOptions, ask, finish_as};
use crate::cmd::columns::columns;
use crate::cmd::node_options::TeamOption;
use crate::cmd::query::encoded;

/// Arguments of `martlet lockout`.
#[derive(Args, Debug)]
pub(crate) struct LockoutCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List names and addresses that are locked out for wrong credentials
    ///
    /// If an MQTT client repeats the same wrong credentials within auth.refusal_remember_secs (5
    /// s), they count as one failure.
    #[command(alias = "list")]
    Ls(ListOptions),
    /// End the lockouts of a user name or of an address
    Rm(RemoveOptions),
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// List the first N, at most 1000
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("whom").required(true).args(["who", "all"])))]
struct RemoveOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// User name or IP address; --all instead of it ends all lockouts
    #[arg(value_name = "WHO")]
    who: Option<String>,
    /// End all lockouts
    #[arg(long)]
    all: bool,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<LockoutView>,
    total: Option<u64>,
}

#[derive(Deserialize)]
struct Lifted {
    lifted: usize,
}

/// Runs `martlet lockout`.
pub(crate) fn run(command: &LockoutCommand) -> ExitCode {
    match &command.action {
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Rm(options) => finish_as(options.admin.json, remove(options)),
    }
}

fn query(of: &TeamOption, first: &str) -> String {
    let team = of.team.as_deref();
    let team = team.map_or_else(String::new, |team| format!("&team={}", encoded(team)));
    format!("/api/v1/lockouts?{first}{team}")
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let target = query(&options.of, &format!("limit={}", options.limit));
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let page: Page = serde_json::from_str(&body)?;
    let rows = page.items.iter().map(|one| {
        let name = match (&one.user_name, &one.team) {
            (Some(name), Some(team)) => format!("{name}@{team}"),
            (Some(name), None) => name.clone(),
            (None, _) => "(all)".to_owned(),
        };
        let address = one.address.as_deref().unwrap_or("(all)").to_owned();
        let last = one.last_address.clone().unwrap_or_default();
        [name, address, last, one.until.to_string()]
    });
    let headers = ["USER", "ADDRESS", "LAST-FROM", "UNTIL"];
    let mut text = columns(headers, rows, "There are no lockouts.");
    let total = page.total.unwrap_or(0);
    if total > page.items.len() as u64 {
        text.push_str(&format!("{} of {total}\n", page.items.len()));
    }
    Ok(text)
}

fn remove(options: &RemoveOptions) -> anyhow::Result<String> {
    let who = options.who.as_deref();
    let is_address = |who: &&str| who.parse::<IpAddr>().is_ok();
    let mut whom = Vec::new();
    match who {
        None => whom.push("all=true".to_owned()),
        Some(who) => {
            // A user of that name may be locked out, too. An address is in no team.
            let address = Some(who).filter(is_address);
            let address = address.filter(|_| options.of.team.is_none());
            whom.extend(address.map(|who| format!("address={}", encoded(who))));
            whom.push(format!("user_name={}", encoded(who)));
        }
    }
    let mut lifted = 0;
    for whom in whom {
        let target = query(&options.of, &whom);
        let body = ask(&options.admin.node.data_dir()?, "DELETE", &target)?;
        let answer: Lifted = serde_json::from_str(&body).context("reading the answer")?;
        lifted += answer.lifted;
    }
    if options.admin.json {
        return Ok(serde_json::json!({ "lifted": lifted }).to_string());
    }
    match (lifted, who) {
        (0, Some(who)) => anyhow::bail!("{} is not locked out", printable(who)),
        (1, _) => Ok("1 lockout is ended".to_owned()),
        (lifted, _) => Ok(format!("{lifted} lockouts are ended")),
    }
}
