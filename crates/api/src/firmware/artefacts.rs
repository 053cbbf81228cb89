//! Versions of firmware.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use martlet_control::firmware::{Claims, Firmware, FirmwareFilter, NewFirmware};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::of_node::firmware_of;
use crate::api::Api;
use crate::extract::{PathOf, QueryOf, object_from_json};
use crate::page::Page;
use crate::problem::{Problem, ProblemKind, ProblemView};
use crate::registry::{CalledBy, OfTeam, moment, page_of, page_request, within};
use crate::streamed::is_json;
use crate::time::Moment;

/// How long the sender of a file may send nothing.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A version of firmware.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FirmwareView {
    /// Name of the firmware.
    name: String,
    /// Version of the firmware, as devices report it.
    version: String,
    /// Type of the devices that it is for.
    device_type: String,
    /// The id of its team; empty: none.
    team: String,
    /// Bytes of the file.
    size: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    sha256: String,
    /// Base64; empty: none was given.
    signature: String,
    /// The node has verified the signature with a key of `firmware.public_keys`.
    verified: bool,
    /// Where the file is; empty: in the data directory of the node.
    url: String,
    /// The path of the file on this node.
    file: String,
    /// The user or key that added it.
    added_by: String,
    /// When it was added.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
}

impl From<Firmware> for FirmwareView {
    fn from(of: Firmware) -> Self {
        Self {
            file: format!("/api/v1/firmware/{}/{}/file", of.name, of.version),
            name: of.name,
            version: of.version,
            device_type: of.device_type,
            team: of.team,
            size: of.size,
            sha256: of.sha256,
            signature: of.signature,
            verified: of.is_verified,
            url: of.url,
            added_by: of.added_by,
            created_at: moment(of.created_ms),
        }
    }
}

/// Description of a file.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AddQuery {
    /// Name of the firmware: letters, digits and `.`, `_`, `-`, `+`.
    name: Option<String>,
    /// Version of the firmware, likewise.
    version: Option<String>,
    /// Type of the devices that it is for.
    device_type: Option<String>,
    /// SHA-256 that the file must have, in hexadecimal digits.
    sha256: Option<String>,
    /// Signature in Base64. In a query `+` is written `%2B`.
    signature: Option<String>,
    /// Add it to this team, by id or name.
    team: Option<String>,
}

/// Firmware whose file is elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReferenceBody {
    /// Name of the firmware: letters, digits and `.`, `_`, `-`, `+`.
    name: String,
    /// Version of the firmware, likewise.
    version: String,
    /// Type of the devices that it is for.
    device_type: String,
    /// Where the file is: `https://…` or `http://…`.
    url: String,
    /// Bytes of the file.
    size: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    sha256: String,
    /// Signature in Base64.
    #[serde(default)]
    signature: String,
}

/// Add a version of firmware
///
/// The body is the file, of any Content-Type but JSON; the query has its name, version and type. It
/// is stored when it is answered. An `Idempotency-Key` has no effect: a second request with the
/// same name and version is answered with 409.
///
/// A JSON body names a file that is elsewhere.
#[utoipa::path(post, path = "/api/v1/firmware", tag = "firmware", params(AddQuery),
    request_body(content(
        (Vec<u8> = "application/octet-stream"),
        (ReferenceBody = "application/json"))),
    responses((status = 201, description = "Stored", body = FirmwareView),
        (status = 409, description = "The version exists, or firmware.total_bytes is reached",
            body = ProblemView, content_type = "application/problem+json"),
        (status = 413, description = "The file is longer than `firmware.max_bytes`",
            body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "The file or its signature does not match",
            body = ProblemView, content_type = "application/problem+json")))]
pub(crate) async fn add(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(query): QueryOf<AddQuery>,
    request: Request,
) -> Result<(StatusCode, Json<FirmwareView>), Problem> {
    let actor = within(&api, caller, query.team.as_deref()).await?.actor;
    let firmware = firmware_of(&api)?;
    if is_json(&request) {
        let body = crate::extract::whole_body(request, &api).await?;
        let body: ReferenceBody = object_from_json(&body)?;
        if body.url.is_empty() {
            return Err(Problem::of_body("/url", "expected https://… or http://…"));
        }
        let new = NewFirmware {
            name: body.name,
            version: body.version,
            device_type: body.device_type,
            size: body.size,
            sha256: body.sha256,
            signature: body.signature,
            is_verified: false,
            url: body.url,
        };
        let added = firmware.refer(actor, new).await?;
        return Ok((StatusCode::CREATED, Json(added.into())));
    }
    let length = length_of(request.headers());
    let mut upload = firmware
        .begin(&actor.visibility, claims(query)?, length)
        .await?;
    let mut body = request.into_body();
    while let Some(piece) = next_piece(&mut body).await? {
        upload.write(&piece).await?;
    }
    let added = firmware.finish(actor, upload).await?;
    Ok((StatusCode::CREATED, Json(added.into())))
}

fn claims(query: AddQuery) -> Result<Claims, Problem> {
    let needed = |name: &str, value: Option<String>| {
        value.ok_or_else(|| Problem::of_query(name, "it is needed beside a file"))
    };
    Ok(Claims {
        name: needed("name", query.name)?,
        version: needed("version", query.version)?,
        device_type: needed("device_type", query.device_type)?,
        sha256: query.sha256,
        signature: query.signature.unwrap_or_default(),
    })
}

fn length_of(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// The next piece of a body; none: it has ended.
async fn next_piece(body: &mut Body) -> Result<Option<axum::body::Bytes>, Problem> {
    loop {
        let frame = match tokio::time::timeout(IDLE_MAX, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(Problem::bad_request("the body cannot be read")),
            Err(_) => {
                let secs = IDLE_MAX.as_secs();
                let detail = format!("no data of the file was received for {secs} s");
                return Err(Problem::new(ProblemKind::Timeout, detail));
            }
        };
        if let Ok(piece) = frame.into_data() {
            return Ok(Some(piece));
        }
    }
}

/// Which firmware.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ArtefactParams {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Only artefacts of this name.
    name: Option<String>,
    /// For devices of this type.
    device_type: Option<String>,
    /// Only that of this team, by id or name.
    team: Option<String>,
}

/// Firmware
#[utoipa::path(get, path = "/api/v1/firmware", tag = "firmware", params(ArtefactParams),
    responses((status = 200, description = "A page of versions, by name, the newest one first",
        body = Page<FirmwareView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<ArtefactParams>,
) -> Result<Json<Page<FirmwareView>>, Problem> {
    let visibility = within(&api, caller, params.team.as_deref())
        .await?
        .visibility();
    let filter = FirmwareFilter {
        name: params.name,
        device_type: params.device_type,
    };
    let of = format!("firmware {visibility:?} {filter:?}");
    let paging = (params.limit, params.cursor.as_deref(), None);
    let request = page_request(&api, &of, paging)?;
    let page = firmware_of(&api)?.list(visibility, filter, request).await?;
    Ok(Json(page_of(&api, &of, page, FirmwareView::from)))
}

/// A version of firmware
#[utoipa::path(get, path = "/api/v1/firmware/{name}/{version}", tag = "firmware",
    params(("name" = String, Path, description = "Name"),
        ("version" = String, Path, description = "Revision"), OfTeam),
    responses((status = 200, description = "The version", body = FirmwareView),
        (status = 404, description = "No such version")))]
pub(crate) async fn show(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((name, version)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<Json<FirmwareView>, Problem> {
    let visibility = within(&api, caller, of.team.as_deref()).await?.visibility();
    let found = firmware_of(&api)?.show(visibility, name, version).await?;
    Ok(Json(found.into()))
}

/// Delete a version of firmware
///
/// With its file, unless another version has the same one.
#[utoipa::path(delete, path = "/api/v1/firmware/{name}/{version}", tag = "firmware",
    params(("name" = String, Path, description = "Name"),
        ("version" = String, Path, description = "Revision"), OfTeam),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "No such version"),
        (status = 409, description = "A rollout that has not ended needs it")))]
pub(crate) async fn remove(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((name, version)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<StatusCode, Problem> {
    let actor = within(&api, caller, of.team.as_deref()).await?.actor;
    firmware_of(&api)?.remove(actor, name, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
