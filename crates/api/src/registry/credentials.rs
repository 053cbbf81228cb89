//! Credentials of devices.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use martlet_control::devices::certificate_of_pem;
use martlet_control::remedy::in_requests;
use martlet_control::use_cases::{AddCredential, ListCredentials, RevokeCredential, RotateSecret};
use martlet_registry::{Credential, NewCredential, ROTATION_GRACE, ROTATION_GRACE_MAX, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::devices::OfTeam;
use super::forms::{moment, time};
use super::{CalledBy, within};
use crate::api::Api;
use crate::extract::{JsonBody, PathOf, QueryOf};
use crate::problem::{Problem, ProblemKind};
use crate::shown_once::{JsonWithSecrets, ShownOnce};
use crate::time::Moment;
use crate::words;

/// A credential, without the secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialView {
    /// Id of the credential.
    id: String,
    /// For people.
    name: String,
    /// `secret` or `certificate`.
    #[schema(schema_with = words::credential_kinds)]
    kind: &'static str,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
    /// When it ends; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Moment>,
    /// When it was revoked; null: it is not revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Moment>,
    /// When it was last used, as far as that is written; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Moment>,
    /// How often it was used.
    uses: i64,
}

impl From<Credential> for CredentialView {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.id,
            name: credential.name,
            kind: credential.kind.word(),
            created_at: moment(credential.created_ms),
            expires_at: moment(credential.expires_ms),
            revoked_at: moment(credential.revoked_ms),
            last_used_at: moment(credential.last_used_ms),
            uses: credential.uses,
        }
    }
}

/// All of a device's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Credentials {
    /// Oldest first; there are never many.
    items: Vec<CredentialView>,
}

/// Credentials of a device
#[utoipa::path(get, path = "/api/v1/devices/{id}/credentials", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    responses((status = 200, description = "The whole list", body = Credentials),
        (status = 404, description = "No such device")))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<axum::Json<Credentials>, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let list = ListCredentials { device: id.into() };
    let found = api.run(caller, list).await?;
    let items = found.into_iter().map(CredentialView::from).collect();
    Ok(axum::Json(Credentials { items }))
}

/// A credential to be added. Without a secret and a fingerprint, a secret is made up.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCredentialBody {
    /// For people.
    #[serde(default)]
    name: String,
    /// A secret that the device has already, of 16 random characters or more.
    #[schema(format = Password)]
    secret: Option<String>,
    /// The SHA-256 fingerprint of the device's certificate, in hexadecimal.
    fingerprint: Option<String>,
    /// The device's certificate, in PEM, in place of its fingerprint. Only its fingerprint and its
    /// end are kept.
    certificate: Option<String>,
    /// When it ends. Default: never, and for a certificate in PEM its own end.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A credential that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeCredential {
    #[serde(flatten)]
    credential: CredentialView,
    /// The secret, shown only once; null: it was not made up.
    #[schema(value_type = Option<String>)]
    secret: Option<ShownOnce<String>>,
}

fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let digits = std::str::from_utf8(&digits).ok()?;
    let is_hex = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate().filter(|_| is_hex) {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    is_hex.then_some(bytes)
}

/// Add a credential
///
/// Beside those that the device has. A secret that is made up is shown only once.
#[utoipa::path(post, path = "/api/v1/devices/{id}/credentials", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    request_body = NewCredentialBody,
    responses((status = 201, description = "Created; the secret is shown this once", body = MadeCredential),
        (status = 404, description = "No such device")))]
pub(crate) async fn add(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<NewCredentialBody>,
) -> Result<(StatusCode, JsonWithSecrets<MadeCredential>), Problem> {
    let invalid = |field: &str, detail: String| {
        Problem::new(ProblemKind::Invalid, detail.clone()).of_field(field, detail)
    };
    let certificate = body.certificate.as_deref().map(|text| {
        certificate_of_pem(text).ok_or_else(|| {
            let detail = "expected a certificate in PEM (-----BEGIN CERTIFICATE-----)";
            invalid("/certificate", detail.to_owned())
        })
    });
    let certificate = certificate.transpose()?;
    let own_end_ms = certificate.as_ref().map(|(_, ends_ms)| *ends_ms);
    let given = match (body.fingerprint, certificate) {
        (Some(_), Some(_)) => {
            let detail = "expected a fingerprint or a certificate, not both";
            return Err(invalid("/certificate", detail.to_owned()));
        }
        (given, None) => given,
        (None, Some((fingerprint, _))) => Some(fingerprint),
    };
    let new = match (&body.secret, &given) {
        (None, None) => NewCredential::MadeUp,
        (Some(text), None) => NewCredential::Given(
            Secret::given(text).map_err(|error| invalid("/secret", in_requests(&error)))?,
        ),
        (None, Some(text)) => NewCredential::Certificate(fingerprint(text).ok_or_else(|| {
            let detail = "expected 64 hexadecimal digits, the SHA-256 of the certificate";
            invalid("/fingerprint", detail.to_owned())
        })?),
        (Some(_), Some(_)) => {
            let detail = "a credential is a secret or a certificate, not both";
            return Err(invalid("/fingerprint", detail.to_owned()));
        }
    };
    let expires_ms = match (body.expires_at.as_deref(), own_end_ms) {
        (None, Some(ends_ms)) => ends_ms,
        (given, _) => time("/expires_at", given)?,
    };
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let add = AddCredential {
        device: id.into(),
        name: body.name,
        credential: new,
        expires_ms,
    };
    let (credential, secret) = api.run(caller, add).await?;
    let made = MadeCredential {
        credential: credential.into(),
        secret: secret.map(ShownOnce::from),
    };
    Ok((StatusCode::CREATED, JsonWithSecrets(made)))
}

/// How a device is given another secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// Seconds for which the old secrets of the device remain valid; 0: they expire at once, and
    /// its connection ends.
    #[schema(maximum = 31_536_000, default = 86_400)]
    grace_secs: Option<u64>,
}

/// The new secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rotated {
    /// The device's id.
    id: String,
    /// Shown only once; null if a repeated request is answered.
    #[schema(value_type = Option<String>)]
    secret: ShownOnce<String>,
    /// Seconds for which the old secrets remain valid.
    grace_secs: u64,
}

/// Give a device another secret
///
/// The secret is shown only once. The old secrets of the device remain valid for `grace_secs`,
/// a day by default; with 0 they expire at once, and the connection ends.
#[utoipa::path(post, path = "/api/v1/devices/{id}/rotate", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"), OfTeam),
    request_body = Rotation,
    responses((status = 200, description = "The new credential", body = Rotated),
        (status = 404, description = "No such device")))]
pub(crate) async fn rotate(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTeam>,
    JsonBody(body): JsonBody<Rotation>,
) -> Result<JsonWithSecrets<Rotated>, Problem> {
    let grace_secs = body.grace_secs.unwrap_or(ROTATION_GRACE.as_secs());
    if grace_secs > ROTATION_GRACE_MAX.as_secs() {
        let detail = format!("expected 0 to {}", ROTATION_GRACE_MAX.as_secs());
        let problem = Problem::new(ProblemKind::Invalid, format!("grace_secs: {detail}"));
        return Err(problem.of_field("/grace_secs", detail));
    }
    let grace = Duration::from_secs(grace_secs);
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let renew = RotateSecret {
        device: id.clone().into(),
        grace,
    };
    let secret = api.run(caller, renew).await?;
    Ok(JsonWithSecrets(Rotated {
        id,
        secret: secret.into(),
        grace_secs,
    }))
}

/// Revoke a credential
///
/// A connection that came by it ends.
#[utoipa::path(delete, path = "/api/v1/devices/{id}/credentials/{credential}", tag = "devices",
    params(("id" = String, Path, description = "Id of the device"),
        ("credential" = String, Path, description = "The credential's id"), OfTeam),
    responses((status = 204, description = "Revoked"),
        (status = 404, description = "No such object is valid")))]
pub(crate) async fn revoke(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    PathOf((id, credential)): PathOf<(String, String)>,
    QueryOf(of): QueryOf<OfTeam>,
) -> Result<StatusCode, Problem> {
    let caller = within(&api, caller, of.team.as_deref()).await?;
    let revoke = RevokeCredential {
        device: id.into(),
        credential,
    };
    api.run(caller, revoke).await?;
    Ok(StatusCode::NO_CONTENT)
}
