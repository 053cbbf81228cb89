//! Jobs of operators: what is asked for, and how far it has come. They know no shard, which has
//! them; its steps for each are in [`super`].

pub(crate) mod clients;
pub(crate) mod counters;
pub(crate) mod publish;
pub(crate) mod retained;
pub(crate) mod subscriptions;
pub(crate) mod traffic;

use crate::notify::observers::TraceScan;
use crate::part::holds::Holds;
use clients::ClientScan;
use counters::CountersScan;
use publish::PublishJob;
use retained::{DeleteRetainedJob, RetainedScan};
use subscriptions::SubscriptionScan;
use traffic::TrafficScan;

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
