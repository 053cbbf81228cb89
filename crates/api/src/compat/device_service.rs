//! The routes of Service-MQTT: `POST /devices` adds a device with credentials of its own, and
//! `/docs/` describes that.
//!
//! Errors are `{"error": …}`, as plain text.

use axum::extract::{Extension, FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use martlet_control::principal::{Principal, PrincipalKind, Scope};
use martlet_control::use_cases::AddDevice;
use martlet_registry::{DeviceSecret, NewDevice, SERVICE_MQTT};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::CompatBody;
use super::routes::CompatRoutes;
use crate::access::Access::{Open, Scoped};
use crate::access::Audited;
use crate::api::Api;
use crate::compat::time::Moment;
use crate::docs;
use crate::problem::{Problem, ProblemKind};
use crate::registry::CalledBy;
use crate::shown_once::{JsonWithSecrets, ShownOnce};

/// Letters and digits of a secret.
const SECRET_LEN: usize = 16;

/// Error of every body that is no device.
const EXPECTED: &str = r#"body must be {"type":"<deviceType>"}"#;

pub(super) fn add_to(routes: CompatRoutes) -> CompatRoutes {
    let write = Scoped(Scope::DevicesWrite);
    routes
        .add(write, Audited::InTables, routes!(add))
        .add(Open, Audited::Here, routes!(document))
}

/// Status of an error: what is wrong with a body is 400 there.
pub(super) fn status_of(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::Invalid => StatusCode::BAD_REQUEST,
        kind => kind.status(),
    }
}

/// An error in the form of Service-MQTT, with its Content-Type.
pub(super) fn error_answer(problem: &Problem) -> (HeaderValue, String) {
    let body = json!({ "error": problem.detail() });
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    (content_type, format!("{body}\n"))
}

/// A device to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = service_mqtt::NewDevice)]
struct AddedDevice {
    /// Type of the device.
    #[serde(rename = "type")]
    kind: String,
}

/// A body that is such a device.
struct AddedDeviceBody(AddedDevice);

impl<S: Send + Sync> FromRequest<S> for AddedDeviceBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let unexpected = || Problem::bad_request(EXPECTED);
        match CompatBody::<AddedDevice>::from_request(request, state).await {
            Ok(CompatBody(wanted)) if wanted.kind.is_empty() => Err(unexpected()),
            Ok(CompatBody(wanted)) => Ok(Self(wanted)),
            Err(problem) => Err(match problem.kind() {
                ProblemKind::BadRequest | ProblemKind::Invalid => unexpected(),
                _ => problem,
            }),
        }
    }
}

/// A device that was added, with its credentials, which are shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = service_mqtt::Device)]
struct Added {
    /// Id of the device.
    id: String,
    /// Type of the device.
    #[serde(rename = "type")]
    kind: String,
    /// User Name that it connects with.
    mqtt_user: String,
    /// Password, shown only once; null if a repeated request is answered.
    #[schema(value_type = Option<String>)]
    mqtt_password: Option<ShownOnce<String>>,
    /// When it was added.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Moment>,
}

/// Add a device
///
/// A caller without credentials, as on an open route, does not choose the type of the device, which
/// is its rights.
#[utoipa::path(post, path = "/devices",
    request_body = AddedDevice,
    responses((status = 200, description = "The device, and its credentials", body = Added)))]
async fn add(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    Extension(principal): Extension<Principal>,
    AddedDeviceBody(wanted): AddedDeviceBody,
) -> Result<JsonWithSecrets<Added>, Problem> {
    let is_known = principal.kind != PrincipalKind::Anonymous;
    let new = NewDevice {
        device_type: SERVICE_MQTT.to_owned(),
        kind: wanted.kind,
        secret: DeviceSecret::OfLength(SECRET_LEN),
        ..NewDevice::unnamed()
    };
    let add = AddDevice {
        device: new,
        kind_is_type: is_known,
    };
    let (device, secret) = api.run(caller, add).await?;
    Ok(JsonWithSecrets(Added {
        mqtt_user: device.user_name,
        mqtt_password: secret.map(ShownOnce::from),
        created_at: Moment::of_tables(device.created_ms),
        id: device.id,
        kind: device.kind,
    }))
}

/// The description of the route of Service-MQTT
///
/// In the form of its time: Swagger 2.0.
#[utoipa::path(get, path = "/docs/doc.json",
    responses((status = 200, description = "The description", body = serde_json::Value)))]
async fn document() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("device_service/doc.json")).into_response()
}

/// Page of this system, where its routes come before those of others.
pub(super) async fn page() -> Response {
    docs::page(
        "text/html; charset=utf-8",
        include_str!("device_service/index.html"),
    )
}

/// Script that its page loads.
pub(super) async fn page_script() -> Response {
    docs::page(
        "text/javascript; charset=utf-8",
        include_str!("device_service/start.js"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_its_route() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("device_service/doc.json")).unwrap();
        assert_eq!(document["swagger"], "2.0");
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths, ["/devices"]);
    }

    #[test]
    fn errors_are_told_as_plain_text() {
        let (content_type, body) = error_answer(&Problem::bad_request(EXPECTED));
        assert_eq!(content_type, "text/plain; charset=utf-8");
        let expected = "{\"error\":\"body must be {\\\"type\\\":\\\"<deviceType>\\\"}\"}\n";
        assert_eq!(body, expected);
    }
}
