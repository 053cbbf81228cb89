//! Messages that wait in another session of the same user: the client came with another Client
//! Identifier than before.

use martlet_broker::ClientQuery;

use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::why::{Asked, CLOCKS_DIFFER_MS, Examine, Finding, Findings, matches, messages_wait};

/// Other sessions of a user that are looked at.
const OTHERS_MAX: usize = 16;

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
        let mut others = facts.others.iter();
        let is_it = |other: &&OtherSession| took_its_place(asked, facts, other);
        // Where anonymous clients are accepted, any name would have the rules of those.
        let is_client = asked.is_connected && !asked.is_unknown();
        let Some(other) = others.find(is_it).filter(|_| is_client) else {
            return;
        };
        let (client_id, wait) = (&other.client_id, messages_wait(other.queued));
        let sentence = format!(
            "{wait} in the session {client_id} of the same user, which is not connected: the Client \
             Identifier of this client is {}",
            asked.client_id
        );
        let mut finding = Finding::new(Cause::OtherSession, sentence).last(asked.now_ms);
        finding.since_ms = other.left_ms;
        let bearing = match asked.question.topic {
            Some(_) => Bearing::Topic,
            None => Bearing::Present,
        };
        let finding = finding.remedy(format!(
            "have the client connect with the Client Identifier {client_id}, and with the same one \
             each time"
        ));
        findings.add_as(bearing, finding);
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
        let diagnosis = |other| {
            let found = OthersFacts {
                since_ms: NOW - 10_000,
                clean_start: false,
                others: vec![other],
            };
            Case::of(facts.clone())
                .with::<OtherSessions>(found)
                .diagnosis()
        };
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
    }
}
