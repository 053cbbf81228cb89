//! What a node of several shards has after a stop, a kill and a loss of power. One program, so that
//! what these tests share is built once.

#![allow(clippy::unwrap_used)]

mod cases;
mod costs;
mod crash;
mod damage;
mod lanes;
mod node;
mod part_receipts;
mod parts;
mod restart;
mod scripts;
