//! Devices.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_broker::TenantId;
use martlet_control::callers::Caller;
use martlet_control::presence::ClientPresence;
use martlet_control::use_cases::{
    AddDevice, ChangeDevice, CheckDeviceType, CountDevices, DeleteDevice, FindDevice, FindGroupId,
    PageOfDevices, PurgeDevice, RestoreDevice,
};
use martlet_registry::{Device, DeviceChange, DeviceFilter, DeviceOrder, NewDevice, Status};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use super::forms::{moment, page_of, page_request, version, word_of_query};
use super::{CalledBy, team_id, within};
use crate::api::Api;
use crate::etag::{expected, expected_if_any};
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::page::Page;
use crate::problem::Problem;
use crate::shown_once::{JsonWithSecrets, ShownOnce};
use crate::time::Moment;
use crate::words;

/// A device, and whether it is connected.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceView {
    #[serde(flatten)]
    device: Device,
    /// Whether it is connected.
    online: bool,
    /// Since when it is, or is not; null: it never was.
    #[schema(value_type = Option<String>, format = DateTime)]
    online_changed_at: Option<Moment>,
    /// Why it is not connected.
    #[schema(example = "keep alive")]
    why_offline: String,
    /// From where it is connected, or was.
    #[schema(example = "192.0.2.7:50000")]
    address: String,
}

/// Names of the members of a device that only the node sets.
pub(super) fn set_by_node() -> impl Iterator<Item = &'static str> {
    let of_view = ["online", "online_changed_at", "why_offline", "address"];
    // The id is given by the caller, or generated.
    let of_device = Device::SET_BY_NODE.iter().filter(|name| **name != "id");
    of_device.copied().chain(of_view)
}

impl From<Device> for DeviceView {
    fn from(mut device: Device) -> Self {
        let presence = device.presence.take().map(ClientPresence::from);
        let view = Self {
            device,
            online: false,
            online_changed_at: None,
            why_offline: String::new(),
            address: String::new(),
        };
        view.seen_so(presence)
    }
}

impl DeviceView {
    /// With its connection as the node knows it, which is newer than the tables.
    pub(super) fn now(api: &Api, device: Device) -> Self {
        let tenant = TenantId(device.tenant);
        let found = api.control.presence(tenant, &device.id);
        let found = found.filter(|client| {
            let last_seen_ms = i64::try_from(client.last_seen_ms).unwrap_or(i64::MAX);
            device.is_seen_by(client.online, last_seen_ms)
        });
        Self::from(device).seen_so(found)
    }

    fn seen_so(mut self, presence: Option<ClientPresence>) -> Self {
        let Some(presence) = presence else {
            return self;
        };
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        self.device.last_seen_ms = ms(presence.last_seen_ms);
        Self {
            online: presence.online,
            online_changed_at: moment(ms(presence.since_ms)),
            why_offline: presence.why,
            address: presence.address,
            ..self
        }
    }
}

/// With its version, as an answer.
pub(super) fn answer(api: &Api, status: StatusCode, device: Device) -> Response {
    let tag = version(device.revision).header();
    (status, [tag], axum::Json(DeviceView::now(api, device))).into_response()
}

/// Which devices; missing conditions match any.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeviceParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Say how many there are on all pages.
    total: Option<bool>,
    /// `csv` (default) or `json`.
    #[param(schema_with = words::export_formats, required = false)]
    pub(super) format: Option<String>,
    /// Begin CSV with a byte order mark, for Excel.
    pub(super) bom: Option<bool>,
    /// Only devices of this type.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    device_type: Option<String>,
    /// Only devices of this kind.
    kind: Option<String>,
    /// `active`, `inactive` or `maintenance`.
    #[param(inline, required = false)]
    status: Option<Status>,
    /// With this tag.
    tag: Option<String>,
    /// In this group, by id, or by a name that is one group's alone.
    group: Option<String>,
    /// Only devices of this team, by id or name; empty: devices without a team.
    team: Option<String>,
    /// Only devices of this owner.
    owner: Option<String>,
    /// With this in id, name, description or location.
    q: Option<String>,
    /// Connected, or not, as it was a second ago at the most.
    online: Option<bool>,
    /// Inactive, or not: without a message for longer than their type permits.
    inactive: Option<bool>,
    /// Devices that were deleted, and no others.
    deleted: Option<bool>,
    /// `id`, `created` (newest first) or `last_seen` (most recent first).
    #[param(schema_with = words::device_orders, required = false)]
    sort: Option<String>,
}

/// The query of a list.
pub(crate) struct OfList;

/// The query of an export.
pub(crate) struct OfExport;

/// Parameters that an export has no use for.
const OF_LIST: [&str; 4] = ["limit", "cursor", "total", "sort"];

/// Parameters that a list has no use for.
const OF_EXPORT: [&str; 1] = ["format"];

fn without(names: &[&str]) -> Vec<Parameter> {
    let all = DeviceParams::into_params(|| Some(ParameterIn::Query));
    let mut all = all.into_iter().collect::<Vec<_>>();
    all.retain(|one| !names.contains(&&*one.name));
    for one in &mut all {
        // Of a closed list the words have the description.
        if let Some(RefOr::T(Schema::Object(schema))) = &one.schema {
            one.description = one.description.take().or(schema.description.clone());
        }
    }
    all
}

impl IntoParams for OfList {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        without(&OF_EXPORT)
    }
}

impl IntoParams for OfExport {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        without(&OF_LIST)
    }
}

impl DeviceParams {
    /// # Errors
    /// A parameter is for exports only.
    fn check_list(&self) -> Result<(), Problem> {
        match &self.format {
            None => Ok(()),
            Some(_) => Err(Problem::of_query("format", "applies only to exports")),
        }
    }

    /// # Errors
    /// A parameter is for lists only: an export is one page, by id.
    pub(super) fn check_export(&self) -> Result<(), Problem> {
        let is_there = [
            self.limit.is_some(),
            self.cursor.is_some(),
            self.total.is_some(),
            self.sort.is_some(),
        ];
        let mut named = OF_LIST.into_iter().zip(is_there);
        match named.find(|(_, is_there)| *is_there) {
            None => Ok(()),
            Some((name, _)) => {
                let detail = "applies only to lists: an export has all on one page, by id";
                Err(Problem::of_query(name, detail))
            }
        }
    }

    /// Filter that is asked for; a team and a group may stand there by their names.
    pub(super) async fn filter(&self, api: &Api, caller: &Caller) -> Result<DeviceFilter, Problem> {
        let team = match &self.team {
            None => None,
            // Those of no team.
            Some(none) if none.is_empty() => Some(String::new()),
            Some(team) => Some(team_id(api, caller, team).await?),
        };
        if let Some(device_type) = &self.device_type {
            expect_type(api, caller, device_type).await?;
        }
        let group = match &self.group {
            None => None,
            Some(group) => Some(group_id(api, caller, group).await?),
        };
        Ok(DeviceFilter {
            device_type: self.device_type.clone(),
            kind: self.kind.clone(),
            status: self.status,
            tag: self.tag.clone(),
            group,
            team,
            owner: self.owner.clone(),
            text: self.q.clone(),
            online: self.online,
            active_since_ms: None,
            inactive: self.inactive,
            deleted: self.deleted == Some(true),
        })
    }

    fn order(&self) -> Result<DeviceOrder, Problem> {
        let read = |text: &str| match text {
            "id" => Some(DeviceOrder::Id),
            "created" => Some(DeviceOrder::Created),
            "last_seen" => Some(DeviceOrder::LastSeen),
            _ => None,
        };
        match &self.sort {
            None => Ok(DeviceOrder::Id),
            Some(text) => word_of_query("sort", text, read, &["id", "created", "last_seen"]),
        }
    }

    /// Description of the list, for its cursors.
    fn list(&self, scope: &martlet_registry::Visibility) -> String {
        let paging = Self {
            limit: None,
            cursor: None,
            total: None,
            ..self.clone()
        };
        format!("devices {scope:?} {paging:?}")
    }
}

/// An unknown type is an error, not an empty list.
pub(crate) async fn expect_type(
    api: &Api,
    caller: &Caller,
    device_type: &str,
) -> Result<(), Problem> {
    let name = device_type.to_owned();
    api.run(caller.clone(), CheckDeviceType { name }).await
}

/// The id of the group that the caller sees by this id or name.
pub(crate) async fn group_id(api: &Api, caller: &Caller, group: &str) -> Result<String, Problem> {
    let group = group.to_owned();
    api.run(caller.clone(), FindGroupId { group }).await
}

/// The team in which a device is looked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTeam {
    /// Only devices of this team, by id or name: needed by a caller that sees all teams, for
    /// devices of teams that have a tenant of their own.
    pub(crate) team: Option<String>,
}

/// A device that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeDevice {
    #[serde(flatten)]
    device: DeviceView,
    /// Secret that it logs in with, shown only once; null: it was given, or there is none.
    #[schema(value_type = Option<String>)]
    secret: Option<ShownOnce<String>>,
}

/// Devices
///
/// The devices, sorted by id, or by `sort`.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", params(OfList),
    responses((status = 200, description = "A page of the list", body = Page<DeviceView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<DeviceParams>,
) -> Result<axum::Json<Page<DeviceView>>, Problem> {
    params.check_list()?;
    let filter = params.filter(&api, &caller).await?;
    let order = params.order()?;
    let of = params.list(&caller.visibility());
    let paging = (params.limit, params.cursor.as_deref(), params.total);
    let request = page_request(&api, &of, paging)?;
    let page = PageOfDevices {
        filter,
        order,
        page: request,
    };
    let page = api.run(caller, page).await?;
    Ok(axum::Json(page_of(&api, &of, page, |device| {
        DeviceView::now(&api, device)
    })))
}

/// How many devices there are
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    /// All that are there.
    total: u64,
    /// Devices with the status `active`.
    active: u64,
    /// Devices with the status `inactive`.
    inactive: u64,
    /// Devices with the status `maintenance`.
    maintenance: u64,
    /// Connected, as far as that is written.
    online: u64,
    /// Deleted, and not removed for good.
    deleted: u64,
}

/// How many devices there are, by status
#[utoipa::path(get, path = "/api/v1/devices/summary", tag = "devices", params(OfTeam),
    responses((status = 200, description = "The figures", body = Summary)))]
pub(crate) async fn summary(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<axum::Json<Summary>, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let counts = api.run(caller, CountDevices).await?;
    Ok(axum::Json(Summary {
        total: counts.total,
        active: counts.active,
        inactive: counts.inactive,
        maintenance: counts.maintenance,
        online: counts.online,
        deleted: counts.deleted,
    }))
}

/// Add a device
///
/// Its secret is shown only once. It may connect when the answer is there.
#[utoipa::path(post, path = "/api/v1/devices", tag = "devices", request_body = NewDevice,
    responses((status = 201, description = "Added", body = MadeDevice,
        headers(("Location" = String, description = "Path of the object"),
            ("ETag" = String, description = "Revision")))))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    JsonBody(device): JsonBody<NewDevice>,
) -> Result<Response, Problem> {
    let add = AddDevice {
        device,
        kind_is_type: false,
    };
    let (device, secret) = api.run(caller, add).await?;
    let tag = version(device.revision).header();
    let path = format!("/api/v1/devices/{}", encoded(&device.id));
    let made = MadeDevice {
        device: DeviceView::now(&api, device),
        secret: secret.map(ShownOnce::from),
    };
    let headers = [(header::LOCATION, path)];
    Ok((StatusCode::CREATED, headers, [tag], JsonWithSecrets(made)).into_response())
}

/// As part of a path.
pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// A device
///
/// The `ETag` is the version that a change may expect. Whether it is connected changes without it.
#[utoipa::path(get, path = "/api/v1/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 200, description = "The device", body = DeviceView,
            headers(("ETag" = String, description = "Revision"))),
        (status = 404, description = "Not found")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Response, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let device = api.run(caller, FindDevice { device: id.into() }).await?;
    Ok(answer(&api, StatusCode::OK, device))
}

/// Change a device
///
/// Fields that are not named stay. The change is in force when the answer comes: a device that is
/// not active has no connection any more.
#[utoipa::path(patch, path = "/api/v1/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam,
        ("If-Match" = String, Header, description = "The revision that is to be changed, or *")),
    request_body = DeviceChange,
    responses((status = 200, description = "The current state", body = DeviceView),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match"),
        (status = 428, description = "The header If-Match is required")))]
pub(crate) async fn change(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<DeviceChange>,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let team = of.team.as_deref();
    let change = ChangeDevice {
        device: id.into(),
        within: within(&api, caller.clone(), team).await?.visibility(),
        change,
        expected_revision: expected,
    };
    let changed = api.run(caller, change).await?;
    Ok(answer(&api, StatusCode::OK, changed))
}

/// Delete a device
///
/// Its connection ends, its credentials and keys are no longer valid; it can be restored.
#[utoipa::path(delete, path = "/api/v1/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "Not found"),
        (status = 412, description = "Its revision is not the one in If-Match")))]
pub(crate) async fn delete(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let delete = DeleteDevice {
        device: id.into(),
        expected_revision: expected_if_any(&headers)?,
    };
    let caller = within(&api, caller, of.team.as_deref()).await?;
    api.run(caller, delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a deleted device
///
/// With the credentials that it had.
#[utoipa::path(post, path = "/api/v1/devices/{id}/restore", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 200, description = "The current state", body = DeviceView),
        (status = 404, description = "No such object is deleted")))]
pub(crate) async fn restore(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Response, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let restore = RestoreDevice { device: id.into() };
    let restored = api.run(caller, restore).await?;
    Ok(answer(&api, StatusCode::OK, restored))
}

/// Remove a device for good
///
/// With all that belongs to it, whether it was deleted before or not.
#[utoipa::path(post, path = "/api/v1/devices/{id}/purge", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 204, description = "Deleted permanently"),
        (status = 404, description = "Not found")))]
pub(crate) async fn purge(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<StatusCode, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let purge = PurgeDevice {
        device: id.into(),
        keeps_telemetry: false,
    };
    api.run(caller, purge).await?;
    Ok(StatusCode::NO_CONTENT)
}
