//! Messages that wait in another session of the same user: the client came with another Client
//! Identifier than before.

use std::cmp::Reverse;

use martlet_broker::ClientQuery;

use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::why::{
    Asked, CLOCKS_DIFFER_MS, Examine, Finding, Findings, first_of, matches, messages_wait,
};

/// Other sessions of a user that are looked at.
const OTHERS_MAX: usize = 64;

/// Other sessions that are named.
const NAMED: usize = 4;

/// Subscriptions of each that are looked at.
const SUBSCRIPTIONS_MAX: usize = 100;

/// The other sessions of the user of a client.
#[derive(Debug)]
pub(crate) struct OtherSessions;

/// The session of a connected client, and others of its user that are not connected and in which
/// messages wait.
#[derive(Debug, Default)]
pub(crate) struct OthersFacts {
    /// Since when the client is connected, milliseconds since the Unix epoch.
    since_ms: u64,
    /// The last CONNECT had Clean Start.
    clean_start: bool,
    others: Vec<OtherSession>,
}

/// Another session of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OtherSession {
    /// Client Identifier.
    client_id: String,
    /// Messages that wait.
    queued: usize,
    /// Since when it is not connected, milliseconds since the Unix epoch, as far as known.
    left_ms: Option<u64>,
    /// The Topic Filters.
    filters: Vec<String>,
}

impl Examine for OtherSessions {
    type Facts = OthersFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<OthersFacts, ControlError> {
        Ok(sessions_of(control, asked).await?.unwrap_or_default())
    }

    fn judge(facts: &OthersFacts, asked: &Asked, findings: &mut Findings) {
        // Where anonymous clients are accepted, any name would have the rules of those.
        if !asked.is_connected || asked.is_unknown() {
            return;
        }
        let mut others: Vec<&OtherSession> = facts.others.iter().collect();
        others.retain(|other| took_its_place(asked, facts, other));
        // The one that was there last is likely meant.
        others.sort_by_key(|other| Reverse(other.left_ms));
        let Some(last) = others.first() else {
            return;
        };
        let wait = messages_wait(others.iter().map(|other| other.queued).sum());
        let client_id = &last.client_id;
        let (sessions, remedy) = match &*others {
            [_] => (
                format!("in the session {client_id} of the same user, which is"),
                format!(
                    "have the client connect with the Client Identifier {client_id}, and with the \
                     same one each time"
                ),
            ),
            all => {
                let names: Vec<&str> = all.iter().map(|other| &*other.client_id).collect();
                let (count, named) = (names.len(), first_of(&names, NAMED));
                (
                    format!("in {count} sessions of the same user ({named}), which are"),
                    format!(
                        "have the client connect with one Client Identifier, the same one each \
                         time, such as {client_id}; messages of each session come to a client that \
                         connects with its Client Identifier, until the session ends"
                    ),
                )
            }
        };
        let sentence = format!(
            "{wait} {sessions} not connected: the Client Identifier of this client is {}",
            asked.client_id
        );
        let mut finding = Finding::new(Cause::OtherSession, sentence).last(asked.now_ms);
        finding.since_ms = others.iter().filter_map(|other| other.left_ms).min();
        let bearing = match asked.question.topic {
            Some(_) => Bearing::Topic,
            None => Bearing::Present,
        };
        findings.add_as(bearing, finding.remedy(remedy));
    }
}

/// Reads the sessions; none if the client is not connected. A device has one session, unless its
/// type permits it several.
async fn sessions_of(
    control: &Control,
    asked: &Asked,
) -> Result<Option<OthersFacts>, ControlError> {
    let (tenant, client_id) = (asked.question.tenant, &*asked.client_id);
    let Some(user) = asked.user.as_deref().filter(|_| asked.is_connected) else {
        return Ok(None);
    };
    if user == client_id && !control.has_several_clients(tenant, user) {
        return Ok(None);
    }
    let Some(own) = control.client(tenant, client_id, 0).await? else {
        return Ok(None);
    };
    let mut facts = OthersFacts {
        since_ms: own.info.connected_at_ms,
        clean_start: own
            .connection
            .is_some_and(|connection| connection.clean_start),
        others: Vec::new(),
    };
    let query = ClientQuery {
        tenant: Some(tenant),
        user: Some(user.into()),
        connected: Some(false),
        limit: OTHERS_MAX,
        ..ClientQuery::default()
    };
    for one in control.clients(&query).await?.clients {
        // What was sent and not acknowledged is sent again.
        let waiting = one.queued + one.in_flight;
        if waiting == 0 || *one.client_id == *client_id {
            continue;
        }
        let detail = control.client(tenant, &one.client_id, SUBSCRIPTIONS_MAX);
        let Some(detail) = detail.await? else {
            continue;
        };
        let filters = detail.subscriptions.iter();
        facts.others.push(OtherSession {
            client_id: one.client_id.to_string(),
            queued: waiting,
            left_ms: detail.left_ms,
            filters: filters.map(|one| one.filter.to_string()).collect(),
        });
    }
    Ok(Some(facts))
}

/// The client came after the other session lost its connection, and has, or wanted to have, its
/// subscriptions.
fn took_its_place(asked: &Asked, own: &OthersFacts, other: &OtherSession) -> bool {
    let came_ms = own.since_ms.saturating_add(CLOCKS_DIFFER_MS);
    let is_later = other.left_ms.is_some_and(|left_ms| left_ms <= came_ms);
    let wants = asked.filters.is_empty() && !own.clean_start;
    let mut filters = other.filters.iter();
    let is_asked = match &asked.question.topic {
        Some(topic) => other.filters.iter().any(|filter| matches(filter, topic)),
        None => true,
    };
    is_later && is_asked && (wants || filters.any(|filter| asked.filters.contains(filter)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::Session;
    use crate::why::tests::{NOW, connected, expect, facts};
    use crate::why::{Case, State};

    #[test]
    fn messages_wait_in_a_session_whose_place_the_client_took() {
        let mut facts = facts(None);
        facts.session = Some(Session {
            since_ms: Some(NOW - 10_000),
            subscriptions: vec![("t/1".to_owned(), 1)],
            ..connected()
        });
        let other = |left_ms, filter: &str| OtherSession {
            client_id: "d0".to_owned(),
            queued: 2,
            left_ms: Some(left_ms),
            filters: vec![filter.to_owned()],
        };
        let of_all = |others| {
            let found = OthersFacts {
                since_ms: NOW - 10_000,
                clean_start: false,
                others,
            };
            Case::of(facts.clone())
                .with::<OtherSessions>(found)
                .diagnosis()
        };
        let diagnosis = |other| of_all(vec![other]);
        let expected = "2 messages wait in the session d0 of the same user";
        expect(
            &diagnosis(other(NOW - 60_000, "t/1")),
            Cause::OtherSession,
            State::Connected,
            expected,
        );
        // Another program of the user, which went later or is subscribed to something else.
        for other in [other(NOW - 1_000, "t/1"), other(NOW - 60_000, "t/2")] {
            assert_eq!(diagnosis(other).finding.cause, Cause::NothingWrong);
        }
        let several = |ago_ms: u64| OtherSession {
            client_id: format!("d-{ago_ms}"),
            ..other(NOW - ago_ms, "t/1")
        };
        let found = of_all(vec![several(90_000), several(60_000), several(1_000)]).finding;
        let expected = "4 messages wait in 2 sessions of the same user (d-60000, d-90000), which";
        assert!(found.sentence.starts_with(expected), "{found:#?}");
        assert_eq!(found.since_ms, Some(NOW - 90_000));
    }
}
