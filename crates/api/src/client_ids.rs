//! Client Identifiers that requests name, and those that lists leave out.

use crate::problem::{Problem, ProblemKind};

/// Beginnings of the Client Identifiers of the node's own parts, which are not configured: lists
/// leave them out.
const OWN_PARTS: &[&str] = &[
    "$alarms",
    "$commands",
    "$firmware",
    "$iotflow/heard",
    "$topics/memory",
    "$twins",
];

/// Beginning of the Client Identifiers of everything that is no client: integrations too.
const NO_CLIENTS: &[&str] = &["$"];

/// Beginnings of Client Identifiers that a list leaves out: the node's own parts, unless they are
/// asked for by name.
pub(crate) fn without_own_parts(name: Option<&str>) -> &'static [&'static str] {
    unless_asked_for(name, OWN_PARTS)
}

/// Beginnings of Client Identifiers that a list of clients leaves out: integrations too, unless
/// they are asked for by name.
pub(crate) fn clients_alone(name: Option<&str>) -> &'static [&'static str] {
    unless_asked_for(name, NO_CLIENTS)
}

fn unless_asked_for(
    name: Option<&str>,
    left_out: &'static [&'static str],
) -> &'static [&'static str] {
    match name.is_some_and(|name| name.starts_with('$')) {
        true => &[],
        false => left_out,
    }
}

/// The detail of the error about a client without a session.
pub(crate) fn no_session(client_id: &str) -> Problem {
    let detail = format!("there is no session of the client {client_id:?}");
    Problem::new(ProblemKind::NotFound, detail).of_parameter("client_id", "no such session")
}
