//! Messages that the worker of a bridge was given and that have not ended.
//!
//! The session of the client keeps what was sent and not acknowledged, and sends it again over the
//! next connection. The sink may have given up waiting for it meanwhile, and gives the message
//! once more: it is recognised by its id, and not sent as another one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use martlet_client::{Acknowledgement, Message, RequestError, RequestId, Session};
use martlet_codec::{QoS, ReasonCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::sink::Outcome;

/// Time after which a batch is answered as far as it has come. Below the time limit of the runner.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Ends of messages that nobody has asked for again and that are remembered.
const ENDS_MAX: usize = 100_000;

/// A message to be sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// By which the node names it.
    pub(super) id: u64,
    pub(super) message: Message,
}

/// What the other broker takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) qos_max: QoS,
    pub(super) takes_retained: bool,
}

/// What was given to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Not sent yet.
    waiting: VecDeque<Outgoing>,
    /// Sent and not acknowledged.
    requests: HashMap<RequestId, u64>,
    under_way: HashSet<u64>,
    /// Ended, and nobody was told.
    ended: HashMap<u64, Outcome>,
    batch: Option<Batch>,
}

#[derive(Debug)]
struct Batch {
    ids: Vec<u64>,
    answer: oneshot::Sender<Vec<Outcome>>,
    until: Instant,
    /// Messages of it that have not ended.
    left: HashSet<u64>,
    /// Whether any has ended since it was given.
    has_moved: bool,
}

impl Outbox {
    /// Takes a batch in place of the one before, which nobody waits for any more.
    pub(super) fn take(&mut self, messages: Vec<Outgoing>, answer: oneshot::Sender<Vec<Outcome>>) {
        if self.ended.len() > ENDS_MAX {
            self.ended.clear();
        }
        self.waiting.clear();
        let ids: Vec<u64> = messages.iter().map(|one| one.id).collect();
        let left = ids.iter().copied();
        let left: HashSet<u64> = left.filter(|id| !self.ended.contains_key(id)).collect();
        for one in messages {
            if !self.ended.contains_key(&one.id) && !self.under_way.contains(&one.id) {
                self.waiting.push_back(one);
            }
        }
        self.batch = Some(Batch {
            has_moved: left.len() < ids.len(),
            left,
            ids,
            answer,
            until: Instant::now() + ANSWERED_WITHIN,
        });
    }

    /// Whether something waits for a connection.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty() || !self.under_way.is_empty()
    }

    /// When the batch is answered at the latest; none if there is none.
    pub(super) fn until(&self) -> Option<Instant> {
        self.batch.as_ref().map(|batch| batch.until)
    }

    /// Gives to the session, which is connected, what waits.
    pub(super) fn send(&mut self, session: &mut Session, server: Server, now: Duration) {
        while let Some(Outgoing { id, mut message }) = self.waiting.pop_front() {
            message.qos = message.qos.min(server.qos_max);
            message.retain &= server.takes_retained;
            match session.publish(message, now) {
                Ok(request) => {
                    self.requests.insert(request, id);
                    self.under_way.insert(id);
                }
                Err(error) => self.end(id, refused(error)),
            }
        }
    }

    /// A request of the session has ended.
    pub(super) fn completed(&mut self, request: RequestId, how: Acknowledgement) {
        let Some(id) = self.requests.remove(&request) else {
            return;
        };
        self.under_way.remove(&id);
        let Acknowledgement::Published {
            reason,
            reason_string,
        } = how
        else {
            return;
        };
        self.end(id, outcome(reason, reason_string.as_deref()));
    }

    fn end(&mut self, id: u64, outcome: Outcome) {
        self.ended.insert(id, outcome);
        if let Some(batch) = &mut self.batch
            && batch.left.remove(&id)
        {
            batch.has_moved = true;
        }
    }

    /// Answers the batch if all of it has ended.
    pub(super) fn answer_if_done(&mut self) {
        if self
            .batch
            .as_ref()
            .is_some_and(|batch| batch.left.is_empty())
        {
            self.answer(None);
        }
    }

    /// Answers the batch as far as it has come. `trouble` says why there is no connection.
    pub(super) fn answer(&mut self, trouble: Option<&str>) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let silent = || {
            Outcome::Failed(
                "the other broker is connected and does not acknowledge messages".to_owned(),
            )
        };
        let rest = match trouble {
            Some(why) => Outcome::Failed(why.to_owned()),
            None if batch.has_moved => Outcome::NotTried,
            None => silent(),
        };
        let outcomes = batch.ids.iter();
        let outcomes = outcomes.map(|id| self.ended.remove(id).unwrap_or_else(|| rest.clone()));
        // What has ended is told once: if the sink does not wait any more it gives it again.
        if let Err(outcomes) = batch.answer.send(outcomes.collect()) {
            let ends = batch.ids.into_iter().zip(outcomes);
            self.ended
                .extend(ends.filter(|(_, outcome)| *outcome == Outcome::Done));
        }
        self.waiting.clear();
    }
}

fn refused(error: RequestError) -> Outcome {
    let why = match error {
        RequestError::PacketTooLarge => "it is larger than the other broker accepts",
        RequestError::InvalidTopic => "its topic with the remote prefix is no valid Topic Name",
        RequestError::NotConnected => {
            return Outcome::Failed("the connection has ended".to_owned());
        }
        _ => "the other broker does not support it",
    };
    Outcome::Refused(why.to_owned())
}

fn outcome(reason: ReasonCode, text: Option<&str>) -> Outcome {
    if !reason.is_error() {
        return Outcome::Done;
    }
    let text = text.map(|text| format!(" ({text})")).unwrap_or_default();
    let why = format!("the other broker answers {}{text}", reason.name());
    match reason {
        ReasonCode::NotAuthorized
        | ReasonCode::TopicNameInvalid
        | ReasonCode::PacketTooLarge
        | ReasonCode::PayloadFormatInvalid => Outcome::Refused(why),
        ReasonCode::QuotaExceeded | ReasonCode::ServerBusy => Outcome::Failed(why),
        _ => Outcome::FailedAtMessage(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(outbox: &mut Outbox, ids: &[u64]) -> oneshot::Receiver<Vec<Outcome>> {
        let (answer, answered) = oneshot::channel();
        let all = ids.iter().map(|id| Outgoing {
            id: *id,
            message: Message::default(),
        });
        outbox.take(all.collect(), answer);
        answered
    }

    fn acknowledged(outbox: &mut Outbox, request: u64, id: u64) {
        outbox.requests.insert(RequestId(request), id);
        outbox.under_way.insert(id);
        outbox.waiting.retain(|one| one.id != id);
        let how = Acknowledgement::Published {
            reason: ReasonCode::Success,
            reason_string: None,
        };
        outbox.completed(RequestId(request), how);
    }

    #[test]
    fn a_message_that_is_given_again_is_not_sent_again() {
        let mut outbox = Outbox::default();
        drop(given(&mut outbox, &[1, 2, 3]));
        outbox.requests.insert(RequestId(9), 2);
        outbox.under_way.insert(2);
        acknowledged(&mut outbox, 8, 1);
        outbox.answer(Some("lost"));
        let mut answered = given(&mut outbox, &[1, 2, 3]);
        let waiting: Vec<u64> = outbox.waiting.iter().map(|one| one.id).collect();
        assert_eq!(waiting, [3]);
        acknowledged(&mut outbox, 9, 2);
        acknowledged(&mut outbox, 10, 3);
        outbox.answer_if_done();
        assert_eq!(answered.try_recv(), Ok(vec![Outcome::Done; 3]));
        assert!(outbox.ended.is_empty() && !outbox.waits());
    }

    #[test]
    fn a_batch_is_answered_as_far_as_it_has_come() {
        let mut outbox = Outbox::default();
        let mut answered = given(&mut outbox, &[1, 2]);
        acknowledged(&mut outbox, 1, 1);
        outbox.answer_if_done();
        assert!(answered.try_recv().is_err());
        outbox.answer(None);
        assert_eq!(
            answered.try_recv(),
            Ok(vec![Outcome::Done, Outcome::NotTried])
        );
        let mut answered = given(&mut outbox, &[2]);
        outbox.answer(None);
        let outcomes = answered.try_recv().expect("an answer");
        assert!(matches!(&outcomes[..], [Outcome::Failed(why)] if why.contains("acknowledge")));
    }
}
