//! A whole node with real sockets and files. One program, so that the node is compiled for tests
//! once.

// A panic here is a failed assertion, in the helpers too.
#![allow(clippy::unwrap_used)]

mod common;

mod authentication;
mod connections;
mod doors;
#[cfg(target_os = "linux")]
mod files;
mod operation;
mod parts;
mod store;
mod store_trouble;
mod tls;
mod websocket;
