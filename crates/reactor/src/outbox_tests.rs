//! Mailboxes that are full, and the order in which their batches arrive.

use martlet_broker::MessageId;

use super::*;
use crate::poll::Poller;

const FROM: ShardId = ShardId(0);
const TO: ShardId = ShardId(1);

fn message(number: u64) -> ShardMessage {
    ShardMessage::Routed(MessageId(number))
}

struct Pair {
    outbox: Outbox,
    own: Mailbox,
    other: Mailbox,
    _pollers: [Poller; 2],
}

fn pair(capacity: usize, batch_messages: usize) -> Pair {
    let pollers = [Poller::new().unwrap(), Poller::new().unwrap()];
    let wakeups: Vec<_> = pollers
        .iter()
        .map(|poller| poller.waker().unwrap())
        .collect();
    let (mailboxes, boxes) = Mailboxes::new(&wakeups, capacity);
    let mut boxes = boxes.into_iter();
    let (own, other) = (boxes.next().unwrap(), boxes.next().unwrap());
    Pair {
        outbox: Outbox::new(FROM, mailboxes, batch_messages),
        own,
        other,
        _pollers: pollers,
    }
}

impl Pair {
    fn send(&mut self, numbers: std::ops::Range<u64>) {
        let mut messages: Vec<ShardMessage> = numbers.map(message).collect();
        let at = Instant::now();
        self.outbox.send(TO, at, &mut messages, &self.own);
        assert!(messages.is_empty());
    }

    /// Numbers of the messages of the next batch.
    fn receive(&self) -> Option<Vec<u64>> {
        let batch = self.other.next_batch()?;
        assert_eq!(batch.from, FROM);
        let number = |message: &ShardMessage| match message {
            ShardMessage::Routed(id) => id.0,
            other => panic!("not sent: {other:?}"),
        };
        Some(batch.messages.iter().map(number).collect())
    }
}

#[test]
fn what_a_full_mailbox_does_not_take_waits_and_keeps_its_order() {
    let mut pair = pair(2, 4);
    for number in 0..20 {
        pair.send(number..number + 1);
    }
    assert!(pair.outbox.is_congested());
    let mut got = Vec::new();
    while let Some(batch) = pair.receive() {
        assert!(batch.len() <= 4);
        got.extend(batch);
        pair.outbox.retry();
    }
    assert_eq!(got, (0..20).collect::<Vec<u64>>());
    assert!(!pair.outbox.is_congested());
}

#[test]
fn new_messages_do_not_overtake_waiting_ones() {
    let mut pair = pair(1, 1);
    pair.send(0..3);
    assert_eq!(pair.receive(), Some(vec![0]));
    pair.send(3..4);
    assert_eq!(
        pair.receive(),
        None,
        "room is used by retry, for the oldest"
    );
    pair.outbox.retry();
    assert_eq!(pair.receive(), Some(vec![1]));
}

#[test]
fn a_large_tick_is_sent_in_batches_of_bounded_size() {
    let mut pair = pair(100, 8);
    pair.send(0..20);
    let sizes: Vec<usize> = std::iter::from_fn(|| pair.receive())
        .map(|batch| batch.len())
        .collect();
    assert_eq!(sizes, [8, 8, 4]);
}
