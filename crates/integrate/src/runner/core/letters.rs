//! Dead letters: stores messages that the sink has refused, and sends them again on request.

use std::collections::BTreeMap;
use std::time::Duration;

use martlet_broker::PartOutcome;
use martlet_fault::{self as fault, Fault};
use tracing::{debug, warn};

use super::super::attempt::Broken;
use super::super::clock::answered;
use super::retry::RetryTarget;
use super::{Core, SAVED_WITHIN};
use crate::dead_letters::{DeadLetter, StoredLetter};
use crate::feed::Ticket;
use crate::outcome::Outcome;

/// Maximum number of dead letters that wait to be sent again.
const AGAIN_MAX: usize = 10_000;
/// Minimum interval of log lines about dropped dead letters.
const DROPPED_TOLD_EVERY: Duration = Duration::from_secs(60);

impl Core {
    /// Stores refused messages, then settles them.
    pub(in super::super) async fn store_letters_if_due(&mut self) {
        if self.refused.is_empty() || !self.to_store.is_due(self.clock.now()) {
            return;
        }
        let letters = self.next_letters();
        let count = letters.len();
        let limit = self.settings.deliver_within;
        let put = self.host.dead_letters().put(letters);
        let put = answered(&*self.clock, limit, put).await;
        let is_believed = fault::is(Fault::SinkSettlesBeforeLetter);
        match if is_believed { put.or(Ok(0)) } else { put } {
            Ok(dropped) => {
                self.counts.dead_letters += count as u64;
                self.counts.dead_letters_dropped += dropped;
                if dropped > 0 {
                    self.tell_dropped_letters();
                }
                let stored = self.refused.drain(..count);
                let settled = stored.map(|one| {
                    let (topic, reason) = (one.message.topic(), &one.reason);
                    debug!(integration = %self.client_id, topic, reason, "a message was refused");
                    (one.token, PartOutcome::Refused(one.why))
                });
                let settled = settled.collect();
                self.settle(settled);
                self.succeed(RetryTarget::Store);
            }
            Err(why) => {
                let error = format!("the dead-letter store cannot be written: {why}");
                self.fail(RetryTarget::Store, error);
            }
        }
    }

    /// Logs that the oldest dead letters were dropped, at most once a minute.
    fn tell_dropped_letters(&mut self) {
        let now = self.clock.now();
        if self
            .dropped_told
            .is_some_and(|told| now - told < DROPPED_TOLD_EVERY)
        {
            return;
        }
        self.dropped_told = Some(now);
        let (dropped, integration) = (self.counts.dead_letters_dropped, &self.client_id);
        warn!(%integration, dropped, "the dead-letter store is full: the oldest were dropped");
    }

    /// The first refused messages, as letters: up to the bytes of a batch.
    fn next_letters(&self) -> Vec<DeadLetter> {
        let (kind, name) = (self.settings.kind, &*self.settings.name);
        let mut bytes = 0;
        let part = self.refused.iter().enumerate().take_while(|(at, one)| {
            bytes += one.message.bytes();
            *at == 0 || bytes <= self.settings.batch_bytes
        });
        let letters =
            part.map(|(_, one)| DeadLetter::new(kind, name, &one.message, &one.reason, one.at_ms));
        letters.collect()
    }

    pub(super) fn queue_letters(&mut self, ids: Vec<u64>) -> Result<(), String> {
        let new: Vec<u64> = ids
            .into_iter()
            .filter(|id| !self.again.contains(id))
            .collect();
        if self.again.len() + new.len() > AGAIN_MAX {
            let waiting = self.again.len();
            return Err(format!(
                "{waiting} dead letters wait to be sent again already, and {AGAIN_MAX} may: \
                 send fewer at once"
            ));
        }
        self.again.extend(new);
        Ok(())
    }

    pub(in super::super) fn has_letters_to_send(&self, now: Duration) -> bool {
        !self.again.is_empty() && self.letters_due(now) <= now
    }

    /// When dead letters may be sent again; the result may be `now`. They have separate pauses, so
    /// that a rejected dead letter delays no message.
    pub(super) fn letters_due(&self, now: Duration) -> Duration {
        let at = [self.to_letters.at, self.to_store.at, self.asked_until];
        at.into_iter().flatten().max().unwrap_or(now)
    }

    /// The next dead letters to be sent again; none if they cannot be read.
    pub(in super::super) async fn load_letters(&mut self) -> Option<Vec<DeadLetter>> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while let Some(id) = self.again.front().copied() {
            let store = self.host.dead_letters();
            let read = answered(&*self.clock, SAVED_WITHIN, store.get(id)).await;
            let read = match read {
                Ok(Some(StoredLetter::Damaged(why))) => {
                    let noted = store.note_damaged(id, why);
                    let noted = answered(&*self.clock, SAVED_WITHIN, noted).await;
                    noted.map(|()| None)
                }
                other => other,
            };
            match read {
                Ok(Some(StoredLetter::Whole(letter))) if self.is_own(&letter) => {
                    bytes += letter.payload.len();
                    let is_full = letters.len() >= usize::from(self.settings.batch_messages)
                        || bytes > self.settings.batch_bytes
                        || self.letters_alone > 0;
                    if is_full && !letters.is_empty() {
                        break;
                    }
                    letters.push(*letter);
                }
                // The letter was dropped in the meantime, or is damaged.
                Ok(_) => {}
                Err(why) => {
                    for letter in letters.into_iter().rev() {
                        self.again.push_front(letter.head.id);
                    }
                    let error = format!("the dead-letter store cannot be read: {why}");
                    self.fail(RetryTarget::Store, error);
                    return None;
                }
            }
            self.again.pop_front();
        }
        self.store_works();
        self.letters_under_way = letters.len();
        Some(letters)
    }

    /// Handles a successful read or write of the dead-letter store. If letters wait to be stored,
    /// only storing them proves that it works.
    fn store_works(&mut self) {
        if self.refused.is_empty() {
            self.succeed(RetryTarget::Store);
        }
    }

    fn is_own(&self, letter: &DeadLetter) -> bool {
        letter.head.kind == self.settings.kind && *letter.head.name == *self.settings.name
    }

    /// Handles the outcomes of dead letters that were handed to the sink.
    pub(in super::super) async fn letters_sent(
        &mut self,
        letters: Vec<DeadLetter>,
        outcomes: Vec<(Ticket, Outcome)>,
        done: Result<(), Broken>,
    ) {
        self.letters_under_way = 0;
        let mut outcomes: BTreeMap<Ticket, Outcome> = outcomes.into_iter().collect();
        let mut error = None;
        match done {
            Ok(()) => {}
            Err(broken) if letters.len() == 1 && matches!(broken, Broken::Panicked(_)) => {
                outcomes.insert(Ticket(0), Outcome::Refused(broken.to_string()));
            }
            Err(broken) => {
                if matches!(broken, Broken::Panicked(_)) {
                    self.letters_alone = letters.len();
                }
                error = Some(broken.to_string());
            }
        }
        let now_ms = self.host.now_ms();
        let (mut removed, mut refused, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let is_empty = outcomes.is_empty();
        let mut after = Duration::ZERO;
        for (number, mut letter) in (0..).zip(letters) {
            match outcomes.remove(&Ticket(number)) {
                Some(Outcome::Done) => removed.push(letter.head.id),
                // An operator requested it and sees the result.
                Some(
                    Outcome::Refused(reason)
                    | Outcome::FailedAtMessage(reason)
                    | Outcome::NoAnswer(reason),
                ) => {
                    (letter.head.reason, letter.head.refused_ms) = (reason, now_ms);
                    letter.head.refusals = letter.head.refusals.saturating_add(1);
                    refused.push(letter);
                }
                Some(Outcome::Failed(why)) => {
                    error.get_or_insert(why);
                    left.push(letter.head.id);
                }
                Some(Outcome::Later(why, time)) => {
                    error.get_or_insert(why);
                    after = after.max(time);
                    left.push(letter.head.id);
                }
                Some(Outcome::NotTried | Outcome::SentWithOthers) | None => {
                    left.push(letter.head.id)
                }
            }
        }
        let delivered = removed.len() as u64;
        self.counts.delivered += delivered;
        self.counts.repeated += delivered;
        self.counts.refused += refused.len() as u64;
        let ended = removed.len() + refused.len();
        self.letters_alone = self.letters_alone.saturating_sub(ended);
        // After the others, which may be accepted.
        self.again.extend(left);
        if is_empty && error.is_none() {
            error = Some("the sink returned no outcome".to_owned());
        }
        match error {
            Some(error) => {
                self.counts.failed_attempts += 1;
                self.fail(RetryTarget::Letters, error);
                self.pause_sink(after);
            }
            None => self.succeed(RetryTarget::Letters),
        }
        if delivered > 0 {
            self.delivered_ms = Some(now_ms);
        }
        // A letter that was delivered and could not be removed still exists: it may be sent twice.
        match self.tidy_letters(removed, refused).await {
            Ok(()) => self.store_works(),
            Err(why) => {
                let error = format!("the dead-letter store cannot be written: {why}");
                self.fail(RetryTarget::Store, error);
            }
        }
    }

    async fn tidy_letters(
        &self,
        removed: Vec<u64>,
        refused: Vec<DeadLetter>,
    ) -> Result<(), String> {
        let store = self.host.dead_letters();
        let work = async {
            if !removed.is_empty() {
                store.remove(removed).await?;
            }
            if !refused.is_empty() {
                store.put(refused).await?;
            }
            Ok(())
        };
        answered(&*self.clock, self.settings.deliver_within, work).await
    }
}
