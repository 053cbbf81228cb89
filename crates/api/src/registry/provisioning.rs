//! Keys by which devices add themselves.

use std::time::Instant;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use martlet_control::devices::DeviceError;
use martlet_control::use_cases::{AddProvisioningKey, ListProvisioningKeys, RevokeProvisioningKey};
use martlet_registry::{
    DeviceSecret, NewDevice, NewProvisioningKey, ProvisioningKey, ProvisioningKeyRef,
    RepeatableRequest,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CalledBy;
use super::forms::page_of_all;
use crate::api::Api;
use crate::connection::HttpConnection;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::idempotency::{self, hex};
use crate::keys::PageParams;
use crate::page::Page;
use crate::problem::{Problem, ProblemKind};
use crate::rate::name_of;
use crate::secret::digest_of;
use crate::shown_once::{JsonWithSecrets, ShownOnce};

/// Provisioning keys
#[utoipa::path(get, path = "/api/v1/provisioning-keys", tag = "devices", params(PageParams),
    responses((status = 200, description = "A page of the list, sorted by id",
        body = Page<ProvisioningKey>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<PageParams>,
) -> Result<axum::Json<Page<ProvisioningKey>>, Problem> {
    let found = api.run(caller, ListProvisioningKeys).await?;
    let paging = params.paging();
    let page = page_of_all(&api, "provisioning keys", found, |key| &key.id, paging)?;
    Ok(axum::Json(page))
}

/// A provisioning key that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeProvisioningKey {
    #[serde(flatten)]
    view: ProvisioningKey,
    /// The key, shown only once; null if a repeated request is answered.
    #[schema(value_type = Option<String>)]
    key: ShownOnce<String>,
}

/// Add a provisioning key
///
/// It adds devices, so its creator must have that right too: `devices:write`.
#[utoipa::path(post, path = "/api/v1/provisioning-keys", tag = "devices",
    request_body = NewProvisioningKey,
    responses((status = 201, description = "Created; the secret is shown this once", body = MadeProvisioningKey),
        (status = 403, description = "The caller may not add devices")))]
pub(crate) async fn create(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    JsonBody(key): JsonBody<NewProvisioningKey>,
) -> Result<(StatusCode, JsonWithSecrets<MadeProvisioningKey>), Problem> {
    let (key, secret) = api.run(caller, AddProvisioningKey { key }).await?;
    let made = MadeProvisioningKey {
        view: key,
        key: secret.into(),
    };
    Ok((StatusCode::CREATED, JsonWithSecrets(made)))
}

/// Revoke a provisioning key
///
/// Devices that it has added stay. Ending it needs the right to add devices too: `devices:write`.
#[utoipa::path(delete, path = "/api/v1/provisioning-keys/{id}", tag = "devices",
    params(("id" = String, Path, description = "Id of the key")),
    responses((status = 204, description = "Revoked"),
        (status = 404, description = "No such object is valid")))]
pub(crate) async fn revoke(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
) -> Result<StatusCode, Problem> {
    api.run(caller, RevokeProvisioningKey { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A device that adds itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProvisionBody {
    /// A provisioning key.
    #[schema(format = Password, max_length = 512)]
    key: String,
    /// The Client Identifier and user name that it is to have. Without one it is generated, if the
    /// key has no pattern.
    id: Option<String>,
    /// For people; the id if none is given.
    name: Option<String>,
    /// Kind of the device.
    #[serde(default)]
    #[schema(max_length = 256)]
    kind: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// Where it stands.
    #[serde(default)]
    location: String,
    /// Version of the firmware that runs on it.
    #[serde(default)]
    firmware_version: String,
    /// Version of its hardware.
    #[serde(default)]
    hardware_version: String,
}

impl ProvisionBody {
    /// Recognises the request when it comes again. The tables have digests alone.
    fn request(&self, key: &str) -> RepeatableRequest {
        let mut fields = vec![
            self.id.as_ref(),
            self.name.as_ref(),
            Some(&self.description),
            Some(&self.location),
            Some(&self.firmware_version),
            Some(&self.hardware_version),
        ];
        if !self.kind.is_empty() {
            fields.push(Some(&self.kind));
        }
        let fields = serde_json::to_vec(&fields).unwrap_or_default();
        RepeatableRequest {
            key: hex(&digest_of(key.as_bytes())),
            digest: hex(&digest_of(&fields)),
        }
    }
}

/// Credentials that the device connects with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Provisioned {
    /// Client Identifier.
    id: String,
    /// User Name: the id, and where the team owns a tenant `ID@TEAM`.
    user_name: String,
    /// The password, shown only once.
    #[schema(value_type = Option<String>)]
    secret: Option<ShownOnce<String>>,
}

/// Add a device by a provisioning key
///
/// The device gets the type, team and groups of the key. It may connect when the answer is there.
/// Wrong keys lock out their address, as wrong passwords do (429, `auth.lockout_failures`). A
/// repeated request with the same `Idempotency-Key`, because no answer came, gets another secret,
/// as long as none was used; the answer then has `Idempotency-Replayed: true`.
#[utoipa::path(post, path = "/api/v1/provision", tag = "devices", request_body = ProvisionBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Chosen by the client")),
    responses((status = 201, description = "Added", body = Provisioned)))]
pub(crate) async fn provision(
    State(api): State<Api>,
    Extension(connection): Extension<HttpConnection>,
    CalledBy(mut caller): CalledBy,
    headers: HeaderMap,
    JsonBody(body): JsonBody<ProvisionBody>,
) -> Result<Response, Problem> {
    let from = format!("address {}", name_of(connection.peer));
    let taken = api.rates.take(&from, Instant::now());
    if let Some(problem) = taken.and_then(|taken| taken.refusal()) {
        return Err(problem);
    }
    caller.actor.by = "provisioning key".to_owned();
    let request = idempotency::key_of(&headers)?.map(|key| body.request(&key));
    let device = NewDevice {
        name: body.name,
        kind: body.kind,
        description: body.description,
        location: body.location,
        firmware_version: body.firmware_version,
        hardware_version: body.hardware_version,
        secret: DeviceSecret::MadeUp,
        id: body.id,
        ..NewDevice::unnamed()
    };
    let (key, id) = (body.key, device.id.clone());
    let devices = api.devices()?;
    let chain = api.control.authentication_chain();
    let digest = digest_of(key.as_bytes());
    let attempt = chain.map(|chain| chain.begin_key(&digest, connection.peer));
    let attempt = attempt.transpose()?;
    let shown = ProvisioningKeyRef::Secret(key.clone());
    let made = devices.provision_by_key(caller.actor, shown, device, request);
    let made = made.await;
    if let Some(attempt) = attempt {
        match &made {
            Err(DeviceError::NotFound(_)) => attempt.finish(false).await?,
            Err(DeviceError::Unavailable(_)) => {}
            Ok(_) | Err(_) => attempt.finish(true).await?,
        }
    }
    if let Err(error) = &made {
        let reported = devices.report_not_added(key, id.as_deref(), connection.peer, error);
        reported.await;
    }
    let made = made.map_err(|error| {
        let problem = Problem::from(error);
        match problem.kind() {
            ProblemKind::NotFound => Problem::new(
                ProblemKind::Unauthenticated,
                "the provisioning key is not valid",
            )
            .with_header(header::WWW_AUTHENTICATE, crate::caller::known::CHALLENGE),
            _ => problem,
        }
    })?;
    let device = made.device;
    let answer = Provisioned {
        id: device.id,
        user_name: device.user_name,
        secret: device.secret.map(ShownOnce::from),
    };
    let replayed = made.is_again.then(idempotency::replayed_header);
    let headers: HeaderMap = replayed.into_iter().collect();
    Ok((StatusCode::CREATED, headers, JsonWithSecrets(answer)).into_response())
}
