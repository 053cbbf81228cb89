use martlet_broker::{
    DropReason, EventHead, Limit, PartRefusal, ReachedLimit, Refusal, RefusalCause, UserName,
};
use martlet_codec::ReasonCode;

use super::*;

fn notice(client_id: &str, event: Event) -> NodeNotice {
    let head = EventHead::new(TenantId::default(), client_id);
    NodeNotice {
        head,
        event: event.into(),
    }
}

fn write(journal: &Journal, notice: NodeNotice) {
    journal.write(&notice, &Presence::default().begin());
    journal.announce();
}

fn disconnected(client_id: &str) -> NodeNotice {
    let (reason, why) = (ReasonCode::Success, RefusalCause::Goodbye.into());
    notice(
        client_id,
        Event::Disconnected {
            reason,
            why,
            will: None,
        },
    )
}

fn clients(page: &Page) -> Vec<&str> {
    let events = page.items.iter();
    events.map(|entry| &*entry.client_id).collect()
}

fn reached(limit: Limit) -> Refusal {
    ReachedLimit { limit, value: 7 }.refusal()
}

fn refused(client_id: &str) -> NodeNotice {
    let event = Event::Refused {
        will_topic: None,
        reason: ReasonCode::NotAuthorized,
        why: reached(Limit::Connections),
    };
    notice(client_id, event)
}

#[test]
fn pages_follow_each_other_and_tell_what_is_gone() {
    let journal = Journal::default();
    let all = |_: &Entry| true;
    assert_eq!(journal.page(0, 10, all).next, 1);
    (0..TROUBLES + 5).for_each(|number| write(&journal, refused(&number.to_string())));
    let page = journal.page(1, 2, all);
    assert_eq!((clients(&page), page.gone), (vec!["5", "6"], 5));
    assert!(page.items[0].remedy.is_some());
    let page = journal.page(page.next, 1, all);
    assert_eq!((clients(&page), page.gone, page.next), (vec!["7"], 0, 9));
    let tail = journal.tail(2, all);
    let page = journal.page(tail, 100, all);
    assert_eq!(clients(&page), ["8195", "8196"]);
    assert!(journal.page(page.next, 100, all).items.is_empty());
    assert_eq!(journal.tail(0, all), page.next);
    let of_client = |entry: &Entry| entry.client_id == "77";
    let tail = journal.tail(9, of_client);
    assert_eq!(clients(&journal.page(tail, 9, of_client)), ["77"]);
}

#[test]
fn who_comes_and_goes_pushes_no_refusal_out() {
    let journal = Journal::default();
    let all = |_: &Entry| true;
    write(&journal, refused("first"));
    (0..COMINGS * 2).for_each(|number| write(&journal, disconnected(&number.to_string())));
    write(&journal, refused("last"));
    let page = journal.page(1, 10_000, all);
    assert_eq!(page.items.len(), COMINGS + 2);
    let seqs: Vec<u64> = page.items.iter().map(|entry| entry.seq).collect();
    assert!(seqs.is_sorted());
    let (first, last) = (&page.items[0], &page.items[COMINGS + 1]);
    assert_eq!((&*first.client_id, &*last.client_id), ("first", "last"));
    assert_eq!(
        clients(&journal.page(journal.tail(1, Entry::is_trouble), 9, all)),
        ["last"]
    );
}

#[test]
fn an_end_by_a_limit_or_by_a_broken_rule_is_a_problem_and_names_the_option() {
    let journal = Journal::default();
    let ended = |reason, why| {
        notice(
            "c",
            Event::Disconnected {
                reason,
                why,
                will: None,
            },
        )
    };
    let no_qos = ReasonCode::QoSNotSupported;
    write(&journal, ended(no_qos, reached(Limit::MaximumQos)));
    let malformed = ReasonCode::MalformedPacket;
    let rule = RefusalCause::Packet("a limit ");
    write(&journal, ended(malformed, rule.into()));
    let takeover = ReasonCode::SessionTakenOver;
    let named = Refusal::from(RefusalCause::TakenOver).with_detail("a limit is named");
    write(&journal, ended(takeover, named));
    let page = journal.page(1, 9, |entry| entry.is_trouble());
    let [first, second] = &*page.items else {
        panic!("{page:#?}");
    };
    assert_eq!(first.limit.as_deref(), Some("mqtt.max_qos"));
    assert!(
        first
            .why
            .as_deref()
            .unwrap()
            .ends_with("(mqtt.max_qos = 7)")
    );
    assert_eq!(second.cause, Some(Cause::ProtocolError));
    assert_eq!(second.limit, None);
}

#[test]
fn long_texts_are_cut() {
    let journal = Journal::default();
    write(&journal, disconnected(&"é".repeat(40_000)));
    let page = journal.page(0, 1, |_| true);
    let text = &page.items[0].client_id;
    assert!(text.len() <= 256 && text.contains("é…é") && text.contains("é (80,000 bytes, sha256 "));
}

#[test]
fn bytes_of_entries_are_bounded_and_the_oldest_go_first() {
    let journal = Journal::default();
    journal.bound(100_000);
    let refused = |number: usize| {
        let event = Event::Refused {
            will_topic: None,
            reason: ReasonCode::NotAuthorized,
            why: Refusal::operators_only(RefusalCause::Forbidden, "w".repeat(500)),
        };
        let mut notice = notice(&format!("{number}-{}", "c".repeat(200)), event);
        notice.head.user = Some(UserName::Claimed("u".repeat(200).as_str().into()));
        notice
    };
    for number in 0..1_000 {
        write(&journal, refused(number));
        write(&journal, disconnected(&number.to_string()));
        assert!(journal.memory_bytes() <= 100_000);
    }
    let page = journal.page(1, 1_000, |entry| entry.what == EventKind::Refused);
    assert!(page.items.len() > 20 && page.gone > 1_000);
    assert!(page.items.last().unwrap().client_id.starts_with("999-"));
    let others = journal.page(1, 1_000, |entry| entry.what == EventKind::Disconnected);
    assert!(others.items.len() > 20, "who goes has a part of its own");
    let before = page.items.len();
    journal.bound(50_000);
    assert!(journal.page(1, 1_000, Entry::is_trouble).items.len() < before);
}

#[tokio::test]
async fn who_waits_is_told_of_the_next_entry() {
    let journal = Arc::new(Journal::default());
    let waiting = {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move { journal.wait(1, Duration::from_secs(60)).await })
    };
    tokio::task::yield_now().await;
    write(&journal, disconnected("c"));
    waiting.await.expect("it ends");
}

#[test]
fn a_topic_that_is_not_known_is_left_out() {
    let journal = Journal::default();
    for topic in ["", "a/b"] {
        let event = Event::Dropped {
            topic: topic.to_owned(),
            stored: None,
            reason: DropReason::QueueFull,
            limit: None,
            refused: None,
        };
        write(&journal, notice("away", event));
    }
    let page = journal.page(1, 10, |_| true);
    let topics: Vec<_> = page.items.iter().map(|one| one.topic.as_deref()).collect();
    assert_eq!(topics, [None, Some("a/b")]);
}

#[test]
fn a_message_that_was_refused_says_why_by_whom_and_where_there_is_more() {
    let dropped = |client_id: &str, code| {
        let event = Event::Dropped {
            topic: "a".to_owned(),
            stored: None,
            reason: DropReason::RefusedByReceiver,
            limit: None,
            refused: Some(code),
        };
        notice(client_id, event)
    };
    let words_of = |notice: NodeNotice| {
        let journal = Journal::default();
        write(&journal, notice);
        let page = journal.page(1, 10, |_| true);
        let entry = page.items.first().expect("it is written");
        (entry.why.clone(), entry.command.clone())
    };
    let rejected = PartRefusal::Rejected.code();
    let (why, command) = words_of(dropped("$integration/webhook/crm@0", rejected));
    assert_eq!(why.as_deref(), Some(PartRefusal::Rejected.meaning()));
    let expected = "martlet integration dead-letter ls webhook/crm";
    assert_eq!(command.as_deref(), Some(expected));
    let failed = PartRefusal::Failed.code();
    let (why, _) = words_of(dropped("$integration/webhook/crm@0", failed));
    assert_eq!(why.as_deref(), Some(PartRefusal::Failed.meaning()));
    let (why, command) = words_of(dropped("d1", ReasonCode::QuotaExceeded));
    assert_eq!(why.as_deref(), Some(ReasonCode::QuotaExceeded.name()));
    assert_eq!(command, None);
}
