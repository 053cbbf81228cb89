//! The state of a node with several shards after a stop, a kill and a power loss. One program, so
//! that common code is built once.

#![allow(clippy::unwrap_used)]

mod cases;
mod costs;
mod crash;
mod damage;
#[cfg(debug_assertions)]
mod faults;
mod lanes;
mod node;
mod part_order;
mod part_receipts;
mod parts;
mod restart;
mod scripts;
