//! Parts of the node receive messages like a client's session, with their publisher, and settle
//! each of them.

mod delivery;
mod node;
mod publishing;
mod queue;
#[allow(dead_code)]
#[path = "../raw/mod.rs"]
mod raw;
