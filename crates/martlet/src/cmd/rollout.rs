//! `martlet rollout`: firmware for many devices, in waves.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use martlet_control::text::{harmless, printable};
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, ask_with, finish_as};
use crate::cmd::columns::columns;
use crate::cmd::firmware::text_of;
use crate::cmd::print::{out, write_out};
use crate::cmd::query::{encoded, with_query};

/// Interval of requests in `watch`.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Length of a progress bar in characters.
const BAR: u64 = 40;
/// Additional time limit for starting a rollout, which may have up to 100,000 devices.
const LONGER: Duration = Duration::from_secs(60);
/// Exit code of `watch` if the rollout is paused, has failed or was aborted.
const NOT_DONE: u8 = 3;

/// Arguments of `martlet rollout`.
#[derive(Args, Debug)]
pub(crate) struct RolloutCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Start a rollout of a version of firmware
    Start(StartOptions),
    /// List rollouts
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Show a rollout with its waves
    Show(RolloutName),
    /// Follow a rollout with a progress bar until it pauses or ends
    Watch(RolloutName),
    /// List devices of a rollout, and why some are stuck
    Devices(DevicesOptions),
    /// Pause a rollout: the firmware is offered to no further device
    Pause(RolloutName),
    /// Start a planned rollout, or resume a paused one
    Resume(RolloutName),
    /// End a rollout; devices that have begun the update continue
    Abort(RolloutName),
    /// Offer the firmware again to devices that failed or are silent
    Retry(RolloutName),
}

#[derive(Args, Debug)]
struct StartOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Name of the firmware
    #[arg(value_name = "NAME")]
    name: String,
    /// Version of the firmware
    #[arg(value_name = "VERSION")]
    version: String,
    /// Devices of this group, by id or name
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Devices with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Devices of this type
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// Comma-separated waves: 1%,10%,100%, or numbers of devices. Each value includes the devices
    /// of earlier waves; the remaining devices are the last wave [default: one wave]
    #[arg(long, value_name = "WAVES", value_delimiter = ',')]
    waves: Vec<String>,
    /// Percent of the devices of a wave that may fail [default: 5]
    #[arg(long, value_name = "PERCENT")]
    max_failed: Option<f64>,
    /// Percent of the devices of a wave that may be silent [default: 20]
    #[arg(long, value_name = "PERCENT")]
    max_silent: Option<f64>,
    /// Seconds without contact after which a device counts as silent [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    silent_after: Option<u32>,
    /// Minimum duration of a wave, seconds [default: 0]
    #[arg(long, value_name = "SECONDS")]
    min_wait: Option<u32>,
    /// Seconds after which the rollout fails if it has not ended [default: 604800]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Only plan the rollout; martlet rollout resume starts it
    #[arg(long)]
    plan: bool,
    /// Team of the firmware and devices, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Only rollouts that have not ended
    #[arg(long)]
    open: bool,
    /// Only rollouts of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// List the newest N, at most 1000
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
}

#[derive(Args, Debug)]
struct RolloutName {
    #[command(flatten)]
    admin: AdminOptions,
    /// Id of the rollout
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Args, Debug)]
struct DevicesOptions {
    #[command(flatten)]
    named: RolloutName,
    /// Only devices in this state: waiting, offered, delivered, downloading, installing, succeeded,
    /// failed, silent or skipped
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
}

/// Runs the command.
pub(crate) fn run(command: &RolloutCommand) -> ExitCode {
    match &command.action {
        Action::Start(options) => finish_as(options.admin.json, start(options)),
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Show(named) => finish_as(named.admin.json, show(named)),
        Action::Watch(named) => watch(named),
        Action::Devices(options) => finish_as(options.named.admin.json, devices(options)),
        Action::Pause(named) => order(named, "pause"),
        Action::Resume(named) => order(named, "resume"),
        Action::Abort(named) => order(named, "abort"),
        Action::Retry(named) => order(named, "retry"),
    }
}

impl RolloutName {
    fn path(&self, behind: &str) -> String {
        format!("/api/v1/rollouts/{}{behind}", encoded(&self.id))
    }

    fn read(&self) -> anyhow::Result<String> {
        ask(&self.admin.node.data_dir()?, "GET", &self.path(""))
    }
}

fn start(options: &StartOptions) -> anyhow::Result<String> {
    let waves = options
        .waves
        .iter()
        .map(|wave| match wave.trim().parse::<u64>() {
            Ok(count) => Value::from(count),
            Err(_) => Value::from(wave.trim()),
        });
    let waves: Vec<Value> = waves.collect();
    let mut body = json!({
        "firmware": options.name, "version": options.version, "group": options.group,
        "tag": options.tag, "type": options.device_type, "waves": waves, "gate": {},
        "start": !options.plan,
    });
    let gate = [
        ("max_failed_percent", options.max_failed.map(Value::from)),
        ("max_silent_percent", options.max_silent.map(Value::from)),
        ("silent_after_secs", options.silent_after.map(Value::from)),
        ("min_wait_secs", options.min_wait.map(Value::from)),
    ];
    for (name, value) in gate {
        if let Some(value) = value {
            body["gate"][name] = value;
        }
    }
    if let Some(timeout) = options.timeout {
        body["timeout_secs"] = timeout.into();
    }
    let target = with_query("/api/v1/rollouts", &[("team", options.team.as_deref())]);
    let data_dir = options.admin.node.data_dir()?;
    let answer = ask_with(&data_dir, "POST", &target, &body.to_string(), LONGER)?;
    if options.admin.json {
        return Ok(answer);
    }
    let added: Value = serde_json::from_str(&answer)?;
    let id = text_of(&added["id"]);
    let state = text_of(&added["state"]);
    let devices = devices_text(&added["devices"]);
    let node = options.admin.node.in_command();
    let next = match options.plan {
        true => format!("To start it: martlet rollout resume {node}{id}"),
        false => format!("To follow it: martlet rollout watch {node}{id}"),
    };
    Ok(format!("Rollout {id} of {devices} is {state}.\n{next}\n"))
}

/// `1 device`, `8 devices`.
fn devices_text(count: &Value) -> String {
    match count.as_u64() {
        Some(1) => "1 device".to_owned(),
        _ => format!("{count} devices"),
    }
}

/// `succeeded 7, failed 1`.
fn states_text(states: &Value) -> String {
    let states = states.as_object().into_iter().flatten();
    let states = states.map(|(state, count)| format!("{state} {count}"));
    states.collect::<Vec<_>>().join(", ")
}

/// `paused (gate_failures)`.
fn state_text(rollout: &Value) -> String {
    let (state, reason) = (text_of(&rollout["state"]), text_of(&rollout["reason"]));
    match reason.is_empty() {
        true => state,
        false => format!("{state} ({reason})"),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let open = options.open.then_some("true");
    let limit = options.limit.to_string();
    let parameters = [
        ("open", open),
        ("team", options.team.as_deref()),
        ("limit", Some(&*limit)),
    ];
    let target = with_query("/api/v1/rollouts", &parameters);
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let answer: Value = serde_json::from_str(&body)?;
    let none = Vec::new();
    let items = answer["items"].as_array().unwrap_or(&none);
    let row = |one: &Value| {
        let waves = one["waves"].as_array().map_or(0, Vec::len);
        [
            text_of(&one["id"]),
            text_of(&one["firmware"]),
            text_of(&one["version"]),
            state_text(one),
            format!("{}/{waves}", one["wave"]),
            one["devices"].to_string(),
            states_text(&one["states"]),
        ]
    };
    let headers = [
        "ID", "FIRMWARE", "VERSION", "STATE", "WAVE", ">DEVICES", "STATES",
    ];
    Ok(columns(
        headers,
        items.iter().map(row),
        "There are no rollouts.",
    ))
}

fn show(named: &RolloutName) -> anyhow::Result<String> {
    let body = named.read()?;
    if named.admin.json {
        return Ok(body);
    }
    let rollout: Value = serde_json::from_str(&body)?;
    let gate = &rollout["gate"];
    let gate = format!(
        "failed {} %, silent {} % (after {} s), at least {} s",
        gate["max_failed_percent"],
        gate["max_silent_percent"],
        gate["silent_after_secs"],
        gate["min_wait_secs"]
    );
    let fields = [
        ("id", text_of(&rollout["id"])),
        ("firmware", text_of(&rollout["firmware"])),
        ("version", text_of(&rollout["version"])),
        ("state", state_text(&rollout)),
        ("devices", text_of(&rollout["devices"])),
        ("states", states_text(&rollout["states"])),
        ("gate", gate),
        ("begun by", text_of(&rollout["asked_by"])),
        ("started", text_of(&rollout["started_at"])),
        ("deadline", text_of(&rollout["deadline_at"])),
        ("finished", text_of(&rollout["finished_at"])),
    ];
    let line =
        |(name, text): (&str, String)| format!("{}\n", format!("{name:<12} {text}").trim_end());
    let mut text = fields.map(line).concat();
    let none = Vec::new();
    let waves = rollout["waves"].as_array().unwrap_or(&none);
    for (at, wave) in waves.iter().enumerate() {
        let begun = match wave["begun"] == true {
            true => "",
            false => " (not begun)",
        };
        let states = states_text(&wave["states"]);
        let line = format!("{}: {states}{begun}", devices_text(&wave["devices"]));
        text.push_str(&format!("{:<12} {line}\n", format!("wave {}", at + 1)));
    }
    Ok(text)
}

fn devices(options: &DevicesOptions) -> anyhow::Result<String> {
    let (named, limit) = (&options.named, options.limit.to_string());
    let parameters = [
        ("limit", Some(&*limit)),
        ("state", options.state.as_deref()),
    ];
    let target = with_query(&named.path("/devices"), &parameters);
    let body = ask(&named.admin.node.data_dir()?, "GET", &target)?;
    if named.admin.json {
        return Ok(body);
    }
    let answer: Value = serde_json::from_str(&body)?;
    let none = Vec::new();
    let items = answer["items"].as_array().unwrap_or(&none);
    let row = |one: &Value| {
        let progress = match &one["progress"] {
            Value::Null => String::new(),
            percent => format!("{percent} %"),
        };
        [
            text_of(&one["device"]),
            text_of(&one["wave"]),
            text_of(&one["state"]),
            progress,
            text_of(&one["since"]),
            text_of(&one["why"]),
        ]
    };
    let headers = ["DEVICE", ">WAVE", "STATE", ">PROGRESS", "SINCE", "WHY"];
    let mut text = columns(
        headers,
        items.iter().map(row),
        "No device is in that state.",
    );
    if !answer["next"].is_null() {
        text.push_str("There are more: raise --limit, or name a --state.\n");
    }
    Ok(text)
}

fn order(named: &RolloutName, order: &str) -> ExitCode {
    let path = named.path(&format!("/{order}"));
    let data_dir = named.admin.node.data_dir();
    let done = data_dir.and_then(|data_dir| ask(&data_dir, "POST", &path));
    let done = done.and_then(|body| {
        if named.admin.json {
            return Ok(body);
        }
        let rollout: Value = serde_json::from_str(&body)?;
        let state = state_text(&rollout);
        Ok(format!("Rollout {} is {state}.", printable(&named.id)))
    });
    finish_as(named.admin.json, done)
}

/// Follows a rollout until it pauses or ends.
fn watch(named: &RolloutName) -> ExitCode {
    let mut shown = String::new();
    let is_terminal = std::io::stdout().is_terminal() && !named.admin.json;
    loop {
        let read = named.read().and_then(|body| {
            let rollout: Value = serde_json::from_str(&body)?;
            Ok((body, rollout))
        });
        let (body, rollout) = match read {
            Ok(read) => read,
            Err(error) => return finish_as(named.admin.json, Err(error)),
        };
        let line = match named.admin.json {
            true => body.trim_end().to_owned(),
            false => progress_line(&rollout),
        };
        // The reader may have closed the output.
        let is_read = match (is_terminal, line == shown) {
            (true, _) => write_out(format!("\r\x1b[2K{}", harmless(&line)).as_bytes()),
            (false, true) => true,
            (false, false) => out!("{line}\n"),
        };
        shown = line;
        let state = rollout["state"].as_str().unwrap_or_default();
        if !is_read || !matches!(state, "running" | "planned") {
            if is_terminal {
                out!("\n");
            }
            return match state {
                "succeeded" => ExitCode::SUCCESS,
                _ => ExitCode::from(NOT_DONE),
            };
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `[####      ] 40 % wave 1/3 running: succeeded 4, waiting 6`.
fn progress_line(rollout: &Value) -> String {
    let count = |state: &str| rollout["states"][state].as_u64().unwrap_or(0);
    let devices = rollout["devices"].as_u64().unwrap_or(0);
    let ended: u64 = ["succeeded", "failed", "silent", "skipped"]
        .map(count)
        .iter()
        .sum();
    let part = |of: u64| (ended * of).checked_div(devices).unwrap_or(of);
    let full = part(BAR);
    let bar: String = (0..BAR)
        .map(|at| if at < full { '#' } else { ' ' })
        .collect();
    let waves = rollout["waves"].as_array().map_or(0, Vec::len);
    format!(
        "[{bar}] {:>3} % wave {}/{waves} {}: {}",
        part(100),
        rollout["wave"],
        state_text(rollout),
        states_text(&rollout["states"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_how_many_devices_have_ended() {
        let rollout = json!({
            "devices": 10, "wave": 2, "waves": [{}, {}, {}], "state": "paused",
            "reason": "gate_failures", "states": {"failed": 1, "succeeded": 4, "waiting": 5},
        });
        let line = progress_line(&rollout);
        assert!(line.starts_with(&format!("[{}{}]  50 %", "#".repeat(20), " ".repeat(20))));
        assert!(
            line.ends_with("wave 2/3 paused (gate_failures): failed 1, succeeded 4, waiting 5")
        );
        let nobody = json!({"devices": 0, "states": {}});
        assert!(progress_line(&nobody).contains("100 %"));
    }
}
