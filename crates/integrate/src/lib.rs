//! What takes messages from the node for other systems.
//!
//! * `part`: a part of the node as a task sees it: what it is told, one after the other
#![forbid(unsafe_code)]

mod part;

pub use part::Part;
