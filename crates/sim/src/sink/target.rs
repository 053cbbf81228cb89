//! The other system of a sink: it accepts messages late, refuses some, fails, requests pauses,
//! hangs, loses answers, and panics.

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;

use martlet_broker::MessageId;
use martlet_integrate::{Outcome, Sink, SinkMessage, SinkMessages};

use super::SinkFact;
use super::host::Shared;
use crate::client::outbound::message_of;
use crate::facts::MessageIndex;

/// One in this number of messages makes the sink panic each time, until disturbances are over.
const POISONED_ONE_IN: MessageIndex = 37;

/// Behaviour of the target with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Take,
    Refuse,
    Fail,
    Later,
    /// The target accepts the message, and never answers.
    TakeAndHang,
    /// The target accepts the message, and then panics.
    TakeAndPanic,
    /// The target fails at this message, and accepts messages of other publishers.
    FailAtIt,
    /// The target accepts the message, but does not answer in time.
    TakeSilently,
    /// The target does not answer for this message and later ones.
    Forget,
}

/// A sink.
pub(super) struct Target(pub(super) Shared);

impl Target {
    fn fate(&self) -> Fate {
        let mut outside = self.0.lock();
        let percent = outside.plan.trouble_percent;
        if outside.is_well || !outside.random.percent(percent) {
            return Fate::Take;
        }
        let fate = outside.random.pick(&[
            Fate::Refuse,
            Fate::Fail,
            Fate::Later,
            Fate::TakeAndHang,
            Fate::TakeAndPanic,
            Fate::FailAtIt,
            Fate::TakeSilently,
            Fate::Forget,
        ]);
        match fate {
            // Such a panic is not caught.
            Fate::TakeAndPanic if cfg!(panic = "abort") => Fate::Fail,
            fate => fate,
        }
    }

    fn take(&self, message: &SinkMessage) {
        let took = SinkFact::Took {
            id: MessageId(message.id()),
            message: message_of(message.payload()),
            repeated: message.repeated(),
            tenant: message.tenant(),
        };
        self.0.lock().facts.push(took);
    }

    fn is_poisoned(&self, message: &SinkMessage) -> bool {
        let number = message_of(message.payload());
        let outside = self.0.lock();
        let has_poison = outside.plan.has_poison && !outside.is_well && cfg!(panic = "unwind");
        has_poison && number.is_some_and(|number| number % POISONED_ONE_IN == 0)
    }

    fn answer(&self, batch: &[SinkMessage], outcomes: Vec<Outcome>) -> Vec<Outcome> {
        let answered = batch.iter().zip(&outcomes);
        let done = answered.filter(|(_, outcome)| **outcome == Outcome::Done);
        let mut outside = self.0.lock();
        for (message, _) in done {
            outside.taken += 1;
            let answered = SinkFact::Answered(MessageId(message.id()));
            outside.facts.push(answered);
        }
        drop(outside);
        outcomes
    }
}

/// State of the target in a call.
#[derive(Default)]
struct Progress {
    /// Publishers whose messages are no longer accepted.
    failing: BTreeSet<Option<String>>,
    /// Whether it has stopped answering.
    is_over: bool,
}

impl Target {
    /// Waits for the processing time of the target.
    async fn work(&self) {
        let at_us = {
            let mut outside = self.0.lock();
            let most_us = outside.plan.deliver_us + 1;
            outside.now_us + outside.random.below(most_us)
        };
        self.0.until(at_us).await;
    }

    /// Delivers one message; `None`: there is no outcome.
    async fn deliver_one(&self, message: &SinkMessage, progress: &mut Progress) -> Option<Outcome> {
        let publisher = message.client_id().map(str::to_owned);
        if progress.failing.contains(&publisher) {
            return Some(Outcome::NotTried);
        }
        assert!(!self.is_poisoned(message), "a message that it cannot take");
        Some(match self.fate() {
            Fate::Take => {
                self.take(message);
                Outcome::Done
            }
            Fate::Refuse => {
                let rejected = SinkFact::Rejected(MessageId(message.id()));
                self.0.lock().facts.push(rejected);
                Outcome::Refused("not wanted".to_owned())
            }
            Fate::Fail => {
                progress.is_over = true;
                Outcome::Failed("out of order".to_owned())
            }
            Fate::Later => {
                progress.is_over = true;
                let time = Duration::from_millis(700);
                Outcome::Later("busy".to_owned(), time)
            }
            Fate::TakeAndHang => {
                self.take(message);
                pending().await
            }
            Fate::TakeAndPanic => {
                self.take(message);
                panic!("by chance");
            }
            Fate::FailAtIt => {
                progress.failing.insert(publisher);
                Outcome::FailedAtMessage("not this one".to_owned())
            }
            Fate::TakeSilently => {
                self.take(message);
                progress.failing.insert(publisher);
                Outcome::NoAnswer("silence".to_owned())
            }
            Fate::Forget => {
                progress.is_over = true;
                return None;
            }
        })
    }
}

impl Sink for Target {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        self.work().await;
        let (mut outcomes, mut progress) = (Vec::new(), Progress::default());
        for message in batch {
            outcomes.extend(self.deliver_one(message, &mut progress).await);
            if progress.is_over {
                break;
            }
        }
        self.answer(batch, outcomes)
    }

    async fn deliver_from(&mut self, feed: &mut SinkMessages) {
        if !self.0.lock().plan.streams {
            let (tickets, batch) = feed.batch();
            let outcomes = self.deliver(&batch).await;
            return feed.tell_all(tickets, outcomes);
        }
        let mut progress = Progress::default();
        while !progress.is_over
            && let Some((ticket, message)) = feed.take()
        {
            self.work().await;
            if let Some(outcome) = self.deliver_one(&message, &mut progress).await {
                let outcomes = self.answer(std::slice::from_ref(&message), vec![outcome]);
                feed.tell_all(vec![ticket], outcomes);
            }
        }
    }

    async fn test(&mut self) -> Result<(), String> {
        Ok(())
    }
}
