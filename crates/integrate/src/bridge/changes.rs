//! Changes of the subscriptions of a named connection that are under way.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use martlet_client::{
    Acknowledgement, RequestError, RequestId, Session, SubscribeRequest, UnsubscribeRequest,
};
use martlet_codec::{QoS, ReasonCode, RetainHandling, SubscriptionOptions};

use super::change::{Change, ConnectionError};
use super::connection::NamedConnection;

/// Changes that wait or are under way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: VecDeque<Change>,
    under_way: HashMap<RequestId, SentChange>,
}

/// A change that was sent.
#[derive(Debug)]
struct SentChange {
    change: Change,
    /// The QoS of the subscription before, if there was one.
    before: Option<QoS>,
}

impl Changes {
    /// Takes a change, which waits for a connection.
    pub(super) fn take(&mut self, change: Change) {
        self.waiting.push_back(change);
    }

    /// Whether somebody waits for a connection.
    pub(super) fn wait(&self) -> bool {
        self.waiting.iter().any(|change| !change.answer.is_closed())
    }

    /// Sends what waits by a session that is connected.
    pub(super) fn send(
        &mut self,
        connection: &NamedConnection,
        session: &mut Session,
        now: Duration,
    ) {
        while let Some(change) = self.waiting.pop_front() {
            // Who has given up was told that nothing has changed.
            if change.answer.is_closed() {
                continue;
            }
            match request(&change, session, now) {
                Ok(request) => {
                    // Retained messages may come before the SUBACK.
                    let before = match change.qos {
                        Some(_) => connection.set(&change.filter, change.qos),
                        None => None,
                    };
                    self.under_way
                        .insert(request, SentChange { change, before });
                }
                Err(error) => answer(change, Err(ConnectionError::Refused(error.to_string()))),
            }
        }
    }

    /// A request has ended. Returns what it came to if it is none of these.
    pub(super) fn completed(
        &mut self,
        connection: &NamedConnection,
        request: RequestId,
        how: Acknowledgement,
    ) -> Option<Acknowledgement> {
        let Some(sent) = self.under_way.remove(&request) else {
            return Some(how);
        };
        let result = match how {
            Acknowledgement::Subscribed(codes) | Acknowledgement::Unsubscribed(codes) => {
                result_of(&codes)
            }
            Acknowledgement::ConnectionLost | Acknowledgement::Published { .. } => Err(lost()),
        };
        self.end(connection, sent, result);
        None
    }

    /// There is no connection, for this reason: nobody waits any longer.
    pub(super) fn fail(&mut self, connection: &NamedConnection, why: &str) {
        let not_connected = || Err(ConnectionError::NotConnected(why.to_owned()));
        let sent: Vec<SentChange> = self.under_way.drain().map(|(_, sent)| sent).collect();
        for sent in sent {
            self.end(connection, sent, not_connected());
        }
        for change in self.waiting.drain(..) {
            answer(change, not_connected());
        }
    }

    fn end(
        &self,
        connection: &NamedConnection,
        sent: SentChange,
        result: Result<(), ConnectionError>,
    ) {
        let SentChange { change, before } = sent;
        // Who has given up was told that nothing has changed. What the other broker sends for a
        // filter that is not there is dropped.
        let is_done = result.is_ok() && !change.answer.is_closed();
        match (change.qos, is_done) {
            (Some(_), false) => _ = connection.set(&change.filter, before),
            (None, true) => _ = connection.set(&change.filter, None),
            (Some(_), true) | (None, false) => {}
        }
        answer(change, result);
    }
}

fn answer(change: Change, result: Result<(), ConnectionError>) {
    // Who has given up needs no answer.
    let _ = change.answer.send(result);
}

fn lost() -> ConnectionError {
    ConnectionError::NotConnected("the connection ended before the answer".to_owned())
}

fn result_of(codes: &[ReasonCode]) -> Result<(), ConnectionError> {
    match codes.iter().find(|code| code.is_error()) {
        // It ends what is not there.
        None | Some(ReasonCode::NoSubscriptionExisted) => Ok(()),
        Some(code) => Err(ConnectionError::Refused(format!(
            "the other broker answers {}",
            code.name()
        ))),
    }
}

fn request(
    change: &Change,
    session: &mut Session,
    now: Duration,
) -> Result<RequestId, RequestError> {
    let filter = change.filter.to_string();
    let Some(qos) = change.qos else {
        let request = UnsubscribeRequest {
            filters: vec![filter],
            ..UnsubscribeRequest::default()
        };
        return session.unsubscribe(&request, now);
    };
    let options = SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let request = SubscribeRequest {
        filters: vec![(filter, options)],
        ..SubscribeRequest::default()
    };
    session.subscribe(&request, now)
}
