//! What an opening finds missing.

use crate::error::OpenError;
use crate::record::QueueId;

/// Segments that are not as the checkpoint and their own headers say.
#[derive(Default)]
pub(crate) struct Gaps {
    /// Slot and name of those that are not there.
    pub(crate) missing: Vec<(u16, String)>,
    pub(crate) short: Vec<Short>,
    /// What lost blocks of the checkpoint may have held.
    pub(crate) lacks: Lacks,
    /// How many entries each queue had in the checkpoint.
    pub(crate) counts: Vec<(QueueId, u64)>,
    /// Numbers of checkpoints that were to be loaded first, and cannot be.
    pub(crate) unusable: Vec<u64>,
    /// Why not, of the first of them.
    pub(crate) refusal: Option<OpenError>,
}

/// A segment whose file is shorter than it was made.
pub(crate) struct Short {
    pub(crate) slot: u16,
    /// The checkpoint knows it.
    pub(crate) is_listed: bool,
}

/// What lost blocks of a checkpoint may have held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lacks {
    pub(crate) bodies: bool,
    pub(crate) queues: bool,
    pub(crate) states: bool,
}
