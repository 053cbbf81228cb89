//! `martlet team show`: how much teams use of what all teams share.

use clap::Args;
use martlet_api::{Items, ShareView};

use crate::cmd::admin::{AdminOptions, ask};
use crate::cmd::columns::columns;
use crate::cmd::query::encoded;

/// Arguments of `martlet team show`.
#[derive(Args, Debug)]
pub(crate) struct ShowTeam {
    /// Id or name of the team [default: all teams, without unused shares]
    #[arg(value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    admin: AdminOptions,
}

/// The shares as a table, or as JSON.
pub(super) fn show(options: &ShowTeam) -> anyhow::Result<String> {
    let team = options.team.as_deref();
    let query = team.map_or_else(String::new, |team| format!("?team={}", encoded(team)));
    let target = format!("/api/v1/shares{query}");
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(format!("{body}\n"));
    }
    let shares: Items<ShareView> = serde_json::from_str(&body)?;
    let number = |number: Option<u64>| number.map_or_else(String::new, |it| it.to_string());
    let rows = shares.items.into_iter().map(|one| {
        [
            one.team.unwrap_or_default(),
            one.pool,
            number(one.used),
            number(one.share),
            one.limit.to_string(),
            one.unit,
            format!("{:.0} %", one.used_ratio * 100.0),
        ]
    });
    let headers = ["TEAM", "POOL", ">USED", ">SHARE", ">LIMIT", "UNIT", ">FULL"];
    Ok(columns(headers, rows, "Nothing is used."))
}
