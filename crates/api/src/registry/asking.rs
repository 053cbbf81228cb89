//! The caller, as the tables know it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use martlet_broker::TenantId;
use martlet_control::principal::Principal;
use martlet_control::principal::Scopes;
use martlet_control::tables::{TablesError, by_what};
use martlet_registry::{Actor, RegistryError, Scope};

use crate::api::Api;
use crate::connection::Connection;
use crate::extensions::RequestId;
use crate::problem::{Problem, ProblemKind};
use crate::remedies::in_requests;

/// The caller, with the objects that it sees and its rights.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// The caller as the audit log names it, and what it sees.
    pub(crate) actor: Actor,
    /// What its holder may do: scopes and roles.
    pub(crate) scopes: Scopes,
    /// That of their team, if it owns one.
    tenant: TenantId,
}

impl Asking {
    /// What they see.
    pub(crate) fn scope(&self) -> Scope {
        self.actor.scope.clone()
    }

    /// They see everybody's.
    pub(crate) fn sees_all(&self) -> bool {
        self.actor.scope == Scope::All
    }

    /// Scopes of a team's member that the caller may name, at most.
    pub(crate) fn scopes_of_team(&self) -> Scopes {
        match self.sees_all() {
            // Its team may own a tenant.
            true => Scopes::of_any_team(),
            false => Scopes::of_team(self.tenant),
        }
    }

    /// Users whom they add have topics with others if nothing is said: all but those of a team
    /// without a tenant.
    pub(crate) fn gives_topics(&self) -> bool {
        self.sees_all() || self.tenant != TenantId::default()
    }

    /// All scopes of the caller for the objects that it sees: those of a tenant, if the tenant is a
    /// team's.
    pub(crate) fn scopes_of_everything(&self) -> Scopes {
        match self.sees_all() {
            true => Scopes::all(),
            false => Scopes::of_any_team(),
        }
    }

    /// The same, who looks at one team only, by its id or name.
    ///
    /// # Errors
    /// They do not see everybody's, and that is not theirs; or there is no such team.
    pub(crate) async fn within(mut self, api: &Api, team: Option<&str>) -> Result<Self, Problem> {
        if let Some(team) = team {
            self.actor.scope = Scope::Team(self.team_id(api, team).await?);
        }
        Ok(self)
    }

    /// The id of a team that the query names by id or name.
    ///
    /// # Errors
    /// There is none, or it is another than the one that they see.
    pub(crate) async fn team_id(&self, api: &Api, team: &str) -> Result<String, Problem> {
        let (scope, text) = (self.scope(), team.to_owned());
        let found = api.tables()?.read(move |registry| {
            Box::pin(async move { registry.team_named(&scope, &text).await })
        });
        match (found.await, &self.actor.scope) {
            (Ok(found), _) => Ok(found.id),
            (Err(TablesError::Registry(RegistryError::NotFound(_))), Scope::Team(own)) => {
                Err(Problem::sees_alone(own))
            }
            (Err(error), _) => Err(missing_of_query("team", error)),
        }
    }

    /// A caller can grant only rights that it has itself.
    ///
    /// # Errors
    /// These are more.
    pub(crate) fn expect_within(&self, given: Scopes) -> Result<(), Problem> {
        let beyond: Vec<&str> = given
            .iter()
            .filter(|scope| !self.scopes.has(*scope))
            .map(martlet_control::principal::Scope::name)
            .collect();
        match beyond.is_empty() {
            true => Ok(()),
            false => {
                let detail = format!(
                    "this needs scopes that the caller lacks: {}",
                    beyond.join(", ")
                );
                Err(Problem::new(ProblemKind::Forbidden, detail))
            }
        }
    }
}

/// What a parameter of the query names is not there, or cannot be looked for.
pub(crate) fn missing_of_query(name: &str, error: TablesError) -> Problem {
    match error {
        TablesError::Registry(RegistryError::NotFound(why)) => {
            Problem::of_query(name, in_requests(&why))
        }
        error => error.into(),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asking {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let nobody = Principal::anonymous(Scopes::NONE);
        let principal = parts.extensions.get::<Principal>().unwrap_or(&nobody);
        let connection = parts.extensions.get::<Connection>();
        let peer = connection.and_then(|connection| connection.peer);
        let request_id = parts.extensions.get::<RequestId>();
        Ok(Self {
            actor: Actor {
                who: principal.to_string(),
                by: by_what(&principal.kind).to_owned(),
                address: peer.map(|peer| peer.to_string()).unwrap_or_default(),
                request_id: request_id.map(|id| id.0.clone()).unwrap_or_default(),
                scope: match &principal.team {
                    Some(team) => Scope::Team(team.clone()),
                    None => Scope::All,
                },
            },
            scopes: principal.scopes,
            tenant: principal.tenant,
        })
    }
}
