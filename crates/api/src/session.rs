//! Sessions of the panel: a cookie that no script can read, and a token that no other site knows.

pub(crate) mod open;

use std::time::{Duration, Instant};

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use martlet_control::authentication::Locked;
use martlet_control::principal::Principal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::connection::HttpConnection;
use crate::extensions::PrincipalName;
use crate::extract::JsonBody;
use crate::problem::{Problem, ProblemKind};
use crate::rate::name_of;
use crate::refused_requests;
use crate::time::Moment;
use open::{ABSOLUTE, IDLE, LoginSession};

/// A browser takes a cookie of this name only over TLS, for this host and all its paths.
const SECURE_COOKIE: &str = "__Host-martlet";
const COOKIE: &str = "martlet";

/// The cookie of a request. Over TLS only the one that cannot have been set on the way.
pub(crate) fn cookie_of(headers: &HeaderMap, is_secure: bool) -> Option<Vec<u8>> {
    let cookie_name = if is_secure { SECURE_COOKIE } else { COOKIE };
    let all = headers.get_all(header::COOKIE).iter();
    let mut pairs = all.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(cookie_name.as_bytes())?;
        Some(value.strip_prefix(b"=")?.to_vec())
    })
}

fn set_cookie(value: &str, is_secure: bool, age: Duration) -> HeaderValue {
    let (name, secure) = match is_secure {
        true => (SECURE_COOKIE, "; Secure"),
        false => (COOKIE, ""),
    };
    let age = age.as_secs();
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
    // Base64 and digits alone: that cannot fail.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Name and password of a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// User name.
    #[schema(example = "ada", max_length = 1024)]
    user: String,
    /// Their password.
    #[schema(format = Password, max_length = 1024)]
    password: String,
}

/// The caller, and its session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// The caller: `user:NAME`, `key:NAME` or `admin.sock`.
    #[schema(example = "user:ada")]
    principal: String,
    /// Rights of the caller.
    scopes: Vec<&'static str>,
    /// For a session: token to send as `X-CSRF-Token` with every request that changes something.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
    /// For a session: when it ends at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ends_at: Option<Moment>,
    /// For a session: seconds without a request after which it ends before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_secs: Option<u64>,
}

impl SessionView {
    fn new(principal: &Principal, session: Option<&LoginSession>, now: Instant) -> Self {
        let left = |session: &LoginSession| {
            let passed = now.saturating_duration_since(session.begun);
            Moment::after(ABSOLUTE.saturating_sub(passed))
        };
        Self {
            principal: principal.to_string(),
            scopes: principal.scopes.names(),
            csrf_token: session.map(|session| session.csrf.clone()),
            ends_at: session.map(left),
            idle_secs: session.map(|_| IDLE.as_secs()),
        }
    }
}

/// Longest user name and password that are looked at.
const TEXT_MAX: usize = 1024;

impl From<Locked> for Problem {
    fn from(Locked { secs }: Locked) -> Self {
        let detail = format!(
            "too many wrong credentials, of this user or from this address: locked out for {secs} s \
             more; martlet lockout rm ends it"
        );
        let problem = Self::new(ProblemKind::RateLimited, detail);
        problem.with_header(header::RETRY_AFTER, HeaderValue::from(secs))
    }
}

/// Log in
///
/// Begins a session of the panel. The cookie is sent by the browser alone; what changes something
/// needs `csrf_token` in the header `X-CSRF-Token` besides.
#[utoipa::path(post, path = "/api/v1/session", tag = "security", request_body = Login,
    responses((status = 200, description = "The session", body = SessionView,
        headers(("Set-Cookie" = String, description = "The session's cookie")))))]
pub(crate) async fn begin(
    State(api): State<Api>,
    Extension(connection): Extension<HttpConnection>,
    JsonBody(login): JsonBody<Login>,
) -> Result<Response, Problem> {
    let (now, begun_ms) = (Instant::now(), Moment::now().as_ms());
    let too_long = login.user.len() > TEXT_MAX || login.password.len() > TEXT_MAX;
    if too_long {
        let detail = format!("user and password have {TEXT_MAX} bytes at most");
        return Err(Problem::new(ProblemKind::Invalid, detail));
    }
    // Wrong credentials are counted by name and by address, as those of clients are. Failures of
    // others do not lock out a user at an address of an earlier login.
    let attempt = match api.control.authentication_chain() {
        Some(chain) => Some(chain.begin_login(&login.user, connection.peer).await?),
        None => {
            let address = format!("address {}", name_of(connection.peer));
            let taken = api.logins.take(&address, now);
            taken
                .and_then(|taken| taken.refusal())
                .map_or(Ok(()), Err)?;
            None
        }
    };
    let found = api.callers.check_password(&login.user, &login.password);
    let found = found.await?;
    if let Some(attempt) = attempt {
        attempt.finish(found.is_some()).await?;
    }
    let Some(account) = found else {
        // The right password of a user without rights is remembered on its own.
        let tables = api.tables().ok();
        if !tables.is_some_and(|tables| tables.lacked_rights(&login.user, begun_ms)) {
            refused_requests::report_user_login(&api, connection, &login.user);
        }
        let detail = "user name or password are wrong";
        return Err(Problem::new(ProblemKind::Unauthenticated, detail)
            .with_header(header::WWW_AUTHENTICATE, crate::caller::known::CHALLENGE));
    };
    let Some((cookie, session)) = api.sessions.begin(&account, now) else {
        let detail = "no source of randomness";
        return Err(Problem::new(ProblemKind::Unavailable, detail));
    };
    let principal = crate::caller::known::principal_of(&account);
    let view = SessionView::new(&principal, Some(&session), now);
    let cookie = set_cookie(&cookie, connection.is_secure(), ABSOLUTE);
    let principal_name = Extension(PrincipalName(view.principal.clone()));
    Ok((
        [(header::SET_COOKIE, cookie)],
        principal_name,
        axum::Json(view),
    )
        .into_response())
}

/// Who am I
///
/// The caller, its rights, and the end of the session.
#[utoipa::path(get, path = "/api/v1/session", tag = "security",
    responses((status = 200, description = "The caller", body = SessionView)))]
pub(crate) async fn show(
    Extension(principal): Extension<Principal>,
    session: Option<Extension<LoginSession>>,
) -> axum::Json<SessionView> {
    let session = session.as_ref().map(|Extension(session)| session);
    axum::Json(SessionView::new(&principal, session, Instant::now()))
}

/// Log out
///
/// Ends the session of the request, if it came by one.
#[utoipa::path(delete, path = "/api/v1/session", tag = "security",
    responses((status = 204, description = "Ended")))]
pub(crate) async fn end(
    State(api): State<Api>,
    Extension(connection): Extension<HttpConnection>,
    headers: HeaderMap,
) -> Response {
    if let Some(cookie) = cookie_of(&headers, connection.is_secure()) {
        api.sessions.end(&cookie);
    }
    let cookie = set_cookie("", connection.is_secure(), Duration::ZERO);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tls_a_cookie_that_others_could_set_is_not_taken() {
        let text = "a=b; martlet=plain; __Host-martlet=close";
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(text))]);
        assert_eq!(cookie_of(&headers, true).as_deref(), Some(&b"close"[..]));
        assert_eq!(cookie_of(&headers, false).as_deref(), Some(&b"plain"[..]));
    }
}
