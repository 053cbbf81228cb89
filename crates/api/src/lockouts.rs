//! Memory of logins. Lockouts for wrong credentials, of clients and of logins to the panel: which
//! there are, and ending them by hand. Right credentials, which are not checked again for a while:
//! forgetting them.

use std::net::IpAddr;

use axum::extract::{Extension, State};
use martlet_control::authentication::{LockoutEntry, LockoutTarget};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::extensions::About;
use crate::extract::QueryOf;
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::tenant::{InTenants, OfTenant};
use crate::time::Moment;

/// A lockout: of an address, of a user name, or of a user name from an address.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LockoutView {
    /// The user name; null: all clients of the address.
    #[schema(example = "pump-7")]
    pub user_name: Option<String>,
    /// The address, or the IPv6 network of 64 bits; null: from any address, except clients that
    /// have logged in from theirs within a day.
    #[schema(example = "192.0.2.7")]
    pub address: Option<String>,
    /// The team in whose tenant the name is; null: in the common one.
    pub team: Option<String>,
    /// Where the last wrong credentials came from.
    pub last_address: Option<String>,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub until: String,
}

/// Which lockouts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LockoutParams {
    /// Lockouts to return, at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Lockouts
///
/// Names and addresses that are locked out now for too many wrong credentials, over MQTT or at
/// `POST /session`; `auth.lockout_failures` and `auth.lockout_secs` set when and for how long. The
/// same wrong credentials of an MQTT client again, within `auth.refusal_remember_secs`, count once.
#[utoipa::path(get, path = "/api/v1/lockouts", tag = "clients", params(LockoutParams, OfTenant),
    responses((status = 200, description = "The latest first, on one page",
        body = Page<LockoutView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    QueryOf(wanted): QueryOf<LockoutParams>,
) -> Result<axum::Json<Page<LockoutView>>, Problem> {
    let limit = page::limit(wanted.limit)?;
    let chain = api.control.authentication_chain();
    let all = chain.map_or_else(Vec::new, |chain| chain.lockouts(tenant));
    let policy = api.control.policy();
    let tables = policy.as_ref().and_then(|policy| policy.tables());
    let view = |entry: LockoutEntry| {
        let team = entry.tenant.zip(tables);
        let team = team.and_then(|(tenant, tables)| tables.team_of(tenant.0));
        LockoutView {
            user_name: entry.user_name.map(|name| name.to_string()),
            address: entry.address,
            team: team.map(str::to_owned),
            last_address: entry.last_address,
            until: Moment::after(entry.left).to_string(),
        }
    };
    let total = Some(all.len() as u64);
    Ok(axum::Json(Page {
        items: all.into_iter().take(limit).map(view).collect(),
        next: None,
        total,
    }))
}

/// Which lockouts to end; one of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LiftedLockouts {
    /// Lockouts of this user name, from anywhere.
    user_name: Option<String>,
    /// Lockouts of this address, of any name.
    #[param(value_type = Option<String>, example = "192.0.2.7")]
    address: Option<IpAddr>,
    /// All of them.
    all: Option<bool>,
}

/// How many lockouts were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Lifted {
    /// Number of lockouts that were ended.
    lifted: usize,
}

/// End lockouts
///
/// The lockouts of a user name, of an address, or all of them are lifted. The failures that led to
/// them are forgotten too.
#[utoipa::path(delete, path = "/api/v1/lockouts", tag = "clients", params(LiftedLockouts, OfTenant),
    responses((status = 200, description = "Number of lockouts that were ended", body = Lifted)))]
pub(crate) async fn lift(
    State(api): State<Api>,
    InTenants(tenant): InTenants,
    QueryOf(wanted): QueryOf<LiftedLockouts>,
) -> Result<(Extension<About>, axum::Json<Lifted>), Problem> {
    let (about, whom) = match (wanted.user_name, wanted.address, wanted.all) {
        (Some(name), None, None) => (json!({ "user_name": name }), LockoutTarget::Name(name)),
        (None, Some(address), None) => (
            json!({ "address": address }),
            LockoutTarget::Address(address),
        ),
        (None, None, Some(true)) => (json!({ "all": true }), LockoutTarget::Everybody),
        _ => {
            let detail = "expected one of user_name, address and all=true";
            return Err(Problem::bad_request(detail));
        }
    };
    let chain = api.control.authentication_chain();
    let lifted = chain.map_or(0, |authenticator| {
        authenticator.lift_lockouts(tenant, &whom)
    });
    Ok((Extension(About(about)), axum::Json(Lifted { lifted })))
}

/// Whose logins the node forgets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForgottenLogins {
    /// The user name that the client logs in with.
    user_name: String,
    /// Client Identifier of the client.
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
    responses((status = 200, description = "Number of logins that were remembered", body = Forgotten)))]
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
