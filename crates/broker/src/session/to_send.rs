//! Messages that are sent to a client, and how.

use martlet_codec::{PacketId, QoS};

use crate::message::Message;
use crate::routing::Routing;

/// Where a PUBLISH packet is made from.
pub(crate) enum MessageFrom<'r, 'p> {
    /// A message that is being routed.
    Routing(&'r mut Routing<'p>),
    /// A message that was held.
    Held(&'r Message),
}

/// The flags of a PUBLISH packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<PacketId>,
}
