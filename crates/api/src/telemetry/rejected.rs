//! Payloads that were not stored.

use axum::Json;
use axum::extract::State;
use martlet_broker::TenantId;
use martlet_control::telemetry::Rejected;
use serde::Deserialize;
use utoipa::IntoParams;

use super::of_node::telemetry_of;
use crate::api::Api;
use crate::extract::QueryOf;
use crate::page::{self, Items};
use crate::problem::Problem;
use crate::registry::CalledBy;
use crate::tenant::{InTenants, OfTenant};

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RejectedParams {
    /// The most items.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Only payloads with values of this device, from any sender.
    #[param(example = "pump-7")]
    device: Option<String>,
}

/// Rejected telemetry
///
/// Payloads that were acknowledged and not stored, with the reason: one item for each topic and
/// reason, the last one first. They are kept in memory, 500 at most.
#[utoipa::path(get, path = "/api/v1/telemetry/rejected", tag = "telemetry",
    params(RejectedParams, OfTenant),
    responses((status = 200, description = "The last rejected payloads", body = Items<Rejected>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    InTenants(tenant): InTenants,
    QueryOf(wanted): QueryOf<RejectedParams>,
) -> Result<Json<Items<Rejected>>, Problem> {
    let telemetry = telemetry_of(&api)?;
    let limit = page::limit(wanted.limit)?;
    // Topics of the common tenant are of everybody: a team without a tenant sees none.
    if !caller.sees_all() && tenant == Some(TenantId::default()) {
        return Ok(Json(Items { items: Vec::new() }));
    }
    let tenant = tenant.map(|tenant| tenant.0);
    let rejected = telemetry.rejected(tenant, wanted.device.as_deref(), limit);
    Ok(Json(rejected.into_iter().collect()))
}
