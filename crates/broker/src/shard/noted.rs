//! Facts noted of messages, for the questions of operators.

use crate::active_devices::list::ActiveDeviceList;
use crate::retained_ends::table::RetainedEnds;
use crate::unmatched::topics::UnmatchedTopics;

/// Facts noted of messages, for the questions of operators.
#[derive(Debug, Default)]
pub(crate) struct OperatorRecords {
    /// Messages without subscribers.
    pub(crate) unmatched: UnmatchedTopics,
    /// Retained messages that were taken away.
    pub(crate) retained_ends: RetainedEnds,
    /// Devices that have published.
    pub(crate) active_devices: ActiveDeviceList,
}

impl OperatorRecords {
    /// Bytes of memory that the tables of topics take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.unmatched.memory_bytes() + self.retained_ends.memory_bytes()
    }
}
