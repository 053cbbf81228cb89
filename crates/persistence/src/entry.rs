//! A queue's entry in the store: its note and, rarely, an extra.
//!
//! The store packs each column of neighbouring notes by their differences. So irregular values
//! must not be in higher bits than nearly constant ones. First column: bytes, Packet Identifier,
//! flags. In the queue of an absent client it is nearly constant; in flight it grows in steps.
//! Second column: one Subscription Identifier above the expiry; nearly always 0, or times close
//! together.

use martlet_broker::{
    EnqueuedAs, EntryRecord, MessageId, RETAINED_COPIES, SessionEpoch, SubscriptionIds,
};
use martlet_codec::{PacketId, QoS};
use martlet_store::{BodyId, QueueId, RecordBuilder};

use crate::bytes::{DecodeError, Reader, Scratch, put_name, put_number, versioned};

const EXACTLY_ONCE: u64 = 1;
const RETAIN: u64 = 1 << 1;
const RELEASED: u64 = 1 << 2;
const PACKET_ID_SHIFT: u32 = 3;
const BYTES_SHIFT: u32 = PACKET_ID_SHIFT + 16;
const SUBSCRIPTION_SHIFT: u32 = 32;

/// Lanes beyond this are for shared copies from the second on.
const SHARED_LANES: u8 = RETAINED_COPIES + 2;

/// The lane of an entry: the reason for the entry.
pub(crate) fn lane(why: EnqueuedAs) -> u8 {
    match why {
        EnqueuedAs::Routed => 0,
        EnqueuedAs::Retained(0) => 1,
        EnqueuedAs::Shared(0) => 2,
        EnqueuedAs::Retained(copy) => copy.saturating_add(2),
        EnqueuedAs::Shared(copy) => copy.saturating_add(SHARED_LANES),
    }
}

/// Adds the entry to its queue.
pub(crate) fn put_enqueue(entry: &EntryRecord, into: &mut RecordBuilder<'_>) {
    let (queue, body) = (QueueId(entry.epoch.0), BodyId(entry.message.0));
    let extra = extra(entry);
    into.enqueue(queue, body, lane(entry.why), note(entry), &extra);
}

/// Changes the entry in place.
pub(crate) fn put_amend(entry: &EntryRecord, into: &mut RecordBuilder<'_>) {
    let (queue, body) = (QueueId(entry.epoch.0), BodyId(entry.message.0));
    into.amend(queue, body, lane(entry.why), note(entry));
}

fn note(entry: &EntryRecord) -> [u64; 2] {
    let flags = if entry.qos == QoS::ExactlyOnce {
        EXACTLY_ONCE
    } else {
        0
    } | if entry.retain { RETAIN } else { 0 }
        | if entry.released { RELEASED } else { 0 };
    let packet_id = entry.packet_id.map_or(0, PacketId::get);
    let subscription_id = match entry.subscription_ids.as_slice() {
        [single] => *single,
        _ => 0,
    };
    [
        u64::from(entry.bytes) << BYTES_SHIFT | u64::from(packet_id) << PACKET_ID_SHIFT | flags,
        u64::from(subscription_id) << SUBSCRIPTION_SHIFT | u64::from(entry.expires_wall_secs),
    ]
}

/// Data that does not fit into the note: version, the share group's epoch or 0, then several
/// Subscription Identifiers.
fn extra(entry: &EntryRecord) -> Scratch {
    let several = entry.subscription_ids.len() > 1;
    if entry.group.is_none() && !several {
        return Scratch::new();
    }
    let mut out = versioned();
    put_name(&mut out, entry.group.map_or(0, |group| group.0));
    for id in entry.subscription_ids.iter().filter(|_| several) {
        put_number(&mut out, (*id).into());
    }
    out
}

/// Reads an entry of the queue of `epoch`.
pub fn decode_entry(
    epoch: SessionEpoch,
    message: MessageId,
    lane: u8,
    note: [u64; 2],
    extra: &[u8],
) -> Result<EntryRecord, DecodeError> {
    let [what, more] = note;
    let (group, mut subscription_ids) = decode_extra(extra)?;
    let why = match lane {
        0 => EnqueuedAs::Routed,
        1 => EnqueuedAs::Retained(0),
        2 => EnqueuedAs::Shared(0),
        copy if copy > SHARED_LANES && group.is_some() => EnqueuedAs::Shared(copy - SHARED_LANES),
        // Earlier versions used more of these numbers.
        copy if copy < 252 => EnqueuedAs::Retained(copy - 2),
        _ => return Err(DecodeError::Malformed("lane of an entry")),
    };
    let single = (more >> SUBSCRIPTION_SHIFT) as u32;
    if single != 0 && subscription_ids.is_empty() {
        subscription_ids.push(single);
    }
    let bytes = u32::try_from(what >> BYTES_SHIFT);
    let packet_id = PacketId::new((what >> PACKET_ID_SHIFT) as u16);
    let released = what & RELEASED != 0;
    if released && packet_id.is_none() {
        return Err(DecodeError::Malformed("PUBREC without Packet Identifier"));
    }
    Ok(EntryRecord {
        epoch,
        message,
        why,
        qos: match what & EXACTLY_ONCE {
            0 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        },
        retain: what & RETAIN != 0,
        released,
        packet_id,
        bytes: bytes.map_err(|_| DecodeError::Malformed("bytes of an entry"))?,
        expires_wall_secs: more as u32,
        subscription_ids,
        group,
    })
}

fn decode_extra(extra: &[u8]) -> Result<(Option<SessionEpoch>, SubscriptionIds), DecodeError> {
    let mut ids = SubscriptionIds::new();
    if extra.is_empty() {
        return Ok((None, ids));
    }
    let mut reader = Reader::new(extra)?;
    let group = Some(SessionEpoch(reader.name()?)).filter(|group| group.0 != 0);
    while reader.end().is_err() {
        ids.push(reader.number32()?);
    }
    Ok((group, ids))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use martlet_broker::SHARED_COPIES;

    use super::*;

    prop_compose! {
        fn entries()(
            message: u64,
            why in 0_usize..5,
            flags: [bool; 3],
            id: u16,
            bytes: u32,
            expires_wall_secs: u32,
            subscription_ids in prop::collection::vec(1_u32..1 << 28, 0..4),
            group in prop::option::of(1_u64..),
        ) -> EntryRecord {
            let packet_id = PacketId::new(id);
            EntryRecord {
                epoch: SessionEpoch(9),
                message: MessageId(message),
                why: [
                    EnqueuedAs::Routed,
                    EnqueuedAs::Retained(0),
                    EnqueuedAs::Retained(RETAINED_COPIES - 1),
                    EnqueuedAs::Shared(0),
                    EnqueuedAs::Shared(SHARED_COPIES - 1),
                ][why],
                qos: if flags[0] { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
                retain: flags[1],
                released: flags[2] && packet_id.is_some(),
                packet_id,
                bytes,
                expires_wall_secs,
                subscription_ids: subscription_ids.into(),
                // An entry handed over by a group contains the group.
                group: group.or((why > 2).then_some(7)).map(SessionEpoch),
            }
        }
    }

    proptest! {
        #[test]
        fn an_entry_comes_back(entry in entries()) {
            let (lane, extra) = (lane(entry.why), extra(&entry));
            let back = decode_entry(entry.epoch, entry.message, lane, note(&entry), &extra);
            prop_assert_eq!(back, Ok(entry));
        }

        #[test]
        fn an_entry_of_arbitrary_numbers_never_panics(
            lane: u8,
            note: [u64; 2],
            extra in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let _ = decode_entry(SessionEpoch(1), MessageId(1), lane, note, &extra);
        }
    }

    #[test]
    fn retained_copies_of_programs_before_are_read() {
        for (lane, copy) in [(1, 0), (3, 1), (126, 124), (127, 125), (251, 249)] {
            let read = decode_entry(SessionEpoch(1), MessageId(1), lane, [0; 2], &[]);
            assert_eq!(read.map(|read| read.why), Ok(EnqueuedAs::Retained(copy)));
        }
    }

    #[test]
    fn an_entry_of_a_client_that_is_away_is_a_note_that_hardly_changes() {
        let mut entry = EntryRecord {
            epoch: SessionEpoch(9),
            message: MessageId(1),
            why: EnqueuedAs::Routed,
            qos: QoS::AtLeastOnce,
            retain: false,
            released: false,
            packet_id: None,
            bytes: 200,
            expires_wall_secs: 0,
            subscription_ids: SubscriptionIds::new(),
            group: None,
        };
        let before = note(&entry);
        entry.message = MessageId(2);
        assert_eq!(note(&entry), before);
        assert!(extra(&entry).is_empty());
        assert_eq!(before[1], 0);
        entry.expires_wall_secs = 1_700_000_000;
        let before = note(&entry);
        entry.expires_wall_secs += 1;
        assert_eq!(note(&entry)[1] - before[1], 1);
    }
}
