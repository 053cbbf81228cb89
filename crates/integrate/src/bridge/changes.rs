//! Changes of the subscriptions of a named connection that are in progress.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use martlet_client::{
    Acknowledgement, RequestError, RequestId, Session, SubscribeRequest, UnsubscribeRequest,
};
use martlet_codec::{QoS, ReasonCode, RetainHandling, SubscriptionOptions};

use super::ask::{Change, ConnectionError};
use super::connection::NamedConnection;

/// Changes that wait or are in progress.
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
    /// Adds a change, which waits for a connection.
    pub(super) fn take(&mut self, change: Change) {
        self.waiting.push_back(change);
    }

    /// Whether a requester waits for a connection.
    pub(super) fn wait(&self) -> bool {
        self.waiting.iter().any(|change| !change.answer.is_closed())
    }

    /// Sends waiting changes over a connected session.
    pub(super) fn send(
        &mut self,
        connection: &NamedConnection,
        session: &mut Session,
        now: Duration,
    ) {
        while let Some(change) = self.waiting.pop_front() {
            // A requester that stopped waiting was told that nothing has changed.
            if change.answer.is_closed() {
                continue;
            }
            match request(&change, session, now) {
                Ok(request) => {
                    // Retained messages may arrive before the SUBACK.
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

    /// Handles the end of a request. Returns its result if it is not one of these changes.
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

    /// Fails all waiting changes: there is no connection, for this reason.
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
        // A requester that stopped waiting got an error that nothing has changed. Messages of the
        // other broker for an unknown filter are dropped.
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
    // A requester that stopped waiting needs no answer.
    let _ = change.answer.send(result);
}

fn lost() -> ConnectionError {
    ConnectionError::NotConnected("the connection ended before the answer".to_owned())
}

fn result_of(codes: &[ReasonCode]) -> Result<(), ConnectionError> {
    match codes.iter().find(|code| code.is_error()) {
        // The subscription to end does not exist.
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
