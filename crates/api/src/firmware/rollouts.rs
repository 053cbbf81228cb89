//! Rollouts of firmware.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::callers::Caller;
use martlet_control::rollouts::{
    Cause, DeviceState, NewRollout, Plan, PlanError, Rollout, RolloutDevice, RolloutOrder,
    RolloutTarget, Wave, WaveGate,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::of_node::rollouts_of;
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::Problem;
use crate::registry::{CalledBy, OfTeam, moment, page_of, page_request, within, word_of_query};
use crate::time::Moment;

/// Default time of a rollout: a week, seconds.
const TIMEOUT_SECS: u32 = 7 * 24 * 60 * 60;

/// Number of devices by state.
type States = BTreeMap<&'static str, u64>;

/// A wave of a rollout.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaveView {
    /// Number of devices.
    devices: u64,
    /// Whether it has begun.
    begun: bool,
    /// Number of devices by state.
    #[schema(value_type = Object)]
    states: States,
}

/// The gate of a rollout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GateView {
    /// Percent of the devices of a wave that may fail.
    #[schema(minimum = 0, maximum = 100, default = 5)]
    max_failed_percent: f64,
    /// Percent of the devices of a wave that may be silent.
    #[schema(minimum = 0, maximum = 100, default = 20)]
    max_silent_percent: f64,
    /// Seconds without a sign of a device after which it is silent.
    #[schema(minimum = 1, maximum = 31_622_400, default = 3_600)]
    silent_after_secs: u32,
    /// Seconds that a wave lasts at least.
    #[schema(minimum = 0, maximum = 31_622_400, default = 0)]
    min_wait_secs: u32,
}

impl Default for GateView {
    fn default() -> Self {
        Self::from(WaveGate::default())
    }
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

impl From<WaveGate> for GateView {
    fn from(gate: WaveGate) -> Self {
        Self {
            max_failed_percent: gate.max_failed_percent,
            max_silent_percent: gate.max_silent_percent,
            silent_after_secs: seconds(gate.silent_after_ms),
            min_wait_secs: seconds(gate.min_wait_ms),
        }
    }
}

impl From<GateView> for WaveGate {
    fn from(gate: GateView) -> Self {
        Self {
            max_failed_percent: gate.max_failed_percent,
            max_silent_percent: gate.max_silent_percent,
            silent_after_ms: i64::from(gate.silent_after_secs) * 1000,
            min_wait_ms: i64::from(gate.min_wait_secs) * 1000,
        }
    }
}

/// A rollout.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RolloutView {
    /// Id of the rollout.
    id: String,
    /// Name of the firmware.
    firmware: String,
    /// Version of the firmware.
    version: String,
    /// The id of its team; empty: none.
    team: String,
    /// Which devices, as it was asked for.
    target: Value,
    /// `planned`, `running`, `paused`, `succeeded`, `failed` or `aborted`.
    state: &'static str,
    /// Why it is paused: `by_hand`, `gate_failures` or `gate_silence`; empty: it is not.
    reason: &'static str,
    /// The wave that has begun last, from 1; 0: none has.
    wave: usize,
    /// The waves.
    waves: Vec<WaveView>,
    /// The gate between them.
    gate: GateView,
    /// Number of devices.
    devices: u64,
    /// Number of devices by state, of all waves.
    #[schema(value_type = Object)]
    states: States,
    /// The user or key that began it.
    asked_by: String,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// When it was started.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Moment>,
    /// When it fails if it has not ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    deadline_at: Option<Moment>,
    /// When it succeeded, failed or was aborted.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Moment>,
}

fn words(states: &BTreeMap<DeviceState, u64>) -> States {
    let states = states.iter().filter(|(_, count)| **count > 0);
    states
        .map(|(state, count)| (state.word(), *count))
        .collect()
}

impl From<Rollout> for RolloutView {
    fn from(of: Rollout) -> Self {
        let machine = of.machine;
        let has_begun = of.started_ms > 0;
        let waves = of.counts.iter().enumerate();
        let waves = waves.map(|(at, states)| WaveView {
            devices: states.values().sum(),
            begun: has_begun && at <= machine.wave,
            states: words(states),
        });
        Self {
            waves: waves.collect(),
            states: words(&of.states()),
            target: serde_json::from_str(&of.target).unwrap_or(Value::Null),
            id: of.id,
            firmware: of.name,
            version: of.version,
            team: of.team,
            state: machine.state.word(),
            reason: machine.state.reason(),
            wave: if has_begun { machine.wave + 1 } else { 0 },
            gate: of.plan.gate.into(),
            devices: of.devices,
            asked_by: of.asked_by,
            created_at: moment(of.created_ms),
            started_at: moment(of.started_ms),
            deadline_at: moment(machine.deadline_ms),
            finished_at: moment(of.finished_ms),
        }
    }
}

/// A wave: `"10%"`, or a number of devices.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum WaveBody {
    /// A number of devices.
    Devices(u64),
    /// Such as `10%`.
    Share(String),
}

/// A rollout to be started.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RolloutBody {
    /// Name of the firmware.
    firmware: String,
    /// Version of the firmware.
    version: String,
    /// Devices of this group, by id or name.
    group: Option<String>,
    /// Devices with this tag.
    tag: Option<String>,
    /// Devices of this type.
    #[serde(rename = "type")]
    device_type: Option<String>,
    /// How many devices each wave has reached, with those of the waves before it: `"10%"`, or a
    /// number. The rest is the last wave. Default: one wave.
    #[serde(default)]
    waves: Vec<WaveBody>,
    /// The gate between waves.
    #[serde(default)]
    gate: GateView,
    /// Seconds after which the rollout fails if it has not ended.
    #[serde(default = "timeout_secs")]
    #[schema(minimum = 1, maximum = 31_622_400, default = 604_800)]
    timeout_secs: u32,
    /// Whether it starts at once; otherwise it is planned, and `resume` starts it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    start: bool,
}

fn timeout_secs() -> u32 {
    TIMEOUT_SECS
}

fn yes() -> bool {
    true
}

fn of_plan(error: PlanError) -> Problem {
    Problem::of_body(&format!("/{}", error.member), error.why)
}

impl RolloutBody {
    fn rollout(self) -> Result<NewRollout, Problem> {
        let wave = |wave: WaveBody| match wave {
            WaveBody::Devices(count) => Wave::parse(&count.to_string()),
            WaveBody::Share(text) => Wave::parse(&text),
        };
        let waves: Result<Vec<Wave>, PlanError> = self.waves.into_iter().map(wave).collect();
        let plan = Plan {
            waves: waves.map_err(of_plan)?,
            gate: self.gate.into(),
            timeout_ms: i64::from(self.timeout_secs) * 1000,
        };
        plan.check().map_err(of_plan)?;
        Ok(NewRollout {
            name: self.firmware,
            version: self.version,
            target: RolloutTarget {
                group: self.group,
                tag: self.tag,
                device_type: self.device_type,
            },
            plan,
            starts: self.start,
        })
    }
}

/// Start a rollout
///
/// Its devices are those that the group, tag and type name now. They are in waves in an order that
/// is drawn.
#[utoipa::path(post, path = "/api/v1/rollouts", tag = "firmware", params(OfTeam),
    request_body = RolloutBody,
    responses((status = 201, description = "Stored, and it begins", body = RolloutView),
        (status = 404, description = "No such firmware or group"),
        (status = 409, description = "Too many devices or rollouts"),
        (status = 422, description = "No device is named, or the plan is not valid")))]
pub(crate) async fn start(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<RolloutBody>,
) -> Result<(StatusCode, Json<RolloutView>), Problem> {
    let actor = within(&api, caller, of.team.as_deref()).await?.actor;
    let added = rollouts_of(&api)?.add(actor, body.rollout()?).await?;
    Ok((StatusCode::CREATED, Json(added.into())))
}

/// Which rollouts.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RolloutParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Only those that have not ended.
    open: Option<bool>,
    /// Only those of this team, by id or name.
    team: Option<String>,
}

/// Rollouts
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "firmware", params(RolloutParams),
    responses((status = 200, description = "A page of the list, newest first",
        body = Page<RolloutView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<RolloutParams>,
) -> Result<Json<Page<RolloutView>>, Problem> {
    let visibility = within(&api, caller, params.team.as_deref())
        .await?
        .visibility();
    let open = params.open == Some(true);
    let of = format!("rollouts {visibility:?} {open}");
    let paging = (params.limit, params.cursor.as_deref(), None);
    let request = page_request(&api, &of, paging)?;
    let page = rollouts_of(&api)?.list(visibility, open, request).await?;
    Ok(Json(page_of(&api, &of, page, RolloutView::from)))
}

/// A rollout
#[utoipa::path(get, path = "/api/v1/rollouts/{id}", tag = "firmware",
    params(("id" = String, Path, description = "Id of the rollout"), OfTeam),
    responses((status = 200, description = "The rollout", body = RolloutView),
        (status = 404, description = "No such rollout")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<RolloutView>, Problem> {
    let visibility = within(&api, caller, of.team.as_deref()).await?.visibility();
    let found = rollouts_of(&api)?.show(visibility, id).await?;
    Ok(Json(found.into()))
}

/// A device in a rollout.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RolloutDeviceView {
    /// The id of the device.
    device: String,
    /// Wave of the device, from 1.
    wave: usize,
    /// `waiting`, `offered`, `delivered`, `downloading`, `installing`, `succeeded`, `failed`,
    /// `silent` or `skipped`.
    state: &'static str,
    /// Why it failed, is silent or was skipped; empty: it did not.
    reason: &'static str,
    /// Percent, as last reported by the device.
    progress: Option<u8>,
    /// Why it is stuck, as a word; empty: it has the firmware.
    cause: &'static str,
    /// Cause as a sentence.
    why: String,
    /// The id of the command that offers it the firmware; empty: none.
    command: String,
    /// How often it was offered the firmware.
    attempts: i64,
    /// The version that the device has reported; empty: none.
    firmware_version: String,
    /// When its state changed last.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Moment>,
    /// When the device last reported something about the rollout.
    #[schema(value_type = Option<String>, format = DateTime)]
    heard_at: Option<Moment>,
}

impl From<(RolloutDevice, Option<Cause>)> for RolloutDeviceView {
    fn from((of, cause): (RolloutDevice, Option<Cause>)) -> Self {
        Self {
            device: of.id,
            wave: of.wave + 1,
            state: of.device.state.word(),
            reason: of.device.reason.word(),
            progress: of.device.progress,
            cause: cause.as_ref().map_or("", |cause| cause.kind.word()),
            why: cause.map(|cause| cause.text).unwrap_or_default(),
            command: of.command_id,
            attempts: of.attempts,
            firmware_version: of.has_version,
            since: moment(of.device.since_ms),
            heard_at: moment(of.device.heard_ms),
        }
    }
}

/// Which devices of a rollout.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RolloutDevicesQuery {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// In this state.
    state: Option<String>,
    /// Look for the rollout among those of this team, by id or name.
    team: Option<String>,
}

/// Devices of a rollout
///
/// Each with its state, and why it is stuck.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/devices", tag = "firmware",
    params(("id" = String, Path, description = "Id of the rollout"), RolloutDevicesQuery),
    responses((status = 200, description = "A page of the list, sorted by wave",
            body = Page<RolloutDeviceView>),
        (status = 404, description = "No such rollout")))]
pub(crate) async fn devices(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(params): QueryOf<RolloutDevicesQuery>,
) -> Result<Json<Page<RolloutDeviceView>>, Problem> {
    let visibility = within(&api, caller, params.team.as_deref())
        .await?
        .visibility();
    let known: Vec<&str> = DeviceState::ALL.iter().map(|one| one.word()).collect();
    let state = params.state.as_deref();
    let state = state.map(|text| word_of_query("state", text, DeviceState::from_word, &known));
    let state = state.transpose()?;
    let of = format!("rollout devices {visibility:?} {id} {state:?}");
    let paging = (params.limit, params.cursor.as_deref(), None);
    let request = page_request(&api, &of, paging)?;
    let rollouts = rollouts_of(&api)?;
    let page = rollouts.devices(&api.control, visibility, id, state, request);
    let page = page.await?;
    Ok(Json(page_of(&api, &of, page, RolloutDeviceView::from)))
}

async fn order(
    api: &Api,
    caller: Caller,
    team: Option<String>,
    id: String,
    order: RolloutOrder,
) -> Result<Json<RolloutView>, Problem> {
    let actor = within(api, caller, team.as_deref()).await?.actor;
    let done = rollouts_of(api)?.order(actor, id, order).await?;
    Ok(Json(done.into()))
}

/// Pause a rollout
///
/// No further device is offered the firmware. Devices that were offered it go on.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/pause", tag = "firmware",
    params(("id" = String, Path, description = "Id of the rollout"), OfTeam),
    responses((status = 200, description = "The current state", body = RolloutView),
        (status = 404, description = "No such rollout"),
        (status = 409, description = "The rollout does not run")))]
pub(crate) async fn pause(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<RolloutView>, Problem> {
    order(&api, caller, of.team, id, RolloutOrder::Pause).await
}

/// Start a planned rollout, or resume a paused one
///
/// What has failed and is silent in the current wave is accepted: the gate counts only devices that
/// come to it.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/resume", tag = "firmware",
    params(("id" = String, Path, description = "Id of the rollout"), OfTeam),
    responses((status = 200, description = "The current state", body = RolloutView),
        (status = 404, description = "No such rollout"),
        (status = 409, description = "The rollout is neither planned nor paused")))]
pub(crate) async fn resume(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<RolloutView>, Problem> {
    order(&api, caller, of.team, id, RolloutOrder::Resume).await
}

/// Abort a rollout
///
/// Commands that no device has begun are cancelled. Devices that have begun go on.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/abort", tag = "firmware",
    params(("id" = String, Path, description = "Id of the rollout"), OfTeam),
    responses((status = 200, description = "The current state", body = RolloutView),
        (status = 404, description = "No such rollout"),
        (status = 409, description = "It has ended")))]
pub(crate) async fn abort(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<RolloutView>, Problem> {
    order(&api, caller, of.team, id, RolloutOrder::Abort).await
}

/// Offer the firmware again to devices that failed or are silent
///
/// They are in the current wave then. A rollout that has ended runs again.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/retry", tag = "firmware",
    params(("id" = String, Path, description = "Id of the rollout"), OfTeam),
    responses((status = 200, description = "The current state", body = RolloutView),
        (status = 404, description = "No such rollout"),
        (status = 409, description = "It was not started, or was aborted, or no device has failed \
            or is silent")))]
pub(crate) async fn retry(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<RolloutView>, Problem> {
    order(&api, caller, of.team, id, RolloutOrder::Retry).await
}
