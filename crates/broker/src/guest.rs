//! A connection on its way from the lobby of one shard to another shard.

use std::net::IpAddr;
use std::sync::Arc;

use crate::connect_request::ConnectingClient;
use crate::limits::ListenerPolicy;

/// The address of a connection, and its listener.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's address; none on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// The listener's rules.
    pub listener: Arc<ListenerPolicy>,
    /// 16 fresh random bytes, from which an assigned client identifier is made.
    pub entropy: [u8; 16],
}

/// A connection on its way from the lobby of one shard to the shard that owns its session.
#[derive(Debug)]
pub struct Guest {
    /// Where it came from.
    pub peer: Peer,
    /// Client.
    pub client: ConnectingClient,
    /// Bytes that came after the CONNECT.
    pub unread: Vec<u8>,
}
