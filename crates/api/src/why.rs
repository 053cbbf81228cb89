//! Why a client does not work.

use axum::Json;
use axum::extract::{Extension, State};
use martlet_broker::TenantId;
use martlet_control::ExaminedParts;
use martlet_control::principal::Principal;
use martlet_control::why::{Diagnosis, Question};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::Api;
use crate::extract::QueryOf;
use crate::problem::Problem;
use crate::tenant::{OfTenant, TenantsOrDeletedTeam, no_such_team};

/// The name, and the topic.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhyParams {
    /// Client Identifier, device or user name; kind and name of an integration, the name of a rule,
    /// or the id of a rollout or command. A caller that sees all teams may name a device of a
    /// team that has a tenant of its own as it connects: `ID@TEAM`.
    #[param(example = "sensor-7")]
    name: String,
    /// Topic Name: why does what is published to it not arrive?
    #[param(example = "devices/7/state")]
    topic: Option<String>,
}

/// Why no client, device or user has this name, if that is certain.
pub fn odd_name(name: &str) -> Option<&'static str> {
    match name {
        name if name.trim().is_empty() => {
            Some("it is blank: a name is expected, of a client, a device or a user")
        }
        name if name.chars().any(char::is_control) => {
            Some("it has control characters, which no name of a client, device or user has")
        }
        _ => None,
    }
}

/// Why it does not work
///
/// One diagnosis from the tables, the rules, the session and the latest events: what is wrong,
/// since when, and how it is remedied.
#[utoipa::path(get, path = "/api/v1/why", tag = "clients", params(WhyParams, OfTenant),
    responses((status = 200, description = "The diagnosis", body = Diagnosis)))]
pub(crate) async fn why(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    tenants: TenantsOrDeletedTeam,
    QueryOf(asked): QueryOf<WhyParams>,
) -> Result<Json<Diagnosis>, Problem> {
    let WhyParams { name, topic } = asked;
    if let Some(why) = odd_name(&name) {
        return Err(Problem::of_query("name", why));
    }
    let (tenant, name) = match &tenants {
        TenantsOrDeletedTeam::Tenants(Some(tenant)) => {
            (*tenant, api.control.own_name(*tenant, name))
        }
        TenantsOrDeletedTeam::Tenants(None) => api.control.resolve_name(&name).await?,
        // A deleted team's device came by that name.
        TenantsOrDeletedTeam::DeletedTeam(team) => (TenantId::default(), format!("{name}@{team}")),
    };
    let question = Question {
        name,
        topic,
        tenant,
        sees_node: principal.team.is_none(),
    };
    question.check().map_err(Problem::bad_request)?;
    let parts = ExaminedParts {
        integrations: api.integrations(),
        telemetry: api.telemetry(),
        tables: api.tables().ok(),
        rules: api.rules().map(|rules| &**rules),
        rollouts: api.rollouts().map(|rollouts| &**rollouts),
        commands: api.commands().ok().map(|commands| &**commands),
        twins: api.twins().ok().map(|twins| &**twins),
        firmware: api.firmware().map(|firmware| &**firmware),
        topics: api.settings.topic_memory.as_deref(),
    };
    let team = principal.team.as_deref();
    let inquiry = api.control.inquire(&parts, &question, team).await?;
    match tenants {
        TenantsOrDeletedTeam::DeletedTeam(team) if !inquiry.is_deleted() => {
            Err(no_such_team(&team))
        }
        _ => Ok(Json(inquiry.diagnosis())),
    }
}
