//! Tests of the durability of a node's data with the real program: kills, power failures, stops,
//! backups, damage, a directory in use.

mod backup;
mod kill;
mod node;
mod restart;
mod syncs;
mod trouble;
