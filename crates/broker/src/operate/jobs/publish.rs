//! Messages to be published, and how many of them are.

use std::sync::Arc;

use martlet_codec::QoS;
use martlet_permission::TenantId;

use crate::command::NewMessage;
use crate::id::RecordNumber;
use crate::part::holds::Holds;
use crate::report::{Answer, Published};

/// Pairs of topics that are compared for one job, at most.
const COMPARED_MAX: usize = 1024;

/// Messages to be published.
#[derive(Debug)]
pub(crate) struct PublishJob {
    pub(crate) tenant: TenantId,
    pub(crate) publisher: Arc<str>,
    pub(crate) messages: Arc<[NewMessage]>,
    pub(crate) outcomes: Vec<Published>,
    /// The last record that the answer waits for.
    pub(crate) record: RecordNumber,
}

impl PublishJob {
    pub(crate) fn new(tenant: TenantId, publisher: Arc<str>, messages: Arc<[NewMessage]>) -> Self {
        Self {
            tenant,
            publisher,
            outcomes: Vec::with_capacity(messages.len()),
            messages,
            record: RecordNumber(0),
        }
    }

    /// The next message is one that a part holds back.
    pub(crate) fn is_held_by(&self, holds: &Holds) -> bool {
        let next = self.messages.get(self.outcomes.len());
        next.is_some_and(|next| holds.hold(None, self.tenant, next))
    }

    /// Whether the same caller has published to a topic by `earlier`, which waits: it is to come
    /// first. Where many topics would have to be compared, that is assumed.
    pub(crate) fn is_behind(&self, earlier: &Self) -> bool {
        if (self.tenant, &self.publisher) != (earlier.tenant, &earlier.publisher) {
            return false;
        }
        let own = self.messages.get(self.outcomes.len()..).unwrap_or_default();
        let waiting = &earlier.messages[earlier.outcomes.len()..];
        let has = |topic: &str| waiting.iter().any(|one| *one.topic == *topic);
        own.len() * waiting.len() > COMPARED_MAX || own.iter().any(|one| has(&one.topic))
    }

    /// The next message makes the store grow.
    pub(crate) fn grows_store(&self) -> bool {
        let next = self.messages.get(self.outcomes.len());
        next.is_some_and(NewMessage::grows_store)
    }

    /// Answers that it has waited too long, for a part if `is_held`: what was not routed is not.
    pub(crate) fn given_up(mut self, is_held: bool) -> Answer {
        let refused = match is_held {
            true => Published::held(),
            false => Published::short(),
        };
        self.outcomes.resize(self.messages.len(), refused);
        Answer::Publish(self.outcomes)
    }
}

impl NewMessage {
    /// To publish it makes the store grow.
    pub(crate) fn grows_store(&self) -> bool {
        self.retain || self.qos > QoS::AtMostOnce
    }
}
