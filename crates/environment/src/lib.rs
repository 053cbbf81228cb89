//! The environment of a process and the `.env` of its working directory, and the meaning of their
//! variables for a client.
//!
//! Responsible for reading `.env` only if no other user can have written it, and for the names that
//! device programs use. Settings of a node are elsewhere.
#![forbid(unsafe_code)]

mod client;
mod file;
mod parse;

pub use client::{CLIENT_NAMES, ClientEnvironment};
pub use file::read_file;
pub use parse::{lines, parse, unclosed_quotes};

/// The variables of the process and of a `.env`'s text. Those of the process take precedence.
/// Variables that are not UTF-8 are omitted.
pub fn variables(env_file: &str) -> Vec<(String, String)> {
    let mut variables = parse(env_file);
    for (name, value) in std::env::vars_os() {
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
        }
    }
    variables
}
