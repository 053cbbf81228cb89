//! The environment of a process and the `.env` of its working directory, and what the names in
//! them mean for a client.
//!
//! Responsible for reading `.env` only where no other user can have written it, and for the names
//! of device programs. It does not know the settings of a node.
#![forbid(unsafe_code)]

mod client;
mod file;
mod parse;

pub use client::{CLIENT_NAMES, ClientEnvironment};
pub use file::read_file;
pub use parse::{lines, parse, unclosed_quotes};

/// The variables of the process, over those of the text of a `.env`: the process's are stronger.
/// Variables that are not UTF-8 are left out.
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
