//! Topic Aliases of one connection.

use core::num::NonZeroU16;
use std::sync::Arc;

use hashbrown::HashMap as RawMap;

use crate::hash::{HashMap, Seed};

/// Topic Aliases of one connection, both directions.
#[derive(Debug)]
pub(crate) struct TopicAliases {
    /// Set by the client; index is alias - 1.
    pub(crate) inbound: Vec<Option<Arc<str>>>,
    pub(crate) inbound_bytes: usize,
    /// Given by us, first come first served.
    pub(crate) outbound: HashMap<Box<str>, NonZeroU16>,
    pub(crate) outbound_bytes: usize,
    /// The client's Topic Alias Maximum, bounded by ours.
    pub(crate) outbound_max: u16,
}

/// Memory that an outbound Topic Alias takes beside its topic, in bytes.
const OUTBOUND_ALIAS_BYTES: usize = 48;

impl TopicAliases {
    pub(crate) fn new(outbound_max: u16, seed: &Seed) -> Self {
        Self {
            inbound: Vec::new(),
            inbound_bytes: 0,
            outbound: RawMap::with_hasher(seed.clone()),
            outbound_bytes: 0,
            outbound_max,
        }
    }

    /// Bytes of the topics that they stand for, and of their tables.
    pub(crate) fn bytes(&self) -> usize {
        let topics = self.inbound_bytes + self.outbound_bytes;
        let inbound = self.inbound.capacity() * size_of::<Option<Arc<str>>>();
        topics + inbound + self.outbound.len() * OUTBOUND_ALIAS_BYTES
    }
}
