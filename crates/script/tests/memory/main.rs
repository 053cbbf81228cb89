//! Everything that clients make a node hold counts against its limits, and the clients that hold
//! most give back first.

mod counted;
#[path = "../lasting/mod.rs"]
mod lasting;
mod limits;
mod node;
mod relief;
#[path = "../wire/mod.rs"]
mod wire;
