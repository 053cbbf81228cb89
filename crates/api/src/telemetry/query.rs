//! Values of many devices.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use martlet_control::callers::Caller;
use martlet_control::devices::DeviceName;
use martlet_control::telemetry::{Position, Range, Selection};
use martlet_control::use_cases::{FindDevice, ListDevicesFrom};
use martlet_registry::{DeviceFilter, DeviceOrder};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::aggregate::{self, Buckets};
use super::device::{keys_of, limit_of, order_of};
use super::export;
use super::of_node::{memory_of, telemetry_of, turn};
use super::times::Span;
use super::view::DeviceReadingView;
use crate::api::Api;
use crate::extract::QueryOf;
use crate::name_list::{expect_not_empty, name_list};
use crate::problem::{Problem, ProblemKind};
use crate::registry::{CalledBy, expect_type, group_id, within};

/// Devices of a query, at most.
const DEVICES_MAX: u64 = 10_000;

/// Which devices: all given conditions must be true.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    pub(super) device: Option<String>,
    pub(super) number: Option<String>,
    pub(super) group: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) device_type: Option<String>,
}

/// Ids of the devices that are meant, by number.
///
/// # Errors
/// None are named, one is not there, or there are too many.
pub(super) async fn selected(
    api: &Api,
    caller: &Caller,
    devices: &Devices,
) -> Result<HashMap<i64, String>, Problem> {
    let named = devices.device.as_deref();
    let named = named.map(|text| name_list("device", text)).transpose()?;
    let has_filter =
        devices.group.is_some() || devices.tag.is_some() || devices.device_type.is_some();
    expect_not_empty([
        ("tag", &devices.tag),
        ("group", &devices.group),
        ("type", &devices.device_type),
    ])?;
    if let Some(numbers) = &devices.number {
        if has_filter || named.is_some() {
            let detail = "it stands alone, without device, group, tag and type";
            return Err(Problem::of_query("number", detail));
        }
        return numbered(api, caller, numbers).await;
    }
    if !has_filter && named.is_none() {
        let detail = "name the devices by device, group, tag or type";
        return Err(Problem::of_query("device", detail));
    }
    if let Some(device_type) = &devices.device_type {
        expect_type(api, caller, device_type).await?;
    }
    let group = match &devices.group {
        None => None,
        Some(group) => Some(group_id(api, caller, group).await?),
    };
    let filter = DeviceFilter {
        device_type: devices.device_type.clone(),
        tag: devices.tag.clone(),
        group,
        ..DeviceFilter::default()
    };
    let Some(named) = named else {
        let list = ListDevicesFrom {
            filter,
            order: DeviceOrder::Number,
            place: (0, DEVICES_MAX),
        };
        let (found, total) = api.run(caller.clone(), list).await?;
        if total > DEVICES_MAX {
            let detail = format!("{total} devices are meant, at most {DEVICES_MAX} may be");
            return Err(Problem::of_query("device", detail));
        }
        return Ok(found.into_iter().map(|one| (one.number, one.id)).collect());
    };
    let mut found = HashMap::new();
    for id in named.into_iter().map(str::trim) {
        let device = DeviceName::Id(id.to_owned());
        let device = api.run(caller.clone(), FindDevice { device }).await?;
        let fits = |wanted: &Option<String>, has: &dyn Fn(&String) -> bool| {
            wanted.as_ref().is_none_or(has)
        };
        if fits(&filter.device_type, &|wanted| *wanted == device.device_type)
            && fits(&filter.tag, &|wanted| device.tags.contains(wanted))
            && fits(&filter.group, &|wanted| device.groups.contains(wanted))
        {
            found.insert(device.number, device.id);
        }
    }
    Ok(found)
}

/// Devices by number, and removed ones, which have no id.
///
/// # Errors
/// A number is none, or the caller sees one team alone.
async fn numbered(
    api: &Api,
    caller: &Caller,
    numbers: &str,
) -> Result<HashMap<i64, String>, Problem> {
    if !caller.sees_all() {
        let detail = "only callers that see all teams may name devices by number";
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    let mut found = HashMap::new();
    for text in name_list("number", numbers)? {
        let number = text.trim().parse::<i64>();
        let number = number.map_err(|_| {
            Problem::of_query("number", "expected numbers with commas between them")
        })?;
        let device = DeviceName::Number(number);
        let device = api.run(caller.clone(), FindDevice { device }).await;
        let id = device.map_or_else(|_| number.to_string(), |device| device.id);
        found.insert(number, id);
    }
    Ok(found)
}

/// Which values, and what is calculated of them.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueryParams {
    /// Ids of devices with commas between them.
    #[param(example = "pump-7,pump-8")]
    device: Option<String>,
    /// Numbers of devices, as the routes of IoTFlow have them, with commas between them: also of
    /// devices that were removed and whose telemetry was kept. It stands alone, without `device`,
    /// `group`, `tag` and `type`, and is for callers that see all teams.
    #[param(example = "7")]
    number: Option<String>,
    /// Devices of this group, by id or name.
    group: Option<String>,
    /// Devices with this tag.
    tag: Option<String>,
    /// Devices of this type.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    device_type: Option<String>,
    /// Keys with commas between them. Default: all.
    #[param(example = "temperature,humidity")]
    keys: Option<String>,
    /// The first time: RFC 3339, a number of seconds or milliseconds since 1970, `now`, or a time
    /// before now such as `-90s`, `-30m`, `-24h`, `-7d` or `-2w`. Default: `-24h`.
    #[param(example = "-24h")]
    from: Option<String>,
    /// The first time that is not meant any more, written likewise. Default: no end.
    to: Option<String>,
    /// `asc` (oldest first, the default) or `desc`.
    order: Option<String>,
    /// The most items of a JSON answer. Exports have all.
    #[param(minimum = 1, maximum = 10_000, default = 1_000)]
    limit: Option<usize>,
    /// `next` of the answer before.
    cursor: Option<String>,
    /// Buckets that values are summed up in: a length such as `30s`, `15m`, `1h` or `7d`, or a unit
    /// of the calendar in `zone`: `minute`, `hour`, `day`, `week` (ISO 8601), `month`, `quarter` or
    /// `year`. `all` is one bucket. The time of a bucket is its start. Default: the values
    /// themselves.
    #[param(example = "1h")]
    bucket: Option<String>,
    /// Time zone of the calendar, by its name in the IANA database. Default: `UTC`.
    #[param(example = "Europe/Berlin")]
    zone: Option<String>,
    /// Functions that are answered for each bucket, with commas between them: `avg` (default),
    /// `min`, `max`, `sum`, `count`, `first`, `last`, `p50`, `p95`, `delta` and `rate` (per
    /// second).
    #[param(example = "avg,max")]
    functions: Option<String>,
    /// Values that are answered for buckets without values: `none` (default; they are left out),
    /// `null`, `previous` or `linear`.
    fill: Option<String>,
    /// Only devices of this team, by id or name.
    team: Option<String>,
    /// `json` (default), or an export of all values: `csv`, `ndjson` or `line` (InfluxDB line
    /// protocol).
    format: Option<String>,
    /// Begin CSV with a byte order mark, for Excel.
    bom: Option<bool>,
}

impl QueryParams {
    /// # Errors
    /// A parameter of buckets is given without `bucket`.
    fn expect_no_bucket(&self) -> Result<(), Problem> {
        let of_buckets = [
            ("zone", &self.zone),
            ("functions", &self.functions),
            ("fill", &self.fill),
        ];
        match of_buckets.iter().find(|(_, text)| text.is_some()) {
            None => Ok(()),
            Some((name, _)) => {
                let detail = "it applies to buckets only: add `bucket`, such as 1h";
                Err(Problem::of_query(name, detail))
            }
        }
    }
}

/// Values of several devices.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct QueryAnswer {
    /// In the order that was asked for.
    pub items: Vec<DeviceReadingView>,
    /// There are more values than `limit`.
    pub truncated: bool,
    /// The `cursor` of the next ones; null: these were the last ones.
    pub next: Option<String>,
}

/// Query telemetry
///
/// Values of several devices and keys, or with `bucket` what is calculated of them: then each item
/// has `device`, `key`, `time` (the start of the bucket) and a member for each function, by device,
/// key and time. If there are more items than `limit`, `truncated` is true and `next` is the cursor
/// of the next ones. Data sources of Grafana that read JSON or CSV can use it.
#[utoipa::path(get, path = "/api/v1/query", tag = "telemetry", params(QueryParams),
    responses((status = 200, description = "The values", body = QueryAnswer)))]
pub(crate) async fn query(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(wanted): QueryOf<QueryParams>,
) -> Result<Response, Problem> {
    let telemetry = telemetry_of(&api)?;
    let _turn = turn(&api, &caller).await?;
    let memory = memory_of(&api, &caller);
    let caller = within(&api, caller, wanted.team.as_deref()).await?;
    let devices = Devices {
        device: wanted.device.clone(),
        number: wanted.number.clone(),
        group: wanted.group.clone(),
        tag: wanted.tag.clone(),
        device_type: wanted.device_type.clone(),
    };
    let ids = selected(&api, &caller, &devices).await?;
    let mut numbers: Vec<i64> = ids.keys().copied().collect();
    numbers.sort_unstable();
    let mut span = Span {
        from: wanted.from.clone(),
        to: wanted.to.clone(),
    };
    if wanted.fill.is_some() && span.to.is_none() {
        // Buckets in the future are not filled.
        span.to = Some("now".to_owned());
    }
    let (from, until) = span.read()?;
    if let Some(bucket) = wanted.bucket {
        let buckets = Buckets {
            keys: wanted.keys,
            bucket,
            zone: wanted.zone,
            functions: wanted.functions,
            fill: wanted.fill,
            order: wanted.order,
            limit: wanted.limit,
            cursor: wanted.cursor,
            format: wanted.format,
            bom: wanted.bom,
        };
        return aggregate::answer(&api, buckets, ids, from, until, memory).await;
    }
    wanted.expect_no_bucket()?;
    let order = order_of(wanted.order.as_deref())?;
    let list = format!("query {numbers:?} {:?} {order:?}", wanted.keys);
    let after = wanted.cursor.as_deref();
    let after = after.map(|cursor| api.cursors().position(&list, cursor));
    let after = after.transpose()?.map(|text| text.parse::<Position>());
    let range = Range {
        selection: Selection {
            devices: numbers,
            keys: keys_of(wanted.keys.as_deref())?,
        },
        from,
        until,
        order,
        limit: limit_of(wanted.limit)?,
        after: after.transpose()?,
    };
    let storage = telemetry.storage().await?;
    if let Some(format) = export::format_of(wanted.format.as_deref())? {
        return export::answer(
            storage,
            memory,
            range,
            ids,
            format,
            wanted.bom == Some(true),
        )
        .await;
    }
    let of_query = storage.range_within(&range, memory).await?;
    let found = of_query.rows;
    let answer = QueryAnswer {
        truncated: found.is_truncated(),
        next: found
            .next
            .map(|next| api.cursors().after(&list, &next.to_string())),
        items: { found.rows.into_iter() }
            .map(|row| DeviceReadingView::new(row, &ids))
            .collect(),
    };
    Ok(Json(answer).into_response())
}
