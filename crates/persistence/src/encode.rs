//! The records of a tick as records of the store.
//!
//! One of the broker's is never torn: it is in a record of the store as a whole or not at all. What
//! brings something to be kept has a record of the store for itself, so that damage to one costs
//! one message; a page of retained messages is one, and comes again. A message that needs no wait
//! is written together with its entries: then no ROUTING hold and no release are needed. What only
//! changes or ends something shares a record with its neighbours: it is most of what there is,
//! alone hardly longer than a record's header, and losing it to damage costs a message that comes
//! again, never one that does not come.

use martlet_broker::{EnqueuedAs, MessageId, MessageRecord, Now, Record, SessionEpoch};
use martlet_fault::{self as fault, Fault};
use martlet_store::{BodyId, Holds, QueueId, RecordBuffer, RecordBuilder};

use crate::body::put_body;
use crate::entry::{lane, put_amend, put_enqueue};
use crate::state::{
    key, kind, put_group, put_retained_owed, put_session, put_subscription, retained_owed_key,
    subscription_key,
};

/// Broker records in one record of the store at most: a torn one costs no more than these.
const TOGETHER_MAX: usize = 1024;

/// Changes and ends in one record of the store at most.
const CHANGES_TOGETHER_MAX: usize = 256;

/// Puts all records into a buffer for the store, in order. `now` is the time of the tick, against
/// which expiry is put on the wall clock.
pub fn encode(records: &[Record], now: Now, into: &mut RecordBuffer) {
    encode_up_to(usize::MAX, records, now, into);
}

/// Puts records into a buffer for the store, in order, until it has this number of bytes or all are
/// in it. Returns how many were put.
pub fn encode_up_to(bytes: usize, records: &[Record], now: Now, into: &mut RecordBuffer) -> usize {
    let mut rest = records;
    while let [first, ..] = rest
        && into.bytes() < bytes
    {
        let mut builder = into.record();
        match (first, routed_at(rest)) {
            (Record::Message(message), Some(routed_at)) => {
                let entries = &rest[1..routed_at];
                put_message(message, Holds::NONE, entries, now, &mut builder);
                // Its own ends last: without a hold it is its entries alone that keep the contents,
                // and one may have ended before the next one began.
                let ends_it = |entry: &&Record| {
                    matches!(entry, Record::EntryEnded { message: ended, .. }
                        if *ended == message.message.id())
                };
                let others = entries.iter().filter(|entry| !ends_it(entry));
                for entry in others.chain(entries.iter().filter(ends_it)) {
                    put(entry, now, &mut builder);
                }
                rest = &rest[routed_at + 1..];
            }
            _ => {
                let (together, following) = rest.split_at(count_together(rest));
                for record in together {
                    put(record, now, &mut builder);
                }
                rest = following;
            }
        }
    }
    records.len() - rest.len()
}

/// How many of the first records share one of the store: those that change or end something, a page
/// of retained messages, or the first alone.
fn count_together(records: &[Record]) -> usize {
    if let Some(count) = retained_page(records) {
        return count;
    }
    let changes = |record: &&Record| {
        matches!(
            record,
            Record::EntryEnded { .. }
                | Record::Changed(_)
                | Record::Routed(_)
                | Record::Released { .. }
                | Record::RetainedEnded(_)
        )
    };
    let changes = records
        .iter()
        .take(CHANGES_TOGETHER_MAX)
        .take_while(changes);
    changes.count().max(1)
}

/// How many records a page of retained messages has: its entries, and that they are with the
/// session. One without the other would bring them again after a crash.
fn retained_page(records: &[Record]) -> Option<usize> {
    let [Record::Enqueued(first), following @ ..] = records else {
        return None;
    };
    if !matches!(first.why, EnqueuedAs::Retained(_)) {
        return None;
    }
    let mut following = following.iter().take(TOGETHER_MAX);
    let end = following
        .position(|record| !matches!(record, Record::Enqueued(_) | Record::EntryEnded { .. }))?;
    match &records[end + 1] {
        Record::RetainedSent { epoch, .. } if *epoch == first.epoch => Some(end + 2),
        _ => None,
    }
}

/// The position of the record that the message, whose record is the first, has been routed to all;
/// none unless only entries are before it.
fn routed_at(records: &[Record]) -> Option<usize> {
    let [Record::Message(message), following @ ..] = records else {
        return None;
    };
    if !message.to_be_routed {
        return None;
    }
    let id = message.message.id();
    let mut following = following.iter().take(TOGETHER_MAX);
    let end = following.position(|record| {
        !matches!(
            record,
            Record::Enqueued(_) | Record::Changed(_) | Record::EntryEnded { .. }
        )
    })?;
    matches!(&records[end + 1], Record::Routed(routed) if *routed == id).then_some(end + 1)
}

fn put(record: &Record, now: Now, into: &mut RecordBuilder<'_>) {
    match record {
        Record::Session(session) => put_session(session, into),
        Record::Ended(SessionEpoch(epoch)) => into.forget(*epoch),
        Record::Group {
            tenant,
            filter,
            epoch,
        } => put_group(*tenant, filter, *epoch, into),
        Record::Subscribed(subscription) => put_subscription(subscription, into),
        Record::RetainedSent {
            epoch,
            number,
            up_to,
        } => put_retained_owed(*epoch, *number, up_to.as_deref(), into),
        Record::Unsubscribed { epoch, number } => {
            into.remove_state(subscription_key(*epoch, *number));
            if !fault::is(Fault::RetainedOwedStays) {
                into.remove_state(retained_owed_key(*epoch, *number));
            }
        }
        Record::Message(message) => {
            let routing = match message.to_be_routed {
                true if fault::is(Fault::RoutingNotHeld) => Holds::NONE,
                true => Holds::ROUTING,
                false => Holds::NONE,
            };
            put_message(message, routing, &[], now, into);
        }
        Record::RetainedEnded(id) => into.release(BodyId(id.0), Holds::RETAINED),
        Record::Routed(id) => into.release(BodyId(id.0), Holds::ROUTING),
        Record::Released { epoch, packet_id } => {
            into.end_token(QueueId(epoch.0), packet_id.get().into());
        }
        Record::Enqueued(entry) => put_enqueue(entry, into),
        Record::Changed(entry) => put_amend(entry, into),
        Record::EntryEnded {
            epoch,
            message,
            why,
        } => into.end(QueueId(epoch.0), BodyId(message.0), lane(*why)),
        Record::Moved { from, from_why, to } => {
            let (from, message) = (QueueId(from.0), BodyId(to.message.0));
            if fault::is(Fault::MoveEndsFirst) {
                into.end(from, message, lane(*from_why));
                return put_enqueue(to, into);
            }
            // The new entry first: the body must not be without one in between.
            put_enqueue(to, into);
            into.end(from, message, lane(*from_why));
        }
    }
}

/// Writes a record that releases these holds of a message.
pub(crate) fn put_released(id: MessageId, holds: Holds, into: &mut RecordBuffer) {
    into.record().release(BodyId(id.0), holds);
}

/// A message with `routing` as a hold or none, and the rest of its record. `entries` follow in the
/// same record.
fn put_message(
    message: &MessageRecord,
    routing: Holds,
    entries: &[Record],
    now: Now,
    into: &mut RecordBuilder<'_>,
) {
    let id = message.message.id();
    let holds = match message.retained_revision {
        Some(_) => routing.with(Holds::RETAINED),
        None => routing,
    };
    let enqueued =
        |record: &Record| matches!(record, Record::Enqueued(entry) if entry.message == id);
    // Else it is the receipt or the Will's end alone that must be kept.
    if holds != Holds::NONE || entries.iter().any(enqueued) {
        put_body(message, holds, now, into);
    }
    if let Some((epoch, packet_id)) = message.receipt {
        into.token(QueueId(epoch.0), packet_id.get().into(), 0);
    }
    if let Some(replaced) = message.replaces
        && !fault::is(Fault::ReplacedStaysRetained)
    {
        into.release(BodyId(replaced.0), Holds::RETAINED);
    }
    if let Some(epoch) = message.will_of {
        into.remove_state(key(epoch, kind::WILL));
    }
}
