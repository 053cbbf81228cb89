//! The checks before each route: the caller, its rights and its rate; and the audit log of changes.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use martlet_broker::shortened;
use martlet_control::callers::{AuditEntry, CallersError};
use martlet_control::principal::{Principal, PrincipalKind, Scope, Scopes};
use martlet_registry::{Device, Visibility};
use tracing::{info, warn};

use crate::access::{Access, Audited};
use crate::api::Api;
use crate::body;
use crate::body::large::BodyReader;
use crate::caller;
use crate::caller::known::IdentifiedCaller;
use crate::connection::{HttpConnection, ListenerKind};
use crate::extensions::{About, AboutTeam, OwnDevice, PrincipalName, RequestId, Unchanged};
use crate::idempotency;
use crate::keys;
use crate::origin;
use crate::problem::{Problem, ProblemKind};
use crate::range;
use crate::rate::{self, RateAnswer};
use crate::refused_requests::{self, RequestName};
use crate::session::open::CSRF_HEADER;
use crate::streamed;
use crate::tenant;
use crate::time::Moment;

/// Handlers behind their access rule.
pub(crate) fn guarded(
    api: &Api,
    access: Access,
    audited: Audited,
    methods: MethodRouter<Api>,
) -> MethodRouter<Api> {
    let state = (api.clone(), access, audited);
    methods.route_layer(from_fn_with_state(state, check))
}

async fn check(
    State((api, access, audited)): State<(Api, Access, Audited)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let connection = parts.extensions.get::<HttpConnection>();
    let connection = connection.copied().unwrap_or(HttpConnection::UNKNOWN);
    let caller = match admit(&api, access, connection, &parts).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let is_nobody = is_nobody(&caller.principal);
    let name = caller.principal.to_string();
    let own_team = caller.principal.team.clone();
    let taken = match connection.listener {
        ListenerKind::Socket { .. } => None,
        ListenerKind::Tcp { .. } if access == Access::Open => None,
        ListenerKind::Tcp { .. } => {
            let part = range::part_of_token(parts.uri.path(), &parts.headers);
            api.rates.take_part(&name, part, Instant::now())
        }
    };
    let is_write = !origin::is_safe(&parts.method);
    let reported = ReportedCaller::of(&caller, connection, &parts);
    let finish = |answer: Response, name: String| {
        reported.report(&api, &answer);
        finish(answer, taken, name)
    };
    if let Some(problem) = taken.and_then(|taken| taken.refusal()) {
        return finish(problem.into_response(), name);
    }
    let action = format!("{} {}", parts.method, parts.uri.path());
    let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone());
    parts.extensions.insert(connection);
    parts.extensions.insert(match connection.listener {
        ListenerKind::Socket { .. } => BodyReader::without_slots(),
        ListenerKind::Tcp { .. } => api.large_bodies.reader(Visibility::of(own_team.as_deref())),
    });
    parts.extensions.insert(caller.principal);
    if let Some(session) = caller.session {
        parts.extensions.insert(session);
    }
    let is_device = caller.device.is_some();
    if let Some(device) = caller.device {
        parts.extensions.insert(OwnDevice(device));
    }
    if let Err(problem) = tenant::check_named(&api, &mut parts).await {
        return finish(problem.into_response(), name);
    }
    let request = Request::from_parts(parts, body);
    // A refused request has been answered. The body counts until the answer is there.
    let is_streamed = streamed::is_streamed(&request);
    let (request, _held) = match is_streamed {
        true => (request, None),
        false => match body::read(&api, request, is_nobody).await {
            Ok((request, held)) => (request, Some(held)),
            Err(problem) => return finish(problem.into_response(), name),
        },
    };
    let answer = match is_write && access != Access::Open && !is_streamed {
        true => idempotency::run(api.clone(), &name, request, next).await,
        false => next.run(request).await,
    };
    let status = answer.status();
    // The name of a login is known only from the answer.
    let found = answer.extensions().get::<PrincipalName>();
    let name = found.map_or(name, |principal_name| principal_name.0.clone());
    // What was refused has changed nothing; what failed may have.
    let is_unchanged = answer.extensions().get::<Unchanged>().is_some();
    // Heartbeats of devices are frequent.
    let is_worth_a_line = !(is_device && is_unchanged) && audited != Audited::Nowhere;
    if is_write && !status.is_client_error() && is_worth_a_line {
        let entry = AuditEntry {
            at_ms: Moment::now().as_ms(),
            principal: name.clone(),
            address: connection.peer.map(|peer| peer.to_string()),
            team: match answer.extensions().get::<AboutTeam>() {
                Some(AboutTeam(team)) => Some(team.clone()),
                None => own_team,
            },
            action,
            changed: match answer.extensions().get::<About>() {
                Some(About(what)) => what.to_string(),
                None => "{}".to_owned(),
            },
            status: status.as_u16(),
            request_id: request_id.unwrap_or_default(),
            // The request may have failed because of the tables, so they are not waited for again.
            is_soon: audited == Audited::Soon || status.is_server_error(),
        };
        let is_in_tables = audited == Audited::InTables && status.is_success();
        let is_there = is_in_tables || is_unchanged;
        write_down(&api, entry, is_there).await;
    }
    finish(answer, name)
}

/// The caller of a request, as far as refusals of it are events.
struct ReportedCaller {
    device: Option<(Device, RequestName)>,
    key: Option<(Principal, RequestName)>,
}

impl ReportedCaller {
    fn of(caller: &IdentifiedCaller, connection: HttpConnection, parts: &Parts) -> Self {
        let is_key = matches!(caller.principal.kind, PrincipalKind::ApiKey { .. });
        let of_device = is_key.then(|| RequestName::of_device(connection, parts));
        Self {
            device: caller
                .device
                .as_ref()
                .map(|device| ((**device).clone(), RequestName::of(connection, parts))),
            key: of_device
                .flatten()
                .map(|request| (caller.principal.clone(), request)),
        }
    }

    fn report(&self, api: &Api, answer: &Response) {
        if let Some((device, request)) = &self.device {
            refused_requests::report_answer(api, request, device, answer);
        }
        if let (Some((principal, request)), StatusCode::NOT_FOUND) = (&self.key, answer.status()) {
            refused_requests::report_elsewhere(api, request, principal);
        }
    }
}

fn finish(mut answer: Response, taken: Option<RateAnswer>, name: String) -> Response {
    // A limit of the route alone is the nearer one.
    if let Some(taken) = taken.filter(|_| !rate::has_limits(answer.headers())) {
        taken.write(answer.headers_mut());
    }
    answer.extensions_mut().insert(PrincipalName(name));
    answer
}

async fn admit(
    api: &Api,
    access: Access,
    connection: HttpConnection,
    parts: &Parts,
) -> Result<IdentifiedCaller, Problem> {
    if access == Access::Open {
        // No credentials are needed. But a page of another site may not use it either.
        let caller = IdentifiedCaller::anonymous(Scopes::NONE);
        origin::check_origin(&api.settings, connection, parts, &caller)?;
        return Ok(caller);
    }
    let is_open = is_named(api, parts)
        || matches!(access, Access::ScopedOrLocal(_)) && caller::is_local(api, connection, parts);
    let mut caller = match access {
        Access::OfDevice => caller::identify_device(api, connection, parts).await?,
        Access::ScopedOrOfDevice(_) => {
            match caller::identify(api, connection, parts, is_open).await {
                // The key may be that of a device.
                Err(problem)
                    if is_of_unknown_key(&problem, parts)
                        && keys::shown_by_header(&parts.headers).is_some() =>
                {
                    caller::identify_device(api, connection, parts).await?
                }
                caller => reported(api, connection, parts, caller).await?,
            }
        }
        _ => {
            let caller = caller::identify(api, connection, parts, is_open).await;
            reported(api, connection, parts, caller).await?
        }
    };
    origin::check_origin(&api.settings, connection, parts, &caller)?;
    let is_write = !origin::is_safe(&parts.method);
    if let Some(session) = &caller.session
        && is_write
        && !session.is_meant(&parts.headers)
    {
        let detail = format!("by cookie, what changes something needs the header {CSRF_HEADER}");
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    let (scope, of_team) = match access {
        Access::Open | Access::Known | Access::OfDevice => return Ok(caller),
        Access::ScopedOrOfDevice(_) if caller.device.is_some() => return Ok(caller),
        Access::Scoped(scope) | Access::ScopedOrLocal(scope) | Access::ScopedOrOfDevice(scope) => {
            (scope, None)
        }
        Access::ScopedOrOfTeam(scope, of_team) => (scope, Some(of_team)),
    };
    if is_open && is_nobody(&caller.principal) {
        caller.principal.scopes = [scope].into();
    }
    let is_of_team = caller.principal.team.is_some();
    let of_team = of_team.filter(|scope| is_of_team && caller.principal.scopes.has(*scope));
    if !caller.principal.scopes.has(scope) && of_team.is_none() {
        let request = RequestName::of(connection, parts);
        refused_requests::report_lacking(api, &request, &caller.principal, scope);
        let why = why_lacking(&caller.principal, scope);
        let detail = caller.principal.lacks(scope) + why;
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    Ok(caller)
}

/// The request shows a key, and nobody has it.
fn is_of_unknown_key(problem: &Problem, parts: &Parts) -> bool {
    let is_shown = || keys::shown(&parts.headers, &parts.uri).is_some();
    problem.kind() == ProblemKind::Unauthenticated && is_shown()
}

/// The caller that was looked for; one with an unknown key is reported.
async fn reported(
    api: &Api,
    connection: HttpConnection,
    parts: &Parts,
    found: Result<IdentifiedCaller, Problem>,
) -> Result<IdentifiedCaller, Problem> {
    if let Err(problem) = &found
        && is_of_unknown_key(problem, parts)
    {
        let request = RequestName::of(connection, parts);
        let key = keys::shown(&parts.headers, &parts.uri);
        refused_requests::report_unknown_key(api, &request, key).await;
    }
    found
}

fn is_nobody(principal: &Principal) -> bool {
    principal.kind == PrincipalKind::Anonymous
}

/// Hint about a scope that the caller lacks.
fn why_lacking(principal: &Principal, scope: Scope) -> &'static str {
    if principal.team.is_none() || Scopes::of_team(principal.tenant).has(scope) {
        return "";
    }
    match Scopes::of_any_team().has(scope) {
        true => {
            ", which is for teams with a tenant of their own: without one, clients and topics are \
             everybody's"
        }
        false => ": a key or user of a team cannot have it, only one that belongs to no team",
    }
}

/// The caller of an earlier request as of now; none if the credentials are no longer valid, lack
/// this scope, or are of another team than the one whose objects were asked for.
pub(crate) async fn still(
    api: &Api,
    scope: Scope,
    connection: HttpConnection,
    parts: &Parts,
) -> Option<Principal> {
    let admitted = admit(api, Access::Scoped(scope), connection, parts).await;
    let now = admitted.ok()?.principal;
    let before = parts.extensions.get::<Principal>();
    before
        .is_none_or(|before| (&before.team, before.tenant) == (&now.team, now.tenant))
        .then_some(now)
}

/// Routes of the native API go without it in `http.open_routes`, too.
const NATIVE: &str = "/api/v1";

/// `http.open_routes` names it.
fn is_named(api: &Api, parts: &Parts) -> bool {
    let Some(path) = parts.extensions.get::<MatchedPath>() else {
        return false;
    };
    let (method, path) = (&parts.method, path.as_str());
    let native = path
        .strip_prefix(NATIVE)
        .map(|path| format!("{method} {path}"));
    let named = [Some(format!("{method} {path}")), native];
    let mut named = named.iter().flatten();
    named.any(|route| api.routes.open_routes.contains(route))
}

/// Each change has its line in the log, and its entry where entries are kept.
async fn write_down(api: &Api, entry: AuditEntry, is_there: bool) {
    info!(
        target: "martlet_api::audit",
        principal = entry.principal,
        address = entry.address,
        action = &*shortened(&entry.action),
        status = entry.status,
        request_id = entry.request_id,
        "changed"
    );
    if is_there {
        return;
    }
    match api.callers.audit(entry).await {
        Ok(()) | Err(CallersError::None) => {}
        Err(error) => warn!(%error, "the audit log cannot write an entry"),
    }
}
