//! The caller: by the door, an API key, a session, or without anything where that is permitted.

use std::time::Instant;

use axum::http::HeaderValue;
use axum::http::header;
use axum::http::request::Parts;
use martlet_control::directory::{Account, DirectoryError};
use martlet_control::principal::{Principal, PrincipalKind, Scopes};

use crate::api::{Api, Connection, Door};
use crate::keys;
use crate::origin;
use crate::problem::{Problem, ProblemKind};
use crate::secret::digest_of;
use crate::session::{Session, cookie_of};

/// How a caller without credentials is asked for some.
pub(crate) const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"martlet\"");

/// The caller, and its session if it has one.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) session: Option<Session>,
}

impl Caller {
    fn known(principal: Principal) -> Self {
        Self {
            principal,
            session: None,
        }
    }
}

/// A user as a principal.
pub(crate) fn principal_of(account: &Account) -> Principal {
    Principal {
        kind: PrincipalKind::User {
            name: account.name.clone(),
        },
        scopes: account.scopes(),
        team: account.team.clone(),
        tenant: account.tenant,
    }
}

fn unknown(detail: &str) -> Problem {
    Problem::new(ProblemKind::Unauthenticated, detail)
        .with_header(header::WWW_AUTHENTICATE, CHALLENGE)
}

/// Identifies the caller. Presented credentials decide: if they are wrong, nothing else is checked.
///
/// # Errors
/// They are wrong, or needed and not there; or it cannot be said now.
pub(crate) async fn identify(
    api: &Api,
    connection: Connection,
    parts: &Parts,
    is_open: bool,
) -> Result<Caller, Problem> {
    if connection.door == Door::Socket {
        return Ok(Caller::known(Principal::socket()));
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
        return Ok(Caller::known(Principal::anonymous(Scopes::NONE)));
    }
    if is_local(api, connection, parts) && api.is_unclaimed().await {
        return Ok(Caller::known(Principal::anonymous(Scopes::all())));
    }
    Err(unknown(
        "show an API key (X-API-Key, Authorization: Bearer or ?api_key=) or log in",
    ))
}

async fn by_key(api: &Api, key: &[u8]) -> Result<Caller, Problem> {
    let digest = digest_of(key);
    if let Some(principal) = api.settings.holder_of(&digest) {
        return Ok(Caller::known(principal));
    }
    match api.directory.api_key(key).await {
        Ok(Some(principal)) => Ok(Caller::known(principal)),
        Ok(None) | Err(DirectoryError::None) => Err(unknown("the API key is not valid")),
        Err(error) => Err(error.into()),
    }
}

/// None: the session is over, or its user is disabled or has another password.
async fn by_session(api: &Api, cookie: &[u8]) -> Result<Option<Caller>, Problem> {
    let Some(session) = api.sessions.of_cookie(cookie, Instant::now()) else {
        return Ok(None);
    };
    let account = api.directory.account(&session.user).await?;
    let Some(account) = account.filter(|account| account.generation == session.generation) else {
        api.sessions.end(cookie);
        return Ok(None);
    };
    Ok(Some(Caller {
        principal: principal_of(&account),
        session: Some(session),
    }))
}

/// The request comes from this machine, whatever the address of the listener: by the address of its
/// sender, and by its Host, so that no page of another site may send it (DNS rebinding); and no
/// proxy sent it for somebody else. While nobody can administer the node, such a request may do
/// everything.
fn is_local(api: &Api, connection: Connection, parts: &Parts) -> bool {
    connection.comes_from_loopback()
        && !is_forwarded(parts)
        && origin::names_this_machine(&api.settings, &parts.headers, &parts.uri)
}

/// The request came through a proxy, so the caller is not known to be on this machine.
fn is_forwarded(parts: &Parts) -> bool {
    let by_proxies = [
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
    ];
    by_proxies
        .iter()
        .any(|name| parts.headers.contains_key(*name))
}
