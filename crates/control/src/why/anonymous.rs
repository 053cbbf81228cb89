//! Clients of a user that were refused before their Client Identifier was known.

use martlet_broker::EventKind;

use super::Finding;
use super::facts::Facts;
use super::found::{Bearing, is_recent};
use crate::cause::Cause;

/// The last such refusal of a user with several clients: it is of none of them that is known.
pub(super) fn refused(facts: &Facts) -> Option<(Bearing, Finding)> {
    if facts.clients.len() < 2 {
        return None;
    }
    let is_it = |run: &&crate::journal::Run| {
        run.last.what == EventKind::Refused && run.last.client_id.is_empty()
    };
    let run = facts.runs.iter().rev().find(is_it)?;
    let mut finding = Finding::of_run(run, run.cause.unwrap_or(Cause::Other));
    finding.sentence = format!(
        "a client with this User Name was refused: {}",
        finding.sentence
    );
    let clients = facts.clients.iter().flat_map(|client| &client.runs);
    let mut came = clients.filter(|other| other.last.what == EventKind::Connected);
    // It may have connected with another Client Identifier since. In the same millisecond, it may
    // have been before.
    let has_come = came.any(|other| other.last.at_ms > run.last.at_ms);
    let bearing = match is_recent(facts, run) && !has_come {
        true => Bearing::Happened,
        false => Bearing::Aside,
    };
    Some((bearing, finding))
}
