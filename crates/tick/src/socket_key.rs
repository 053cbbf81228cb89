//! Keys of sockets.

/// Place of a socket in the table of its loop. It may be reused as soon as the socket is dropped.
pub type SocketKey = u32;
