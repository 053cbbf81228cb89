//! Subscriptions that are being made.

use crate::subscribe::retained_reads::RetainedReads;
use crate::subscribe::suback::PendingSubAcks;

/// Subscriptions that are being made: what of them is still to be done.
#[derive(Debug, Default)]
pub(crate) struct Subscribing {
    pub(crate) subacks: PendingSubAcks,
    pub(crate) retained_reads: RetainedReads,
}
