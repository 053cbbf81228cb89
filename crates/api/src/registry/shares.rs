//! Use of what all teams share, by team.

use std::time::Duration;

use axum::extract::State;
use martlet_control::shares::{SHARES_MAX, Shares, SharesError, SharesOf, TeamShare};
use martlet_control::use_cases::ListTeams;
use martlet_registry::Visibility;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{CalledBy, within};
use crate::api::Api;
use crate::extract::QueryOf;
use crate::page::Items;
use crate::problem::Problem;
use crate::words;

/// How much a team uses of something that all teams share.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShareView {
    /// Name of the team; null: what belongs to no team.
    #[schema(example = "north")]
    pub team: Option<String>,
    /// Name of what is shared.
    #[schema(schema_with = words::pools)]
    pub pool: String,
    /// How much is used; null: it cannot be counted now.
    pub used: Option<u64>,
    /// How much the team may use; null: what belongs to no team has no share of this pool.
    pub share: Option<u64>,
    /// How much all teams together may use.
    pub limit: u64,
    /// Unit of `used`, `share` and `limit`.
    #[schema(schema_with = words::pool_units)]
    pub unit: String,
    /// The used part of `share` or, without one, of `limit`. Each thread of the node has its part
    /// of `subscription_bytes`; this is the fullest one.
    pub used_ratio: f64,
}

impl From<TeamShare> for ShareView {
    fn from(share: TeamShare) -> Self {
        Self {
            team: share.team,
            pool: share.pool.name().to_owned(),
            used: share.used,
            share: share.share,
            limit: share.limit,
            unit: share.pool.unit().to_owned(),
            used_ratio: share.used_ratio,
        }
    }
}

impl From<SharesError> for Problem {
    fn from(error: SharesError) -> Self {
        match error {
            SharesError::Shards(error) => error.into(),
            SharesError::Tables(error) => error.into(),
        }
    }
}

/// The team whose shares are asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SharesParams {
    /// Id or name of the team whose shares are listed, unused ones too.
    team: Option<String>,
}

/// Shares of teams
///
/// How much each team uses of what all teams share, the fullest share first. A caller that sees all
/// teams and names none gets the 1,000 fullest shares, with what belongs to no team, and no unused
/// ones.
#[utoipa::path(get, path = "/api/v1/shares", tag = "people", params(SharesParams),
    responses((status = 200, description = "The whole list", body = Items<ShareView>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    CalledBy(caller): CalledBy,
    QueryOf(params): QueryOf<SharesParams>,
) -> Result<axum::Json<Items<ShareView>>, Problem> {
    let caller = within(&api, caller, params.team.as_deref()).await?;
    let is_of_all = caller.visibility() == Visibility::All;
    let teams = api.run(caller, ListTeams { deleted: false }).await?;
    let of = SharesOf {
        teams: &teams,
        common: is_of_all,
    };
    let mut shares = shares_in(&api)?.read(of, Duration::ZERO).await?;
    if is_of_all {
        shares.retain(|share| share.used != Some(0));
        shares.truncate(SHARES_MAX);
    }
    Ok(axum::Json(
        shares.into_iter().map(ShareView::from).collect(),
    ))
}

/// The parts of the node that count what teams share.
///
/// # Errors
/// The node keeps no tables, so it has no teams.
pub(crate) fn shares_in(api: &Api) -> Result<Shares<'_>, Problem> {
    Ok(Shares {
        control: &api.control,
        tables: api.tables()?,
        integrations: api.integrations(),
        rules: api.rules_and_alarms(),
        telemetry: api.telemetry(),
        firmware: api.firmware().map(AsRef::as_ref),
        queries: &api.telemetry_queries,
        query_memory: &api.query_memory,
        tails: &api.telemetry_tails,
    })
}
