//! Makes roll-ups.
