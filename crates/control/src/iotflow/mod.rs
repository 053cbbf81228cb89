//! The topics of IoTFlow that mean something to the node.
//!
//! * `catalogue`: which there are, with which QoS, and whether they are retained
//! * `heartbeats`: when devices sent heartbeats and telemetry
//! * `versions`: which firmware heartbeats name
//! * `published`: the state of the node

mod catalogue;
mod heartbeats;
mod published;
mod versions;

pub use catalogue::{Catalogue, CatalogueTopic, DEVICE, PATTERNS};
pub use heartbeats::note_activity;
pub use published::publish_state;
