//! Logins that are remembered, and forgetting one of them.

use axum::extract::{Extension, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::extract::QueryOf;
use crate::guard::About;
use crate::problem::Problem;
use crate::tenant::{InTenants, OfTenant};

/// Whose logins are forgotten.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForgottenLogins {
    /// The user name that the client logs in with.
    user_name: String,
    /// Its Client Identifier.
    client_id: String,
}

/// How many answers were forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Forgotten {
    /// Number of answers that were remembered, each for other credentials.
    forgotten: usize,
}

/// Forget a remembered login
///
/// What was verified is remembered for `auth.remember_secs`. Of this user name with this Client
/// Identifier it is forgotten: the next login is checked again, by the hook too. A connection that
/// is there stays; `DELETE /clients/{client_id}` ends it.
#[utoipa::path(delete, path = "/api/v1/auth/remembered", tag = "clients",
    params(ForgottenLogins, OfTenant),
    responses((status = 200, description = "How many were remembered", body = Forgotten)))]
pub(crate) async fn forget(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    QueryOf(wanted): QueryOf<ForgottenLogins>,
) -> Result<(Extension<About>, axum::Json<Forgotten>), Problem> {
    let ForgottenLogins {
        user_name,
        client_id,
    } = wanted;
    let chain = api.control.authentication_chain();
    let forgotten = chain.map_or(0, |chain| chain.forget(tenant, &user_name, &client_id));
    let about = json!({ "user_name": user_name, "client_id": client_id });
    Ok((Extension(About(about)), axum::Json(Forgotten { forgotten })))
}
