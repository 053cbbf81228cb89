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
pub use parse::{Assignment, Parsed, parse, warning_of_skipped};

/// Reads the text of a `.env`. The variables of the process take precedence in `${NAME}`.
pub fn parsed(env_file: &str) -> Parsed {
    parse(env_file, |name| std::env::var(name).ok())
}

/// The variables of the process and of a `.env`, each once. Those of the process take precedence,
/// then the last one of the file. Variables that are not UTF-8 are omitted.
pub fn variables(file: &[Assignment]) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let file = file.iter();
    let file = file.map(|found| (found.name.clone(), found.value.clone()));
    let process = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    for (name, value) in file.chain(process) {
        variables.retain(|(known, _)| *known != name);
        variables.push((name, value));
    }
    variables
}
