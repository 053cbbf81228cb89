//! Cost of encoding: nanoseconds and bytes per message, for messages with one entry and with ten,
//! alone and followed by the entries of the same tick. `cargo run --release --example
//! encode_cost`.

use std::sync::Arc;
use std::time::Instant;

use martlet_broker::{
    ConnectedClient, EnqueuedAs, EntryRecord, Message, MessageId, MessageRecord, Now, Publication,
    Record, SessionEpoch, SharedClient, SubscriptionIds, TenantId,
};
use martlet_codec::QoS;
use martlet_persistence::encode;
use martlet_store::RecordBuffer;

const MESSAGES: u64 = 200;
const ROUNDS: u32 = 2_000;
const NOW: Now = Now {
    mono_ms: 1_000,
    wall_ms: 1_700_000_000_000,
    record_ms: 1_700_000_000_000,
};

fn main() {
    for (entries, routed_at_once) in [(1, true), (1, false), (10, true), (10, false)] {
        let records = tick(entries, routed_at_once);
        let mut buffer = RecordBuffer::new();
        let mut nanoseconds = 0;
        for _ in 0..ROUNDS {
            buffer.clear();
            let begin = Instant::now();
            encode(&records, NOW, &mut buffer);
            nanoseconds += begin.elapsed().as_nanos() as u64;
        }
        let messages = MESSAGES * u64::from(ROUNDS);
        let together = if routed_at_once {
            "together"
        } else {
            "one by one"
        };
        println!(
            "{entries:2} entries, {together:10}: {:4} ns, {:4} bytes a message",
            nanoseconds / messages,
            buffer.bytes() as u64 / MESSAGES
        );
    }
}

/// Messages of 64 bytes, each with its entries; `routed_at_once` if its records may be joined.
fn tick(entries: u64, routed_at_once: bool) -> Vec<Record> {
    let gauge = Arc::default();
    let client = SharedClient::new(ConnectedClient::new("device-0000001", None));
    let mut records = Vec::new();
    for number in 0..MESSAGES {
        let publication = Publication {
            id: MessageId(1 << 36 | number),
            tenant: TenantId(0),
            publisher: None,
            topic: "devices/0000001/telemetry",
            forwarded: &[],
            payload: &[7; 64],
            qos: QoS::AtLeastOnce,
            retain: false,
            received_wall_ms: NOW.wall_ms,
            expires_at_ms: u64::MAX,
            received_mono_ms: NOW.mono_ms,
            hops: 0,
            is_will: false,
        };
        let message = Message::new(&publication, Some(client.clone()), &mut Vec::new(), &gauge);
        let id = message.id();
        records.push(Record::Message(MessageRecord {
            message,
            publisher: Some(SessionEpoch(1 << 36)),
            receipt: None,
            retained_revision: None,
            replaces: None,
            to_be_routed: true,
            will_of: None,
        }));
        if !routed_at_once {
            // Another record in between keeps them separate.
            records.push(Record::RetainedEnded(MessageId(1)));
        }
        records.extend((0..entries).map(|queue| Record::Enqueued(entry(id, queue))));
        records.push(Record::Routed(id));
    }
    records
}

fn entry(message: MessageId, queue: u64) -> EntryRecord {
    EntryRecord {
        epoch: SessionEpoch(1 << 36 | queue),
        message,
        why: EnqueuedAs::Routed,
        qos: QoS::AtLeastOnce,
        retain: false,
        released: false,
        packet_id: None,
        bytes: 201,
        expires_wall_secs: 0,
        subscription_ids: SubscriptionIds::new(),
        group: None,
    }
}
