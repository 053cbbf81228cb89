//! Shares as a metric.

use std::fmt;
use std::time::Duration;

use martlet_registry::Visibility;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::timeout;

use super::{SHARES_MAX, Shares, SharesOf, TeamShare};

/// A page does not wait longer for databases.
const WITHIN: Duration = Duration::from_secs(2);
/// Keys of telemetry are counted again after this time: there may be millions.
const KEYS_AGE_MAX: Duration = Duration::from_secs(60);

/// Shares in use, at one moment.
#[derive(Debug)]
pub struct TeamSharesPage(Vec<TeamShare>);

impl Shares<'_> {
    /// Metrics of the shares; none: there are no teams, or the databases do not answer soon.
    pub async fn metrics(&self) -> Option<TeamSharesPage> {
        let read = async {
            let teams = self.tables.read(|registry| {
                Box::pin(async move { registry.teams(&Visibility::All, false).await })
            });
            let teams = teams.await.ok().filter(|teams| !teams.is_empty())?;
            let of = SharesOf {
                teams: &teams,
                common: true,
            };
            self.read(of, KEYS_AGE_MAX).await.ok()
        };
        let mut shares = timeout(WITHIN, read).await.ok().flatten()?;
        shares.retain(|share| share.used > Some(0));
        shares.truncate(SHARES_MAX);
        Some(TeamSharesPage(shares))
    }
}

impl Collector for TeamSharesPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Used part of the share of a team of what all teams share";
        let kind = ConstGauge::new(0.0).metric_type();
        let mut family = encoder.encode_descriptor("team_share_used_ratio", help, None, kind)?;
        for share in &self.0 {
            let labels = [
                ("team", share.team.as_deref().unwrap_or_default()),
                ("pool", share.pool.name()),
            ];
            let ratio = ConstGauge::new(share.used_ratio);
            ratio.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
