//! Commands to devices and groups: the routes below `/api/v1/mqtt` of administrators, and those
//! below `/api/v1/devices/{id}/control`, where devices that have no MQTT ask for their commands and
//! answer them. Both use what the native routes use.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use martlet_codec::QoS;
use martlet_control::commands::{
    Command, CommandAnswer, CommandFilter, CommandKey, CommandOutcome, CommandState, FleetTarget,
    NewCommand, fleet_topic, new_command_id,
};
use martlet_control::devices::DeviceName;
use martlet_control::principal::Principal;
use martlet_control::shared_registry::SharedRegistryError;
use martlet_registry::{COMMANDS_OPEN_MAX, Device, PageRequest, RegistryError, Visibility};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{Body, missing_field};
use super::devices::seen_by;
use super::view::find;
use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::extensions::{OwnDevice, Unchanged};
use crate::extract::PathOf;
use crate::problem::{Problem, ProblemKind};
use crate::publish::{self, refusal_of};
use crate::registry::{COMMAND_TIME_SECS, CalledBy};
use crate::tenant::{InTenant, OfTenant};

/// Kinds of commands, each with its topic.
const KINDS: [&str; 3] = ["config", "control", "firmware"];

/// A command as administrators send it. Its `timestamp` is not read: the node sets the time.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Command)]
pub(super) struct SentCommand {
    /// `config`, `control` or `firmware`; needed for a device, not used for a group.
    command_type: Option<String>,
    /// Name of the command.
    #[schema(value_type = String)]
    command: Option<String>,
    /// Parameters of the command; default `{}`.
    #[serde(default)]
    parameters: Value,
    /// Id of the command, a text or a number; default: made by the node.
    command_id: Option<Value>,
    /// QoS.
    #[serde(default = "exactly_once", deserialize_with = "publish::qos")]
    #[schema(value_type = u8, minimum = 0, maximum = 2, default = 2)]
    qos: QoS,
    /// Seconds after which it expires.
    expires_secs: Option<u32>,
}

fn exactly_once() -> QoS {
    QoS::ExactlyOnce
}

impl SentCommand {
    fn command(self, kind: &str) -> Result<NewCommand, Problem> {
        let name = self.command.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| missing_field("Missing required field: command"))?;
        let id = match self.command_id {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(id),
            Some(Value::Number(id)) => Some(id.to_string()),
            Some(_) => return Err(Problem::bad_request("command_id must be a text")),
        };
        Ok(NewCommand {
            id,
            kind: kind.to_owned(),
            name,
            parameters: parameters_of(self.parameters),
            qos: Some(self.qos as u8),
            time_ms: i64::from(self.expires_secs.unwrap_or(COMMAND_TIME_SECS)) * 1000,
            hops: 0,
        })
    }
}

/// A command without parameters has none: `{}`, as programs expect an object.
fn parameters_of(given: Value) -> String {
    match given {
        Value::Null => "{}".to_owned(),
        given => given.to_string(),
    }
}

fn parameters_in(command: &Command) -> Value {
    serde_json::from_str(&command.parameters).unwrap_or(Value::Null)
}

/// Send a command to a device
#[utoipa::path(post, path = "/api/v1/mqtt/device/{id}/command",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    request_body = SentCommand,
    responses((status = 200, description = "The command", body = Value)))]
pub(super) async fn send(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(named): PathOf<String>,
    Body(mut body): Body<SentCommand>,
) -> Result<Json<Value>, Problem> {
    let kind = body.command_type.take();
    let kind = kind.ok_or_else(|| missing_field("Missing required field: command_type"))?;
    if !KINDS.contains(&&*kind) {
        let detail = format!("command_type must be one of {}", KINDS.join(", "));
        return Err(Problem::bad_request(detail).with_heading("Invalid command type"));
    }
    let new = body.command(&kind)?;
    let device = find(&api, &caller, &named).await?;
    let commands = api.commands()?;
    let name = DeviceName::Number(device.number);
    let sent = commands.add(caller.actor, name, new).await?;
    Ok(Json(json!({
        "status": "success",
        "message": "Command sent successfully",
        "device_id": device.id,
        "command_type": kind,
        "topic": commands.topic_of(&sent),
        "qos": sent.qos,
        "command_id": sent.id,
        "parameters": parameters_in(&sent),
        "state": sent.state.word(),
    })))
}

/// Send a command to a group
///
/// Devices of the group get a command each, with a state. The message on the topic of the fleet is
/// for clients that subscribe to that alone; of a group that is not in the tables it is all.
#[utoipa::path(post, path = "/api/v1/mqtt/fleet/{group}/command",
    params(OfTenant, ("group" = String, Path, description = "Id of the group, or its name")),
    request_body = SentCommand,
    responses(
        (status = 200, description = "The command, and how many devices get it", body = Value)))]
pub(super) async fn send_to_fleet(
    State(api): State<Api>,
    InTenant(tenant): InTenant,
    CalledBy(caller): CalledBy,
    Extension(principal): Extension<Principal>,
    PathOf(named): PathOf<String>,
    Body(body): Body<SentCommand>,
) -> Result<Json<Value>, Problem> {
    if named.is_empty() || named.len() > 256 || named.contains(['/', '+', '#', '\0']) {
        let detail = "the id of a group is a level of a topic: 1 to 256 bytes without / + #";
        return Err(Problem::bad_request(detail).with_heading("Invalid group ID format"));
    }
    let mut new = body.command("control")?;
    let id = match new.id.take() {
        Some(id) => id,
        None => new_command_id().map_err(SharedRegistryError::from)?,
    };
    new.id = Some(id.clone());
    let commands = api.commands()?;
    let target = FleetTarget::Group(named.clone());
    let sent = commands.add_to_many(caller.actor, target, new.clone());
    let sent = match sent.await {
        Ok(sent) => Some(sent),
        Err(SharedRegistryError::Registry(RegistryError::NotFound(_))) => None,
        Err(error) => return Err(error.into()),
    };
    let group = sent.as_ref().and_then(|sent| sent.group.as_ref());
    let group = group.map_or(named, |group| group.name.clone());
    let from = principal.to_string();
    let published = commands.publish_to_fleet(&api.control, &from, tenant, &group, &id, &new);
    let published = published.await?;
    if published.reason.is_error() {
        return Err(refusal_of(&api, &published).into());
    }
    Ok(Json(json!({
        "status": "success",
        "message": "Fleet command sent successfully",
        "group_id": group,
        "topic": fleet_topic(&api.settings.iotflow, &group),
        "qos": new.qos,
        "command_id": id,
        "devices": sent.as_ref().map_or(0, |sent| sent.devices),
        "left_out": sent.as_ref().map_or(0, |sent| sent.left_out),
    })))
}

/// Command for a device.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Control)]
pub(super) struct Controlled {
    /// Name of the command.
    #[schema(value_type = String)]
    command: Option<String>,
    /// Parameters of the command; default `{}`.
    #[serde(default)]
    parameters: Value,
}

/// Control a device
#[utoipa::path(post, path = "/api/v1/devices/{id}/control",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    request_body = Controlled,
    responses((status = 201, description = "The command", body = Value)))]
pub(super) async fn control(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(named): PathOf<String>,
    Body(body): Body<Controlled>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let command = body.command.filter(|command| !command.is_empty());
    let new = NewCommand {
        id: None,
        kind: "control".to_owned(),
        name: command.ok_or_else(|| missing_field("Missing required field: command"))?,
        parameters: parameters_of(body.parameters),
        qos: None,
        time_ms: i64::from(COMMAND_TIME_SECS) * 1000,
        hops: 0,
    };
    let device = find(&api, &caller, &named).await?;
    let name = DeviceName::Number(device.number);
    let sent = api.commands()?.add(caller.actor, name, new).await?;
    let mut answer = shown(&device, &sent);
    answer["message"] = "Command sent via MQTT".into();
    answer["control_id"] = sent.number.into();
    Ok((StatusCode::CREATED, Json(answer)))
}

/// A command as these routes show it. `id` is its number, `command_id` the id in its message.
fn shown(device: &Device, command: &Command) -> Value {
    json!({
        "id": command.number,
        "command_id": command.id,
        "device_id": device.number,
        "command": command.name,
        "parameters": parameters_in(command),
        "status": status_of(command.state),
        "state": command.state.word(),
        "created_at": MomentUs::of_tables(command.created_ms),
        "expires_at": MomentUs::of_tables(command.expires_ms),
    })
}

/// The state of a command in the words of the system, which has none for a message on its way.
fn status_of(state: CommandState) -> &'static str {
    match state {
        CommandState::Pending | CommandState::Sent | CommandState::Delivered => "pending",
        CommandState::Succeeded => "completed",
        state => state.word(),
    }
}

/// Commands that a device has not acknowledged
///
/// The oldest one first.
#[utoipa::path(get, path = "/api/v1/devices/{id}/control/pending",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    responses((status = 200, description = "The commands", body = Vec<Value>)))]
pub(super) async fn pending(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let filter = CommandFilter {
        state: None,
        is_open: true,
    };
    let page = PageRequest::first(COMMANDS_OPEN_MAX as usize);
    let name = DeviceName::Number(device.number);
    let listed = api
        .commands()?
        .list(Visibility::All, name, filter, page)
        .await?;
    let pending = listed.items.iter().rev();
    let pending = pending.filter(|command| status_of(command.state) == "pending");
    let pending: Vec<Value> = pending.map(|command| shown(&device, command)).collect();
    Ok(Json(Value::Array(pending)))
}

/// An answer of a device, or an answer in its place.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Answer)]
pub(super) struct DeviceAnswer {
    /// `pending`, `acknowledged`, `completed` or `failed`.
    #[schema(value_type = String)]
    status: Option<String>,
    /// Result of the command.
    result: Option<Value>,
}

type AnsweredOutcome = (Option<Extension<Unchanged>>, Json<Value>);

/// Answer a command
#[utoipa::path(post, path = "/api/v1/devices/{id}/control/{command}/status",
    params(
        ("id" = String, Path, description = "Number of the device, or its id"),
        ("command" = String, Path, description = "Number of the command, or its id")),
    request_body = DeviceAnswer,
    responses((status = 200, description = "The command", body = Value)))]
pub(super) async fn answer(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf((named, id)): PathOf<(String, String)>,
    Body(body): Body<DeviceAnswer>,
) -> Result<AnsweredOutcome, Problem> {
    let status = body.status;
    let status = status.ok_or_else(|| missing_field("Missing required field: status"))?;
    let outcome = match &*status {
        "pending" => None,
        "acknowledged" => Some(CommandOutcome::Acknowledged),
        "completed" => Some(CommandOutcome::Succeeded),
        "failed" => Some(CommandOutcome::Failed),
        _ => {
            let detail = "status must be one of pending, acknowledged, completed, failed";
            return Err(Problem::bad_request(detail).with_heading("Invalid status"));
        }
    };
    // Devices answer again and again, as they do by MQTT; what a person answers is written down.
    let unchanged = own.is_some().then_some(Extension(Unchanged));
    let device = seen_by(&api, &caller, own, &named).await?;
    let command = find_command(&api, &device, &id).await?;
    let command = match outcome {
        None => command,
        Some(outcome) => {
            let result = match body.result {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
            };
            let answer = CommandAnswer {
                outcome,
                progress: None,
                result,
            };
            let key = CommandKey::Number(command.number);
            let changed = api.commands()?.answer(key, answer).await?;
            changed.unwrap_or(command)
        }
    };
    if status_of(command.state) != status {
        let detail = format!("the command is {} already", command.state.word());
        return Err(Problem::conflict(detail).with_heading("Command has ended"));
    }
    let mut answer = shown(&device, &command);
    answer["message"] = "Status updated".into();
    Ok((unchanged, Json(answer)))
}

/// Finds a command by the number that these routes show, or else by its id.
async fn find_command(api: &Api, device: &Device, named: &str) -> Result<Command, Problem> {
    let commands = api.commands()?;
    let name = DeviceName::Number(device.number);
    if let Ok(number) = named.parse() {
        let shown = commands
            .show_number(Visibility::All, name.clone(), number)
            .await;
        if let Ok(command) = shown {
            return Ok(command);
        }
    }
    let shown = commands.show(Visibility::All, name, named.to_owned()).await;
    shown.map_err(|error| match error {
        error if error.is_fault() => error.into(),
        _ => {
            let detail = format!("Device {} has no command {named}", device.id);
            let problem = Problem::new(ProblemKind::NotFound, detail);
            problem.with_heading("Control command not found")
        }
    })
}
