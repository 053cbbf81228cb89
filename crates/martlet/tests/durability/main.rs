//! What a node promises about its data, tried on the real program: kills, power cuts, stops,
//! backups, damage, a directory in use.

mod backup;
mod kill;
mod node;
mod restart;
mod syncs;
mod trouble;
