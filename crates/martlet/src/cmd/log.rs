//! `martlet log`: the log levels of a running node.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use martlet_control::logging::{Change, Levels};
use martlet_control::text::printable;

use crate::cmd::admin::{AdminOptions, ask, ask_with, finish_as};

const PATH: &str = "/api/v1/logs/levels";

/// Word that resets an area to the general level.
const DEFAULT: &str = "default";

/// Arguments of `martlet log`.
#[derive(Args, Debug)]
pub(crate) struct LogCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show what a running node logs, or change it, without a restart
    Level(LevelOptions),
}

#[derive(Args, Debug)]
struct LevelOptions {
    /// error, warn, info, debug, trace or off; with --area also "default", the level of everything;
    /// without it also a filter such as "info,martlet_control=warn" [default: show the levels]
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    /// Only for this area
    #[arg(long, value_name = "AREA", requires = "level")]
    area: Option<String>,
    /// Restore the previous level after this number of minutes [default: until it is changed again
    /// or the node ends]
    #[arg(long, value_name = "N", requires = "level")]
    minutes: Option<u32>,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Runs the command.
pub(crate) fn run(command: &LogCommand) -> ExitCode {
    let Action::Level(options) = &command.action;
    finish_as(options.admin.json, level(options))
}

fn level(options: &LevelOptions) -> anyhow::Result<String> {
    let data_dir = options.admin.node.data_dir()?;
    let body = match &options.level {
        None => ask(&data_dir, "GET", PATH)?,
        Some(level) => {
            let is_default = options.area.is_some() && level == DEFAULT;
            let change = Change {
                level: (!is_default).then(|| level.clone()),
                area: options.area.clone(),
                client: None,
                minutes: options.minutes,
            };
            let change = serde_json::to_string(&change)?;
            ask_with(&data_dir, "PATCH", PATH, &change, Duration::ZERO)?
        }
    };
    match options.admin.json {
        true => Ok(body),
        false => Ok(text(&serde_json::from_str(&body)?)),
    }
}

fn text(levels: &Levels) -> String {
    let until = |ms: Option<u64>| {
        let at = ms.and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
        at.map_or_else(String::new, |at| format!(" until {at:.0}"))
    };
    let mut lines = vec![format!("everything: {}", levels.level)];
    for area in &levels.areas {
        let until = until(area.until_ms);
        lines.push(format!("{}: {}{until}", area.area, area.level));
    }
    for client in &levels.clients {
        let until = until(client.until_ms);
        lines.push(format!("client {}: everything{until}", client.client_id));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}
