//! Layers around all routes: the request's number, bounds, the headers of every answer, problems in
//! the place of bare errors, and a line in the log.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use martlet_control::text::{masked, printable};
use tracing::{debug, info, warn};

use crate::api::Api;
use crate::compat::ErrorForm;
use crate::compressed::compressed;
use crate::connection::{HttpConnection, ListenerKind, is_mqtt};
use crate::extensions::{PrincipalName, REQUEST_ID, RequestId};
use crate::forwarded;
use crate::origin;
use crate::output::Class;
use crate::problem::{CONTENT_TYPE, Problem, ProblemKind};
use crate::range::part_of_token;
use crate::rate::name_of;
use crate::refused_requests;
use crate::unrouted;

const METRICS: &str = "/metrics";
/// Longest path and query, bytes.
const TARGET_MAX: usize = 8 * 1024;
/// Most bytes and most fields of a header.
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADER_FIELDS_MAX: usize = 64;

/// The log line of a request.
struct RequestLine {
    method: Method,
    target: String,
    id: RequestId,
    begun: Instant,
    connection: HttpConnection,
}

pub(crate) async fn around(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<HttpConnection>().copied();
    let connection = connection.unwrap_or(HttpConnection::UNKNOWN);
    let connection = match api.settings.trusted_proxies.as_slice() {
        [] => connection,
        proxies => forwarded::behind(proxies, connection, request.headers()),
    };
    let line = RequestLine {
        method: request.method().clone(),
        target: shown(request.uri()),
        id: RequestId::of(request.headers()),
        begun: Instant::now(),
        connection,
    };
    request.extensions_mut().insert(line.id.clone());
    request.extensions_mut().insert(connection);
    let is_probe = is_probe(request.uri().path());
    let path = request.uri().path().to_owned();
    let form = ErrorForm::of(&api.routes.compat, &path);
    let request_headers = request.headers().clone();
    let uri = request.uri().clone();
    if is_mqtt(&request_headers) {
        refused_requests::report_mqtt(&api, connection);
    }
    let preflight = origin::preflight(request.method(), &request_headers);
    let is_preflight = preflight.is_some();
    let answer = match check(&api, connection, &request) {
        Err(problem) => problem.into_response(),
        Ok(()) => match preflight {
            Some(answer) => answer,
            // The body is read when the caller is known.
            None => next.run(request).await,
        },
    };
    if is_without_route(&answer) {
        let mut request = Request::new(());
        *request.method_mut() = line.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = request_headers.clone();
        request.extensions_mut().insert(connection);
        let (request, ()) = request.into_parts();
        unrouted::report(&api, &request, answer.status()).await;
    }
    let answer = match connection.is_socket() {
        true => answer,
        false => compressed(&request_headers, answer).await,
    };
    let class = Class::of(connection.listener, is_probe);
    let mut answer = api.output.count(&api.control, class, answer);
    if let Some(problem) = answer.extensions_mut().get_mut::<Problem>() {
        problem.name_keys(&api.control);
    }
    // Others need not know where the data of the node are.
    let node = match connection.listener {
        ListenerKind::Socket { .. } => &*api.control.info.command_options,
        _ => "",
    };
    let mut answer = as_problem(answer, &line.id, &path, node, form);
    let out = answer.headers_mut();
    if !connection.is_socket() {
        origin::write(&api.settings, &request_headers, is_preflight, out);
    }
    protect(out, connection);
    if let Ok(id) = HeaderValue::from_str(&line.id.0) {
        out.insert(REQUEST_ID, id);
    }
    api.counts
        .note(&line.method, answer.status(), line.begun.elapsed());
    write(&line, &answer);
    answer
}

/// No route has looked for the caller, because the Host, the path or the method is wrong.
fn is_without_route(answer: &Response) -> bool {
    let is_wrong = matches!(
        answer.status(),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::MISDIRECTED_REQUEST
    );
    is_wrong && answer.extensions().get::<PrincipalName>().is_none()
}

/// Path and query without what is secret.
fn shown(uri: &Uri) -> String {
    const BEFORE: &str = "http://h";
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let text = masked(&format!("{BEFORE}{target}"));
    let mut text = printable(text.strip_prefix(BEFORE).unwrap_or(&text));
    let end = (0..=512.min(text.len())).rev();
    let end = { end }.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

fn check(api: &Api, connection: HttpConnection, request: &Request) -> Result<(), Problem> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > TARGET_MAX) {
        let detail = format!("path and query have {TARGET_MAX} bytes at most");
        return Err(Problem::new(ProblemKind::UriTooLong, detail));
    }
    expect_no_nul(request.uri())?;
    let headers = request.headers();
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > HEADER_BYTES_MAX || headers.len() > HEADER_FIELDS_MAX {
        let detail =
            format!("a header has {HEADER_FIELDS_MAX} fields and {HEADER_BYTES_MAX} bytes at most");
        return Err(Problem::new(ProblemKind::HeadersTooLarge, detail));
    }
    // Probes get the state of the node under any Host.
    let is_metrics = request.uri().path() == METRICS;
    if is_probe(request.uri().path()) && !is_metrics {
        return Ok(());
    }
    origin::check_host(&api.settings, connection, headers, request.uri())?;
    if connection.is_socket() {
        return Ok(());
    }
    // Other clients of the address do not keep readers from the metrics.
    let what = if is_metrics { "metrics for " } else { "" };
    let who = format!("{what}address {}", name_of(connection.peer));
    let part = part_of_token(request.uri().path(), headers);
    let taken = api.rates.take_part(&who, part, Instant::now());
    taken.and_then(|taken| taken.refusal()).map_or(Ok(()), Err)
}

/// Whether a path is a probe of health, or the metrics. Such a request needs no slot of the
/// connections.
pub fn is_probe(path: &str) -> bool {
    let is_health = path
        .strip_prefix("/health/")
        .is_some_and(|rest| !rest.is_empty());
    is_health || ["/healthz", "/livez", "/readyz", METRICS].contains(&path)
}

/// The answer to a request for which there is no slot, with the limits of connections from one
/// address and of all.
pub fn no_slot(of_address: usize, all: usize) -> Response {
    let detail = format!(
        "too many HTTP connections are open: http.connections_per_address is {of_address}, \
         http.connections is {all}"
    );
    let problem = Problem::unavailable(detail);
    let problem = problem.with_header(header::RETRY_AFTER, HeaderValue::from_static("1"));
    let id = RequestId::of(&HeaderMap::new());
    as_problem(problem.into_response(), &id, "", "", ErrorForm::Problem)
}

/// U+0000 is in nothing that has a name: not in MQTT's strings [MQTT-1.5.4-2], and not in what
/// databases keep.
fn expect_no_nul(uri: &Uri) -> Result<(), Problem> {
    const NUL: &str = "%00";
    if uri.path().contains(NUL) {
        return Err(Problem::bad_request("the path has the character U+0000"));
    }
    let query = uri.query().unwrap_or_default();
    let mut pairs = query.split('&').filter(|pair| pair.contains(NUL));
    let Some((name, _)) = pairs
        .next()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    else {
        return Ok(());
    };
    let detail = "U+0000 is not allowed";
    Err(Problem::of_query(name, detail))
}

/// Turns errors of any origin into problems with the request's number, or into the form of another
/// system.
fn as_problem(
    answer: Response,
    id: &RequestId,
    path: &str,
    node: &str,
    form: ErrorForm,
) -> Response {
    let status = answer.status();
    let problem = answer.extensions().get::<Problem>().cloned();
    let is_set = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|content_type| {
            content_type == CONTENT_TYPE || content_type == "application/json"
        });
    let is_error = status.is_client_error() || status.is_server_error();
    if problem.is_none() && (!is_error || is_set) {
        return answer;
    }
    let kind = ProblemKind::of_status(status);
    let problem = problem.unwrap_or_else(|| Problem::new(kind, kind.what()));
    let (mut parts, _) = answer.into_parts();
    let (content_type, body) = form.error_answer(&problem, &id.0, path, node);
    parts.status = form.status(&problem, status);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, content_type);
    Response::from_parts(parts, Body::from(body))
}

/// Headers for browsers, unless the route has set them.
fn protect(out: &mut HeaderMap, connection: HttpConnection) {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in HEADERS {
        out.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if connection.is_secure() {
        let year = HeaderValue::from_static("max-age=31536000");
        out.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

fn write(line: &RequestLine, answer: &Response) {
    let status = answer.status().as_u16();
    let principal_name = answer.extensions().get::<PrincipalName>();
    let principal_name = principal_name.map_or("-", |principal_name| principal_name.0.as_str());
    let peer = line.connection.peer.map(|peer| peer.to_string());
    let ms = line.begun.elapsed().as_millis() as u64;
    macro_rules! line {
        ($level:ident) => {
            $level!(
                target: "martlet_api::access",
                method = %line.method,
                target = line.target,
                status,
                ms,
                principal = principal_name,
                address = peer,
                request_id = line.id.0,
                "HTTP"
            )
        };
    }
    match answer.status() {
        // If a device does not answer, the node is not at fault.
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => line!(debug),
        status if status.is_server_error() => line!(warn),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => {
            line!(info)
        }
        // The audit has written a line about a change.
        _ => line!(debug),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_query_are_in_no_log() {
        let shown = |target: &str| shown(&target.parse().unwrap());
        assert_eq!(
            shown("/api/v1/keys?api_key=s3cret&limit=1"),
            "/api/v1/keys?api_key=***&limit=1"
        );
        assert_eq!(shown("/a?x=1"), "/a?x=1");
    }

    #[test]
    fn a_number_that_cannot_stand_in_a_log_is_replaced() {
        let of = |text: &'static str| {
            let header = (REQUEST_ID, HeaderValue::from_static(text));
            RequestId::of(&HeaderMap::from_iter([header])).0
        };
        assert_eq!(of("abc-1.2_3"), "abc-1.2_3");
        for bad in ["", "a b", "a\"", "<x>"] {
            assert_ne!(of(bad), bad);
        }
    }
}
