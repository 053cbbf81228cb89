//! The queue against a plain list: order, counts and bytes, whatever lies in memory or in the
//! store.

use std::collections::VecDeque;
use std::sync::Arc;

use martlet_permission::TenantId;
use proptest::prelude::*;

use super::*;
use crate::gauge::MemoryGauge;
use crate::id::ShardId;
use crate::message::Publication;
use martlet_codec::QoS;

fn message(counter: u64, payload: usize, expires_at_ms: u64, gauge: &Arc<MemoryGauge>) -> Message {
    let publication = Publication {
        id: MessageId::new(ShardId(0), counter),
        tenant: TenantId(0),
        publisher: None,
        topic: "a/b",
        forwarded: &[],
        payload: &vec![b'x'; payload],
        qos: QoS::AtLeastOnce,
        retain: false,
        received_wall_ms: 0,
        expires_at_ms,
        received_mono_ms: 0,
        hops: 0,
        is_will: false,
    };
    Message::new(&publication, None, &mut Vec::new(), gauge)
}

fn entry(message: Message, recorded: bool, ids: &[u32]) -> Entry {
    Entry {
        message,
        subscription_ids: SubscriptionIds::from_slice(ids),
        qos: QoS::ExactlyOnce,
        retain: true,
        why: EnqueuedAs::Routed,
        recorded,
        ticket: None,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        payload: usize,
        expires_secs: Option<u8>,
        recorded: bool,
        ids: Vec<u32>,
        window: u8,
    },
    Pop,
    TakeOldest,
    AskForPage,
    PageCame,
    PutAway,
    Expire(u8, usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (
        0..2_000_usize,
        prop::option::of(1..40_u8),
        prop::bool::weighted(0.9),
        prop::collection::vec(1..4_u32, 0..5),
        0..3_u8,
    );
    let push = push.prop_map(
        |(payload, expires_secs, recorded, ids, window)| Step::Push {
            payload,
            expires_secs,
            recorded,
            ids,
            window,
        },
    );
    let step = prop_oneof![
        12 => push,
        3 => Just(Step::Pop),
        1 => Just(Step::TakeOldest),
        2 => Just(Step::AskForPage),
        2 => Just(Step::PageCame),
        1 => Just(Step::PutAway),
        1 => (0..40_u8, 1..100_usize, any::<bool>())
            .prop_map(|(secs, limit, all)| Step::Expire(secs, limit, all)),
    ];
    prop::collection::vec(step, 1..600)
}

/// Values expected of an entry: its number, bytes, expiry and Subscription Identifiers.
type Expected = (u64, u64, u64, Vec<u32>);

fn check_taken(taken: &TakenEntry, expected: &Expected) -> Result<(), TestCaseError> {
    let (id, bytes, _, ids) = expected;
    prop_assert_eq!(taken.id(), MessageId::new(ShardId(0), *id));
    match taken {
        TakenEntry::Held(entry) => {
            prop_assert_eq!(entry.message.bytes() as u64, *bytes);
            prop_assert_eq!(entry.subscription_ids.as_slice(), ids.as_slice());
            prop_assert!(entry.retain && entry.qos == QoS::ExactlyOnce);
        }
        TakenEntry::Stored(entry) => {
            prop_assert_eq!(u64::from(entry.bytes), *bytes);
            prop_assert_eq!(entry.apart.subscription_ids.as_slice(), ids.as_slice());
            prop_assert!(entry.retain && entry.qos == QoS::ExactlyOnce);
        }
        TakenEntry::Unkept(_) => prop_assert!(false, "only what is in flight is not kept"),
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_queue_is_a_list_wherever_its_messages_are(steps in steps()) {
        let gauge = Arc::default();
        let mut queue = Queue::default();
        let mut model: VecDeque<Expected> = VecDeque::new();
        let mut requested: Option<Vec<MessageId>> = None;
        let mut counter = 0;
        let mut now_ms = 0;
        for step in steps {
            match step {
                Step::Push { payload, expires_secs, recorded, ids, window } => {
                    counter += 1;
                    let expires = expires_secs.map_or(u64::MAX, |secs| u64::from(secs) * 1000);
                    let message = message(counter, payload, expires, &gauge);
                    let windows = [Window::Whole, Window::Front, Window::Nothing];
                    let window = windows[usize::from(window)];
                    model.push_back((counter, message.bytes() as u64, expires, ids.clone()));
                    queue.push_back(entry(message, recorded, &ids), window);
                }
                Step::Pop => if let Some(entry) = queue.pop_front() {
                    let expected = model.pop_front().expect("the queue has no more than the model");
                    check_taken(&TakenEntry::Held(entry), &expected)?;
                },
                Step::TakeOldest => {
                    let taken = queue.take_oldest();
                    let expected = model.pop_front();
                    prop_assert_eq!(taken.is_some(), expected.is_some());
                    if let (Some(taken), Some(expected)) = (taken, expected) {
                        check_taken(&taken, &expected)?;
                    }
                }
                Step::AskForPage => if let Some(page) = queue.page_to_read() {
                    prop_assert!(requested.is_none() && !page.is_empty());
                    requested = Some(page);
                },
                Step::PageCame => if let Some(page) = requested.take() {
                    let page = page.into_iter().map(|id| {
                        let counter = id.0 & 0xFFFF_FFFF;
                        (id, Ok(message(counter, 1, u64::MAX, &gauge)))
                    });
                    let damaged = queue.page_read(page);
                    prop_assert!(damaged.is_empty());
                    // What has been read is made up here: shorter, and it does not expire.
                    let window = queue.window.iter().map(|entry| entry.message.id());
                    let window: Vec<_> = window.collect();
                    for (place, id) in window.iter().enumerate() {
                        prop_assert_eq!(*id, MessageId::new(ShardId(0), model[place].0));
                        model[place].1 = queue.window[place].message.bytes() as u64;
                        model[place].2 = queue.window[place].message.expires_at_ms();
                    }
                },
                Step::PutAway => queue.put_away(Window::Nothing),
                Step::Expire(secs, limit, all) => {
                    now_ms = now_ms.max(u64::from(secs) * 1000);
                    loop {
                        let found = queue.take_expired(now_ms, limit);
                        prop_assert!(found.looked_at <= limit);
                        let mut from = 0;
                        for taken in &found.entries {
                            let is_it = |(id, ..): &Expected| {
                                taken.id() == MessageId::new(ShardId(0), *id)
                            };
                            let place = model.iter().skip(from).position(is_it);
                            from += place.expect("they come in order");
                            let expected = model.remove(from).expect("it is there");
                            prop_assert!(expected.2 <= now_ms);
                            check_taken(taken, &expected)?;
                        }
                        if !all || !found.more && queue.earliest_expiry.ms() > now_ms {
                            break;
                        }
                    }
                    if all {
                        prop_assert!(model.iter().all(|(_, _, at, _)| *at > now_ms));
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            prop_assert_eq!(queue.bytes(), model.iter().map(|(_, bytes, _, _)| bytes).sum::<u64>());
        }
        let rest: Vec<_> = queue.take_all().collect();
        prop_assert_eq!(rest.len(), model.len());
        for (taken, expected) in rest.iter().zip(&model) {
            check_taken(taken, expected)?;
        }
        drop(rest);
        prop_assert_eq!(gauge.bytes(), 0);
    }
}

#[test]
fn a_queue_for_somebody_away_keeps_no_message_in_memory() {
    let gauge = Arc::default();
    let mut queue = Queue::default();
    for counter in 0..1_000 {
        let message = message(counter, 256, u64::MAX, &gauge);
        queue.push_back(entry(message, true, &[]), Window::Nothing);
    }
    let rows = 1_000 * ROW_BYTES;
    assert_eq!((queue.len(), gauge.bytes()), (1_000, rows));
    let page = queue.page_to_read().expect("the window is empty");
    assert_eq!(page.first(), Some(&MessageId::new(ShardId(0), 0)));
    assert_eq!(queue.page_to_read(), None, "one page at a time");
}

#[test]
fn when_its_client_goes_away_a_long_queue_keeps_no_window_either() {
    let gauge = Arc::default();
    let mut queue = Queue::default();
    for counter in 0..1_000 {
        let message = message(counter, 256, u64::MAX, &gauge);
        queue.push_back(entry(message, true, &[]), Window::Front);
    }
    assert!(gauge.bytes() > 0);
    queue.put_away(Window::Nothing);
    let rows = 1_000 * ROW_BYTES;
    assert_eq!((queue.len(), gauge.bytes()), (1_000, rows));
    let page = queue.page_to_read().expect("the window is empty");
    assert_eq!(page.first(), Some(&MessageId::new(ShardId(0), 0)));
}

#[test]
fn a_message_that_cannot_be_read_back_is_given_back_as_damaged() {
    let gauge = Arc::default();
    let mut queue = Queue::default();
    for counter in 0..3 {
        let message = message(counter, 256, u64::MAX, &gauge);
        queue.push_back(entry(message, true, &[]), Window::Nothing);
    }
    let page = queue.page_to_read().expect("the window is empty");
    let read = page.into_iter().map(|id| {
        let message = (id.0 != 1).then(|| message(id.0, 256, u64::MAX, &gauge));
        (id, message.ok_or_else(|| "a flipped bit".to_owned()))
    });
    let damaged = queue.page_read(read);
    assert_eq!(damaged.len(), 1);
    let (entry, why) = &damaged[0];
    assert_eq!(entry.id, MessageId::new(ShardId(0), 1));
    assert_eq!(why, "a flipped bit");
    assert_eq!(queue.len(), 2);
}

/// Bytes of memory that 10,000 messages with these Subscription Identifiers take in a queue, each.
fn bytes_each(ids: impl Fn(u32) -> Vec<u32>) -> (usize, Queue) {
    let gauge = Arc::default();
    let mut queue = Queue::default();
    for counter in 0..10_000 {
        let message = message(counter.into(), 256, u64::MAX, &gauge);
        queue.push_back(entry(message, true, &ids(counter)), Window::Nothing);
    }
    let stored = queue.stored.as_ref().expect("it is not empty");
    let beside = stored
        .beside
        .as_ref()
        .map_or(0, |beside| beside.counted.bytes());
    assert_eq!(
        gauge.bytes(),
        10_000 * ROW_BYTES + beside,
        "rows are counted, and what lies beside them"
    );
    ((stored.rows.bytes() + beside) / 100, queue)
}

#[test]
fn several_subscription_identifiers_take_as_little_memory_as_none() {
    let (plain, _) = bytes_each(|_| Vec::new());
    // Of subscriptions that overlap, on some topics one, on others two or three.
    let several = [vec![7], vec![7, 900_000], vec![900_000, 7], vec![8, 7, 6]];
    let (overlapping, mut queue) = bytes_each(|_| several[1].clone());
    assert!(
        overlapping * 10 <= plain * 11,
        "{overlapping}, not {plain} for 100"
    );
    let ids: Vec<_> = queue.take_all().take(2).collect();
    let [TakenEntry::Stored(first), TakenEntry::Stored(_)] = ids.as_slice() else {
        panic!("{ids:?}");
    };
    assert_eq!(first.apart.subscription_ids.as_slice(), several[1]);
    let (mixed, mut queue) = bytes_each(|counter| several[counter as usize % 4].clone());
    assert!(mixed <= plain + 200, "{mixed}, not {plain} for 100");
    for (taken, counter) in queue.take_all().zip(0_usize..) {
        let TakenEntry::Stored(taken) = taken else {
            panic!("{taken:?}");
        };
        let expected = &several[counter % 4];
        assert_eq!(taken.apart.subscription_ids.as_slice(), expected.as_slice());
    }
}

#[test]
fn what_a_share_group_handed_over_is_taken_out_in_order_wherever_it_is() {
    for window in [Window::Whole, Window::Front, Window::Nothing] {
        let gauge = Arc::default();
        let mut queue = Queue::default();
        for counter in 0..1_000 {
            let mut entry = entry(message(counter, 10, u64::MAX, &gauge), true, &[]);
            if counter % 100 == 50 {
                entry.why = EnqueuedAs::Shared(1);
                entry.ticket = Some(Box::new(ShareTicket::for_tests()));
            }
            queue.push_back(entry, window);
        }
        let taken: Vec<_> = queue.take_shared().iter().map(TakenEntry::id).collect();
        let expected = (0..10).map(|number| MessageId::new(ShardId(0), number * 100 + 50));
        assert_eq!(taken, expected.collect::<Vec<_>>());
        assert!(queue.take_shared().is_empty());
        let left: Vec<_> = queue.take_all().map(|taken| taken.id()).collect();
        assert!(left.is_sorted() && left.len() == 990);
        assert_eq!(gauge.bytes(), 0);
    }
}
