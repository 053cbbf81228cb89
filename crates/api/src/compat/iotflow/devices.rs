//! Requests of a device for itself, by its secret; and the states of devices.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use martlet_control::callers::Caller;
use martlet_control::devices::DeviceName;
use martlet_control::principal::{Principal, PrincipalKind};
use martlet_control::use_cases::{
    ChangeDevice, FindUser, ListDevicesFrom, ReadConfiguration, RegisterDevice,
};
use martlet_registry::{
    Activity, Device, DeviceChange, DeviceFilter, DeviceOrder, Expected, IOTFLOW, NewDevice, Status,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::body::{Body, expect_members};
use super::configuration::values_of;
use super::mqtt::BrokerLocation;
use super::records;
use super::view::{DeviceView, OnlineState, find, missing};
use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::extensions::{OwnDevice, Unchanged};
use crate::extract::{PathOf, QueryOf};
use crate::keys::KEY_HEADER;
use crate::problem::{Problem, ProblemKind};
use crate::registry::CalledBy;
use crate::shown_once::{JsonWithSecrets, ShownOnce};

/// Devices of a page of states: the maximum and the default.
const STATES_MAX: u64 = 1_000;
const STATES: u64 = 100;

/// A device that registers.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Registration)]
pub(super) struct Registration {
    /// Name of the device, which no other device has.
    #[schema(value_type = String)]
    name: Option<String>,
    /// Kind of the device.
    #[schema(value_type = String)]
    device_type: Option<String>,
    /// User Name of its owner.
    user_id: Option<String>,
    /// For people.
    description: Option<String>,
    /// Where it stands.
    location: Option<String>,
    /// Version of the firmware that runs on it.
    firmware_version: Option<String>,
    /// Version of its hardware.
    hardware_version: Option<String>,
}

/// The answer to a registration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = iotflow::Registered)]
pub(super) struct Registered {
    /// Message about what was done.
    message: &'static str,
    /// The device.
    device: RegisteredDevice,
}

/// A device that was registered, with its key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = iotflow::RegisteredDevice)]
struct RegisteredDevice {
    #[serde(flatten)]
    view: DeviceView,
    /// Key of the device, shown only once; null if a repeated request is answered.
    #[schema(value_type = Option<String>)]
    api_key: Option<ShownOnce<String>>,
}

/// Register a device
///
/// A caller without credentials, as on an open route, chooses neither the type of the device, which
/// is its rights, nor its owner.
#[utoipa::path(post, path = "/api/v1/devices/register",
    request_body = Registration,
    responses((status = 201, description = "The device, and its key", body = Registered)))]
pub(super) async fn register(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    Extension(principal): Extension<Principal>,
    Body(body): Body<Registration>,
) -> Result<(StatusCode, JsonWithSecrets<Registered>), Problem> {
    let is_there = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    expect_members(&[
        ("name", is_there(&body.name)),
        ("device_type", is_there(&body.device_type)),
    ])?;
    let is_known = principal.kind != PrincipalKind::Anonymous;
    let owner = body.user_id.filter(|_| is_known).unwrap_or_default();
    if !owner.is_empty() {
        expect_user(&api, &caller, &owner).await?;
    }
    let new = NewDevice {
        name: body.name,
        device_type: IOTFLOW.to_owned(),
        kind: body.device_type.unwrap_or_default(),
        description: body.description.unwrap_or_default(),
        location: body.location.unwrap_or_default(),
        firmware_version: body.firmware_version.unwrap_or_default(),
        hardware_version: body.hardware_version.unwrap_or_default(),
        owner,
        ..NewDevice::unnamed()
    };
    let register = RegisterDevice {
        device: new,
        kind_is_type: is_known,
    };
    let registered = api.tables()?.run(caller, register).await;
    let (device, secret) = registered.map_err(|error| match error.is_name_taken() {
        true => {
            let problem = Problem::conflict("Please choose a different device name".to_owned());
            problem.with_heading("Device name already exists")
        }
        false => error.into(),
    })?;
    let answer = Registered {
        message: "Device registered successfully",
        device: RegisteredDevice {
            view: DeviceView::new(&api, device),
            api_key: secret.map(ShownOnce::from),
        },
    };
    Ok((StatusCode::CREATED, JsonWithSecrets(answer)))
}

async fn expect_user(api: &Api, caller: &Caller, name: &str) -> Result<(), Problem> {
    let user = FindUser {
        name: name.to_owned(),
    };
    let found = api.tables()?.run(caller.clone(), user).await;
    found.map(drop).map_err(|error| match error {
        error if error.is_fault() => error.into(),
        _ => {
            let detail = format!("there is no user {name}");
            Problem::new(ProblemKind::Unauthenticated, detail).with_heading("Invalid user")
        }
    })
}

/// A device as a JSON object.
pub(super) fn shown(api: &Api, device: Device) -> Map<String, Value> {
    match serde_json::to_value(DeviceView::new(api, device)) {
        Ok(Value::Object(members)) => members,
        // Texts, numbers and times can always be written.
        _ => Map::new(),
    }
}

/// The device itself
#[utoipa::path(get, path = "/api/v1/devices/status",
    responses((status = 200, description = "The device", body = Value)))]
pub(super) async fn own_status(
    State(api): State<Api>,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
) -> Json<Value> {
    let seen = OnlineState::of(&api, &device);
    let count = records::count_of(&api, device.number).await;
    let mut shown = shown(&api, *device);
    shown.insert("telemetry_count".to_owned(), count.into());
    shown.insert("is_online".to_owned(), seen.is_online.into());
    Json(json!({ "status": "success", "device": shown }))
}

/// Send a heartbeat
#[utoipa::path(post, path = "/api/v1/devices/heartbeat",
    responses((status = 200, description = "Noted", body = Value)))]
pub(super) async fn heartbeat(
    State(api): State<Api>,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
) -> Result<(Extension<Unchanged>, Json<Value>), Problem> {
    let now = MomentUs::now();
    let devices = api.devices()?;
    let noted = devices.note_activity(device.number, Activity::Heartbeat, now.as_ms());
    noted.await?;
    let answer = json!({
        "message": "Heartbeat received",
        "device_id": device.number,
        "timestamp": now,
        "status": "online",
    });
    Ok((Extension(Unchanged), Json(answer)))
}

/// A report of a device.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::OwnChange)]
pub(super) struct OwnChange {
    /// `active`, `inactive` or `maintenance`.
    #[schema(value_type = String)]
    status: Option<String>,
    /// Where it stands.
    location: Option<String>,
    /// Version of the firmware that runs on it.
    firmware_version: Option<String>,
    /// Version of its hardware.
    hardware_version: Option<String>,
}

/// Change the device itself
///
/// Members that are missing stay, but for `status`.
#[utoipa::path(put, path = "/api/v1/devices/config",
    request_body = OwnChange,
    responses((status = 200, description = "The device", body = Value)))]
pub(super) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
    Body(body): Body<OwnChange>,
) -> Result<Json<Value>, Problem> {
    expect_members(&[("status", body.status.is_some())])?;
    let change = DeviceChange {
        status: Some(status_of(body.status.as_deref().unwrap_or_default())?),
        location: body.location,
        firmware_version: body.firmware_version,
        hardware_version: body.hardware_version,
        ..DeviceChange::default()
    };
    let change = ChangeDevice {
        device: DeviceName::Number(device.number),
        within: caller.visibility(),
        change,
        expected_revision: Expected::any(),
    };
    let changed = shown(&api, api.run(caller, change).await?);
    let message = "Device configuration updated successfully";
    Ok(Json(json!({ "message": message, "device": changed })))
}

/// A status by its word.
pub(super) fn status_of(word: &str) -> Result<Status, Problem> {
    Status::from_word(word).ok_or_else(|| {
        let detail = "Status must be active, inactive, or maintenance";
        Problem::bad_request(detail).with_heading("Invalid status")
    })
}

/// The device itself, with its topics
#[utoipa::path(get, path = "/api/v1/devices/credentials",
    responses((status = 200, description = "The device", body = Value)))]
pub(super) async fn own_topics(
    State(api): State<Api>,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
) -> Json<Value> {
    let topic = |rest: &str| topic_of(&api, &device, rest);
    let owner = Some(&device.owner).filter(|owner| !owner.is_empty());
    Json(json!({
        "status": "success",
        "device": {
            "id": device.number,
            "name": device.name,
            "device_type": device.kind,
            "user_id": owner,
            "status": device.status.word(),
            "mqtt_topics": {
                "telemetry": topic("telemetry/sensors"),
                "status": topic("status"),
                "commands": topic("commands/control"),
                "heartbeat": topic("status/heartbeat"),
            },
        },
    }))
}

/// A topic of a device.
fn topic_of(api: &Api, device: &Device, rest: &str) -> String {
    let path = format!("devices/{}/{rest}", device.id);
    api.settings.iotflow.topic(&path)
}

/// With what the device connects by MQTT
///
/// The key that is shown is the one that came with the request: the node keeps none.
#[utoipa::path(get, path = "/api/v1/devices/mqtt-credentials",
    responses((status = 200, description = "Address, user name, key and topics", body = Value)))]
pub(super) async fn mqtt_credentials(
    State(api): State<Api>,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
    headers: HeaderMap,
) -> Json<Value> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let broker = BrokerLocation::of(&api, text(header::HOST.as_str()));
    let topic = |rest: &str| topic_of(&api, &device, rest);
    Json(json!({
        "status": "success",
        "credentials": {
            "mqtt_host": broker.host,
            "mqtt_port": broker.port,
            "client_id": device.id,
            "username": device.user_name,
            "api_key": text(KEY_HEADER),
            "anonymous_connection": false,
            "authentication_note": "Log in by MQTT with username as user name and api_key as password",
            "topics": {
                "telemetry_publish": topic("telemetry"),
                "status_publish": topic("status"),
                "commands_subscribe": topic("commands/#"),
                "config_subscribe": topic("config"),
            },
        },
    }))
}

/// Which part of the list of states.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StatesQuery {
    /// The most devices; 1000 at most, default 100.
    limit: Option<u64>,
    /// Devices before the first one.
    offset: Option<u64>,
}

fn state_of(api: &Api, device: &Device) -> Map<String, Value> {
    let seen = OnlineState::of(api, device);
    Map::from_iter([
        ("id".to_owned(), device.number.into()),
        ("name".to_owned(), device.name.clone().into()),
        ("device_type".to_owned(), device.kind.clone().into()),
        ("status".to_owned(), device.status.word().into()),
        ("is_online".to_owned(), seen.is_online.into()),
    ])
}

/// States of all devices
#[utoipa::path(get, path = "/api/v1/devices/statuses",
    params(StatesQuery),
    responses((status = 200, description = "The states, by number of the device", body = Value)))]
pub(super) async fn statuses(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(wanted): QueryOf<StatesQuery>,
) -> Result<Json<Value>, Problem> {
    let limit = wanted.limit.unwrap_or(STATES).min(STATES_MAX);
    let offset = wanted.offset.unwrap_or(0);
    let list = ListDevicesFrom {
        filter: DeviceFilter::default(),
        order: DeviceOrder::Number,
        place: (offset, limit),
    };
    let (devices, total) = api.run(caller, list).await?;
    let states: Vec<_> = devices
        .iter()
        .map(|device| state_of(&api, device))
        .collect();
    let meta = json!({ "total": total, "limit": limit, "offset": offset, "cache_used": false });
    Ok(Json(
        json!({ "status": "success", "devices": states, "meta": meta }),
    ))
}

/// The device that a path names; a device sees itself alone.
pub(super) async fn seen_by(
    api: &Api,
    caller: &Caller,
    own: Option<Extension<OwnDevice>>,
    named: &str,
) -> Result<Device, Problem> {
    let Some(Extension(OwnDevice(own))) = own else {
        return find(api, caller, named).await;
    };
    match named == own.number.to_string() || named == own.id {
        true => Ok(*own),
        false => {
            let detail = "You can only access your own device data";
            Err(Problem::new(ProblemKind::Forbidden, detail).with_heading("Access denied"))
        }
    }
}

/// State of a device
#[utoipa::path(get, path = "/api/v1/devices/{id}/status",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    responses((status = 200, description = "The state", body = Value)))]
pub(super) async fn status(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let seen = OnlineState::of(&api, &device);
    let source = if seen.is_connected {
        "broker"
    } else {
        "database"
    };
    let mut state = state_of(&api, &device);
    state.insert("last_seen".to_owned(), json!(seen.last_seen));
    state.insert("status_source".to_owned(), source.into());
    state.insert("last_seen_source".to_owned(), source.into());
    Ok(Json(json!({ "status": "success", "device": state })))
}

/// Contents of a summary.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SummaryQuery {
    /// `true`, as by default: with the configuration.
    include_config: Option<String>,
    /// The most records of telemetry; 100 at most, default 10.
    telemetry_limit: Option<usize>,
}

/// A device with its state, configuration and last telemetry
#[utoipa::path(get, path = "/api/v1/devices/{id}/summary",
    params(("id" = String, Path, description = "Number of the device, or its id"), SummaryQuery),
    responses((status = 200, description = "The summary", body = Value)))]
pub(super) async fn summary(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
    QueryOf(wanted): QueryOf<SummaryQuery>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let include = wanted.include_config.as_deref().unwrap_or("true");
    let include = ["true", "1", "yes"].contains(&include.to_ascii_lowercase().as_str());
    let configuration = match include {
        false => Value::Object(Map::new()),
        true => {
            let read = ReadConfiguration {
                device: DeviceName::Number(device.number),
            };
            let found = api.tables()?.run(caller, read).await;
            values_of(found.map_err(|error| missing(error, &named))?)
        }
    };
    let seen = OnlineState::of(&api, &device);
    let status = json!({
        "is_online": seen.is_online,
        "last_seen": seen.last_seen,
        "status": device.status.word(),
    });
    let limit = wanted.telemetry_limit.unwrap_or(10).clamp(1, 100);
    let (recent, count) = records::recent(&api, &device, limit).await;
    let telemetry = json!({
        "recent_data": recent,
        "count": count,
        "iotdb_available": api.telemetry().is_some(),
    });
    Ok(Json(json!({
        "device": shown(&api, device),
        "status": status,
        "telemetry": telemetry,
        "configuration": configuration,
        "summary_generated_at": MomentUs::now(),
    })))
}
