//! Whether a client may do something, and what decides it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use martlet_broker::Actions;
use martlet_control::Control;
use martlet_control::explain::{Explained, PermissionQuestion};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::extract::QueryOf;
use crate::problem::Problem;
use crate::tenant::{InTenants, OfTenant};

/// The client and the action.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainParams {
    /// User name, `NAME@TEAM` of one in a team's tenant; without it, a client that has none.
    user: Option<String>,
    /// Client Identifier; without it, the user name.
    client_id: Option<String>,
    /// `publish`, `subscribe` or `receive`.
    #[param(example = "publish", pattern = "^(publish|subscribe|receive)$")]
    action: String,
    /// Topic Name; a Topic Filter where it subscribes.
    #[param(example = "devices/7/state")]
    topic: String,
}

/// Deciding rule
///
/// Whether a client may publish, subscribe or receive, and which rule decides it.
#[utoipa::path(get, path = "/api/v1/acl/explain", tag = "clients", params(ExplainParams, OfTenant),
    responses((status = 200, description = "The decision and its rule", body = Explained)))]
pub(crate) async fn explain(
    State(control): State<Arc<Control>>,
    InTenants(tenant): InTenants,
    QueryOf(asked): QueryOf<ExplainParams>,
) -> Result<Json<Explained>, Problem> {
    let action = Actions::from_name(&asked.action).ok_or_else(|| {
        let why = format!("{:?} is not a valid action", asked.action);
        Problem::bad_request(format!("{why}: expected publish, subscribe or receive"))
    })?;
    let (tenant, user) = match asked.user {
        None => (tenant.unwrap_or_default(), None),
        Some(user) => {
            let (tenant, user) = control.resolve_user(tenant, user);
            (tenant, Some(user))
        }
    };
    let question = PermissionQuestion {
        tenant,
        user,
        client_id: asked.client_id,
        action,
        topic: asked.topic,
    };
    question.check().map_err(Problem::bad_request)?;
    Ok(Json(control.explain(&question).await?))
}
