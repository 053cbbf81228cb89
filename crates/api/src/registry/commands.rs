//! Commands to devices and to groups of devices.

use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::callers::Caller;
use martlet_control::commands::{
    Command, CommandFilter, CommandState, Commands, FleetCommand, FleetReport, FleetTarget,
    NewCommand,
};
use martlet_registry::DeviceFilter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::devices::{OfTeam, expect_type, group_id};
use super::forms::{moment, page_of, page_request, word_of_query};
use super::{CalledBy, within};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::name_list::expect_not_empty;
use crate::page::Page;
use crate::problem::Problem;
use crate::time::Moment;

/// Default time of a command, seconds: a day.
pub(crate) const TIME_SECS: u32 = 24 * 60 * 60;
/// Commands to a group that a list shows.
const FLEET_LIMIT: u32 = 100;

/// A command to a device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandView {
    /// Unique among the commands of its device.
    id: String,
    /// The id of its device.
    device: String,
    /// The id of the group that it was sent to; empty: none.
    group: String,
    /// The last level of its topic.
    kind: String,
    /// Name of the command.
    command: String,
    /// As they were given.
    parameters: Value,
    /// The topic that it is published to.
    topic: String,
    /// QoS of its message.
    qos: u8,
    /// `pending`, `sent`, `delivered`, `acknowledged`, `succeeded`, `failed`, `expired` or
    /// `cancelled`.
    state: &'static str,
    /// How often it was published with a receiver.
    attempts: i64,
    /// Percent, as the device last answered.
    progress: Option<u8>,
    /// Last answer of the device, or why the command ended.
    result: String,
    /// The user or key that sent it.
    asked_by: String,
    /// When it was added.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// Until when the device must have acknowledged it.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Moment>,
    /// When it was last published with a receiver.
    #[schema(value_type = Option<String>, format = DateTime)]
    sent_at: Option<Moment>,
    /// When the device acknowledged the message.
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Moment>,
    /// When the device first answered.
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Moment>,
    /// When it succeeded, failed, expired or was cancelled.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Moment>,
}

impl CommandView {
    fn new(commands: &Commands, command: Command) -> Self {
        Self {
            topic: commands.topic_of(&command),
            parameters: serde_json::from_str(&command.parameters).unwrap_or(Value::Null),
            id: command.id,
            device: command.device,
            group: command.fleet_group,
            kind: command.kind,
            command: command.name,
            qos: command.qos,
            state: command.state.word(),
            attempts: command.attempts,
            progress: command.progress,
            result: command.result,
            asked_by: command.asked_by,
            created_at: moment(command.created_ms),
            expires_at: moment(command.expires_ms),
            sent_at: moment(command.sent_ms),
            delivered_at: moment(command.delivered_ms),
            acknowledged_at: moment(command.acknowledged_ms),
            finished_at: moment(command.finished_ms),
        }
    }
}

/// A command to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandBody {
    /// Id of the command, unique among the commands of the device; one is made up if none is given.
    id: Option<String>,
    /// The last level of its topic: `config`, `control`, `firmware` or another word.
    #[serde(default = "control")]
    #[schema(default = "control")]
    kind: String,
    /// Name of the command.
    command: String,
    /// Any JSON, up to 64 KiB.
    #[serde(default)]
    parameters: Value,
    /// QoS of its message. Default: 2 for devices of the type `iotflow`, else 1.
    #[schema(minimum = 0, maximum = 2)]
    qos: Option<u8>,
    /// How long the device has to acknowledge it, seconds.
    #[serde(default = "time_secs")]
    #[schema(default = 86_400, minimum = 1, maximum = 31_622_400)]
    expires_secs: u32,
}

fn control() -> String {
    "control".to_owned()
}

fn time_secs() -> u32 {
    TIME_SECS
}

impl CommandBody {
    fn command(self) -> NewCommand {
        NewCommand {
            id: self.id,
            kind: self.kind,
            name: self.command,
            parameters: self.parameters.to_string(),
            qos: self.qos,
            time_ms: i64::from(self.expires_secs) * 1000,
            hops: 0,
        }
    }
}

/// Which commands.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CommandParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// In this state.
    state: Option<String>,
    /// Only those that have not ended.
    open: Option<bool>,
    /// Look for the device among those of this team, by id or name.
    team: Option<String>,
}

impl CommandParams {
    /// # Errors
    /// The state is none.
    fn filter(&self) -> Result<CommandFilter, Problem> {
        let accepted_words: Vec<&str> = CommandState::ALL.iter().map(|one| one.word()).collect();
        let state = self.state.as_deref();
        let state = state
            .map(|text| word_of_query("state", text, CommandState::from_word, &accepted_words));
        Ok(CommandFilter {
            state: state.transpose()?,
            is_open: self.open == Some(true),
        })
    }
}

/// Commands of a device
#[utoipa::path(get, path = "/api/v1/devices/{id}/commands", tag = "commands",
    params(("id" = String, Path, description = "Id of the device"), CommandParams),
    responses((status = 200, description = "A page of the list, newest first",
            body = Page<CommandView>),
        (status = 404, description = "No such device")))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(params): QueryOf<CommandParams>,
) -> Result<axum::Json<Page<CommandView>>, Problem> {
    let visibility = within(&api, caller, params.team.as_deref())
        .await?
        .visibility();
    let filter = params.filter()?;
    let of = format!("commands {visibility:?} {id} {filter:?}");
    let paging = (params.limit, params.cursor.as_deref(), None);
    let request = page_request(&api, &of, paging)?;
    let commands = api.commands()?;
    let page = commands
        .list(visibility, id.into(), filter, request)
        .await?;
    let view = |command| CommandView::new(commands, command);
    Ok(axum::Json(page_of(&api, &of, page, view)))
}

/// Send a command to a device
///
/// It is kept until the device has it or its time is over, also while the device is away.
#[utoipa::path(post, path = "/api/v1/devices/{id}/commands", tag = "commands",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    request_body = CommandBody,
    responses((status = 201, description = "Stored, and being published",
            body = CommandView),
        (status = 404, description = "No such device"),
        (status = 409, description = "The device has a command of this id, or too many, or is not \
            active")))]
pub(crate) async fn send(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<CommandBody>,
) -> Result<(StatusCode, axum::Json<CommandView>), Problem> {
    let actor = within(&api, caller, of.team.as_deref()).await?.actor;
    let commands = api.commands()?;
    let added = commands.add(actor, id.into(), body.command()).await?;
    let view = CommandView::new(commands, added);
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// A command of a device
#[utoipa::path(get, path = "/api/v1/devices/{id}/commands/{command}", tag = "commands",
    params(("id" = String, Path, description = "Id of the device"),
        ("command" = String, Path, description = "Id of the command"), OfTeam),
    responses((status = 200, description = "The command", body = CommandView),
        (status = 404, description = "No such device or command")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, command)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<axum::Json<CommandView>, Problem> {
    let visibility = within(&api, caller, of.team.as_deref()).await?.visibility();
    let commands = api.commands()?;
    let found = commands.show(visibility, id.into(), command).await?;
    Ok(axum::Json(CommandView::new(commands, found)))
}

/// Cancel a command
///
/// A message that is on its way to the device already may arrive.
#[utoipa::path(delete, path = "/api/v1/devices/{id}/commands/{command}", tag = "commands",
    params(("id" = String, Path, description = "Id of the device"),
        ("command" = String, Path, description = "Id of the command"), OfTeam),
    responses((status = 200, description = "The current state", body = CommandView),
        (status = 404, description = "No such device or command"),
        (status = 409, description = "It has ended")))]
pub(crate) async fn cancel(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, command)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<axum::Json<CommandView>, Problem> {
    let actor = within(&api, caller, of.team.as_deref()).await?.actor;
    let commands = api.commands()?;
    let cancelled = commands.cancel(actor, id.into(), command).await?;
    Ok(axum::Json(CommandView::new(commands, cancelled)))
}

/// Publish a command once more
///
/// With the same id. If its time is over it has all of it again.
#[utoipa::path(post, path = "/api/v1/devices/{id}/commands/{command}/retry", tag = "commands",
    params(("id" = String, Path, description = "Id of the device"),
        ("command" = String, Path, description = "Id of the command"), OfTeam),
    responses((status = 200, description = "The current state", body = CommandView),
        (status = 404, description = "No such device or command"),
        (status = 409, description = "The command is pending, has succeeded or was cancelled")))]
pub(crate) async fn retry(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, command)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<axum::Json<CommandView>, Problem> {
    let actor = within(&api, caller, of.team.as_deref()).await?.actor;
    let commands = api.commands()?;
    let retried = commands.retry(actor, id.into(), command).await?;
    Ok(axum::Json(CommandView::new(commands, retried)))
}

/// A command that was sent to several devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FleetCommandView {
    /// Id of the command, which the commands of the devices have too.
    id: String,
    /// The id of the group; empty: it was sent to a filter.
    group: String,
    /// Number of devices that have it.
    devices: u64,
    /// Other devices of the group or filter: they are not active, have too many commands, or have
    /// one of this id.
    left_out: u64,
}

impl From<FleetCommand> for FleetCommandView {
    fn from(sent: FleetCommand) -> Self {
        Self {
            id: sent.id,
            group: sent.group.map(|group| group.id).unwrap_or_default(),
            devices: sent.devices,
            left_out: sent.left_out,
        }
    }
}

/// How far several devices are with a command.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FleetReportView {
    /// The command's id.
    id: String,
    /// Name of the command.
    command: String,
    /// When it was sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// Number of devices that have it.
    devices: u64,
    /// Number of devices by state.
    #[schema(value_type = Object)]
    states: Map<String, Value>,
}

impl From<FleetReport> for FleetReportView {
    fn from(report: FleetReport) -> Self {
        let states = report.states.iter();
        Self {
            id: report.id,
            command: report.name,
            created_at: moment(report.created_ms),
            devices: states.clone().map(|(_, count)| count).sum(),
            states: states
                .map(|(state, count)| (state.word().to_owned(), json!(count)))
                .collect(),
        }
    }
}

/// Commands that were sent to several devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FleetReports {
    /// The newest one first, up to 100.
    items: Vec<FleetReportView>,
}

/// Send a command to a group
///
/// Each active device of the group has a command of this id from then on.
#[utoipa::path(post, path = "/api/v1/groups/{id}/commands", tag = "commands",
    params(("id" = String, Path, description = "Id or name of the group"), OfTeam),
    request_body = CommandBody,
    responses((status = 201, description = "Stored, and being published",
            body = FleetCommandView),
        (status = 404, description = "No such group")))]
pub(crate) async fn send_to_group(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<CommandBody>,
) -> Result<(StatusCode, axum::Json<FleetCommandView>), Problem> {
    let actor = within(&api, caller, of.team.as_deref()).await?.actor;
    let target = FleetTarget::Group(id);
    let sent = api.commands()?.add_to_many(actor, target, body.command());
    let view = FleetCommandView::from(sent.await?);
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// Commands that were sent to a group
#[utoipa::path(get, path = "/api/v1/groups/{id}/commands", tag = "commands",
    params(("id" = String, Path, description = "Id or name of the group"), ReportParams),
    responses((status = 200, description = "Newest first, with the number of commands in each state",
            body = FleetReports),
        (status = 404, description = "No such group")))]
pub(crate) async fn of_group(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(params): QueryOf<ReportParams>,
) -> Result<axum::Json<FleetReports>, Problem> {
    let visibility = within(&api, caller, params.team.as_deref())
        .await?
        .visibility();
    let found = api
        .commands()?
        .of_group(visibility, id, params.id, FLEET_LIMIT);
    let (_, reports) = found.await?;
    let items = reports.into_iter().map(FleetReportView::from).collect();
    Ok(axum::Json(FleetReports { items }))
}

/// The commands of a group's devices
///
/// Those of one command that was sent to the group, with the state of each device.
#[utoipa::path(get, path = "/api/v1/groups/{id}/commands/{command}", tag = "commands",
    params(("id" = String, Path, description = "Id or name of the group"),
        ("command" = String, Path, description = "Id of the command"), CommandParams),
    responses((status = 200, description = "A page of the list, sorted by the devices' numbers",
            body = Page<CommandView>),
        (status = 404, description = "No such group or command")))]
pub(crate) async fn devices_of_group(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, command)): PathOf<(String, String)>,
    QueryOf(params): QueryOf<CommandParams>,
) -> Result<axum::Json<Page<CommandView>>, Problem> {
    page_of_fleet(&api, caller, Some(id), command, params).await
}

async fn page_of_fleet(
    api: &Api,
    caller: Caller,
    group: Option<String>,
    id: String,
    params: CommandParams,
) -> Result<axum::Json<Page<CommandView>>, Problem> {
    let visibility = within(api, caller, params.team.as_deref())
        .await?
        .visibility();
    let filter = params.filter()?;
    let of = format!("commands of many {visibility:?} {group:?} {id} {filter:?}");
    let paging = (params.limit, params.cursor.as_deref(), None);
    let request = page_request(api, &of, paging)?;
    let commands = api.commands()?;
    let page = commands.of_fleet(visibility, group, id, filter, request);
    let view = |command| CommandView::new(commands, command);
    Ok(axum::Json(page_of(api, &of, page.await?, view)))
}

/// Which devices a command is sent to: all given conditions must be true.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Receivers {
    /// Devices of this type.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    device_type: Option<String>,
    /// Devices of this kind.
    kind: Option<String>,
    /// Devices with this tag.
    tag: Option<String>,
    /// Devices of this group, by id or name.
    group: Option<String>,
    /// Devices of this team, by id or name: needed by a caller that sees all teams, for a team
    /// that has a tenant of its own.
    team: Option<String>,
}

/// Send a command to devices by type, kind, tag and group
///
/// Each active device that has all of this now has a command of this id from then on.
#[utoipa::path(post, path = "/api/v1/commands", tag = "commands", params(Receivers),
    request_body = CommandBody,
    responses((status = 201, description = "Stored, and being published",
            body = FleetCommandView),
        (status = 409, description = "A command with this id exists, or there are too many \
            devices")))]
pub(crate) async fn send_to_many(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(to): QueryOf<Receivers>,
    JsonBody(body): JsonBody<CommandBody>,
) -> Result<(StatusCode, axum::Json<FleetCommandView>), Problem> {
    let caller = within(&api, caller, to.team.as_deref()).await?;
    let all = [&to.device_type, &to.kind, &to.tag, &to.group];
    expect_not_empty([
        ("type", &to.device_type),
        ("kind", &to.kind),
        ("tag", &to.tag),
        ("group", &to.group),
    ])?;
    if all.iter().all(|said| said.is_none()) {
        let detail = "name the devices by type, kind, tag or group";
        return Err(Problem::of_query("type", detail));
    }
    if let Some(device_type) = &to.device_type {
        expect_type(&api, &caller, device_type).await?;
    }
    let group = match &to.group {
        None => None,
        Some(group) => Some(group_id(&api, &caller, group).await?),
    };
    let filter = DeviceFilter {
        device_type: to.device_type,
        kind: to.kind,
        tag: to.tag,
        group,
        ..DeviceFilter::default()
    };
    let target = FleetTarget::Filter(filter);
    let sent = api
        .commands()?
        .add_to_many(caller.actor, target, body.command());
    let view = FleetCommandView::from(sent.await?);
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// Which commands to several devices.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportParams {
    /// Only the command of this id.
    id: Option<String>,
    /// Only devices and groups of this team, by id or name.
    team: Option<String>,
}

/// Commands that were sent to devices by type, kind, tag and group
#[utoipa::path(get, path = "/api/v1/commands", tag = "commands", params(ReportParams),
    responses((status = 200, description = "Newest first, with the number of commands in each state",
            body = FleetReports)))]
pub(crate) async fn to_many(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<ReportParams>,
) -> Result<axum::Json<FleetReports>, Problem> {
    let visibility = within(&api, caller, params.team.as_deref())
        .await?
        .visibility();
    let found = api
        .commands()?
        .of_filters(visibility, params.id, FLEET_LIMIT);
    let items = found
        .await?
        .into_iter()
        .map(FleetReportView::from)
        .collect();
    Ok(axum::Json(FleetReports { items }))
}

/// The commands of the devices that a command was sent to
///
/// Those of one command by type, kind, tag and group, with the state of each device.
#[utoipa::path(get, path = "/api/v1/commands/{command}/devices", tag = "commands",
    params(("command" = String, Path, description = "Id of the command"), CommandParams),
    responses((status = 200, description = "A page of the list, sorted by the devices' numbers",
            body = Page<CommandView>),
        (status = 404, description = "No such command")))]
pub(crate) async fn devices_of_many(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(command): PathOf<String>,
    QueryOf(params): QueryOf<CommandParams>,
) -> Result<axum::Json<Page<CommandView>>, Problem> {
    page_of_fleet(&api, caller, None, command, params).await
}
