//! Whether the runner is attached to the node.

use std::future::pending;

use crate::lanes::{LaneEvent, Lanes};

/// Whether it is attached to the node.
#[derive(Debug)]
pub(super) enum Attachment {
    Detached,
    Attaching(Lanes),
    Attached(Lanes),
}

impl Attachment {
    pub(super) async fn next_event(&mut self) -> Option<LaneEvent> {
        match self {
            Self::Detached => pending().await,
            Self::Attaching(lanes) | Self::Attached(lanes) => lanes.next().await,
        }
    }

    /// The next event, if one is available already.
    pub(super) fn event_now(&mut self) -> Option<LaneEvent> {
        match self {
            Self::Detached => None,
            Self::Attaching(lanes) | Self::Attached(lanes) => lanes.next_now(),
        }
    }
}
