//! Jobs of operators: what is asked for, and how far it has come. They know no shard, which has
//! them; its steps for each are in [`super`].

pub(crate) mod clients;
pub(crate) mod publish;
pub(crate) mod retained;
pub(crate) mod subscriptions;

use std::collections::BTreeMap;

use crate::id::SessionId;
use crate::notify::observers::TraceScan;
use crate::part::holds::Holds;
use crate::report::TopicUse;
use clients::ClientScan;
use publish::PublishJob;
use retained::{DeleteRetainedJob, RetainedScan};
use subscriptions::SubscriptionScan;

/// A job that writes.
#[derive(Debug)]
pub(crate) enum WriteJob {
    Publish(PublishJob),
    DeleteRetained(DeleteRetainedJob),
}

/// A job that reads.
#[derive(Debug)]
pub(crate) enum ScanJob {
    Clients(ClientScan),
    Subscriptions(SubscriptionScan),
    Retained(RetainedScan),
    Counters(CountersScan),
    Traffic(TrafficScan),
    Trace(TraceScan),
}

impl WriteJob {
    /// Whether what it does next waits for a part.
    pub(crate) fn is_held_by(&self, holds: &Holds) -> bool {
        match self {
            Self::Publish(job) => job.is_held_by(holds),
            Self::DeleteRetained(_) => false,
        }
    }

    /// Whether what it does next makes the store grow.
    pub(crate) fn grows_store(&self) -> bool {
        match self {
            Self::Publish(job) => job.grows_store(),
            Self::DeleteRetained(_) => true,
        }
    }
}

/// Counts the queues that are full.
#[derive(Debug, Default)]
pub(crate) struct CountersScan {
    /// The last session that was looked at.
    pub(crate) after: Option<SessionId>,
    /// All sessions have been looked at.
    pub(crate) has_sessions: bool,
    /// The place of the share group that is looked at next.
    pub(crate) next_group: usize,
    pub(crate) full: usize,
}

/// Looks for topics that were published to recently, with the client that did it last, and the
/// clients to whom their messages go, as far as these are sessions of this shard with rules of
/// their own user.
#[derive(Debug)]
pub(crate) struct TrafficScan {
    /// Uses to report, at most.
    pub(crate) limit: usize,
    /// The session that is looked at next.
    pub(crate) next_session: u32,
    /// The route that is looked at next.
    pub(crate) next_route: u32,
    /// Sessions by the numbers of their permits.
    pub(crate) by_permit: BTreeMap<u32, SessionId>,
    pub(crate) uses: Vec<TopicUse>,
    /// Bytes of those.
    pub(crate) bytes: usize,
}

impl TrafficScan {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            next_session: 0,
            next_route: 0,
            by_permit: BTreeMap::new(),
            uses: Vec::new(),
            bytes: 0,
        }
    }
}
