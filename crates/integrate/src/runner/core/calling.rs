//! One call of the sink: the messages handed to it, and the outcomes that it reports.
//!
//! Delivered messages are settled during the call, and new messages are handed over in it. All
//! other outcomes are processed after the call.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{PartOutcome, PartRefusal};
use martlet_fault::{self as fault, Fault};

use super::super::attempt::Broken;
use super::super::settings::OnReject;
use super::super::unsettled_message::UnsettledMessage;
use super::call::Call;
use super::retry::RetryTarget;
use super::{Core, Mode, RefusedMessage};
use crate::feed::{Feeder, SinkMessages, Ticket};
use crate::outcome::Outcome;

/// Time in which messages are handed over in one call. Then the runner does the work that waits
/// for the end of a call, such as storing dead letters.
const FED_WITHIN: Duration = Duration::from_secs(2);
/// Time for which messages that arrive slowly are gathered for a call: a longer wait costs more
/// than it saves.
const CALLED_EVERY_LEAST: Duration = Duration::from_millis(1);
/// Waiting time per message of the previous call. So only messages that arrive faster than this
/// wait longer than the minimum.
const GATHERED_FOR_EACH: Duration = Duration::from_micros(40);
/// Number of refused messages after which a call is ended, so that their dead letters are stored.
const REFUSED_MAX: usize = 100;

impl Core {
    /// Hands the messages at these positions to the sink, in a new call.
    pub(in super::super) fn begin_call(&mut self, places: &[usize]) -> (Feeder, SinkMessages) {
        let messages_max = usize::from(self.settings.batch_messages);
        let (feeder, feed) = Feeder::new(messages_max);
        self.call = Call {
            began: self.clock.now(),
            ..Call::default()
        };
        self.called_at = Some(self.call.began);
        self.called_with = 0;
        self.hand_over(&feeder, places);
        (feeder, feed)
    }

    /// Until when to gather messages for the next call, if there are few; `None`: call the sink
    /// now.
    pub(in super::super) fn gathers_until(&self, messages: usize) -> Option<Duration> {
        let are_few = messages > 0 && messages * 2 < usize::from(self.settings.batch_messages);
        let messages_before = u32::try_from(self.called_with).unwrap_or(u32::MAX);
        let for_each = GATHERED_FOR_EACH.saturating_mul(messages_before);
        let after = for_each.max(CALLED_EVERY_LEAST);
        let until = self
            .called_at?
            .saturating_add(after.min(self.settings.called_every));
        (are_few && self.alone == 0 && self.clock.now() < until).then_some(until)
    }

    /// Waits until that time, or until an operator sends a command. Events of the node are not
    /// read in the meantime.
    pub(in super::super) async fn gather(&mut self, until: Duration) {
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            told = self.told.recv() => match told {
                Some(told) => self.obey(told).await,
                None => self.is_stopping = true,
            },
            () = clock.sleep_until(until) => {}
        }
    }

    fn hand_over(&mut self, feeder: &Feeder, places: &[usize]) {
        let taken = self.take_out(places);
        let first = self.handed.back().map_or(0, |last| last.ticket.0 + 1);
        let first = first.max(self.next_ticket);
        self.next_ticket = first + taken.len() as u64;
        self.called_with += taken.len();
        let mut messages = Vec::with_capacity(taken.len());
        for (number, mut held) in (first..).zip(taken) {
            held.ticket = Ticket(number);
            self.call.bytes += held.message.bytes();
            messages.push((held.ticket, held.message.clone()));
            self.handed.push_back(held);
        }
        feeder.push(messages);
    }

    /// Processes the outcomes of the sink, and hands over new messages if it takes them. Returns
    /// whether there were outcomes.
    pub(in super::super) fn feed(&mut self, feeder: &Feeder) -> bool {
        let has_heard = self.hear_outcomes(feeder);
        if feeder.takes_more() {
            self.hand_over_more(feeder);
        }
        has_heard
    }

    /// Hands over messages that fit into the current call, or ends it if other work waits for its
    /// end.
    fn hand_over_more(&mut self, feeder: &Feeder) {
        let now = self.clock.now();
        if !self.may_feed(now) {
            return feeder.close();
        }
        let messages = usize::from(self.settings.batch_messages);
        let messages = messages.saturating_sub(self.handed.len());
        let bytes = self.settings.batch_bytes.saturating_sub(self.call.bytes);
        if messages > 0 && bytes > 0 {
            let places = self.places(now, messages, bytes);
            if !places.is_empty() {
                self.hand_over(feeder, &places);
            }
        }
    }

    /// Whether the current call continues: nothing waits for its end.
    fn may_feed(&self, now: Duration) -> bool {
        let waits = self.is_stopping
            || self.has_been_repaired
            || self.deferred.is_some()
            || !self.tests.is_empty()
            || self.has_letters_to_send(now)
            || self.refused.len() >= REFUSED_MAX;
        let is_plain = self.mode == Mode::Running && self.alone == 0 && !self.skips;
        let is_late = now.saturating_sub(self.call.began) >= FED_WITHIN;
        is_plain && !waits && !is_late && self.call.kept.is_empty()
    }

    /// Settles delivered messages and records refused ones. Returns whether there were outcomes.
    fn hear_outcomes(&mut self, feeder: &Feeder) -> bool {
        let said = feeder.outcomes();
        if said.is_empty() {
            return false;
        }
        let (mut done, mut refused) = (Vec::with_capacity(said.len()), Vec::new());
        for (ticket, outcome) in said {
            match outcome {
                Outcome::Done => done.push(ticket),
                Outcome::Refused(reason) if self.settings.on_reject == OnReject::DeadLetter => {
                    refused.push((ticket, reason));
                }
                other => self.call.kept.push((ticket, other)),
            }
        }
        if !self.call.kept.is_empty() {
            feeder.close();
        }
        done.sort_unstable();
        self.settle_done(&done);
        for (ticket, reason) in refused {
            if let Some(held) = self.take_handed(ticket) {
                self.publisher_goes_on(&held);
                self.call.refused += 1;
                self.refuse(held, reason, PartRefusal::Rejected);
            }
        }
        true
    }

    /// Settles these messages, which are in call order.
    fn settle_done(&mut self, done: &[Ticket]) {
        let Some(last) = done.last() else {
            return;
        };
        let mut settled = Vec::with_capacity(done.len());
        let now_ms = self.host.now_ms();
        let (mut done, mut others) = (done.iter().copied().peekable(), Vec::new());
        while let Some(mut held) = self.handed.pop_front_if(|held| held.ticket <= *last) {
            while done.next_if(|ticket| *ticket < held.ticket).is_some() {}
            if done.next_if_eq(&held.ticket).is_none() {
                others.push(held);
                continue;
            }
            let so_far = self.counts.delivered;
            self.giving_up
                .judged(&mut held.failures, so_far, Outcome::Done);
            self.publisher_goes_on(&held);
            self.counts.delivered += 1;
            self.counts.repeated += u64::from(held.message.repeated());
            self.call.delivered += 1;
            self.call.bytes = self.call.bytes.saturating_sub(held.message.bytes());
            settled.push((held.token, PartOutcome::Done));
        }
        for held in others.into_iter().rev() {
            self.handed.push_front(held);
        }
        self.delivered_ms = Some(now_ms);
        self.panicked_in_a_row = 0;
        if self.call.kept.is_empty() {
            self.succeed(RetryTarget::Sink);
        }
        if self.is_stopping && fault::is(Fault::SinkStopForgets) {
            settled.clear();
        }
        self.settle(settled);
    }

    fn take_handed(&mut self, ticket: Ticket) -> Option<UnsettledMessage> {
        let place = self.handed.iter().position(|one| one.ticket == ticket)?;
        let held = self.handed.remove(place)?;
        self.call.bytes = self.call.bytes.saturating_sub(held.message.bytes());
        Some(held)
    }

    /// Refuses a message permanently: it waits to become a dead letter.
    pub(super) fn refuse(&mut self, held: UnsettledMessage, reason: String, why: PartRefusal) {
        self.counts.refused += 1;
        self.refused.push_back(RefusedMessage {
            token: held.token,
            message: held.message,
            reason,
            why,
            at_ms: self.host.now_ms(),
        });
    }

    /// Ends the call.
    pub(in super::super) fn end_call(&mut self, feeder: &Feeder, done: Result<(), Broken>) {
        self.hear_outcomes(feeder);
        let mut call = std::mem::take(&mut self.call);
        let mut kept = std::mem::take(&mut call.kept);
        kept.sort_unstable_by_key(|(ticket, _)| *ticket);
        let handed: Vec<UnsettledMessage> = std::mem::take(&mut self.handed).into();
        let mut kept = kept.into_iter().peekable();
        let said = |held: &UnsettledMessage| {
            while kept.next_if(|(ticket, _)| *ticket < held.ticket).is_some() {}
            let own = kept.next_if(|(ticket, _)| *ticket == held.ticket);
            own.map(|(_, outcome)| outcome)
        };
        let outcomes = handed.iter().map(said).collect();
        self.delivered(handed, outcomes, &call, done.err());
    }
}
