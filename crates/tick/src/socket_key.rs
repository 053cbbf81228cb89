//! Where a socket is in the table of its loop.

/// Place of a socket in the table of its loop. It may be used again as soon as the socket is gone.
pub type SocketKey = u32;
