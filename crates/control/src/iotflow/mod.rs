//! The topics of IoTFlow that mean something to the node.
//!
//! * `catalogue`: which there are, with which QoS, and whether they are retained
//! * `heard`: when devices sent heartbeats and telemetry
//! * `versions`: which firmware heartbeats name
//! * `published`: what the node says of itself

mod catalogue;
mod heard;
mod published;
mod versions;

pub use catalogue::{Catalogue, CatalogueTopic, DEVICE, PATTERNS};
pub use heard::note_heard;
pub use published::publish_state;
