//! Named connections: messages for one other broker, and subscriptions there, which the tables
//! keep.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{NewMessage, Published, TenantId};
use martlet_codec::QoS;
use martlet_integrate::{ConnectionError, NamedConnection};
use martlet_registry::BridgeSubscription;
use tracing::warn;

use super::Integrations;
use crate::control::ControlError;
use crate::shared_registry::SharedRegistryError;

/// Time that the other broker may take to answer, with the time to connect to it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(12);

/// Why a subscription at another broker is not made or ended.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// The other broker did not do it, or there is no connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The subscription cannot be saved. It was taken back.
    #[error(transparent)]
    SharedRegistry(#[from] SharedRegistryError),
}

/// Result of a message for another broker.
#[derive(Debug)]
pub enum PublishTo {
    /// The message waits in the queue of the connection; with QoS 1 and 2 it is durable.
    Queued,
    /// The node rejects it.
    Refused(Published),
    /// The bridge is not attached to the node, so nothing would take it.
    NotAttached,
}

impl Integrations {
    /// Named connections of a tenant.
    pub fn connections(&self, tenant: TenantId) -> Vec<Arc<NamedConnection>> {
        let entries = self.entries();
        let own = entries
            .iter()
            .filter(|entry| self.is_of(entry, Some(tenant)));
        own.filter_map(|entry| entry.connection.clone()).collect()
    }

    /// The named connection of this name in a tenant; none: there is none.
    pub fn connection(&self, tenant: TenantId, name: &str) -> Option<Arc<NamedConnection>> {
        let mut all = self.connections(tenant).into_iter();
        all.find(|one| one.name() == name)
    }

    /// Gives a message to a named connection. Answered when it waits in its queue.
    ///
    /// # Errors
    /// A shard does not answer in time: what happened to the message is not known.
    pub async fn publish_to(
        &self,
        connection: &NamedConnection,
        caller: &str,
        tenant: TenantId,
        message: NewMessage,
    ) -> Result<PublishTo, ControlError> {
        connection.set_used();
        let message = NewMessage {
            topic: connection.topic_of(&message.topic, message.retain).into(),
            retain: false,
            ..message
        };
        let control = self.host.control();
        let mut outcomes = control.publish(caller, tenant, vec![message]).await?;
        Ok(match outcomes.pop() {
            Some(one) if one.reason.is_error() || one.is_held => PublishTo::Refused(one),
            Some(one) if one.matched_locally > 0 || one.other_shards > 0 => PublishTo::Queued,
            _ => PublishTo::NotAttached,
        })
    }

    /// Subscribes at another broker, also after restarts.
    ///
    /// # Errors
    /// The other broker rejects it or cannot be reached, or it cannot be saved. Nothing has changed
    /// then.
    pub async fn subscribe_at(
        &self,
        connection: &NamedConnection,
        filter: &str,
        qos: QoS,
    ) -> Result<(), SubscriptionError> {
        let _changing = connection.changing().await;
        connection.subscribe(filter, qos, ANSWERED_WITHIN).await?;
        let (node, one) = (
            self.host.name().to_owned(),
            BridgeSubscription {
                bridge: connection.bridge().to_owned(),
                filter: filter.to_owned(),
                qos: qos as u8,
            },
        );
        let saved = self.tables.note(move |registry| {
            Box::pin(async move { registry.add_bridge_subscription(&node, &one).await })
        });
        if let Err(error) = saved.await {
            if let Err(kept) = connection.unsubscribe(filter, ANSWERED_WITHIN).await {
                let connection = connection.name();
                warn!(connection, filter, %kept, "a subscription stays until the restart");
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Ends a subscription at another broker.
    ///
    /// # Errors
    /// There is no connection, the other broker does not answer, or the tables cannot be changed.
    pub async fn unsubscribe_at(
        &self,
        connection: &NamedConnection,
        filter: &str,
    ) -> Result<(), SubscriptionError> {
        let _changing = connection.changing().await;
        connection.unsubscribe(filter, ANSWERED_WITHIN).await?;
        let (node, bridge) = (self.host.name().to_owned(), connection.bridge().to_owned());
        let filter = filter.to_owned();
        let removed = self.tables.note(move |registry| {
            Box::pin(async move {
                let done = registry.remove_bridge_subscription(&node, &bridge, &filter);
                done.await
            })
        });
        Ok(removed.await?)
    }

    /// Subscriptions of all named connections, as the tables have them.
    pub(super) async fn saved_subscriptions(
        &self,
    ) -> Result<Vec<BridgeSubscription>, SharedRegistryError> {
        let node = self.host.name().to_owned();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.bridge_subscriptions(&node).await })
        });
        read.await
    }
}

/// Gives a connection its subscriptions among all that are saved.
pub(super) fn restore(connection: &NamedConnection, saved: &[BridgeSubscription]) {
    let own = saved.iter().filter(|one| one.bridge == connection.bridge());
    connection.restore(own.map(|one| {
        let qos = QoS::from_bits(one.qos).unwrap_or_default();
        (one.filter.clone(), qos)
    }));
}
