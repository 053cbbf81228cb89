//! The retained store against a naive matcher, and what stays of what was cleared.

use super::*;
use crate::id::{MessageId, ShardId};
use crate::message::Publication;
use martlet_codec::{QoS, TopicFilter, TopicName};
use proptest::prelude::*;

fn message(topic: &str, expires_at_ms: u64) -> Message {
    message_with(topic, b"x", expires_at_ms)
}

fn message_with(topic: &str, payload: &[u8], expires_at_ms: u64) -> Message {
    let publication = Publication {
        id: MessageId::new(ShardId(0), 1),
        tenant: TenantId(0),
        publisher: None,
        topic,
        forwarded: &[],
        payload,
        qos: QoS::AtMostOnce,
        retain: true,
        received_wall_ms: 0,
        expires_at_ms,
        received_mono_ms: 0,
        hops: 0,
        is_will: false,
    };
    Message::new(
        &publication,
        None,
        &mut Vec::new(),
        &std::sync::Arc::default(),
    )
}

fn read_all(retained: &Retained, filter: &str, page_len: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = retained.page(TenantId(0), filter, None, after.as_deref(), page_len, 10);
        found.extend(
            page.messages
                .iter()
                .map(|message| message.topic().to_owned()),
        );
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

#[test]
fn a_full_store_still_takes_replacements_that_do_not_grow() {
    let mut retained = Retained::new();
    assert!(matches!(
        retained.store(message("a", u64::MAX), None, 1, 1 << 20),
        RetainedChange::Stored { .. }
    ));
    assert_eq!(
        retained.store(message("b", u64::MAX), None, 1, 1 << 20),
        RetainedChange::Full(Limit::RetainedMessages)
    );
    assert!(matches!(
        retained.store(message("a", u64::MAX), None, 1, 1 << 20),
        RetainedChange::Stored { .. }
    ));
    let clearing = || message_with("a", b"", u64::MAX);
    assert!(matches!(
        retained.clear(clearing(), 0),
        RetainedChange::Cleared { .. }
    ));
    assert_eq!((retained.len(), retained.bytes()), (0, 0));
    assert!(read_all(&retained, "#", 1).is_empty());
}

#[test]
fn a_clearing_stands_until_no_older_record_can_follow() {
    let mut retained = Retained::new();
    let clearing = || message_with("a", b"", u64::MAX);
    assert_eq!(retained.clear(clearing(), 0), RetainedChange::Absent);
    retained.store(message("a", u64::MAX), None, 10, 1 << 20);
    retained.clear(clearing(), 0);
    assert!(retained.has_topic(TenantId(0), "a"));
    let mut ended = Vec::new();
    retained.sweep_cleared(10, CLEARED_MS - 1, &mut ended);
    assert!(ended.is_empty() && retained.has_topic(TenantId(0), "a"));
    retained.sweep_cleared(10, CLEARED_MS, &mut ended);
    assert!(ended.len() == 1 && !retained.has_topic(TenantId(0), "a"));
}

#[test]
fn clearing_a_topic_over_and_over_takes_no_more_memory() {
    let mut retained = Retained::new();
    for number in 0..100_000_u64 {
        retained.store(message("a", u64::MAX), None, 1, 1 << 20);
        for _ in 0..2 {
            retained.clear(message_with("a", b"", u64::MAX), number / 1000);
        }
    }
    assert_eq!(retained.cleared.len(), 1);
    retained.store(message("a", u64::MAX), None, 1, 1 << 20);
    assert!(retained.cleared.is_empty());
}

#[test]
fn clearings_are_taken_away_bit_by_bit() {
    let mut retained = Retained::new();
    for number in 0..100 {
        let topic = number.to_string();
        retained.store(message(&topic, u64::MAX), None, 100, 1 << 20);
        retained.clear(message_with(&topic, b"", u64::MAX), 0);
    }
    let mut ended = Vec::new();
    assert!(retained.sweep_cleared(60, CLEARED_MS, &mut ended));
    assert_eq!(ended.len(), 60);
    assert!(!retained.sweep_cleared(60, CLEARED_MS, &mut ended));
    assert_eq!((ended.len(), retained.memory_bytes()), (100, 0));
}

#[test]
fn restoring_keeps_the_highest_revision_whatever_comes_first() {
    let named = |counter, payload: &[u8]| {
        let message = message_with("a", payload, u64::MAX);
        let id = MessageId::new(ShardId(0), counter);
        let publication = Publication {
            id,
            ..message.publication()
        };
        Message::new(
            &publication,
            None,
            &mut Vec::new(),
            &std::sync::Arc::default(),
        )
    };
    let (old, cleared, new) = (named(1, b"old"), named(2, b""), named(3, b"new"));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut retained = Retained::new();
        let all = [(&old, 1), (&cleared, 2), (&new, 3)];
        let mut removed: Vec<_> = order
            .iter()
            .filter_map(|&place: &usize| {
                let (message, revision) = all[place];
                retained.restore(message.clone(), None, revision, 0)
            })
            .collect();
        removed.sort();
        assert_eq!(removed, [old.id(), cleared.id()]);
        assert_eq!(read_all(&retained, "a", 1), ["a"]);
        assert_eq!(retained.len(), 1);
        assert_eq!(retained.revision(TenantId(0), "a"), Some(3));
    }
}

#[test]
fn a_page_is_as_long_as_was_asked_for_while_there_is_more() {
    let mut retained = Retained::new();
    for topic in ["a", "b", "c", "d", "e"] {
        retained.store(message(topic, u64::MAX), None, 10, 1 << 20);
    }
    for (count, next) in [(1, Some("a")), (2, Some("b")), (4, Some("d")), (9, None)] {
        let page = retained.page(TenantId(0), "#", None, None, count, 0);
        assert_eq!(page.messages.len(), count.min(5));
        assert_eq!(page.next.as_deref(), next);
    }
}

#[test]
fn a_sweep_is_wanted_only_while_something_may_expire() {
    let sweep_all = |retained: &mut Retained, now_ms| {
        let (mut after, mut ended) = (None, Vec::new());
        loop {
            after = retained.sweep(after, 10, now_ms, &mut ended);
            if after.is_none() {
                return ended.len();
            }
        }
    };
    let mut retained = Retained::new();
    retained.store(message("a", u64::MAX), None, 10, 1 << 20);
    assert!(!retained.needs_sweep());
    retained.store(message("b", 50), None, 10, 1 << 20);
    assert!(retained.needs_sweep());
    assert_eq!(sweep_all(&mut retained, 49), 0);
    assert!(retained.needs_sweep());
    assert_eq!(sweep_all(&mut retained, 50), 1);
    // The next one sees that nothing is left.
    assert_eq!(sweep_all(&mut retained, 50), 0);
    assert!(!retained.needs_sweep());
    let restored = message("c", 90);
    retained.restore(restored, None, 7, 60);
    assert!(retained.needs_sweep());
}

#[test]
fn sweeping_removes_what_has_expired_and_only_that() {
    let mut retained = Retained::new();
    for (topic, expires) in [("a", 5), ("b", 50), ("c", 5)] {
        retained.store(message(topic, expires), None, 100, 1 << 20);
    }
    let (mut at, mut ended) = (None, Vec::new());
    loop {
        at = retained.sweep(at, 1, 10, &mut ended);
        if at.is_none() {
            break;
        }
    }
    assert_eq!(ended.len(), 2);
    let known = ["a", "b", "c"].map(|topic| retained.has_topic(TenantId(0), topic));
    assert_eq!(known, [false, true, false]);
    assert_eq!(retained.len(), 1);
}

#[test]
fn sweeping_goes_on_with_the_next_tenant_from_its_first_topic() {
    let mut retained = Retained::new();
    let plain = message("a", 5);
    let publication = Publication {
        tenant: TenantId(3),
        ..plain.publication()
    };
    let of_other = Message::new(
        &publication,
        None,
        &mut Vec::new(),
        &std::sync::Arc::default(),
    );
    retained.store(of_other, None, 10, 1 << 20);
    let mut ended = Vec::new();
    let at = Some((TenantId(1), "b".into()));
    retained.sweep(at, 10, 5, &mut ended);
    assert_eq!(ended.len(), 1);
}

proptest! {
    #[test]
    fn pages_hold_what_the_naive_matcher_finds(
        topics in prop::collection::btree_set("[ab$!/]{1,6}", 0..60),
        filter in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "+", "a!", "$a"]), 1..4),
        hash in any::<bool>(),
        page_len in 1..5_usize,
    ) {
        let mut filter = filter.join("/");
        if hash { filter.push_str("/#"); }
        if filter.is_empty() { filter.push('#'); }
        let mut retained = Retained::new();
        for topic in &topics {
            retained.store(message(topic, u64::MAX), None, 1000, 1 << 30);
        }
        let parsed = TopicFilter::new(&filter).unwrap();
        let expected: Vec<String> = topics.iter()
            .filter(|topic| parsed.matches(TopicName::new(topic).unwrap()))
            .cloned().collect();
        prop_assert_eq!(read_all(&retained, &filter, page_len), expected);
    }
}

#[test]
fn a_page_ends_where_topics_are_long() {
    let mut retained = Retained::new();
    let topic = |number: usize| format!("{number:02}/{}", "x".repeat(30_000));
    for number in 0..20 {
        retained.store(message(&topic(number), u64::MAX), None, 100, 1 << 24);
    }
    let (mut after, mut found) = (None::<Box<str>>, 0);
    loop {
        let page = retained.page(TenantId(0), "#", None, after.as_deref(), 100, 0);
        assert!(page.messages.len() <= 3 && page.steps > page.messages.len());
        found += page.messages.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 20);
}

/// However many expire at the same time.
#[test]
fn a_sweep_takes_few_messages_away_at_once() {
    let mut retained = Retained::new();
    for number in 0..1000 {
        retained.store(message(&number.to_string(), 5), None, 1000, 1 << 24);
    }
    let (mut at, mut ended) = (None, Vec::new());
    for sweep in 1..=7 {
        at = retained.sweep(at, 10_000, 10, &mut ended);
        assert_eq!(ended.len(), sweep * EXPIRED_PER_SWEEP);
    }
    retained.sweep(at, 10_000, 10, &mut ended);
    assert_eq!(ended.len(), 1000);
}

/// A topic that is not the next one has to be looked for in the tree, which takes several times as
/// long: so fewer of them belong to a page.
#[test]
fn a_page_ends_sooner_where_topics_have_to_be_looked_for() {
    const SITES: usize = 1_000;
    let mut retained = Retained::new();
    for number in 0..SITES * 10 {
        let topic = format!("{:03}/{}", number / 10, number % 10);
        retained.store(message(&topic, u64::MAX), None, SITES * 10, 1 << 24);
    }
    let sites_passed = |filter: &str| {
        let page = retained.page(TenantId(0), filter, None, None, 100, 0);
        assert!(page.messages.is_empty() && page.steps <= STEPS_MAX + 10);
        let next = page.next.expect("there is more");
        next[..3].parse::<usize>().expect("a site's number")
    };
    // Topics that are looked at one after the other, and one of each site.
    assert_eq!(sites_passed("+/+/x"), 50);
    assert!(sites_passed("+/x") < 80, "{}", sites_passed("+/x"));
}
