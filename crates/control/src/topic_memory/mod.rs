//! The topic memory: for each topic that the configuration names, its last payloads, its rate and
//! its last publisher.
//!
//! * `memory`: what is remembered, and what makes room; no clock, no thread
//! * `metrics`: its metrics
//! * `rate`: messages per second, lately
//! * `seen`: what a reader gets
//! * `take`: the part of the node that takes the messages
//!
//! All of it is in memory, and a restart begins anew. Without `topic_memory.filters` no part is
//! attached, so that the data plane does nothing for it.

mod memory;
mod metrics;
mod rate;
mod seen;
mod take;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use martlet_broker::TenantId;

use memory::Memory;
pub use memory::{DroppedTopics, TopicMemoryLimits};
pub use metrics::TopicMemoryPage;
pub use seen::{MessagePublisher, RememberedMessage, RememberedTopic, TopicPage, TopicQuery};
pub use take::remember_topics;

/// Topics that a reader looks at before others get their turn; of long ones fewer.
const TOPICS_AT_ONCE: usize = 4_096;

/// The memory, as its readers and the part that fills it share it.
#[derive(Debug)]
pub struct TopicMemory {
    /// Topic Filters of what is remembered.
    filters: Vec<String>,
    /// Times are milliseconds since then.
    begun: Instant,
    memory: Mutex<Memory>,
}

impl TopicMemory {
    /// Remembers what these Topic Filters match, within `limits`.
    pub fn new(filters: Vec<String>, limits: TopicMemoryLimits) -> Self {
        Self {
            filters,
            begun: Instant::now(),
            memory: Mutex::new(Memory::new(limits)),
        }
    }

    /// Topic Filters of what is remembered.
    pub fn filters(&self) -> &[String] {
        &self.filters
    }

    /// Bytes that it takes now.
    pub fn memory_bytes(&self) -> usize {
        self.memory().bytes()
    }

    /// A page of the topics of a tenant, by their names.
    pub async fn find(&self, query: &TopicQuery<'_>) -> TopicPage {
        let mut seen = TopicPage::default();
        let mut after = query.after.map(str::to_owned);
        loop {
            let looked_at = self.memory().look(
                query,
                after.as_deref(),
                TOPICS_AT_ONCE,
                self.now_ms(),
                &mut seen,
            );
            let Some(last) = looked_at else {
                return seen;
            };
            if seen.is_complete(query) {
                return seen;
            }
            after = Some(last);
            // The part that fills the memory waits for this lock.
            tokio::task::yield_now().await;
        }
    }

    /// Messages that are remembered of a topic: its last payloads, the newest one first, `limit` at
    /// most.
    pub fn history(
        &self,
        tenant: TenantId,
        topic: &str,
        limit: usize,
    ) -> Option<Vec<RememberedMessage>> {
        self.memory().history(tenant, topic, limit, self.now_ms())
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
