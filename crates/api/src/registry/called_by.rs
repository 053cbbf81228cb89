//! The caller of a request, as use cases know it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use martlet_control::callers::Caller;
use martlet_control::principal::{Principal, Scopes};
use martlet_control::shared_registry::by_what;
use martlet_control::use_cases::FindTeamId;
use martlet_registry::{Actor, Visibility};

use crate::api::Api;
use crate::connection::{HttpConnection, ListenerKind};
use crate::extensions::RequestId;
use crate::problem::Problem;

/// The caller of the request.
#[derive(Clone, Debug)]
pub(crate) struct CalledBy(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for CalledBy {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let nobody = Principal::anonymous(Scopes::NONE);
        let principal = parts.extensions.get::<Principal>().unwrap_or(&nobody);
        let connection = parts.extensions.get::<HttpConnection>();
        let peer = connection.and_then(|connection| connection.peer);
        let request_id = parts.extensions.get::<RequestId>();
        let who = match connection.map(|connection| connection.listener) {
            Some(ListenerKind::Socket { uid }) => format!("uid {uid}"),
            _ => principal.to_string(),
        };
        let actor = Actor {
            who,
            by: by_what(&principal.kind).to_owned(),
            address: peer.map(|peer| peer.to_string()).unwrap_or_default(),
            request_id: request_id.map(|id| id.0.clone()).unwrap_or_default(),
            visibility: Visibility::of(principal.team.as_deref()),
        };
        Ok(Self(Caller::new(actor, principal)))
    }
}

/// The caller, which sees only the team that the query names by id or name, if it names one.
///
/// # Errors
/// There is no such team, or the caller sees only another one.
pub(crate) async fn within(
    api: &Api,
    caller: Caller,
    team: Option<&str>,
) -> Result<Caller, Problem> {
    match team {
        Some(team) => {
            let id = team_id(api, &caller, team).await?;
            Ok(caller.in_team(id))
        }
        None => Ok(caller),
    }
}

/// The id of a team that the query names by id or name.
///
/// # Errors
/// There is no such team, or the caller sees only another one.
pub(crate) async fn team_id(api: &Api, caller: &Caller, team: &str) -> Result<String, Problem> {
    let team = team.to_owned();
    api.run(caller.clone(), FindTeamId { team }).await
}
