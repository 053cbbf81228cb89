//! Telemetry: devices send it, and they and others read it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, Uri};
use martlet_broker::TenantId;
use martlet_codec::QoS;
use martlet_control::principal::Principal;
use martlet_control::telemetry::{
    Aggregate, Bucket, Decoder, Fill, Function, Row, Selection, StoreError, StoredNow, TIME_END,
    TelemetryDevice, received_now, time_text,
};
use martlet_control::use_cases::CountDevices;
use martlet_registry::{Device, DeviceFilter};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::body::{Body, expect_members};
use super::devices::seen_by;
use super::records::{RecordSelection, devices_of, off, records, storage_of, views_of};
use super::sent::{BodyObjects, SentRecord};
use crate::api::Api;
use crate::body::large::BodyReader;
use crate::compat::time::MomentUs;
use crate::extensions::{About, AboutTeam, OwnDevice, Unchanged};
use crate::extract::{PathOf, QueryOf};
use crate::problem::{Problem, ProblemKind};
use crate::publish::{self, MessageBody};
use crate::registry::CalledBy;
use crate::telemetry::{bucket_of, json_of, telemetry_of, time_of};

async fn stored(
    api: &Api,
    path: &str,
    reader: &BodyReader,
    device: &Device,
    sent: BodyObjects,
) -> Result<StoredNow, Problem> {
    let telemetry = telemetry_of(api).map_err(off)?;
    let bytes = sent.bytes();
    let decoder = Decoder {
        format: sent.format(),
        ..telemetry.decoder().clone()
    };
    let known = TelemetryDevice {
        number: device.number,
        tenant: device.tenant,
        id: device.id.as_str().into(),
        device_type: device.device_type.as_str().into(),
    };
    let received = received_now();
    let decode = move || {
        let decoded = decoder.decode_whole(sent.body().as_bytes(), received);
        (decoded, (decoder, sent))
    };
    let (decoded, (decoder, sent)) = reader.read(bytes, decode).await?;
    let stored = match decoded {
        Err(rejection) => Err(rejection.into()),
        Ok(decoded) => telemetry.store(&known, decoded, received).await,
    };
    let stored = stored
        .map_err(|error: StoreError| error.placed(&decoder, sent.body().as_bytes(), received));
    if stored.is_ok() {
        telemetry.stored(device.tenant, &device.id, || format!("POST {path}"));
    }
    stored.map_err(|error: StoreError| match error.reason() {
        Some(reason) => {
            let request = format!("POST {path}");
            let why = (reason, error.caller_text());
            let id = Some(&*device.id);
            telemetry.reject(device.tenant, &request, id, id, why);
            Problem::from(error).recorded()
        }
        None => error.into(),
    })
}

/// Send telemetry
///
/// An object, or a line for each (`application/x-ndjson`).
#[utoipa::path(post, path = "/api/v1/telemetry",
    request_body = SentRecord,
    responses((status = 201, description = "Stored", body = Value)))]
pub(super) async fn send(
    State(api): State<Api>,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
    Extension(reader): Extension<BodyReader>,
    uri: Uri,
    sent: BodyObjects,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let stored = stored(&api, uri.path(), &reader, &device, sent).await?;
    let answer = json!({
        "message": "Telemetry data stored successfully",
        "telemetry_id": stored.received,
        "device_id": device.number,
        "device_name": device.name,
        "timestamp": time_text(stored.received),
        "stored_in_iotdb": true,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Send telemetry, at the path of devices
///
/// An object, or a line for each (`application/x-ndjson`).
#[utoipa::path(post, path = "/api/v1/devices/telemetry",
    request_body = SentRecord,
    responses((status = 201, description = "Stored", body = Value)))]
pub(super) async fn send_own(
    api: State<Api>,
    device: Extension<OwnDevice>,
    reader: Extension<BodyReader>,
    uri: Uri,
    sent: BodyObjects,
) -> Result<(StatusCode, Json<Value>), Problem> {
    send(api, device, reader, uri, sent).await
}

/// Publish telemetry of a device by MQTT
///
/// Subscribers get it too, and the rules of telemetry store it.
#[utoipa::path(post, path = "/api/v1/mqtt/telemetry/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    request_body = SentRecord,
    responses((status = 201, description = "Published", body = Value)))]
pub(super) async fn publish(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    Extension(principal): Extension<Principal>,
    PathOf(named): PathOf<String>,
    sent: BodyObjects,
) -> Result<(StatusCode, Extension<Unchanged>, Json<Value>), Problem> {
    telemetry_of(&api).map_err(off)?;
    let device = seen_by(&api, &caller, own, &named).await?;
    let payload = sent.message();
    let topic = api
        .settings
        .iotflow
        .topic(&format!("devices/{}/telemetry", device.id));
    let message = MessageBody::plain(topic.clone(), payload, QoS::AtLeastOnce, false);
    let tenant = TenantId(device.tenant);
    let _ = publish::publish_one(&api, tenant, &principal, message).await?;
    let answer = json!({
        "status": "success",
        "message": "Telemetry data published successfully",
        "device_id": device.number,
        "device_name": device.name,
        "topic": topic,
        "timestamp": MomentUs::now(),
    });
    Ok((StatusCode::CREATED, Extension(Unchanged), Json(answer)))
}

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RecordParams {
    /// The most records.
    limit: Option<usize>,
    /// Records before the first one, where a device asks for its own.
    offset: Option<usize>,
    /// Which page, from 1 on, where there are pages.
    page: Option<usize>,
    /// From when on: RFC 3339, or a time before now, such as `-24h`.
    start_time: Option<String>,
    /// Until when, in the same forms.
    end_time: Option<String>,
    /// Another name of `start_time`.
    start_date: Option<String>,
    /// Another name of `end_time`.
    end_date: Option<String>,
    /// Only records whose metadata have this `type`, where a device asks for its own.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    kind: Option<String>,
    /// Only values of this key, where there are pages.
    data_type: Option<String>,
}

impl RecordParams {
    fn span(&self, default: &str) -> Result<(i64, i64), Problem> {
        let from = self.start_time.as_deref().or(self.start_date.as_deref());
        let until = self.end_time.as_deref().or(self.end_date.as_deref());
        span(from.unwrap_or(default), until)
    }

    fn limit(&self, default: usize, most: usize) -> usize {
        self.limit.unwrap_or(default).clamp(1, most)
    }
}

fn span(from: &str, until: Option<&str>) -> Result<(i64, i64), Problem> {
    let from = time_of("start_time", from)?;
    let until = match until {
        Some(until) => time_of("end_time", until)?,
        None => TIME_END,
    };
    match from < until {
        true => Ok((from, until)),
        false => Err(Problem::of_query("end_time", "it is not after start_time")),
    }
}

/// Records of the device itself
#[utoipa::path(get, path = "/api/v1/devices/telemetry",
    params(RecordParams),
    responses((status = 200, description = "The records, the newest first", body = Value)))]
pub(super) async fn own(
    State(api): State<Api>,
    Extension(OwnDevice(device)): Extension<OwnDevice>,
    QueryOf(asked): QueryOf<RecordParams>,
) -> Result<Json<Value>, Problem> {
    let (from, until) = asked.span("-24h")?;
    let (limit, offset) = (asked.limit(100, 1_000), asked.offset.unwrap_or(0));
    let selection = RecordSelection {
        from,
        until,
        data_type: asked.kind.as_deref(),
        offset,
        limit,
    };
    let (found, truncated) = records(&storage_of(&api).await?, device.number, selection).await?;
    let number = device.number;
    let views = views_of(found, number);
    Ok(Json(json!({
        "status": "success",
        "device_id": number,
        "device_name": device.name,
        "count": views.len(),
        "telemetry": views,
        "limit": limit,
        "offset": offset,
        "truncated": truncated,
    })))
}

/// Records of a device
#[utoipa::path(get, path = "/api/v1/telemetry/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id"), RecordParams),
    responses((status = 200, description = "The records, the newest first", body = Value)))]
pub(super) async fn of_device(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
    QueryOf(asked): QueryOf<RecordParams>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let (from, until) = asked.span("-1h")?;
    let selection = RecordSelection {
        from,
        until,
        data_type: None,
        offset: 0,
        limit: asked.limit(1_000, 10_000),
    };
    let (found, truncated) = records(&storage_of(&api).await?, device.number, selection).await?;
    let number = device.number;
    let views = views_of(found, number);
    Ok(Json(json!({
        "device_id": number,
        "device_name": device.name,
        "device_type": device.kind,
        "start_time": time_text(from),
        "count": views.len(),
        "data": views,
        "iotdb_available": true,
        "truncated": truncated,
    })))
}

/// Records of a device, in pages
#[utoipa::path(get, path = "/api/v1/telemetry/device/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id"), RecordParams),
    responses((status = 200, description = "A page of records", body = Value)))]
pub(super) async fn page_of_device(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
    QueryOf(asked): QueryOf<RecordParams>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let (from, until) = asked.span("-24h")?;
    let (limit, page) = (asked.limit(100, 1_000), asked.page.unwrap_or(1).max(1));
    let selection = RecordSelection {
        from,
        until,
        data_type: None,
        offset: (page - 1).saturating_mul(limit),
        limit,
    };
    let (mut found, truncated) =
        records(&storage_of(&api).await?, device.number, selection).await?;
    if let Some(key) = &asked.data_type {
        for record in &mut found {
            record.measurements.retain(|known, _| known == key);
        }
        found.retain(|record| !record.measurements.is_empty());
    }
    let number = device.number;
    let views = views_of(found, number);
    // The total is known on the last page only: other pages have that there are more.
    let total = selection.offset + views.len() + usize::from(truncated);
    Ok(Json(json!({
        "success": true,
        "device_id": number,
        "device_name": device.name,
        "telemetry": views,
        "pagination": {
            "total": total,
            "currentPage": page,
            "totalPages": total.div_ceil(limit),
            "limit": limit,
        },
        "filters": {
            "data_type": asked.data_type,
            "start_date": asked.start_date,
            "end_date": asked.end_date,
        },
        "truncated": truncated,
    })))
}

/// The latest values of a device
#[utoipa::path(get, path = "/api/v1/telemetry/{id}/latest",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    responses((status = 200, description = "The values by key", body = Value)))]
pub(super) async fn latest(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let selection = Selection::device(device.number);
    let found = storage_of(&api).await?.latest(&selection).await?;
    let Some(newest) = found.iter().map(|row| row.time).max() else {
        let detail = format!("Device {} has sent no telemetry", device.number);
        let problem = Problem::new(ProblemKind::NotFound, detail);
        return Err(problem.with_heading("No telemetry data found"));
    };
    let values = found
        .iter()
        .map(|row| (row.key.to_string(), json_of(&row.value)));
    let mut values: Map<String, Value> = values.collect();
    values.insert("timestamp".to_owned(), time_text(newest).into());
    Ok(Json(json!({
        "device_id": device.number,
        "device_name": device.name,
        "device_type": device.kind,
        "latest_data": values,
        "iotdb_available": true,
    })))
}

/// Calculation that is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Calculated {
    /// Key of the values in windows; default `temperature`.
    field: Option<String>,
    /// Key of the values where there is one window; needed there.
    data_type: Option<String>,
    /// `mean`, `median`, `sum`, `count`, `min`, `max`, `first` or `last`.
    aggregation: Option<String>,
    /// Length of a window; default `1h`.
    window: Option<String>,
    /// From when on, in windows: RFC 3339, or a time before now, such as `-24h`.
    start_time: Option<String>,
    /// Until when, in windows.
    end_time: Option<String>,
    /// From when on, where there is one window.
    start_date: Option<String>,
    /// Until when, where there is one window.
    end_date: Option<String>,
}

fn function_of(word: &str) -> Result<Function, Problem> {
    match word {
        "mean" | "avg" => Ok(Function::Avg),
        "median" => Ok(Function::P50),
        "sum" => Ok(Function::Sum),
        "count" => Ok(Function::Count),
        "min" => Ok(Function::Min),
        "max" => Ok(Function::Max),
        "first" => Ok(Function::First),
        "last" => Ok(Function::Last),
        _ => {
            let detail = "aggregation must be mean, sum, count, min, max, first, last or median";
            Err(Problem::bad_request(detail).with_heading("Invalid aggregation"))
        }
    }
}

/// Values of a key in windows of time
#[utoipa::path(get, path = "/api/v1/telemetry/{id}/aggregated",
    params(("id" = String, Path, description = "Number of the device, or its id"), Calculated),
    responses((status = 200, description = "A value for each window", body = Value)))]
pub(super) async fn aggregated(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
    QueryOf(asked): QueryOf<Calculated>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let field = asked.field.as_deref().unwrap_or("temperature");
    let aggregation = asked.aggregation.as_deref().unwrap_or("mean");
    let window = asked.window.as_deref().unwrap_or("1h");
    let (from, until) = span(
        asked.start_time.as_deref().unwrap_or("-24h"),
        asked.end_time.as_deref(),
    )?;
    let question = Aggregate {
        selection: Selection::device(device.number).keys([field]),
        from,
        until,
        bucket: bucket_of(window, None)?,
        functions: vec![function_of(aggregation)?],
        fill: Fill::default(),
        limit: 10_000,
        after: None,
    };
    let found = storage_of(&api).await?.aggregate(&question).await?;
    let truncated = found.is_truncated();
    let data: Vec<Value> = { found.rows.into_iter() }
        .map(|row| {
            let value = row.values.first().and_then(Option::as_ref).map(json_of);
            json!({ "timestamp": time_text(row.start), "value": value })
        })
        .collect();
    Ok(Json(json!({
        "device_id": device.number,
        "device_name": device.name,
        "device_type": device.kind,
        "field": field,
        "aggregation": aggregation,
        "window": window,
        "start_time": time_text(from),
        "count": data.len(),
        "data": data,
        "iotdb_available": true,
        "truncated": truncated,
    })))
}

/// One value of a key, of all its values
#[utoipa::path(get, path = "/api/v1/telemetry/device/{id}/aggregated",
    params(("id" = String, Path, description = "Number of the device, or its id"), Calculated),
    responses((status = 200, description = "The value, and of how many", body = Value)))]
pub(super) async fn aggregated_of_device(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
    QueryOf(asked): QueryOf<Calculated>,
) -> Result<Json<Value>, Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    let (Some(field), Some(aggregation)) = (&asked.data_type, &asked.aggregation) else {
        let detail = "data_type and aggregation are needed";
        return Err(Problem::bad_request(detail).with_heading("Missing required fields"));
    };
    let from = asked.start_date.as_deref().unwrap_or("-24h");
    let (from, until) = span(from, asked.end_date.as_deref())?;
    let question = Aggregate {
        selection: Selection::device(device.number).keys([field.as_str()]),
        from,
        until,
        bucket: Bucket::Whole,
        functions: vec![function_of(aggregation)?, Function::Count],
        fill: Fill::default(),
        limit: 1,
        after: None,
    };
    let found = storage_of(&api).await?.aggregate(&question).await?;
    let values = found.rows.into_iter().next().map(|row| row.values);
    let value = |at: usize| {
        let value = values.as_ref().and_then(|values| values.get(at));
        value.and_then(Option::as_ref).map(json_of)
    };
    Ok(Json(json!({
        "success": true,
        "device_id": device.number,
        "device_name": device.name,
        "aggregation": {
            "type": aggregation,
            "data_type": field,
            "value": value(0),
            "count": value(1).unwrap_or_else(|| 0.into()),
        },
    })))
}

/// Which values are to be deleted.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = iotflow::Deleted)]
pub(super) struct ToDelete {
    /// From when on: RFC 3339, or a time before now, such as `-24h`.
    #[schema(value_type = String)]
    start_time: Option<String>,
    /// Until when, in the same forms.
    #[schema(value_type = String)]
    stop_time: Option<String>,
}

/// Delete values of a device
#[utoipa::path(delete, path = "/api/v1/telemetry/{id}",
    params(("id" = String, Path, description = "Number of the device, or its id")),
    request_body = ToDelete,
    responses((status = 200, description = "How many were deleted", body = Value)))]
pub(super) async fn delete(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(named): PathOf<String>,
    Body(body): Body<ToDelete>,
) -> Result<(Extension<About>, Extension<AboutTeam>, Json<Value>), Problem> {
    let device = seen_by(&api, &caller, own, &named).await?;
    expect_members(&[
        ("start_time", body.start_time.is_some()),
        ("stop_time", body.stop_time.is_some()),
    ])?;
    let (start, stop) = (
        body.start_time.unwrap_or_default(),
        body.stop_time.unwrap_or_default(),
    );
    let (from, until) = span(&start, Some(&stop))?;
    let selection = Selection::device(device.number);
    let deleted = storage_of(&api)
        .await?
        .delete(selection, from, until)
        .await?;
    let deleted = deleted.values;
    let about = json!({ "start_time": start, "stop_time": stop, "deleted": deleted });
    let answer = json!({
        "message": "Telemetry data deleted successfully",
        "device_id": device.number,
        "device_name": device.name,
        "start_time": start,
        "stop_time": stop,
        "deleted": deleted,
    });
    let (about, of_team) = (Extension(About(about)), Extension(AboutTeam(device.team)));
    Ok((about, of_team, Json(answer)))
}

/// State of the storage of telemetry
#[utoipa::path(get, path = "/api/v1/telemetry/status",
    responses((status = 200, description = "The state", body = Value)))]
pub(super) async fn status(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
) -> Result<Json<Value>, Problem> {
    let counts = api.run(caller, CountDevices).await?;
    let is_available = storage_of(&api).await.is_ok();
    Ok(Json(json!({
        "iotdb_available": is_available,
        "iotdb_host": null,
        "iotdb_port": null,
        "iotdb_database": "martlet",
        "total_devices": counts.total,
        "status": if is_available { "healthy" } else { "unavailable" },
    })))
}

/// Records of all devices of a user
///
/// A device sees those of its owner.
#[utoipa::path(get, path = "/api/v1/telemetry/user/{user}",
    params(("user" = String, Path, description = "User Name"), RecordParams),
    responses((status = 200, description = "The records, the newest first", body = Value)))]
pub(super) async fn of_user(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(user): PathOf<String>,
    QueryOf(asked): QueryOf<RecordParams>,
) -> Result<Json<Value>, Problem> {
    if let Some(Extension(OwnDevice(own))) = &own
        && own.owner != user
    {
        let detail = "You can only access telemetry of your own user";
        return Err(Problem::new(ProblemKind::Forbidden, detail).with_heading("Access denied"));
    }
    let (from, until) = asked.span("-24h")?;
    let limit = asked.limit(100, 1_000);
    let filter = DeviceFilter {
        owner: Some(user.clone()),
        ..DeviceFilter::default()
    };
    let devices = devices_of(&api, &caller, filter).await?;
    // A device of the common tenant belongs to no team, and sees no device of one.
    let is_of_own = |device: &Device| match &own {
        Some(Extension(OwnDevice(own))) => device.tenant == own.tenant,
        None => true,
    };
    let storage = storage_of(&api).await?;
    let mut found = BTreeMap::new();
    let mut truncated = false;
    for device in devices.iter().filter(|device| is_of_own(device)) {
        let selection = RecordSelection {
            from,
            until,
            data_type: None,
            offset: 0,
            limit,
        };
        let (records, has_more) = records(&storage, device.number, selection).await?;
        truncated |= has_more;
        for (place, record) in records.into_iter().enumerate() {
            let mut view = Map::new();
            view.insert("device_name".to_owned(), device.name.clone().into());
            let key = (std::cmp::Reverse(record.time), device.number, place);
            if let Value::Object(members) = record.view(device.number) {
                view.extend(members);
            }
            found.insert(key, view);
        }
        // No more than the newest ones are needed.
        while found.len() > limit {
            truncated |= found.pop_last().is_some();
        }
    }
    let total = found.len();
    let telemetry: Vec<Map<String, Value>> = found.into_values().collect();
    Ok(Json(json!({
        "status": "success",
        "user_id": user,
        "count": total,
        "total_count": total,
        "telemetry": telemetry,
        "truncated": truncated,
    })))
}

/// The latest values of all devices
#[utoipa::path(get, path = "/api/v1/admin/telemetry",
    responses((status = 200, description = "The values by device", body = Value)))]
pub(super) async fn of_all(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
) -> Result<Json<Value>, Problem> {
    let storage = storage_of(&api).await?;
    let devices = devices_of(&api, &caller, DeviceFilter::default()).await?;
    let selection = Selection {
        devices: devices.iter().map(|device| device.number).collect(),
        keys: None,
    };
    let mut rows: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for row in storage.latest(&selection).await? {
        rows.entry(row.device).or_default().push(row);
    }
    let mut telemetry = Vec::new();
    for device in &devices {
        let Some(rows) = rows.get(&device.number) else {
            continue;
        };
        let values = rows
            .iter()
            .map(|row| (row.key.to_string(), json_of(&row.value)));
        let newest = rows.iter().map(|row| row.time).max().unwrap_or_default();
        telemetry.push(json!({
            "device_id": device.number,
            "device_name": device.name,
            "timestamp": time_text(newest),
            "latest_data": values.collect::<Map<_, _>>(),
        }));
    }
    Ok(Json(json!({
        "status": "success",
        "count": telemetry.len(),
        "telemetry": telemetry,
    })))
}
