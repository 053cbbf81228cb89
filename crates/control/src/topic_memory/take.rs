//! The part of the node that takes the messages that are remembered.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{ConnectedClient, Delivery};
use tracing::warn;

use super::TopicMemory;
use super::memory::Arrived;
use crate::control::Control;
use crate::observer::Observer;

/// Client Identifier of the part.
const PART: &str = "$topics/memory";
/// Time until a part that was ended is attached again.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);
/// Time between two looks for topics that are too old.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// Topics that are forgotten at once.
const FORGOTTEN_AT_ONCE: usize = 1_000;
/// Messages that are noted before a reader gets its turn.
const NOTED_AT_ONCE: usize = 64;

/// Remembers what is published, for as long as the node runs.
pub async fn remember_topics(control: Arc<Control>, topics: Arc<TopicMemory>) {
    tokio::join!(forget(&topics), async {
        loop {
            take(&control, &topics).await;
            tokio::time::sleep(ATTACH_AGAIN).await;
        }
    });
}

/// Takes messages until the part is ended.
async fn take(control: &Control, topics: &TopicMemory) {
    let mut observer = Observer::attach(control, PART, topics.filters());
    loop {
        match observer.next().await {
            Ok(deliveries) => {
                for some in deliveries.chunks(NOTED_AT_ONCE) {
                    topics.note(some);
                }
            }
            Err(Some(why)) => return warn!(why, "cannot remember messages"),
            Err(None) => return,
        }
    }
}

async fn forget(topics: &TopicMemory) {
    let mut ticks = tokio::time::interval(FORGET_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while topics.forget_old() {
            tokio::task::yield_now().await;
        }
    }
}

impl TopicMemory {
    fn note(&self, deliveries: &[Delivery]) {
        let now_ms = self.now_ms();
        let mut memory = self.memory();
        for delivery in deliveries {
            let message = &delivery.message;
            let client: Option<&ConnectedClient> = message.client().map(|client| &**client);
            let arrived = Arrived {
                tenant: message.tenant(),
                topic: message.topic(),
                id: message.id(),
                received_wall_ms: message.received_wall_ms(),
                qos: message.qos(),
                retain: message.retain(),
                payload: message.payload(),
                client_id: client.map(|client| &*client.client_id),
                user_name: client.and_then(|client| client.user_name.as_deref()),
                is_device: client.is_some_and(|client| client.flags.is_device()),
            };
            memory.note(&arrived, now_ms.saturating_sub(delivery.age_ms));
        }
    }

    /// Whether there may be more to forget.
    fn forget_old(&self) -> bool {
        self.memory().forget_old(self.now_ms(), FORGOTTEN_AT_ONCE)
    }
}
