//! Gaps that are found at opening.

use crate::error::OpenError;
use crate::record::QueueId;

/// Segments that differ from the checkpoint and their own headers.
#[derive(Default)]
pub(crate) struct Gaps {
    /// Slot and name of missing segments.
    pub(crate) missing: Vec<(u16, String)>,
    pub(crate) short: Vec<Short>,
    /// Kinds of data that lost blocks of the checkpoint may have held.
    pub(crate) lacks: Lacks,
    /// Number of entries of each queue in the checkpoint.
    pub(crate) counts: Vec<(QueueId, u64)>,
    /// Numbers of newer checkpoints that cannot be loaded.
    pub(crate) unusable: Vec<u64>,
    /// The error of the first of them.
    pub(crate) refusal: Option<OpenError>,
}

/// A segment whose file is shorter than when it was created.
pub(crate) struct Short {
    pub(crate) slot: u16,
    /// Whether the checkpoint lists it.
    pub(crate) is_listed: bool,
}

/// Kinds of data that lost blocks of a checkpoint may have held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lacks {
    pub(crate) bodies: bool,
    pub(crate) queues: bool,
    pub(crate) states: bool,
}
