//! Requests of administrators about devices.

use axum::Json;
use axum::extract::{Extension, State};
use martlet_control::callers::Caller;
use martlet_control::devices::DeviceName;
use martlet_control::use_cases::{
    ChangeDevice, CountActiveSettings, ListCredentials, ListDevicesFrom, PurgeDevice,
    ReadConfiguration,
};
use martlet_registry::{Credential, Device, DeviceChange, DeviceFilter, DeviceOrder, Expected};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::body::{Body, expect_members};
use super::configuration::values_of;
use super::devices::{shown, status_of};
use super::records;
use super::view::{OnlineState, find, missing, numbers};
use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::extensions::Unchanged;
use crate::extract::{PathOf, QueryOf};
use crate::problem::{Problem, ProblemKind};
use crate::registry::CalledBy;

/// Devices of a page: the maximum and the default.
const PAGE_MAX: u64 = 100;
const PAGE: u64 = 50;
/// Last records of telemetry that a device is shown with.
const RECENT: usize = 10;

/// Page and filter of the list of devices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeviceParams {
    /// Which page, from 1 on.
    page: Option<u64>,
    /// Devices of a page; 100 at most, default 50.
    per_page: Option<u64>,
    /// Only devices with this status.
    status: Option<String>,
    /// Only devices of this type, in the words of their owners.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    device_type: Option<String>,
    /// With this in id, name, description or location.
    search: Option<String>,
}

impl DeviceParams {
    fn filter(&self) -> Result<DeviceFilter, Problem> {
        Ok(DeviceFilter {
            status: self.status.as_deref().map(status_of).transpose()?,
            kind: self.device_type.clone(),
            text: self.search.clone(),
            ..DeviceFilter::default()
        })
    }
}

/// All devices
#[utoipa::path(get, path = "/api/v1/admin/devices",
    params(DeviceParams),
    responses((status = 200, description = "A page of devices", body = Value)))]
pub(super) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(wanted): QueryOf<DeviceParams>,
) -> Result<Json<Value>, Problem> {
    let page = wanted.page.unwrap_or(1).max(1);
    let per_page = wanted.per_page.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let place = ((page - 1).saturating_mul(per_page), per_page);
    let list = ListDevicesFrom {
        filter: wanted.filter()?,
        order: DeviceOrder::Created,
        place,
    };
    let (found, total) = api.run(caller.clone(), list).await?;
    let devices = found.iter().map(|device| device.number).collect();
    let settings = api.run(caller, CountActiveSettings { devices }).await?;
    let mut all = Vec::with_capacity(found.len());
    for device in found {
        let active = settings.get(&device.number).copied().unwrap_or(0);
        let (credentials, is_online) =
            (device.credentials, OnlineState::of(&api, &device).is_online);
        let count = records::count_of(&api, device.number).await;
        let mut shown = shown(&api, device);
        shown.insert("telemetry_count".to_owned(), count.into());
        shown.insert("is_online".to_owned(), is_online.into());
        shown.insert("auth_records_count".to_owned(), credentials.into());
        shown.insert("config_count".to_owned(), active.into());
        all.push(shown);
    }
    let pages = total.div_ceil(per_page);
    Ok(Json(json!({
        "status": "success",
        "total_devices": total,
        "devices": all,
        "pagination": {
            "page": page,
            "per_page": per_page,
            "total": total,
            "pages": pages,
            "has_next": page < pages,
            "has_prev": page > 1,
        },
    })))
}

/// One device, with credentials, configuration and last telemetry
#[utoipa::path(get, path = "/api/v1/admin/devices/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    responses((status = 200, description = "The device", body = Value)))]
pub(super) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(named): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let device = find(&api, &caller, &named).await?;
    let (tables, name) = (api.tables()?, DeviceName::Number(device.number));
    let list = ListCredentials {
        device: name.clone(),
    };
    let credentials = tables.run(caller.clone(), list).await;
    let credentials = credentials.map_err(|error| missing(error, &named))?;
    let settings = tables.run(caller, ReadConfiguration { device: name }).await;
    let settings = settings.map_err(|error| missing(error, &named))?;
    let is_online = OnlineState::of(&api, &device).is_online;
    let now_ms = MomentUs::now().as_ms();
    let records: Vec<Value> = { credentials.iter() }
        .map(|credential| record_of(credential, now_ms))
        .collect();
    let (recent, count) = records::recent(&api, &device, RECENT).await;
    let mut shown = shown(&api, device);
    let statistics = json!({
        "total_telemetry_records": count,
        "latest_telemetry": recent.first().map(|record| &record["timestamp"]),
        "first_telemetry": null,
        "is_online": is_online,
    });
    shown.insert("statistics".to_owned(), statistics);
    shown.insert("recent_telemetry".to_owned(), recent.into());
    Ok(Json(json!({
        "status": "success",
        "device": shown,
        "auth_records": records,
        "configurations": values_of(settings),
    })))
}

fn record_of(credential: &Credential, now_ms: i64) -> Value {
    json!({
        "id": credential.id,
        "kind": credential.kind.word(),
        "is_active": credential.is_good(now_ms),
        "expires_at": MomentUs::of_tables(credential.expires_ms),
        "created_at": MomentUs::of_tables(credential.created_ms),
        "last_used": MomentUs::of_tables(credential.last_used_ms),
        "usage_count": credential.uses,
    })
}

/// Changes of a device.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Change)]
pub(super) struct Change {
    /// For people.
    name: Option<String>,
    /// For people.
    description: Option<String>,
    /// `active`, `inactive` or `maintenance`.
    status: Option<String>,
    /// Where it stands.
    location: Option<String>,
    /// Version of the firmware that runs on it.
    firmware_version: Option<String>,
    /// Version of its hardware.
    hardware_version: Option<String>,
}

async fn changed(
    api: &Api,
    caller: Caller,
    device: &Device,
    change: DeviceChange,
) -> Result<Device, Problem> {
    let change = ChangeDevice {
        device: DeviceName::Number(device.number),
        within: caller.visibility(),
        change,
        expected_revision: Expected::any(),
    };
    let changed = api.tables()?.run(caller, change).await;
    changed.map_err(|error| missing(error, &device.number.to_string()))
}

/// Change a device
///
/// Members that are missing stay.
#[utoipa::path(put, path = "/api/v1/admin/devices/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    request_body = Change,
    responses((status = 200, description = "The device", body = Value)))]
pub(super) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(named): PathOf<String>,
    Body(body): Body<Change>,
) -> Result<Json<Value>, Problem> {
    let change = DeviceChange {
        name: body.name,
        description: body.description,
        status: body.status.as_deref().map(status_of).transpose()?,
        location: body.location,
        firmware_version: body.firmware_version,
        hardware_version: body.hardware_version,
        ..DeviceChange::default()
    };
    let device = find(&api, &caller, &named).await?;
    let device = changed(&api, caller, &device, change).await?;
    let message = "Device updated successfully";
    Ok(Json(
        json!({ "message": message, "device": shown(&api, device) }),
    ))
}

/// A status to be set.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::StatusChange)]
pub(super) struct StatusChange {
    /// `active`, `inactive` or `maintenance`.
    #[schema(value_type = String)]
    status: Option<String>,
}

/// Set the status of a device
#[utoipa::path(put, path = "/api/v1/admin/devices/{id}/status",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    request_body = StatusChange,
    responses((status = 200, description = "The old and the new status", body = Value)))]
pub(super) async fn set_status(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(named): PathOf<String>,
    Body(body): Body<StatusChange>,
) -> Result<Json<Value>, Problem> {
    expect_members(&[("status", body.status.is_some())])?;
    let status = status_of(body.status.as_deref().unwrap_or_default())?;
    let old = find(&api, &caller, &named).await?;
    let change = DeviceChange {
        status: Some(status),
        ..DeviceChange::default()
    };
    let new = changed(&api, caller, &old, change).await?;
    let (old_status, new_status) = (old.status, new.status);
    Ok(Json(json!({
        "status": "success",
        "message": format!("Device status updated from {old_status} to {new_status}"),
        "device_id": new.number,
        "old_status": old_status.word(),
        "new_status": new_status.word(),
    })))
}

/// Remove a device for good
///
/// Its name and id are free then. Its telemetry is kept under its number: `GET
/// /api/v1/query?number=7` reads it.
#[utoipa::path(delete, path = "/api/v1/admin/devices/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    responses((status = 200, description = "Removed", body = Value)))]
pub(super) async fn delete(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(named): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let device = find(&api, &caller, &named).await?;
    let purge = PurgeDevice {
        device: DeviceName::Number(device.number),
        keeps_telemetry: true,
    };
    let purged = api.tables()?.run(caller, purge).await;
    purged.map_err(|error| missing(error, &named))?;
    Ok(Json(json!({
        "status": "success",
        "message": format!("Device {} deleted successfully", device.name),
        "device_id": device.number,
        "note": format!(
            "Telemetry of the device is kept under its number: GET /api/v1/query?number={}",
            device.number
        ),
    })))
}

/// Numbers about devices, credentials and configuration
#[utoipa::path(get, path = "/api/v1/admin/stats",
    responses((status = 200, description = "The numbers", body = Value)))]
pub(super) async fn statistics(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
) -> Result<Json<Value>, Problem> {
    let statistics = numbers(&api, &caller).await?;
    let (counts, parts) = (statistics.counts, statistics.parts);
    Ok(Json(json!({
        "status": "success",
        "timestamp": MomentUs::now(),
        "device_stats": {
            "total": counts.total,
            "active": counts.active,
            "inactive": counts.inactive,
            "maintenance": counts.maintenance,
            "online": statistics.online,
            "offline": counts.active.saturating_sub(statistics.online),
        },
        "auth_stats": {
            "total_records": parts.credentials,
            "active_records": parts.valid_credentials,
        },
        "config_stats": {
            "total_configs": parts.settings,
            "active_configs": parts.active_settings,
        },
        "telemetry_note": match api.telemetry() {
            Some(_) => "Telemetry is stored",
            None => "Telemetry is not stored: telemetry.enabled is false",
        },
    })))
}

/// Numbers about devices, their types and telemetry
#[utoipa::path(get, path = "/api/v1/admin/dashboard",
    responses((status = 200, description = "The numbers", body = Value)))]
pub(super) async fn dashboard(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
) -> Result<Json<Value>, Problem> {
    let statistics = numbers(&api, &caller).await?;
    let (records, last_day) = records::counts_of_all(&api, &caller).await?;
    let counts = statistics.counts;
    let kinds: Vec<Value> = { statistics.kinds.iter() }
        .map(|kind| json!({ "type": kind.kind, "count": kind.count }))
        .collect();
    Ok(Json(json!({
        "status": "success",
        "statistics": {
            "devices": {
                "total": counts.total,
                "active": counts.active,
                "inactive": counts.inactive,
                "online": statistics.online,
            },
            "telemetry": { "total_records": records, "last_24h": last_day },
            "device_types": kinds,
        },
    })))
}

/// State of the cache
///
/// There is no cache: states are those of the node itself.
#[utoipa::path(get, path = "/api/v1/admin/cache/device-status",
    responses((status = 200, description = "An empty cache", body = Value)))]
pub(super) async fn cache() -> Json<Value> {
    Json(json!({
        "status": "success",
        "cache_stats": {
            "device_status_count": 0,
            "device_lastseen_count": 0,
            "redis_memory_used": "0B",
            "redis_uptime": 0,
            "redis_version": "",
        },
    }))
}

/// Clear the cache
///
/// There is none, so nothing is cleared.
#[utoipa::path(delete, path = "/api/v1/admin/cache/device-status",
    responses((status = 200, description = "Nothing was done", body = Value)))]
pub(super) async fn clear_cache() -> (Extension<Unchanged>, Json<Value>) {
    let message = "All device status caches cleared successfully";
    let answer = json!({ "status": "success", "message": message });
    (Extension(Unchanged), Json(answer))
}

/// Clear the cache of a device
///
/// There is none, so nothing is cleared.
#[utoipa::path(delete, path = "/api/v1/admin/cache/devices/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    responses((status = 200, description = "Nothing was done", body = Value)))]
pub(super) async fn clear_cache_of_device(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(named): PathOf<String>,
) -> Result<(Extension<Unchanged>, Json<Value>), Problem> {
    let device = find(&api, &caller, &named).await?;
    let message = format!("Cache cleared for device {}", device.number);
    let answer = json!({ "status": "success", "message": message });
    Ok((Extension(Unchanged), Json(answer)))
}

/// State of the synchronization with Redis
///
/// There is none.
#[utoipa::path(get, path = "/api/v1/admin/redis-db-sync/status",
    responses((status = 200, description = "It is off", body = Value)))]
pub(super) async fn synchronization() -> Json<Value> {
    Json(json!({
        "status": "success",
        "redis_db_sync": { "enabled": false, "redis_available": false, "callback_count": 0 },
    }))
}

/// Synchronize with Redis
///
/// There is no Redis: states of devices are in the tables. It is always refused.
#[utoipa::path(post, path = "/api/v1/admin/redis-db-sync/{*rest}",
    params(("rest" = String, Path, description = "What was to be done")),
    responses((status = 503, description = "There is no Redis", body = Value)))]
pub(super) async fn no_synchronization() -> (Extension<Unchanged>, Problem) {
    let detail = "there is no Redis to synchronize with: states of devices are in the tables";
    let problem = Problem::new(ProblemKind::Unavailable, detail);
    (Extension(Unchanged), problem)
}
