//! Which pages of which sites may ask: the Host of a request, its Origin, and CORS.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use martlet_control::principal::PrincipalKind;

use crate::caller::known::IdentifiedCaller;
use crate::connection::HttpConnection;
use crate::problem::{Problem, ProblemKind};
use crate::settings::Settings;

/// How long a browser may remember what it may ask, seconds.
const PREFLIGHT_SECS: &str = "600";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, \
                       X-API-Key, X-CSRF-Token, X-Request-Id";
const EXPOSED: &str = "ETag, Idempotency-Replayed, Link, Location, RateLimit-Limit, \
                       RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id";

/// Header of browsers: how the page that caused a request is related to its target.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether nothing is changed by a method.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The request asks for a WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name, expected: &str| {
        let mut all = headers.get_all(name).iter();
        all.any(|value| {
            let words = value.to_str().unwrap_or_default().split(',');
            { words }.any(|word| word.trim().eq_ignore_ascii_case(expected))
        })
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

/// A listener on loopback is asked for by its own names alone: a page that makes a name of its own
/// mean 127.0.0.1 (DNS rebinding) does not get in.
pub(crate) fn check_host(
    settings: &Settings,
    connection: HttpConnection,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(), Problem> {
    if !connection.is_loopback() {
        return Ok(());
    }
    if names_this_machine(settings, headers, uri) {
        return Ok(());
    }
    let detail = "the header Host names neither localhost nor a loopback address: add the name to \
                  http.hosts if it is one of this node";
    Err(Problem::new(ProblemKind::Misdirected, detail))
}

/// The Host is this machine: localhost, a loopback address or a name of `http.hosts`.
pub(crate) fn names_this_machine(settings: &Settings, headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let host = uri.authority().map(|authority| authority.as_str()).or(host);
    hosts.next().is_none() && host.is_some_and(|host| is_own(settings, host))
}

fn is_own(settings: &Settings, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
        || name.eq_ignore_ascii_case("localhost")
        || settings
            .hosts
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
}

fn origin_of(headers: &HeaderMap) -> Option<&str> {
    let origin = headers.get(header::ORIGIN)?;
    Some(origin.to_str().unwrap_or("null"))
}

/// A browser says that a page of another origin, or none that it can name, caused the request.
/// Other programs do not send the header.
fn is_fetched_by_another_site(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(SEC_FETCH_SITE).iter();
    all.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

fn is_same(connection: HttpConnection, headers: &HeaderMap, origin: &str) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some((scheme, place)) = origin.split_once("://") else {
        return false;
    };
    // A proxy before a plain listener may use TLS.
    let is_scheme = scheme == "https" || (scheme == "http" && !connection.is_secure());
    is_scheme && host.is_some_and(|host| host.eq_ignore_ascii_case(place))
}

fn is_listed(settings: &Settings, origin: &str) -> bool {
    let mut all = settings.origins.iter();
    all.any(|listed| listed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

fn is_everybody(settings: &Settings) -> bool {
    settings.origins.iter().any(|listed| listed == "*")
}

/// A page of another site changes nothing, unless its origin is listed. With `*` it has to have a
/// key: what a browser or an address brings by itself is no proof that its user meant it.
pub(crate) fn check_origin(
    settings: &Settings,
    connection: HttpConnection,
    parts: &Parts,
    caller: &IdentifiedCaller,
) -> Result<(), Problem> {
    let is_write = !is_safe(&parts.method);
    let Some(origin) = origin_of(&parts.headers) else {
        let is_refused = is_write && !connection.is_socket();
        return match is_refused && is_fetched_by_another_site(&parts.headers) {
            true => {
                let detail = "a browser sent this for another site (Sec-Fetch-Site), without \
                              Origin: such requests may not change anything";
                Err(Problem::new(ProblemKind::Forbidden, detail))
            }
            false => Ok(()),
        };
    };
    let has_key = matches!(caller.principal.kind, PrincipalKind::ApiKey { .. });
    // Any page could read what a WebSocket brings: CORS does not prevent it.
    let is_websocket = is_websocket(&parts.headers);
    let may = connection.is_socket()
        || (!is_write && !is_websocket)
        || (is_websocket && has_key)
        || is_same(connection, &parts.headers, origin)
        || is_listed(settings, origin)
        || (is_everybody(settings) && has_key);
    match may {
        true => Ok(()),
        false => {
            let detail = "pages of this origin may neither change anything here nor open a \
                          WebSocket; http.origins lists others";
            Err(Problem::new(ProblemKind::Forbidden, detail))
        }
    }
}

/// The answer to a browser that asks before it asks.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    (*method == Method::OPTIONS && asks && origin_of(headers).is_some())
        .then(|| StatusCode::NO_CONTENT.into_response())
}

/// Lets pages of origins that are listed read the answer.
pub(crate) fn write(
    settings: &Settings,
    request_headers: &HeaderMap,
    is_preflight: bool,
    out: &mut HeaderMap,
) {
    if settings.origins.is_empty() {
        return;
    }
    out.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin_of(request_headers) else {
        return;
    };
    if is_listed(settings, origin)
        && let Ok(origin) = HeaderValue::from_str(origin)
    {
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let yes = HeaderValue::from_static("true");
        out.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    } else if is_everybody(settings) {
        let all = HeaderValue::from_static("*");
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, all);
    } else {
        return;
    }
    let exposed = HeaderValue::from_static(EXPOSED);
    out.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    if is_preflight {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECS),
        ] {
            out.insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_own_names() {
        let settings = Settings {
            hosts: vec!["broker.example".to_owned()],
            ..Settings::default()
        };
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "[::1]",
            "broker.example",
        ] {
            assert!(is_own(&settings, host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_own(&settings, host), "{host}");
        }
    }
}
