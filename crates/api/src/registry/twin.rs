//! Twins of devices: the values that a device is to have, and those that it reports.

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use martlet_control::callers::Caller;
use martlet_control::devices::DeviceName;
use martlet_control::twins::{GroupTwin, Twin, TwinChange, TwinValues, Values};
use martlet_control::use_cases::FindDevice;
use martlet_registry::{Device, Visibility};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::devices::OfTeam;
use super::forms::{moment, version};
use super::{CalledBy, within};
use crate::api::Api;
use crate::etag::expected_if_any;
use crate::extensions::OwnDevice;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::problem::{Problem, ProblemKind};
use crate::time::Moment;

/// Values of one side of a twin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TwinValuesView {
    /// The values.
    #[schema(value_type = Object)]
    values: Values,
    /// One larger with each change; 0: never set.
    version: i64,
    /// When they were last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Moment>,
}

impl From<TwinValues> for TwinValuesView {
    fn from(side: TwinValues) -> Self {
        Self {
            values: side.values,
            version: side.version,
            updated_at: moment(side.updated_ms),
        }
    }
}

/// The twin of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TwinView {
    /// The id of the device.
    device: String,
    /// Values that the device is to have. The `ETag` is made of their version.
    desired: TwinValuesView,
    /// The desired values of its groups. Its own desired values override these.
    #[schema(value_type = Object)]
    of_groups: Values,
    /// Values that the device has reported.
    reported: TwinValuesView,
    /// The desired values that the device has not reported; empty: it has all of them.
    #[schema(value_type = Object)]
    difference: Values,
}

impl From<Twin> for TwinView {
    fn from(twin: Twin) -> Self {
        Self {
            difference: twin.difference(),
            of_groups: twin.of_groups,
            device: twin.device,
            desired: twin.desired.into(),
            reported: twin.reported.into(),
        }
    }
}

/// Twin of a device
#[utoipa::path(get, path = "/api/v1/devices/{id}/twin", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 200, description = "The desired and reported values", body = TwinView),
        (status = 404, description = "No such device")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Response, Problem> {
    let twin = match own {
        Some(Extension(own)) => {
            let device = DeviceName::Number(only_itself(&own, &id)?.number);
            api.twins()?.show(Visibility::All, device).await?
        }
        None => {
            let visibility = within(&api, caller, of.team.as_deref()).await?.visibility();
            api.twins()?.show(visibility, id.into()).await?
        }
    };
    Ok(answered(twin))
}

/// Report values of a device
///
/// What the device has, as if it had sent it over MQTT: a merge patch (RFC 7396) of what was
/// reported before. A device may show its secret in `X-API-Key`.
#[utoipa::path(patch, path = "/api/v1/devices/{id}/twin/reported", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    request_body = Object,
    responses((status = 200, description = "The current state", body = TwinView),
        (status = 404, description = "No such device")))]
pub(crate) async fn report(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    own: Option<Extension<OwnDevice>>,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    let patch = values_in(body)?;
    let device = match own {
        Some(Extension(own)) => only_itself(&own, &id)?.clone(),
        None => {
            let caller = within(&api, caller, of.team.as_deref()).await?;
            api.run(caller, FindDevice { device: id.into() }).await?
        }
    };
    Ok(answered(api.twins()?.report(&device, patch).await?))
}

/// The device that has shown its secret, if it asks for itself.
fn only_itself<'d>(own: &'d OwnDevice, id: &str) -> Result<&'d Device, Problem> {
    let OwnDevice(device) = own;
    match device.id == id {
        true => Ok(device),
        false => {
            let detail = "a device reads and changes its own twin alone";
            Err(Problem::new(ProblemKind::Forbidden, detail))
        }
    }
}

/// Change the desired values of a device
///
/// The body is a merge patch (RFC 7396): its members replace those of the same name, and `null`
/// removes a member. The device is sent the values at once if it has subscribed, and else when it
/// subscribes. With `If-Match` only if they have this version; `"0"` stands for values that were
/// never set.
#[utoipa::path(patch, path = "/api/v1/devices/{id}/twin/desired", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    request_body = Object,
    responses((status = 200, description = "The current state", body = TwinView),
        (status = 404, description = "No such device"),
        (status = 412, description = "Their revision is not the one in If-Match")))]
pub(crate) async fn merge(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    let change = TwinChange::Merge(values_in(body)?);
    changed(&api, caller, id, of, &headers, change).await
}

/// Replace the desired values of a device
///
/// Members that are `null` are left out. Otherwise as a merge patch.
#[utoipa::path(put, path = "/api/v1/devices/{id}/twin/desired", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    request_body = Object,
    responses((status = 200, description = "The current state", body = TwinView),
        (status = 404, description = "No such device"),
        (status = 412, description = "Their revision is not the one in If-Match")))]
pub(crate) async fn replace(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    let change = TwinChange::Replace(values_in(body)?);
    changed(&api, caller, id, of, &headers, change).await
}

/// Desired values of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupTwinView {
    /// The id of the group.
    group: String,
    /// Name of the group.
    name: String,
    /// Values that its devices are to have. The `ETag` is made of their version.
    desired: TwinValuesView,
}

/// Desired values of a group
#[utoipa::path(get, path = "/api/v1/groups/{id}/twin/desired", tag = "devices",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, description = "The desired values of the group", body = GroupTwinView),
        (status = 404, description = "No such group")))]
pub(crate) async fn show_of_group(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<Response, Problem> {
    let twin = api.twins()?.of_group(caller.visibility(), id).await?;
    Ok(answered_of_group(twin))
}

/// Change the desired values of a group
///
/// The body is a merge patch (RFC 7396). A device's own desired values are laid over those of its
/// groups; of two groups the one whose name comes last decides. With `If-Match` only if they have
/// this version.
#[utoipa::path(patch, path = "/api/v1/groups/{id}/twin/desired", tag = "devices",
    params(("id" = String, Path, description = "Id or name")),
    request_body = Object,
    responses((status = 200, description = "The current state", body = GroupTwinView),
        (status = 404, description = "No such group"),
        (status = 412, description = "Their revision is not the one in If-Match")))]
pub(crate) async fn merge_of_group(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    let change = TwinChange::Merge(values_in(body)?);
    changed_of_group(&api, caller, id, &headers, change).await
}

/// Replace the desired values of a group
///
/// Members that are `null` are left out. Otherwise as a merge patch.
#[utoipa::path(put, path = "/api/v1/groups/{id}/twin/desired", tag = "devices",
    params(("id" = String, Path, description = "Id or name")),
    request_body = Object,
    responses((status = 200, description = "The current state", body = GroupTwinView),
        (status = 404, description = "No such group"),
        (status = 412, description = "Their revision is not the one in If-Match")))]
pub(crate) async fn replace_of_group(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    let change = TwinChange::Replace(values_in(body)?);
    changed_of_group(&api, caller, id, &headers, change).await
}

async fn changed_of_group(
    api: &Api,
    caller: Caller,
    id: String,
    headers: &HeaderMap,
    change: TwinChange,
) -> Result<Response, Problem> {
    let expected = expected_if_any(headers)?;
    let twins = api.twins()?;
    let changed = twins.change_of_group(caller.actor, id, change, expected);
    Ok(answered_of_group(changed.await?))
}

fn answered_of_group(twin: GroupTwin) -> Response {
    let tag = version(twin.desired.version).header();
    let view = GroupTwinView {
        group: twin.group,
        name: twin.name,
        desired: twin.desired.into(),
    };
    ([tag], axum::Json(view)).into_response()
}

fn values_in(body: Value) -> Result<Values, Problem> {
    match body {
        Value::Object(values) => Ok(values),
        _ => Err(Problem::of_body(
            "",
            "expected a JSON object of values by name",
        )),
    }
}

async fn changed(
    api: &Api,
    caller: Caller,
    id: String,
    of: OfTeam,
    headers: &HeaderMap,
    change: TwinChange,
) -> Result<Response, Problem> {
    let expected = expected_if_any(headers)?;
    let actor = within(api, caller, of.team.as_deref()).await?.actor;
    let twins = api.twins()?;
    let changed = twins.change_desired(actor, id.into(), change, expected);
    Ok(answered(changed.await?))
}

fn answered(twin: Twin) -> Response {
    let tag = version(twin.desired.version).header();
    ([tag], axum::Json(TwinView::from(twin))).into_response()
}
