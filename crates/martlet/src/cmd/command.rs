//! `martlet command`: sends commands to devices through a running node, and shows their states.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martlet_control::text::printable;
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, ask_with, finish_as};
use crate::cmd::columns::{columns, cut};
use crate::cmd::print::{errln, outln};
use crate::cmd::query::encoded;

/// Exit code while a command has not ended.
const NOT_ENDED: u8 = 3;
/// Interval of requests for states.
const INTERVAL: Duration = Duration::from_millis(500);
/// Parameters for the largest page of devices.
const ALL: [(&str, Option<&str>); 1] = [("limit", Some("1000"))];
/// Characters of a result in a list.
const RESULT_CHARACTERS: usize = 40;

/// Arguments of `martlet command`.
#[derive(Args, Debug)]
pub(crate) struct CommandCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Send a command to a device, a group, or devices by type, kind and tag
    ///
    /// With --wait: exit code 0 if all devices have succeeded, 1 if one has not, 3 after the time
    /// limit.
    Send(Box<SendOptions>),
    /// List the commands of a device, or those sent to a group or to devices by type, kind and tag
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Show a command of a device, or the devices that a command was sent to
    Show(NamedOptions),
    /// Cancel a command of a device; a message on its way may arrive
    Cancel(OfDevice),
    /// Publish a command of a device again, with the same id
    Retry(OfDevice),
    /// Print states as they change, until the command has ended
    Watch(NamedOptions),
}

/// The devices that commands are for.
#[derive(Args, Clone, Debug)]
struct Target {
    /// Device, by id
    #[arg(long, short = 'd', value_name = "ID", conflicts_with = "group")]
    device: Option<String>,
    /// Group of devices, by id or name
    #[arg(long, short = 'g', value_name = "GROUP")]
    group: Option<String>,
    /// Team of the device or group, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

#[derive(Args, Debug)]
struct SendOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Command for the device
    #[arg(value_name = "COMMAND")]
    command: String,
    #[command(flatten)]
    to: Target,
    /// Devices of this type
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "device")]
    device_type: Option<String>,
    /// Devices with this tag
    #[arg(long, value_name = "TAG", conflicts_with = "device")]
    tag: Option<String>,
    /// Devices of this kind
    #[arg(long, value_name = "KIND", conflicts_with = "device")]
    kind: Option<String>,
    /// Parameters, as JSON
    #[arg(long, short = 'p', value_name = "JSON")]
    parameters: Option<String>,
    /// Last level of the topic: control, config, firmware or another word
    #[arg(long, value_name = "LEVEL", default_value = "control")]
    topic: String,
    /// Id of the command [default: a new one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// QoS of the message [default: 1, and 2 for devices of the type iotflow]
    #[arg(long, short = 'q', value_name = "QOS",
        value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Option<u8>,
    /// Time limit for the acknowledgement by the device, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    expires: u32,
    /// Wait until the command has ended, for at most this number of seconds
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: Target,
    /// Only commands in this state
    #[arg(long, value_name = "STATE", requires = "device")]
    state: Option<String>,
    /// Only commands that have not ended
    #[arg(long, requires = "device")]
    open: bool,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100, requires = "device",
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
}

#[derive(Args, Debug)]
struct NamedOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Id of the command
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    of: Target,
}

#[derive(Args, Debug)]
struct OfDevice {
    #[command(flatten)]
    admin: AdminOptions,
    /// Id of the command
    #[arg(value_name = "ID")]
    id: String,
    /// Device, by id
    #[arg(long, short = 'd', value_name = "ID")]
    device: String,
    /// Team of the device, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

/// Runs the command.
pub(crate) fn run(command: &CommandCommand) -> ExitCode {
    match &command.action {
        Action::Send(options) => send(options),
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Show(options) => finish_as(options.admin.json, show(options)),
        Action::Cancel(options) => finish_as(options.admin.json, cancel(options)),
        Action::Retry(options) => finish_as(options.admin.json, retry(options)),
        Action::Watch(options) => {
            match watch(&options.admin, &options.id, &options.of, None, true) {
                Ok(state) => state.exit_code(),
                Err(error) => failed(options.admin.json, error),
            }
        }
    }
}

fn failed(is_json: bool, error: anyhow::Error) -> ExitCode {
    finish_as(is_json, Err(error))
}

impl Target {
    /// Path of the commands of the device or group.
    fn path(&self) -> String {
        match (&self.device, &self.group) {
            (Some(device), _) => format!("/api/v1/devices/{}/commands", encoded(device)),
            (None, Some(group)) => format!("/api/v1/groups/{}/commands", encoded(group)),
            (None, None) => "/api/v1/commands".to_owned(),
        }
    }

    fn query(&self, parameters: &[(&str, Option<&str>)]) -> String {
        let team = [("team", self.team.as_deref())];
        let all = parameters.iter().chain(&team);
        let given = all.filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
        let given: Vec<String> = given.collect();
        match given.is_empty() {
            true => String::new(),
            false => format!("?{}", given.join("&")),
        }
    }
}

fn send(options: &SendOptions) -> ExitCode {
    let body = match send_it(options) {
        Ok(body) => body,
        Err(error) => return failed(options.admin.json, error),
    };
    let sent: Value = serde_json::from_str(&body).unwrap_or_default();
    let id = text_of(&sent["id"]);
    if sent["devices"].as_u64() == Some(0) {
        if options.admin.json {
            outln!("{body}");
        }
        let why = "the command was sent to no device: no active device matches, or each has too \
                   many commands";
        return failed(options.admin.json, anyhow::anyhow!(why));
    }
    let to = match sent["devices"].as_u64() {
        None => format!("the device {}", text_of(&sent["device"])),
        Some(1) => "1 device".to_owned(),
        Some(count) => format!("{count} devices"),
    };
    if !options.admin.json {
        outln!("Sent the command {} to {}", printable(&id), printable(&to));
        if let Some(left_out @ 1..) = sent["left_out"].as_u64() {
            errln!(
                "{left_out} devices are left out: they are not active or have too many commands"
            );
        }
    }
    let Some(secs) = options.wait else {
        if options.admin.json {
            outln!("{body}");
        }
        return ExitCode::SUCCESS;
    };
    let mut of = options.to.clone();
    if options.has_filter() {
        of.group = None;
    }
    let until = Instant::now() + Duration::from_secs(secs);
    let prints = !options.admin.json;
    match watch(&options.admin, &id, &of, Some(until), prints) {
        Ok(state) => {
            if options.admin.json {
                match read(&options.admin, &id, &of) {
                    Ok(shown) => {
                        outln!("{shown}");
                    }
                    Err(error) => return failed(true, error),
                }
            }
            state.exit_code()
        }
        Err(error) => failed(options.admin.json, error),
    }
}

impl SendOptions {
    /// Whether devices are selected by more than a group.
    fn has_filter(&self) -> bool {
        self.device_type.is_some() || self.tag.is_some() || self.kind.is_some()
    }
}

fn send_it(options: &SendOptions) -> anyhow::Result<String> {
    let parameters: Value = match &options.parameters {
        None => Value::Null,
        Some(text) => serde_json::from_str(text)
            .with_context(|| format!("--parameters: {text:?} is not JSON"))?,
    };
    let to = &options.to;
    if to.device.is_none() && to.group.is_none() && !options.has_filter() {
        anyhow::bail!("name the devices by --device, --group, --type, --kind or --tag");
    }
    let mut body = json!({
        "command": options.command,
        "kind": options.topic,
        "parameters": parameters,
        "expires_secs": options.expires,
    });
    if let Some(id) = &options.id {
        body["id"] = json!(id);
    }
    if let Some(qos) = options.qos {
        body["qos"] = json!(qos);
    }
    let target = match options.has_filter() {
        false => format!("{}{}", to.path(), to.query(&[])),
        true => {
            let query = to.query(&[
                ("type", options.device_type.as_deref()),
                ("tag", options.tag.as_deref()),
                ("kind", options.kind.as_deref()),
                ("group", to.group.as_deref()),
            ]);
            format!("/api/v1/commands{query}")
        }
    };
    let data_dir = options.admin.node.data_dir()?;
    ask_with(
        &data_dir,
        "POST",
        &target,
        &body.to_string(),
        Duration::from_secs(30),
    )
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let of = &options.of;
    let limit = options.limit.to_string();
    let query = match of.device {
        None => of.query(&[]),
        Some(_) => of.query(&[
            ("state", options.state.as_deref()),
            ("open", options.open.then_some("true")),
            ("limit", Some(&limit)),
        ]),
    };
    let target = format!("{}{query}", of.path());
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let answer: Value = serde_json::from_str(&body)?;
    let items = items_of(&answer);
    if of.device.is_none() {
        let row = |one: &Value| {
            [
                text_of(&one["id"]),
                text_of(&one["command"]),
                text_of(&one["created_at"]),
                one["devices"].to_string(),
                sums(&one["states"]),
            ]
        };
        let headers = ["ID", "COMMAND", "ASKED", ">DEVICES", "STATES"];
        let rows = items.iter().map(row);
        return Ok(columns(headers, rows, "There are no commands."));
    }
    let mut text = table(items);
    if !answer["next"].is_null() {
        text.push_str("There are more: raise --limit, or use --open or --state.\n");
    }
    Ok(text)
}

fn table(items: &[Value]) -> String {
    let row = |one: &Value| {
        [
            text_of(&one["id"]),
            text_of(&one["device"]),
            text_of(&one["command"]),
            state_of(one),
            text_of(&one["created_at"]),
            cut(&text_of(&one["result"]), RESULT_CHARACTERS),
        ]
    };
    let headers = ["ID", "DEVICE", "COMMAND", "STATE", "ASKED", "RESULT"];
    columns(headers, items.iter().map(row), "There are no commands.")
}

/// The state of a command, with its progress if the device has reported any.
fn state_of(command: &Value) -> String {
    let state = text_of(&command["state"]);
    match command["progress"].as_u64() {
        Some(percent) if state == "acknowledged" => format!("{state} {percent} %"),
        _ => state,
    }
}

fn sums(states: &Value) -> String {
    let none = serde_json::Map::new();
    let states = states.as_object().unwrap_or(&none).iter();
    let states: Vec<String> = states
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    states.join(", ")
}

fn items_of(answer: &Value) -> &[Value] {
    answer["items"].as_array().map_or(&[], Vec::as_slice)
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads the state of a command: for one device, or for all devices that received it.
fn read(admin: &AdminOptions, id: &str, of: &Target) -> anyhow::Result<String> {
    let id = encoded(id);
    let target = match (&of.device, &of.group) {
        (Some(_), _) => format!("{}/{id}{}", of.path(), of.query(&[])),
        (None, Some(_)) => format!("{}/{id}{}", of.path(), of.query(&ALL)),
        (None, None) => format!("{}/{id}/devices{}", of.path(), of.query(&ALL)),
    };
    ask(&admin.node.data_dir()?, "GET", &target)
}

fn show(options: &NamedOptions) -> anyhow::Result<String> {
    let body = read(&options.admin, &options.id, &options.of)?;
    if options.admin.json {
        return Ok(body);
    }
    let answer: Value = serde_json::from_str(&body)?;
    if options.of.device.is_some() {
        return Ok(fields(&answer));
    }
    let mut text = table(items_of(&answer));
    if !answer["next"].is_null() {
        text.push_str("There are more devices: the API lists all of them, page by page.\n");
    }
    Ok(text)
}

/// One line per member with a value.
fn fields(command: &Value) -> String {
    let none = serde_json::Map::new();
    let members = command.as_object().unwrap_or(&none).iter();
    members
        .filter(|(_, value)| !value.is_null() && **value != json!(""))
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            format!("{}\n", printable(&format!("{name:<18} {text}")))
        })
        .collect()
}

fn cancel(options: &OfDevice) -> anyhow::Result<String> {
    change(options, "DELETE", "", "Cancelled")
}

fn retry(options: &OfDevice) -> anyhow::Result<String> {
    change(options, "POST", "/retry", "Sent again")
}

fn change(options: &OfDevice, method: &str, action: &str, done: &str) -> anyhow::Result<String> {
    let of = Target {
        device: Some(options.device.clone()),
        group: None,
        team: options.team.clone(),
    };
    let id = encoded(&options.id);
    let target = format!("{}/{id}{action}{}", of.path(), of.query(&[]));
    let body = ask(&options.admin.node.data_dir()?, method, &target)?;
    match options.admin.json {
        true => Ok(body),
        false => {
            let line = format!("{done}: the command {} of {}", options.id, options.device);
            Ok(format!("{}\n", printable(&line)))
        }
    }
}

/// State of all devices of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Succeeded,
    Failed,
    NotEnded,
}

impl Progress {
    /// Combines the states of commands.
    fn of<'s>(states: impl Iterator<Item = &'s str>) -> Self {
        let mut progress = Self::Succeeded;
        for state in states {
            match state {
                "succeeded" => {}
                "failed" | "expired" | "cancelled" => {
                    if progress == Self::Succeeded {
                        progress = Self::Failed;
                    }
                }
                _ => progress = Self::NotEnded,
            }
        }
        progress
    }

    fn exit_code(self) -> ExitCode {
        match self {
            Self::Succeeded => ExitCode::SUCCESS,
            Self::Failed => ExitCode::FAILURE,
            Self::NotEnded => ExitCode::from(NOT_ENDED),
        }
    }
}

/// Prints states as they change, until all have ended or the time has expired.
fn watch(
    admin: &AdminOptions,
    id: &str,
    of: &Target,
    until: Option<Instant>,
    prints: bool,
) -> anyhow::Result<Progress> {
    let mut known = None;
    loop {
        let (command, line, progress) = look(admin, id, of)?;
        let mut is_read = true;
        if known.as_ref() != Some(&line) {
            is_read = match (prints, admin.json) {
                (true, true) => outln!("{command}"),
                (true, false) => outln!("{}", printable(&line)),
                (false, _) => true,
            };
            known = Some(line);
        }
        // Without `--wait`, the command ends when the output is closed; with it, the final state
        // still matters.
        if progress != Progress::NotEnded || !is_read && until.is_none() {
            return Ok(progress);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            errln!("martlet: the command has not ended in time");
            return Ok(progress);
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Reads the current state of a command, the same as a line, and its progress.
fn look(admin: &AdminOptions, id: &str, of: &Target) -> anyhow::Result<(Value, String, Progress)> {
    if of.device.is_some() {
        let command: Value = serde_json::from_str(&read(admin, id, of)?)?;
        let line = format!(
            "{}: {} {}",
            text_of(&command["device"]),
            state_of(&command),
            text_of(&command["result"])
        );
        let state = text_of(&command["state"]);
        let progress = Progress::of(std::iter::once(&*state));
        return Ok((command, line.trim_end().to_owned(), progress));
    }
    let target = format!("{}{}", of.path(), of.query(&[("id", Some(id))]));
    let body = ask(&admin.node.data_dir()?, "GET", &target)?;
    let answer: Value = serde_json::from_str(&body)?;
    let Some(command) = items_of(&answer).first() else {
        anyhow::bail!("no command {id} was sent there: martlet command ls lists them");
    };
    let states = command["states"].as_object();
    let states = states.into_iter().flatten().map(|(state, _)| &**state);
    let progress = Progress::of(states);
    Ok((command.clone(), sums(&command["states"]), progress))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_ended_once_all_devices_have() {
        let of = |states: &[&str]| Progress::of(states.iter().copied());
        assert_eq!(of(&["succeeded", "succeeded"]), Progress::Succeeded);
        assert_eq!(of(&["succeeded", "failed"]), Progress::Failed);
        assert_eq!(of(&["failed", "sent"]), Progress::NotEnded);
        assert_eq!(of(&["sent", "expired"]), Progress::NotEnded);
    }

    #[test]
    fn states_in_sum_are_words() {
        let states = json!({"pending": 2, "succeeded": 1});
        assert_eq!(sums(&states), "2 pending, 1 succeeded");
        let command = json!({"state": "acknowledged", "progress": 40});
        assert_eq!(state_of(&command), "acknowledged 40 %");
    }
}
