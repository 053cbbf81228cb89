//! Users with several clients.

use crate::event_kind::EventKind;

use super::asked::Asked;
use super::events::is_one_too_many;
use super::found::Found;
use super::{Bearing, Finding, order};
use crate::cause::Cause;

/// A finding about some of the clients.
struct Shared<'a> {
    bearing: Bearing,
    finding: Finding,
    clients: Vec<&'a Asked>,
}

/// The findings about the clients of one user. A finding about all of them is reported once; all
/// others name their client.
pub(super) fn of_several(clients: &[&Asked], of_each: Vec<Found>) -> Found {
    let is_any_connected = clients.iter().any(|client| client.is_connected);
    let is_any_subscribed = clients.iter().any(|client| client.is_subscribed());
    let mut all: Vec<Shared<'_>> = Vec::new();
    for (client, found) in clients.iter().zip(of_each) {
        let is_absent = is_any_connected && !client.is_connected;
        for (bearing, finding) in found {
            if finding.cause == Cause::NotSubscribed && is_any_subscribed {
                continue;
            }
            let bearing = match bearing {
                Bearing::Refused if has_other_name_now(clients, client, &finding) => Bearing::Over,
                Bearing::Refused if is_absent && is_one_too_many_now(client) => Bearing::Happened,
                bearing if is_absent => order::of_absent(bearing),
                bearing => bearing,
            };
            let known = all.iter_mut().find(|known| {
                known.finding.cause == finding.cause && known.finding.sentence == finding.sentence
            });
            match known {
                Some(known) => {
                    known.bearing = order::heavier(finding.cause, bearing, known.bearing);
                    known.finding.add(&finding);
                    known.clients.push(client);
                }
                None => all.push(Shared {
                    bearing,
                    finding,
                    clients: vec![client],
                }),
            }
        }
    }
    let named = all.into_iter().map(|mut shared| {
        if shared.clients.len() < clients.len() {
            shared.name_clients(is_any_connected);
        }
        (shared.bearing, shared.finding)
    });
    named.collect()
}

impl Shared<'_> {
    /// Names the clients that it is about. `is_any_connected`: the user is, by some client.
    fn name_clients(&mut self, is_any_connected: bool) {
        let (what, each) = match self.clients.len() {
            1 => ("client", ""),
            _ => ("clients", ", each"),
        };
        let names: Vec<&str> = self
            .clients
            .iter()
            .map(|client| &*client.client_id)
            .collect();
        let is_absent = is_any_connected && self.clients.iter().all(|client| !client.is_connected);
        let is_refused = self.bearing == Bearing::Happened
            && self
                .clients
                .iter()
                .all(|client| is_one_too_many_now(client));
        let absent = match is_absent && self.finding.cause != Cause::Away {
            true if is_refused => " is refused",
            true => " (not connected)",
            false => "",
        };
        let sentence = &self.finding.sentence;
        self.finding.sentence = format!("{what} {}{absent}{each}: {sentence}", names.join(", "));
    }
}

/// A client of a device was refused recently because the device has as many sessions as its type
/// permits.
fn is_one_too_many_now(client: &Asked) -> bool {
    let run = client.refused.as_ref();
    run.is_some_and(|run| is_one_too_many(run) && client.is_recent(run.last.at_ms))
}

/// A client of a user was refused for its Client Identifier, and the user came with another one
/// later.
fn has_other_name_now(clients: &[&Asked], client: &Asked, finding: &Finding) -> bool {
    let is_of_name = matches!(finding.cause, Cause::WrongClientId | Cause::ClientIdTaken);
    let Some(refused) = client.refused.as_ref().filter(|_| is_of_name) else {
        return false;
    };
    let others = clients
        .iter()
        .filter(|one| one.client_id != client.client_id);
    others
        .flat_map(|one| &one.runs)
        .any(|run| run.last.what == EventKind::Connected && run.last.at_ms >= refused.last.at_ms)
}

/// The last refusal of a user with several clients that is of none of them that is known.
pub(super) fn anonymous(asked: &Asked, clients: &[&Asked]) -> Option<(Bearing, Finding)> {
    if clients.len() < 2 {
        return None;
    }
    let run = asked
        .runs
        .iter()
        .rev()
        .find(|run| run.last.what == EventKind::Refused && run.last.client_id.is_empty())?;
    let mut finding = Finding::of_run(run, run.cause.unwrap_or(Cause::Other));
    finding.sentence = format!(
        "a client with this User Name was refused: {}",
        finding.sentence
    );
    // It may have connected with another Client Identifier since. In the same millisecond, it may
    // have been before.
    let has_come = clients
        .iter()
        .flat_map(|client| &client.runs)
        .any(|other| other.last.what == EventKind::Connected && other.last.at_ms > run.last.at_ms);
    let bearing = match asked.is_recent(run.last.at_ms) && !has_come {
        true => Bearing::Happened,
        false => Bearing::Aside,
    };
    Some((bearing, finding))
}
