//! Whose clients and topics a request is about.

use std::borrow::Cow;

use axum::extract::{FromRequestParts, Request};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use martlet_broker::TenantId;
use martlet_control::principal::Principal;
use utoipa::IntoParams;

use crate::api::Api;
use crate::problem::Problem;
use crate::registry::{CalledBy, team_id};

/// The parameter of the query that names a team; taken here, so no other of the same handler's.
pub(crate) const TEAM_PARAMETER: &str = "team";

/// The query of requests about clients and topics, beside what is their own.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTenant {
    /// Among the clients and topics of this team, by id or name, which has a tenant of its own.
    /// Without it, among those of the team that asks, or of all teams that have none.
    #[expect(
        dead_code,
        reason = "it stands in the document, and `InTenant` reads it"
    )]
    team: Option<String>,
}

/// The tenant that a request is about. Stands before [`QueryOf`](crate::extract::QueryOf) among
/// what a handler takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InTenant(pub(crate) TenantId);

/// Tenants that a request is about, likewise, but a caller that sees all teams and names none gets
/// all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InTenants(pub(crate) Option<TenantId>);

/// Tenants that a request is about, likewise, but the caller may name a team that is deleted.
#[derive(Clone, Debug)]
pub(crate) enum TenantsOrDeletedTeam {
    /// The tenants of the team, or of the caller if no team was named.
    Tenants(Option<TenantId>),
    /// There is no such team, or it is deleted.
    DeletedTeam(String),
}

impl FromRequestParts<Api> for InTenants {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        match requested(parts, api)? {
            TenantsOrDeletedTeam::Tenants(tenant) => Ok(Self(tenant)),
            TenantsOrDeletedTeam::DeletedTeam(team) => Err(no_such_team(&team)),
        }
    }
}

impl FromRequestParts<Api> for TenantsOrDeletedTeam {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        requested(parts, api)
    }
}

/// The query's `team` is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TeamTaken;

impl FromRequestParts<Api> for InTenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let InTenants(named) = InTenants::from_request_parts(parts, api).await?;
        Ok(Self(named.unwrap_or_default()))
    }
}

/// Takes the query's team; none: the caller sees all teams, and names none.
fn requested(parts: &mut Parts, api: &Api) -> Result<TenantsOrDeletedTeam, Problem> {
    use TenantsOrDeletedTeam::{DeletedTeam, Tenants};
    parts.extensions.insert(TeamTaken);
    let principal = parts.extensions.get::<Principal>();
    let own = principal.and_then(|principal| principal.team.as_ref().map(|_| principal.tenant));
    let named = named_teams(&parts.uri).next();
    match (own, named) {
        (None, None) => Ok(Tenants(None)),
        // Another team was refused before the route: `check_named`.
        (Some(tenant), _) => Ok(Tenants(Some(tenant))),
        (None, Some(named)) => Ok(match api.control.tenant_of_team(&named) {
            Some(tenant) => Tenants(Some(tenant)),
            None => DeletedTeam(named.into_owned()),
        }),
    }
}

/// Teams that a query names.
fn named_teams(uri: &Uri) -> impl Iterator<Item = Cow<'_, str>> {
    let query = uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .filter_map(|(name, value)| (name == TEAM_PARAMETER).then_some(value))
}

/// Checks that a caller of a team names no other team in the query, whatever the route does with
/// the parameter.
///
/// # Errors
/// The caller names another team or one that is not there; or the tables cannot be read.
pub(crate) async fn check_named(api: &Api, parts: &mut Parts) -> Result<(), Problem> {
    let CalledBy(caller) = CalledBy::from_request_parts(parts, api).await?;
    let Some(own) = caller.visibility().team().map(ToOwned::to_owned) else {
        return Ok(());
    };
    for named in named_teams(&parts.uri).filter(|named| *named != own) {
        if team_id(api, &caller, &named).await? != own {
            return Err(Problem::sees_alone(&own));
        }
    }
    Ok(())
}

/// Refuses a team in the query of a route that takes none: what is meant for one team must not
/// happen for all.
pub(crate) async fn takes_no_team(request: Request, next: Next) -> Response {
    if named_teams(request.uri()).next().is_none() {
        return next.run(request).await;
    }
    let detail = "this route takes no team in the query";
    let problem = Problem::bad_request(detail).of_parameter(TEAM_PARAMETER, "not taken here");
    problem.into_response()
}

/// A team was named that is not there.
pub(crate) fn no_such_team(team: &str) -> Problem {
    let detail = format!("there is no team {team:?} with a tenant of its own");
    Problem::bad_request(detail).of_parameter(TEAM_PARAMETER, "no such team")
}
