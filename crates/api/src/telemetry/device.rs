//! Values of one device.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use martlet_control::telemetry::{Order, Position, Range, Selection, time_text};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::of_node::{device_of, memory_of, telemetry_of, turn};
use super::times::Span;
use super::view::{ReadingView, json_of};
use crate::api::Api;
use crate::extensions::{About, AboutTeam, OwnDevice};
use crate::extract::{PathOf, QueryOf};
use crate::name_list::name_list;
use crate::page::Items;
use crate::problem::Problem;
use crate::registry::{CalledBy, OfTeam, within, word_of_query};

/// Values of an answer: the maximum and the default.
pub(super) const LIMIT_MAX: usize = 10_000;
const LIMIT: usize = 1_000;
/// Keys of a query, at most.
const KEYS_MAX: usize = 1_000;

/// How many values an answer has.
///
/// # Errors
/// None, or too many, are asked for.
pub(super) fn limit_of(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(LIMIT),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        Some(_) => Err(Problem::of_query(
            "limit",
            format!("expected 1 to {LIMIT_MAX}"),
        )),
    }
}

/// Keys with commas between them; none: all keys.
///
/// # Errors
/// There are too many, or one is empty.
pub(super) fn keys_of(text: Option<&str>) -> Result<Option<Vec<String>>, Problem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let keys = name_list("keys", text)?.into_iter();
    let keys: Vec<String> = keys.map(str::to_owned).collect();
    match keys.len() {
        0..=KEYS_MAX => Ok(Some(keys)),
        _ => Err(Problem::of_query(
            "keys",
            format!("expected {KEYS_MAX} keys at most"),
        )),
    }
}

/// The order of values.
///
/// # Errors
/// It is none.
pub(super) fn order_of(text: Option<&str>) -> Result<Order, Problem> {
    let read = |word: &str| match word {
        "asc" => Some(Order::OldestFirst),
        "desc" => Some(Order::NewestFirst),
        _ => None,
    };
    word_of_query("order", text.unwrap_or("asc"), read, &["asc", "desc"])
}

/// Which values of a device.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeviceValueParams {
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
    /// The most values.
    #[param(minimum = 1, maximum = 10_000, default = 1_000)]
    limit: Option<usize>,
    /// `next` of the answer before.
    cursor: Option<String>,
    /// Only devices of this team, by id or name: needed by a caller that sees all teams, for
    /// devices of teams that have a tenant of their own.
    team: Option<String>,
}

/// Values of a device.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Readings {
    /// In the order that was asked for.
    pub items: Vec<ReadingView>,
    /// There are more values than `limit`.
    pub truncated: bool,
    /// The `cursor` of the next ones; null: these were the last ones.
    pub next: Option<String>,
}

/// Telemetry of a device
///
/// Its values by time. If there are more than `limit`, `truncated` is true and `next` is the cursor
/// of the next ones.
#[utoipa::path(get, path = "/api/v1/devices/{id}/telemetry", tag = "telemetry",
    params(("id" = String, Path, description = "Id of the device"), DeviceValueParams),
    responses((status = 200, description = "The values", body = Readings)))]
pub(crate) async fn range(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(id): PathOf<String>,
    QueryOf(wanted): QueryOf<DeviceValueParams>,
) -> Result<Json<Readings>, Problem> {
    let telemetry = telemetry_of(&api)?;
    let _turn = turn(&api, &caller).await?;
    let memory = memory_of(&api, &caller);
    let caller = within(&api, caller, wanted.team.as_deref()).await?;
    let own = own.map(|Extension(own)| own);
    let device = device_of(&api, &caller, own.as_ref(), &id).await?;
    let span = Span {
        from: wanted.from.clone(),
        to: wanted.to.clone(),
    };
    let (from, until) = span.read()?;
    let order = order_of(wanted.order.as_deref())?;
    let list = format!("telemetry {} {:?} {order:?}", device.number, wanted.keys);
    let after = wanted.cursor.as_deref();
    let after = after.map(|cursor| api.cursors().position(&list, cursor));
    let after = after.transpose()?.map(|text| text.parse::<Position>());
    let range = Range {
        selection: Selection {
            devices: vec![device.number],
            keys: keys_of(wanted.keys.as_deref())?,
        },
        from,
        until,
        order,
        limit: limit_of(wanted.limit)?,
        after: after.transpose()?,
    };
    let storage = telemetry.storage().await?;
    let of_query = storage.range_within(&range, memory).await?;
    let found = of_query.rows;
    Ok(Json(Readings {
        truncated: found.is_truncated(),
        next: found
            .next
            .map(|next| api.cursors().after(&list, &next.to_string())),
        items: found.rows.into_iter().map(Into::into).collect(),
    }))
}

/// Which keys of a device.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeysQuery {
    /// Keys with commas between them. Default: all.
    keys: Option<String>,
    /// Only devices of this team, by id or name: needed by a caller that sees all teams, for
    /// devices of teams that have a tenant of their own.
    team: Option<String>,
}

/// A value and its time.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct LatestView {
    /// When it was measured.
    #[schema(format = DateTime)]
    pub time: String,
    /// A number, a boolean, a text, or JSON.
    pub value: serde_json::Value,
}

/// Latest values of a device
///
/// The latest value of each key.
#[utoipa::path(get, path = "/api/v1/devices/{id}/telemetry/latest", tag = "telemetry",
    params(("id" = String, Path, description = "Id of the device"), KeysQuery),
    responses((status = 200, description = "Values by key",
        body = BTreeMap<String, LatestView>)))]
pub(crate) async fn latest(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(id): PathOf<String>,
    QueryOf(wanted): QueryOf<KeysQuery>,
) -> Result<Json<BTreeMap<String, LatestView>>, Problem> {
    let telemetry = telemetry_of(&api)?;
    let _turn = turn(&api, &caller).await?;
    let memory = memory_of(&api, &caller);
    let caller = within(&api, caller, wanted.team.as_deref()).await?;
    let own = own.map(|Extension(own)| own);
    let device = device_of(&api, &caller, own.as_ref(), &id).await?;
    let selection = Selection {
        devices: vec![device.number],
        keys: keys_of(wanted.keys.as_deref())?,
    };
    let storage = telemetry.storage().await?;
    let of_query = storage.latest_within(&selection, memory).await?;
    let found = of_query.rows.into_iter().map(|row| {
        let latest = LatestView {
            time: time_text(row.time),
            value: json_of(&row.value),
        };
        (row.key.to_string(), latest)
    });
    Ok(Json(found.collect()))
}

/// Telemetry keys of a device
///
/// In order.
#[utoipa::path(get, path = "/api/v1/devices/{id}/telemetry/keys", tag = "telemetry",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 200, description = "The keys", body = Items<String>)))]
pub(crate) async fn keys(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<Items<String>>, Problem> {
    let telemetry = telemetry_of(&api)?;
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let own = own.map(|Extension(own)| own);
    let device = device_of(&api, &caller, own.as_ref(), &id).await?;
    let keys = telemetry.storage().await?.keys(device.number).await?;
    Ok(Json(keys.iter().map(|key| key.to_string()).collect()))
}

/// Which values are to be deleted.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ToDelete {
    /// Keys with commas between them. Default: all.
    keys: Option<String>,
    /// The first time, as in queries; `*` is the beginning. Required.
    #[param(required = true, example = "2026-11-21T14:00:00Z")]
    from: Option<String>,
    /// The first time that is kept again, as in queries; `*` is the end. Required.
    #[param(required = true, example = "2026-11-21T15:00:00Z")]
    to: Option<String>,
    /// Only devices of this team, by id or name: needed by a caller that sees all teams, for
    /// devices of teams that have a tenant of their own.
    team: Option<String>,
}

/// How many values were deleted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeletedView {
    /// Values.
    pub deleted: u64,
}

/// Delete telemetry of a device
///
/// Deletes the values of a span of time. The audit log has the caller.
#[utoipa::path(delete, path = "/api/v1/devices/{id}/telemetry", tag = "telemetry",
    params(("id" = String, Path, description = "Id of the device"), ToDelete),
    responses((status = 200, description = "Deleted", body = DeletedView)))]
pub(crate) async fn delete(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(wanted): QueryOf<ToDelete>,
) -> Result<(Extension<About>, Extension<AboutTeam>, Json<DeletedView>), Problem> {
    let telemetry = telemetry_of(&api)?;
    let caller = within(&api, caller, wanted.team.as_deref()).await?;
    let device = device_of(&api, &caller, None, &id).await?;
    let span = Span {
        from: wanted.from.clone(),
        to: wanted.to.clone(),
    };
    let (from, until) = span.read_both()?;
    let selection = Selection {
        devices: vec![device.number],
        keys: keys_of(wanted.keys.as_deref())?,
    };
    let storage = telemetry.storage().await?;
    let deleted = storage.delete(selection, from, until).await?.values;
    let about = About(json!({
        "keys": wanted.keys,
        "from": wanted.from,
        "to": wanted.to,
        "deleted": deleted,
    }));
    let of_team = AboutTeam(device.team);
    let answer = Json(DeletedView { deleted });
    Ok((Extension(about), Extension(of_team), answer))
}
