//! Users with several clients.

use std::borrow::Cow;

use martlet_broker::EventKind;

use super::facts::Facts;
use super::found::{Bearing, Found, is_connected, is_recent};
use super::side::is_subscribed;
use super::{Finding, admission, order};
use crate::cause::Cause;
use crate::journal::Run;

/// The findings about the clients of one user. A finding about all of them is reported once; all
/// others name their client.
pub(super) fn of_several(clients: &[Cow<'_, Facts>], of_each: Vec<Found>) -> Found {
    let is_any_connected = clients.iter().any(|client| is_connected(client));
    let is_any_subscribed = clients.iter().any(|client| is_subscribed(client));
    let mut all: Vec<(Bearing, Finding, Vec<&str>)> = Vec::new();
    for (client, found) in clients.iter().zip(of_each) {
        let is_absent = is_any_connected && !is_connected(client);
        for (bearing, finding) in found {
            if finding.cause == Cause::NotSubscribed && is_any_subscribed {
                continue;
            }
            let bearing = match bearing {
                Bearing::Refused if has_other_name_now(clients, client, &finding) => Bearing::Over,
                Bearing::Refused if is_absent && is_one_too_many(client) => Bearing::Happened,
                bearing if is_absent => order::of_absent(bearing),
                bearing => bearing,
            };
            let is_same = |(_, other, _): &&mut (Bearing, Finding, Vec<&str>)| {
                other.cause == finding.cause && other.sentence == finding.sentence
            };
            match all.iter_mut().find(is_same) {
                Some((other, known, names)) => {
                    *other = order::heavier(finding.cause, bearing, *other);
                    known.add(&finding);
                    names.push(&client.client_id);
                }
                None => all.push((bearing, finding, vec![&client.client_id])),
            }
        }
    }
    let is_away = |name: &str| {
        let mut all = clients.iter();
        all.any(|client| client.client_id == name && !is_connected(client))
    };
    let is_refused = |name: &str| {
        let mut all = clients.iter();
        all.any(|client| client.client_id == name && is_one_too_many(client))
    };
    let named = all.into_iter().map(|(bearing, mut finding, names)| {
        if names.len() < clients.len() {
            let what = match names.len() {
                1 => "client",
                _ => "clients",
            };
            // The user is connected, by another client.
            let is_said = finding.cause == Cause::Away;
            let is_absent = is_any_connected && names.iter().all(|name| is_away(name));
            let is_refused =
                bearing == Bearing::Happened && names.iter().all(|name| is_refused(name));
            let absent = match is_absent && !is_said {
                true if is_refused => " is refused",
                true => " (not connected)",
                false => "",
            };
            finding.sentence = format!("{what} {}{absent}: {}", names.join(", "), finding.sentence);
        }
        (bearing, finding)
    });
    named.collect()
}

/// A client of a device was refused recently because the device has as many sessions as its type
/// permits.
fn is_one_too_many(client: &Facts) -> bool {
    let run = admission::is_refused_now(client);
    run.is_some_and(|run| admission::is_one_too_many(run) && is_recent(client, run))
}

/// A client of a user was refused for its Client Identifier, and the user came with another one
/// later.
fn has_other_name_now(clients: &[Cow<'_, Facts>], refused: &Facts, finding: &Finding) -> bool {
    let is_of_name = matches!(finding.cause, Cause::WrongClientId | Cause::ClientIdTaken);
    let refused_ms = admission::is_refused_now(refused).map(|run| run.last.at_ms);
    let came_later = |client: &Facts| {
        let mut runs = client.runs.iter();
        runs.any(|run| run.last.what == EventKind::Connected && Some(run.last.at_ms) >= refused_ms)
    };
    let mut others = clients
        .iter()
        .filter(|one| one.client_id != refused.client_id);
    is_of_name && refused_ms.is_some() && others.any(|one| came_later(one))
}

/// The last such refusal of a user with several clients: it is of none of them that is known.
pub(super) fn anonymous(facts: &Facts) -> Option<(Bearing, Finding)> {
    if facts.clients.len() < 2 {
        return None;
    }
    let is_it = |run: &&Run| run.last.what == EventKind::Refused && run.last.client_id.is_empty();
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
