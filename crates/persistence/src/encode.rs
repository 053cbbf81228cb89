//! Converts the records of a tick to records of the store.
//!
//! A broker record is never torn: it is in a store record completely or not at all. A record that
//! adds data gets a store record of its own, so that damage to one costs one message. Exception: a
//! page of retained messages shares one, because it can be sent again. A message that needs no
//! wait is written together with its entries: then no ROUTING hold and no release are needed.
//! Records that only change or end something share a store record with their neighbours. They are
//! the majority, and a single one is hardly longer than a record's header. Their loss by damage
//! causes a message to be delivered again, never one to be lost.

use martlet_broker::{EnqueuedAs, MessageId, MessageRecord, Now, Record, SessionEpoch};
use martlet_fault::{self as fault, Fault};
use martlet_store::{BodyId, Holds, QueueId, RecordBuffer, RecordBuilder};

use crate::body::put_body;
use crate::entry::{lane, put_amend, put_enqueue};
use crate::state::{
    key, kind, put_group, put_retained_owed, put_session, put_subscription, retained_owed_key,
    subscription_key,
};

/// Maximum number of broker records in one store record: damage costs no more than these.
const TOGETHER_MAX: usize = 1024;

/// Maximum number of changes and ends in one store record.
const CHANGES_TOGETHER_MAX: usize = 256;

/// Encodes all records for the store, in order. `now` is the time of the tick, for converting
/// expiry to the wall clock.
pub fn encode(records: &[Record], now: Now, into: &mut RecordBuffer) {
    encode_up_to(usize::MAX, records, now, into);
}

/// Encodes records for the store, in order, until the buffer has this number of bytes or all are
/// in it. Returns how many were encoded.
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
                // Its own ends come last: without a hold only its entries keep the contents, and
                // one may have ended before the next one began.
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

/// How many of the first records share one store record: those that change or end something, a
/// page of retained messages, or only the first.
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

/// Number of records of a page of retained messages: its entries, and the record that the session
/// has them. One without the other would cause them to be sent again after a crash.
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

/// Position of the record that the message, whose record is the first, has been routed to all
/// receivers; `None` unless only entries precede it.
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
            // The new entry first: the body must not be without an entry in between.
            put_enqueue(to, into);
            into.end(from, message, lane(*from_why));
        }
    }
}

/// Writes a record that releases these holds of a message.
pub(crate) fn put_released(id: MessageId, holds: Holds, into: &mut RecordBuffer) {
    into.record().release(BodyId(id.0), holds);
}

/// Writes a message with or without `routing` as a hold, and the rest of its record. `entries`
/// follow in the same record.
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
    // Otherwise only the receipt or the end of the Will must be stored.
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
