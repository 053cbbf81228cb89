//! A SUBSCRIBE or UNSUBSCRIBE packet that takes several turns.

use martlet_codec::{FiltersLeft, PacketId};

/// A SUBSCRIBE or UNSUBSCRIBE that is not worked off. It stays in its connection's input and goes
/// on when the connection has its next turn.
#[derive(Debug)]
pub(crate) struct HalfDone {
    pub(super) packet_id: PacketId,
    /// Subscription Identifier; 0 is none.
    pub(super) subscription_id: u32,
    /// Filters that have not been checked; none takes effect before all are checked.
    pub(super) unchecked: FiltersLeft,
    /// Filters that have no answer yet.
    pub(super) left: FiltersLeft,
    /// The answer so far, a code for each filter.
    pub(super) codes: Vec<u8>,
    /// Reason why the first refused filter was refused.
    pub(super) why: Option<&'static str>,
    /// Number of refused filters.
    pub(super) refused: usize,
    /// Share groups that are being asked, if any are: the key of the pending SUBACK.
    pub(super) pending: Option<usize>,
}

impl HalfDone {
    pub(super) fn new(packet_id: PacketId, subscription_id: u32, filters: FiltersLeft) -> Self {
        Self {
            packet_id,
            subscription_id,
            unchecked: filters,
            left: filters,
            codes: Vec::new(),
            why: None,
            refused: 0,
            pending: None,
        }
    }

    /// Bytes of memory that it takes, without its place in the table.
    pub(crate) fn bytes(&self) -> usize {
        self.codes.capacity()
    }
}
