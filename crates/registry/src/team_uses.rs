//! How much each team has of the objects that all teams share.

use sqlx::Row as _;

use crate::added_integrations::{BRIDGE, WEBHOOK};
use crate::sql::{Fault, clean, unsigned};
use crate::{Registry, RegistryError};

/// Objects that all teams share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedObjects {
    /// Bytes of firmware files.
    FirmwareBytes,
    /// Rules about messages.
    Rules,
    /// Webhooks of the node.
    Webhooks,
    /// Bridges of the node.
    Bridges,
    /// Rollouts that have not ended.
    Rollouts,
}

/// How much one team has of one kind of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamUse {
    /// Id of the team; empty: objects of no team.
    pub team: String,
    /// Kind of the objects.
    pub objects: SharedObjects,
    /// How many there are, or their bytes.
    pub used: u64,
}

impl Registry {
    /// How much each team has of the objects that all teams share, on this node.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn team_uses(&mut self, node: &str) -> Result<Vec<TeamUse>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT kind AS objects, team, COUNT(*) AS used FROM added_integrations \
                       WHERE node = $1 GROUP BY kind, team \
                       UNION ALL SELECT 'rules', team, COUNT(*) FROM message_rules GROUP BY team \
                       UNION ALL SELECT 'rollouts', team, COUNT(*) FROM rollouts \
                       WHERE finished_ms = 0 GROUP BY team \
                       UNION ALL SELECT 'firmware', team, CAST(SUM(size) AS BIGINT) FROM \
                       (SELECT DISTINCT team, sha256, size FROM firmware WHERE url = '') AS files \
                       GROUP BY team";
            let rows = sqlx::query(sql).bind(clean(node)).fetch_all(on).await?;
            let mut uses = Vec::new();
            for row in &rows {
                let objects = match row.try_get::<String, _>("objects")?.as_str() {
                    WEBHOOK => SharedObjects::Webhooks,
                    BRIDGE => SharedObjects::Bridges,
                    "rules" => SharedObjects::Rules,
                    "rollouts" => SharedObjects::Rollouts,
                    "firmware" => SharedObjects::FirmwareBytes,
                    _ => continue,
                };
                uses.push(TeamUse {
                    team: row.try_get("team")?,
                    objects,
                    used: unsigned(row.try_get("used")?),
                });
            }
            Ok(uses)
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }
}
