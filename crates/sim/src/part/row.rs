//! The promises to a part, derived only from facts.

use martlet_broker::{OnFull, PartId, PartQueueLimits};

use crate::facts::ClientIndex;
use crate::part::{FilterSet, PartFact, PartPlan};
use crate::topics::{TopicIndex, Topics};

/// The promises to a part.
#[derive(Clone, Debug, Default)]
pub struct PartRow {
    /// Client Identifier.
    pub name: String,
    /// Whether its session outlasts its attachments.
    pub durable: bool,
    /// Number of its lanes in its last request; 0: it is attached once.
    pub lanes: u16,
    /// The attachment that it requested last.
    pub attachment: PartId,
    /// Raised with each session that begins.
    pub life: u32,
    /// Whether it is attached, as reported to it, and has not left or been ended.
    pub attached: bool,
    /// Whether a session was promised and has not ended.
    pub session: bool,
    /// Filters of its session that were confirmed to it.
    pub filters: FilterSet,
    /// Whether its session keeps QoS 0 messages, as confirmed to it.
    pub keeps_qos0: bool,
    /// When these filters were confirmed to it, microseconds.
    pub since_us: u64,
    /// Filters that its session may have had, each with its start, microseconds.
    possible: Vec<(u64, FilterSet)>,
    requested: FilterSet,
    requests_qos0: bool,
    /// Topics that the rules of its principal forbid it to publish to.
    pub forbidden: Vec<TopicIndex>,
    /// Row among the publishers.
    pub client: ClientIndex,
    /// Possible bounds of its queue: confirmed ones, and those requested since.
    pub queues: Vec<PartQueueLimits>,
    /// All bounds ever requested.
    pub queues_ever: Vec<PartQueueLimits>,
    /// All filters ever requested.
    pub filters_ever: FilterSet,
}

impl PartRow {
    /// A part that was not attached yet.
    pub fn new(plan: &PartPlan, client: ClientIndex) -> Self {
        let publishing = plan.publishing.as_ref();
        Self {
            client,
            name: plan.name.clone(),
            durable: plan.durable,
            forbidden: publishing.map_or_else(Vec::new, |plan| plan.forbidden.clone()),
            ..Self::default()
        }
    }

    /// Whether its session has a confirmed subscription to this topic.
    pub fn is_promised(&self, topic: TopicIndex, topics: &Topics) -> bool {
        self.session && matches(self.filters, topic, topics)
    }

    /// Whether its session may have subscribed to this topic at some time since then.
    pub fn may_have_requested(&self, topic: TopicIndex, since_us: u64, topics: &Topics) -> bool {
        for (from_us, filters) in self.possible.iter().rev() {
            if matches(*filters, topic, topics) {
                return true;
            }
            if *from_us < since_us {
                return false;
            }
        }
        false
    }

    /// Whether publishers wait when its queue is full, at all times since it was attached.
    pub fn is_holding(&self) -> bool {
        !self.queues.is_empty() && self.queues.iter().all(holds)
    }

    /// Whether publishers may have to wait for it at some time.
    pub fn may_hold(&self) -> bool {
        self.queues_ever.iter().any(holds)
    }

    /// Whether messages may have become too old for it.
    pub fn may_age(&self) -> bool {
        self.queues.iter().any(|queue| queue.age_max_secs > 0)
    }

    /// Whether it ever requested a topic.
    pub fn has_requested(&self, topic: TopicIndex, topics: &Topics) -> bool {
        matches(self.filters_ever, topic, topics)
    }

    /// Applies a fact about it.
    pub fn apply(&mut self, at_us: u64, what: &PartFact) {
        match *what {
            PartFact::Attaching {
                attachment,
                filters,
                keeps_qos0,
                queue,
                lanes,
                ..
            } => {
                self.lanes = lanes;
                if !self.durable {
                    self.ends();
                }
                self.attachment = attachment;
                self.attached = false;
                (self.requested, self.requests_qos0) = (filters, keeps_qos0);
                self.filters = self.filters.and(filters);
                self.keeps_qos0 &= keeps_qos0;
                self.queues.push(queue);
                if !self.queues_ever.contains(&queue) {
                    self.queues_ever.push(queue);
                }
                self.filters_ever = self.filters_ever.or(filters);
                let last = self.possible.last().map(|(_, filters)| *filters);
                let filters = filters.or(last.unwrap_or_default());
                self.possible.push((at_us, filters));
            }
            PartFact::Attached { present, .. } => {
                self.attached = true;
                let is_new = !present || !self.session;
                self.life += u32::from(is_new);
                if is_new || self.filters != self.requested {
                    self.since_us = at_us;
                }
                self.session = true;
                self.queues.drain(..self.queues.len() - 1);
                (self.filters, self.keeps_qos0) = (self.requested, self.requests_qos0);
                self.possible.push((at_us, self.requested));
            }
            PartFact::Left { ends } => {
                self.attached = false;
                if ends || !self.durable {
                    self.ends();
                }
            }
            PartFact::Ended => {
                self.attached = false;
                if !self.durable {
                    self.ends();
                }
            }
            PartFact::Delivered(_)
            | PartFact::Settled { .. }
            | PartFact::Credit(_)
            | PartFact::Hangs(_)
            | PartFact::Queue { .. }
            | PartFact::ReceiptsRequested { .. }
            | PartFact::Receivers { .. }
            | PartFact::Receipt { .. }
            | PartFact::Dropped { .. } => {}
        }
    }

    /// The node has crashed.
    pub fn crashed(&mut self) {
        self.attached = false;
        if !self.durable {
            self.ends();
        }
    }

    fn ends(&mut self) {
        self.session = false;
        self.filters = FilterSet::default();
        self.keeps_qos0 = false;
    }
}

fn holds(queue: &PartQueueLimits) -> bool {
    queue.on_full == OnFull::Hold && queue.bytes_max > 0
}

fn matches(filters: FilterSet, topic: TopicIndex, topics: &Topics) -> bool {
    filters
        .filters()
        .any(|filter| topics.matches(filter, topic))
}
