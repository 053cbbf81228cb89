//! Subscriptions of the named connections of nodes at other brokers.

use sqlx::Row as _;

use crate::sql::{Fault, clean};
use crate::{Actor, Registry, RegistryError};

/// A subscription of a named connection at another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSubscription {
    /// Name of the bridge.
    pub bridge: String,
    /// Topic Filter.
    pub filter: String,
    /// Highest QoS, 0 to 2.
    pub qos: u8,
}

impl Registry {
    /// Subscriptions of the named connections of a node.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn bridge_subscriptions(
        &mut self,
        node: &str,
    ) -> Result<Vec<BridgeSubscription>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT bridge, filter, qos FROM bridge_subscriptions WHERE node = $1 \
                       ORDER BY bridge, filter";
            let rows = sqlx::query(sql).bind(clean(node)).fetch_all(on).await?;
            let all = rows.iter().map(|row| {
                let qos: i64 = row.try_get("qos")?;
                Ok(BridgeSubscription {
                    bridge: row.try_get("bridge")?,
                    filter: row.try_get("filter")?,
                    qos: u8::try_from(qos).unwrap_or_default(),
                })
            });
            all.collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Saves a subscription of a named connection of a node.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn add_bridge_subscription(
        &mut self,
        node: &str,
        one: &BridgeSubscription,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "INSERT INTO bridge_subscriptions (node, bridge, filter, qos) \
                       VALUES ($1, $2, $3, $4) \
                       ON CONFLICT (node, bridge, filter) DO UPDATE SET qos = excluded.qos";
            let query = sqlx::query(sql).bind(clean(node)).bind(clean(&one.bridge));
            let query = query.bind(clean(&one.filter)).bind(i64::from(one.qos));
            query.execute(&mut *work.all).await?;
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }

    /// Removes a subscription of a named connection of a node, if it is there.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn remove_bridge_subscription(
        &mut self,
        node: &str,
        bridge: &str,
        filter: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql = "DELETE FROM bridge_subscriptions WHERE node = $1 AND bridge = $2 AND \
                       filter = $3";
            let query = sqlx::query(sql).bind(clean(node)).bind(clean(bridge));
            query.bind(clean(filter)).execute(&mut *work.all).await?;
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }
}
