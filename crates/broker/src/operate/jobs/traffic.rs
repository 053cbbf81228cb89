//! Topics in use to be reported, and those that were found.

use std::collections::BTreeMap;

use crate::id::SessionId;
use crate::report::TopicUse;

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
