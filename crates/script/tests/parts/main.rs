//! Parts of the node take messages as a client's session does, with their publisher, and settle
//! each of them.

mod delivery;
mod node;
mod publishing;
mod queue;
#[allow(dead_code)]
#[path = "../raw/mod.rs"]
mod raw;
