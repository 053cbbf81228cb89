//! Who uses how much of what all teams share. Everything is counted elsewhere already, where a team
//! that has reached its share is refused; here these counts are read.
//!
//! * `pool`: the list of what is shared
//! * `pool_uses`: who uses how much of one pool
//! * `uses`: reads the counts of all pools
//! * `metrics`: the same for Prometheus

mod metrics;
mod pool;
mod pool_uses;
mod uses;

pub use metrics::TeamSharesPage;
pub use pool::Pool;

use std::fmt;
use std::time::Duration;

use martlet_registry::{Team, Visibility};

use crate::alarms::Alarms;
use crate::control::{Control, ControlError};
use crate::firmware::FirmwareStore;
use crate::integrations::Integrations;
use crate::rules::Rules;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::shared_slots::SharedSlots;
use crate::telemetry::{QueryMemories, Telemetry};
use pool::PoolOwner;
use pool_uses::{Owner, PoolUses, ratio};

/// Shares in a list of all teams, at most: the fullest ones.
pub const SHARES_MAX: usize = 1_000;

/// How much a team uses of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct TeamShare {
    /// Name of the team; none: what belongs to no team.
    pub team: Option<String>,
    /// Pool that is shared.
    pub pool: Pool,
    /// How much is used; none: it cannot be counted now.
    pub used: Option<u64>,
    /// How much the team may use now; none: what belongs to no team has no share here.
    pub share: Option<u64>,
    /// How much all teams together may use.
    pub limit: u64,
    /// The used part of the share or, without one, of the limit.
    pub used_ratio: f64,
}

/// Why the uses cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SharesError {
    /// The shards do not answer.
    #[error(transparent)]
    Shards(#[from] ControlError),
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] SharedRegistryError),
}

/// Whose shares are told.
pub struct SharesOf<'a> {
    /// These teams.
    pub teams: &'a [Team],
    /// And what belongs to no team.
    pub common: bool,
}

/// The parts of a node that count.
pub struct Shares<'a> {
    /// Clients.
    pub control: &'a Control,
    /// Objects that callers add.
    pub tables: &'a SharedRegistry,
    /// Webhooks and bridges; none: the node has none.
    pub integrations: Option<&'a Integrations>,
    /// Rules and alarms; none: the node has none.
    pub rules: Option<(&'a Rules, &'a Alarms)>,
    /// Telemetry; none: the node stores none.
    pub telemetry: Option<&'a Telemetry>,
    /// Firmware; none: the node keeps none.
    pub firmware: Option<&'a FirmwareStore>,
    /// Queries of telemetry.
    pub queries: &'a SharedSlots<Visibility>,
    /// Memory of what they find.
    pub query_memory: &'a QueryMemories<Visibility>,
    /// Readers that follow telemetry.
    pub tails: &'a SharedSlots<Visibility>,
}

impl fmt::Debug for Shares<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").finish_non_exhaustive()
    }
}

impl Shares<'_> {
    /// Returns what is used of all pools, the fullest share first. Keys of telemetry may be counted
    /// as they were this long ago.
    ///
    /// # Errors
    /// The shards or the tables do not answer.
    pub async fn read(
        &self,
        of: SharesOf<'_>,
        keys_age_max: Duration,
    ) -> Result<Vec<TeamShare>, SharesError> {
        let mut shares = Vec::new();
        for (pool, uses) in self.uses(keys_age_max).await? {
            for team in of.teams {
                let owner = match pool.owner() {
                    PoolOwner::Tenant if team.tenant == 0 => continue,
                    PoolOwner::Tenant => Owner::Tenant(team.tenant),
                    PoolOwner::Team => Owner::Team(team.id.clone()),
                };
                shares.push(share_of(pool, &uses, &owner, Some(team.name.clone())));
            }
            if of.common {
                let owner = match pool.owner() {
                    PoolOwner::Tenant => Owner::Tenant(0),
                    PoolOwner::Team => Owner::Team(String::new()),
                };
                shares.push(share_of(pool, &uses, &owner, None));
            }
        }
        shares.sort_by(|one, other| {
            let by_ratio = other.used_ratio.total_cmp(&one.used_ratio);
            by_ratio.then_with(|| (&one.team, one.pool).cmp(&(&other.team, other.pool)))
        });
        Ok(shares)
    }
}

fn share_of(pool: Pool, uses: &PoolUses, owner: &Owner, team: Option<String>) -> TeamShare {
    let used = uses.used_by(owner);
    let has_share = team.is_some() || uses.is_common_bounded;
    let share = has_share.then(|| uses.share_of(owner));
    let used_ratio = match has_share {
        true => uses.used_ratio(owner),
        false => ratio(used.unwrap_or(0), uses.limit),
    };
    TeamShare {
        team,
        pool,
        used,
        share,
        limit: uses.limit,
        used_ratio,
    }
}
