//! Memory that is used again and again.

use crate::connection::buffer::BufferPool;
use crate::message::Messages;
use crate::message::{Message, Publication};
use crate::routing::Routing;
use crate::routing::RoutingBuffers;

/// Memory that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Of connections.
    pub(crate) pool: BufferPool,
    pub(crate) messages: Messages,
    pub(crate) routing: RoutingBuffers,
    /// For what is encoded.
    pub(crate) scratch: Vec<u8>,
    /// For properties that are passed on unaltered.
    pub(crate) forwarded: Vec<u8>,
}

impl Buffers {
    /// Bytes of memory that are kept.
    pub(super) fn bytes(&self) -> usize {
        let buffers = self.scratch.capacity() + self.forwarded.capacity();
        self.pool.bytes() + self.messages.bytes() + buffers
    }

    #[inline]
    pub(crate) fn begin_routing<'a>(
        &mut self,
        publication: Publication<'a>,
        message: Option<Message>,
    ) -> Routing<'a> {
        let mut templates = self.routing.0.take().unwrap_or_default();
        templates.clear();
        Routing {
            publication,
            message,
            recorded: false,
            had: &[],
            templates,
        }
    }

    #[inline]
    pub(crate) fn end_routing(&mut self, routing: Routing<'_>) {
        self.routing.0 = Some(routing.templates);
        if let Some(message) = routing.message {
            self.messages.put_back(message);
        }
    }
}
