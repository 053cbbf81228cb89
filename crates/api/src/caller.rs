//! The caller: by the listener, an API key, a session, or without anything where that is permitted.

pub(crate) mod known;

use std::time::Instant;

use axum::http::header::{self, HeaderName};
use axum::http::request::Parts;
use martlet_broker::TenantId;
use martlet_control::authentication::Locked;
use martlet_control::callers::CallersError;
use martlet_control::devices::KeyRefusal;
use martlet_control::principal::{Principal, PrincipalKind, Scopes};
use martlet_registry::Activity;
use tracing::warn;

use crate::api::Api;
use crate::compat::paths::takes_admin_scheme;
use crate::connection::HttpConnection;
use crate::forwarded;
use crate::keys;
use crate::origin;
use crate::problem::{Problem, ProblemKind};
use crate::refused_requests::{self, RequestName};
use crate::secret::digest_of;
use crate::session::cookie_of;
use crate::time::Moment;
use known::{CHALLENGE, IdentifiedCaller, principal_of};

/// Interval at which it is noted that a device was seen, milliseconds.
const SEEN_EVERY_MS: i64 = 1_000;

fn unknown(detail: &str) -> Problem {
    Problem::new(ProblemKind::Unauthenticated, detail)
        .with_header(header::WWW_AUTHENTICATE, CHALLENGE)
}

/// Identifies the caller. Presented credentials decide: if they are wrong, nothing else is checked.
///
/// # Errors
/// They are wrong, or needed and missing; or they cannot be checked now.
pub(crate) async fn identify(
    api: &Api,
    connection: HttpConnection,
    parts: &Parts,
    is_open: bool,
) -> Result<IdentifiedCaller, Problem> {
    if connection.is_socket() {
        return Ok(IdentifiedCaller::of(Principal::socket()));
    }
    if takes_admin_scheme(&api.routes.compat, parts.uri.path())
        && let Some(key) = keys::shown_as_admin(&parts.headers)
    {
        return by_key(api, &key).await.map_err(not_an_administrator);
    }
    if let Some(key) = keys::shown(&parts.headers, &parts.uri) {
        return by_key(api, &key).await;
    }
    if let Some(cookie) = cookie_of(&parts.headers, connection.is_secure())
        && let Some(caller) = by_session(api, &cookie).await?
    {
        return Ok(caller);
    }
    if is_open {
        return Ok(IdentifiedCaller::of(Principal::anonymous(Scopes::NONE)));
    }
    if is_local(api, connection, parts) && api.known_unclaimed().await? {
        return Ok(IdentifiedCaller::of(Principal::anonymous(Scopes::all())));
    }
    Err(unknown(
        "show an API key (X-API-Key, Authorization: Bearer or ?api_key=) or log in",
    ))
}

async fn by_key(api: &Api, key: &[u8]) -> Result<IdentifiedCaller, Problem> {
    let digest = digest_of(key);
    if let Some(principal) = keys::holder_of(&api.settings.keys, &digest) {
        return Ok(IdentifiedCaller::of(principal));
    }
    match api.callers.api_key(key).await {
        Ok(Some(principal)) => Ok(IdentifiedCaller::of(principal)),
        Ok(None) | Err(CallersError::None) => Err(unknown("the API key is not valid")),
        Err(error) => Err(error.into()),
    }
}

/// A wrong token of an administrator is refused as clients of that system expect.
fn not_an_administrator(problem: Problem) -> Problem {
    match problem.kind() {
        ProblemKind::Unauthenticated => {
            let detail = "the admin token is not valid";
            Problem::new(ProblemKind::Forbidden, detail).with_heading("Invalid admin token")
        }
        _ => problem,
    }
}

/// Identifies the device whose secret the request shows in `X-API-Key` or as a bearer. Wrong ones
/// are counted as those of MQTT clients are.
///
/// # Errors
/// No secret is shown, it is not valid, or its device is not active; too many were wrong; or it
/// cannot be checked now.
pub(crate) async fn identify_device(
    api: &Api,
    connection: HttpConnection,
    parts: &Parts,
) -> Result<IdentifiedCaller, Problem> {
    let Some(key) = keys::shown_by_header(&parts.headers) else {
        let problem = unknown("Please provide API key in X-API-Key header");
        return Err(problem.with_heading("API key required"));
    };
    let devices = api.devices()?;
    let chain = api.control.authentication_chain();
    let attempt = chain.map(|chain| chain.begin_key(&digest_of(&key), connection.peer));
    let request = RequestName::of(connection, parts);
    let locked_out = |locked: Locked| {
        refused_requests::report_lockout(api, &request);
        Problem::from(locked)
    };
    let attempt = attempt.transpose().map_err(locked_out)?;
    let found = devices.by_secret(&key).await;
    let is_decided = !matches!(
        found,
        Err(KeyRefusal::Inactive(_) | KeyRefusal::Unavailable(_))
    );
    if let Some(attempt) = attempt.filter(|_| is_decided) {
        attempt.finish(found.is_ok()).await.map_err(locked_out)?;
    }
    let device = found.map_err(|refusal| {
        refused_requests::report_login(api, &request, &refusal);
        refused(refusal)
    })?;
    let now_ms = Moment::now().as_ms();
    if device.last_seen_ms.saturating_add(SEEN_EVERY_MS) < now_ms {
        let noted = devices.note_activity(device.number, Activity::Request, now_ms);
        if let Err(error) = noted.await {
            warn!(%error, "cannot record that a device sent a request");
        }
    }
    Ok(IdentifiedCaller {
        principal: Principal {
            // Ids are unique in a tenant alone.
            kind: PrincipalKind::Device {
                id: device.user_name.clone(),
            },
            scopes: Scopes::NONE,
            team: Some(device.team.clone()).filter(|team| !team.is_empty()),
            tenant: TenantId(device.tenant),
        },
        session: None,
        device: Some(Box::new(device)),
    })
}

fn refused(refusal: KeyRefusal) -> Problem {
    match refusal {
        KeyRefusal::Unknown | KeyRefusal::Ended(_) => {
            unknown("The provided API key is not valid").with_heading("Invalid API key")
        }
        KeyRefusal::Inactive(device) => {
            let detail = format!("Device is currently {}", device.status);
            Problem::new(ProblemKind::Forbidden, detail).with_heading("Device inactive")
        }
        KeyRefusal::Unavailable(error) => error.into(),
    }
}

/// None: the session is over, or its user is disabled or has another password.
async fn by_session(api: &Api, cookie: &[u8]) -> Result<Option<IdentifiedCaller>, Problem> {
    let Some(session) = api.sessions.of_cookie(cookie, Instant::now()) else {
        return Ok(None);
    };
    let account = api.callers.account(&session.user).await?;
    let Some(account) = account.filter(|account| account.generation == session.generation) else {
        api.sessions.end(cookie);
        return Ok(None);
    };
    Ok(Some(IdentifiedCaller {
        principal: principal_of(&account),
        session: Some(session),
        device: None,
    }))
}

/// The request comes from this machine, whatever the address of the listener: by the address of its
/// sender, and by its Host, so that no page of another site may send it (DNS rebinding); and no
/// proxy forwarded it. While the node has no administrator, such a request may do everything.
pub(crate) fn is_local(api: &Api, connection: HttpConnection, parts: &Parts) -> bool {
    connection.comes_from_loopback()
        && !is_forwarded(parts)
        && !forwarded::is_proxy(&api.settings.trusted_proxies, connection.peer)
        && origin::names_this_machine(&api.settings, &parts.headers, &parts.uri)
}

/// The request came through a proxy, so the caller is not known to be on this machine.
fn is_forwarded(parts: &Parts) -> bool {
    let of_proxies = [
        "cf-connecting-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-real-ip",
    ];
    let mut names = parts.headers.keys().map(HeaderName::as_str);
    names.any(|name| of_proxies.contains(&name) || name.starts_with("x-forwarded-"))
}
