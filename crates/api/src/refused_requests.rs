//! Requests that are refused: each is an event, as a refused login by MQTT is. That of a device
//! is about the device, so that `martlet why DEVICE` finds it; that with an API key names the key;
//! others are found by their address, and their number is limited.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::MatchedPath;
use axum::http::request::Parts;
use axum::response::Response;
use martlet_broker::{
    EventHead, LockoutScope, PasswordSource, Refusal, RefusalCause, TenantId, UserName,
};
use martlet_control::devices::KeyRefusal;
use martlet_control::event::{NodeEvent, NodeNotice, RequestKey};
use martlet_control::http_cause::HttpCause;
use martlet_control::principal::{Principal, PrincipalKind, Scope};
use martlet_registry::{Device, Status, is_device_id};

use crate::api::Api;
use crate::connection::HttpConnection;
use crate::origin;
use crate::problem::{Problem, ProblemKind};

/// Longest part of a path that an event shows, bytes.
const PATH_MAX: usize = 256;

/// A request, as an event names it.
#[derive(Clone, Debug)]
pub(crate) struct RequestName {
    /// Method and path, without the query: that may hold a key.
    text: String,
    /// The device that the path names.
    device: Option<String>,
    address: Option<IpAddr>,
    /// The method changes nothing.
    is_read: bool,
}

impl RequestName {
    pub(crate) fn of(connection: HttpConnection, parts: &Parts) -> Self {
        let path = parts.uri.path();
        let end = path.char_indices().find(|(at, _)| *at >= PATH_MAX);
        let shown = &path[..end.map_or(path.len(), |(at, _)| at)];
        let route = parts.extensions.get::<MatchedPath>();
        Self {
            text: format!("{} {shown}", parts.method),
            device: device_in(route.map(MatchedPath::as_str), path),
            address: connection.peer,
            is_read: origin::is_safe(&parts.method),
        }
    }

    /// Name of a request whose path names a device; none: it names none.
    pub(crate) fn of_device(connection: HttpConnection, parts: &Parts) -> Option<Self> {
        let route = parts.extensions.get::<MatchedPath>()?;
        device_in(Some(route.as_str()), parts.uri.path())?;
        Some(Self::of(connection, parts))
    }
}

/// Levels of routes after which the id of a device follows.
const BEFORE_DEVICE: [&str; 3] = ["devices", "device", "telemetry"];

/// The id of a device in a path; none: the path names no device. Without a route it is what follows
/// `devices`.
fn device_in(route: Option<&str>, path: &str) -> Option<String> {
    let levels = || path.split('/');
    let id = match route {
        Some(route) => {
            let names = route.split('/').zip(route.split('/').skip(1));
            let mut ids = names.zip(levels().skip(1));
            let ((_, _), id) =
                ids.find(|((before, name), _)| *name == "{id}" && BEFORE_DEVICE.contains(before))?;
            id
        }
        None => levels().skip_while(|level| *level != "devices").nth(1)?,
    };
    // An id that is percent-encoded is left out: few are.
    (is_device_id(id) && !id.contains('%')).then(|| id.to_owned())
}

/// Reports a request without a valid key of a device. Nothing is reported where neither the key nor
/// the path names a device.
pub(crate) fn report_login(api: &Api, request: &RequestName, refusal: &KeyRefusal) {
    let (device, cause, why) = match refusal {
        KeyRefusal::Unknown => (
            None,
            RefusalCause::WrongSecret,
            "the key that it shows is not valid".to_owned(),
        ),
        KeyRefusal::Ended(device) => (
            Some(device),
            RefusalCause::CredentialExpired,
            "the key that it shows has expired or is revoked".to_owned(),
        ),
        KeyRefusal::Inactive(device) => {
            let cause = match device.status {
                Status::Maintenance => RefusalCause::DeviceMaintenance,
                Status::Active | Status::Inactive => RefusalCause::DeviceInactive,
            };
            let why = format!("device {} is {}", device.id, device.status);
            (Some(device), cause, why)
        }
        KeyRefusal::Unavailable(_) => return,
    };
    match device {
        Some(device) => report(api, request, head_of(device), (cause.into(), why)),
        None => report_unproved(api, request, (cause.into(), why)),
    }
}

/// Reports a request whose key or address is locked out.
pub(crate) fn report_lockout(api: &Api, request: &RequestName) {
    let why = "too many keys that are not valid were shown".to_owned();
    let cause = RefusalCause::LockedOut(LockoutScope::Address);
    report_unproved(api, request, (cause.into(), why));
}

/// Reports an answer to a device that is an error of the request. Telemetry that is rejected is
/// recorded by telemetry itself.
pub(crate) fn report_answer(api: &Api, request: &RequestName, device: &Device, answer: &Response) {
    let problem = answer.extensions().get::<Problem>();
    let Some(problem) = problem.filter(|problem| !problem.is_recorded()) else {
        return;
    };
    let cause = match (problem.rate_limit(), problem.kind()) {
        (_, kind) if !kind.status().is_client_error() => return,
        (Some(limit), _) => limit.cause(),
        // Devices ask again and again for what may not be there.
        _ if request.is_read => return,
        (None, ProblemKind::Forbidden) => RefusalCause::Forbidden.into(),
        (None, _) => HttpCause::RequestInvalid,
    };
    // A device that is too fast sends more of these than anybody reads.
    if problem.rate_limit().is_some() && !is_told_of(api, &device.user_name) {
        return;
    }
    let why = (
        cause,
        api.control.with_variables(problem.detail()).into_owned(),
    );
    report(api, request, head_of(device), why);
}

pub(crate) fn head_of(device: &Device) -> EventHead {
    let head = EventHead::new(TenantId(device.tenant), device.id.as_str());
    // Within its tenant a device has its id as user name.
    head.with_user(Some(UserName::Proved(device.id.as_str().into())))
}

/// Reports a request with an API key that nobody has. If it is the key of a device, the event is
/// about that: the answer does not tell, so that nobody finds out keys of devices here.
pub(crate) async fn report_unknown_key(api: &Api, request: &RequestName, key: Option<Vec<u8>>) {
    if let Some(device) = device_of(api, key).await {
        let why = "it shows the key of a device, and the route needs an API key".to_owned();
        return report(
            api,
            request,
            head_of(&device),
            (RefusalCause::Forbidden.into(), why),
        );
    }
    let why = "unknown API key".to_owned();
    report_unproved(api, request, (HttpCause::ApiKeyUnknown, why));
}

/// Reports a request for MQTT over WebSocket, as a client that was refused: no route takes it.
pub(crate) fn report_mqtt(api: &Api, connection: HttpConnection) {
    let address = connection.peer;
    let caller = address.map(|address| address.to_string());
    if !is_told_of(api, &caller.unwrap_or_default()) {
        return;
    }
    let head = EventHead::unknown().with_address(address.map(|address| (address, 0)));
    let why = HttpCause::WebSocketToHttp.into();
    let event = NodeEvent::ConnectionRefused { why };
    api.control.report_event(NodeNotice::new(head, event));
}

/// The device that has this key.
pub(crate) async fn device_of(api: &Api, key: Option<Vec<u8>>) -> Option<Device> {
    api.devices().ok()?.by_secret(&key?).await.ok()
}

/// Reports that a device of this id is not in the tenant of the API key that a request was sent
/// with, if it is in another tenant: the path is right, and the key is not.
pub(crate) fn report_elsewhere(api: &Api, request: &RequestName, principal: &Principal) {
    let Some(device) = &request.device else {
        return;
    };
    let policy = api.control.policy();
    let tables = policy.as_deref().and_then(|policy| policy.tables());
    let is_elsewhere =
        tables.is_some_and(|tables| tables.tenants_of_device(device).next().is_some());
    if is_elsewhere && is_within_limit(api, request) {
        // Nothing of other tenants: the event is shown to the team of the key.
        let why = format!("no device {device} that {} sees", principal.words());
        report_of_key(api, request, principal, HttpCause::RequestInvalid, &why);
    }
}

/// Reports a request with an API key that was refused for something else than its rights.
pub(crate) fn report_of_key(
    api: &Api,
    request: &RequestName,
    principal: &Principal,
    cause: HttpCause,
    why: &str,
) {
    let Some((head, Some(key))) = subject_of(principal, None) else {
        return;
    };
    let refusal = Refusal::operators_only(cause, format!("{}: {why}", request.text));
    let refusal = match &request.device {
        Some(device) => refusal.about(device.as_str()),
        None => refusal,
    };
    report_refusal(api, request, head, refusal, Some(key));
}

/// Reports a request of a user or with an API key that lacks this scope.
pub(crate) fn report_lacking(
    api: &Api,
    request: &RequestName,
    principal: &Principal,
    scope: Scope,
) {
    let Some((head, key)) = subject_of(principal, Some(scope.name())) else {
        return;
    };
    let why = format!(
        "{} needs the scope {scope}, which {} lacks",
        request.text,
        principal.words()
    );
    let cause = HttpCause::ApiKeyLacksScope;
    if is_within_limit(api, request) {
        let refusal = Refusal::operators_only(cause, why);
        report_refusal(api, request, head, refusal, key);
    }
}

/// The head of an event about the request of a caller, and the API key; none: the caller is neither
/// a user nor has a key.
fn subject_of(
    principal: &Principal,
    lacking: Option<&'static str>,
) -> Option<(EventHead, Option<Box<RequestKey>>)> {
    let head = EventHead::new(principal.tenant, "");
    match &principal.kind {
        PrincipalKind::ApiKey { id, .. } => {
            let id = id.as_str().into();
            Some((head, Some(Box::new(RequestKey { id, lacking }))))
        }
        PrincipalKind::User { name } => {
            let name = UserName::Proved(name.as_str().into());
            Some((head.with_user(Some(name)), None))
        }
        _ => None,
    }
}

/// Reports that a user logged in to the API or the panel with a wrong password.
pub(crate) fn report_user_login(api: &Api, connection: HttpConnection, user: &str) {
    let request = RequestName {
        text: "POST /api/v1/session".to_owned(),
        device: None,
        address: connection.peer,
        is_read: false,
    };
    if let Some(tenant) = tenant_of_user(api, user)
        && is_within_limit(api, &request)
    {
        let head = EventHead::new(tenant, "").with_user(Some(UserName::Claimed(user.into())));
        let cause = RefusalCause::WrongPassword(PasswordSource::Registry);
        report(
            api,
            &request,
            head,
            (cause.into(), "wrong password".to_owned()),
        );
    }
}

/// The tenant of the user of the tables that has this name; none: nobody has it.
fn tenant_of_user(api: &Api, user: &str) -> Option<TenantId> {
    let policy = api.control.policy();
    let tables = policy.as_deref().and_then(|policy| policy.tables())?;
    tables.tenant_of(user).map(TenantId)
}

/// Whether requests of this address may be reported: a limited number are, within a time.
pub(crate) fn is_within_limit(api: &Api, request: &RequestName) -> bool {
    let address = request.address.map(|address| address.to_string());
    is_told_of(api, &address.unwrap_or_default())
}

/// Whether one more refusal of this caller, an address or a user, is told of.
fn is_told_of(api: &Api, caller: &str) -> bool {
    let taken = api.refusals.take(caller, Instant::now());
    taken.is_none_or(|taken| taken.wait.is_none())
}

/// Only the path names the device, if anything does. Several tenants may have a device of that id:
/// the event is of the common tenant if that has one, else of the only tenant that has one.
fn report_unproved(api: &Api, request: &RequestName, why: (HttpCause, String)) {
    match &request.device {
        Some(device) => {
            let head = EventHead::new(tenant_of(api, device), device.as_str());
            report(api, request, head, why);
        }
        None if is_within_limit(api, request) => report(api, request, EventHead::unknown(), why),
        None => {}
    }
}

fn tenant_of(api: &Api, device: &str) -> TenantId {
    let policy = api.control.policy();
    let tables = policy.as_deref().and_then(|policy| policy.tables());
    let mut tenants = tables
        .into_iter()
        .flat_map(|tables| tables.tenants_of_device(device));
    match (tenants.next(), tenants.next()) {
        (Some(0), _) | (None, _) | (Some(_), Some(_)) => TenantId::default(),
        (Some(only), None) => TenantId(only),
    }
}

pub(crate) fn report(api: &Api, request: &RequestName, head: EventHead, why: (HttpCause, String)) {
    let (cause, why) = why;
    let refusal = Refusal::operators_only(cause, format!("{}: {why}", request.text));
    let refusal = match &*head.client_id {
        "" => refusal,
        device => refusal.about(device),
    };
    report_refusal(api, request, head, refusal, None);
}

fn report_refusal(
    api: &Api,
    request: &RequestName,
    head: EventHead,
    why: Refusal<HttpCause>,
    key: Option<Box<RequestKey>>,
) {
    let head = head.with_address(request.address.map(|address| (address, 0)));
    api.control.report_event(NodeNotice::new(
        head,
        NodeEvent::RequestRefused { why, key },
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_the_one_of_the_path() {
        let route = "/api/v1/devices/{id}/telemetry";
        let device = |path| device_in(Some(route), path);
        assert_eq!(
            device("/api/v1/devices/d1/telemetry").as_deref(),
            Some("d1")
        );
        assert_eq!(device("/api/v1/devices/a%20b/telemetry"), None);
        assert_eq!(device_in(Some("/api/v1/publish"), "/api/v1/publish"), None);
        let without_route = |path| device_in(None, path);
        assert_eq!(
            without_route("/api/v1/devices/d1/telemetri").as_deref(),
            Some("d1")
        );
        assert_eq!(without_route("/api/v1/telemetry/rejected"), None);
        let rollout = Some("/api/v1/rollouts/{id}/pause");
        let rollout = device_in(rollout, "/api/v1/rollouts/d1/pause");
        assert_eq!(rollout, None);
    }
}
