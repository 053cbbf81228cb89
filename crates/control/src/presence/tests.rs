use martlet_broker::{ConnectedClient, Event, EventHead, RefusalCause, SharedClient};
use martlet_codec::ReasonCode;

use super::known::OFFLINE_MAX;
use super::*;
use crate::event::{NodeEvent, NodeNotice};

const COMMON: TenantId = TenantId(0);

fn connected(client_id: &str) -> NodeNotice {
    let mut client = ConnectedClient::new(client_id, Some("user"));
    client.address = Some(([127, 0, 0, 1].into(), 9));
    NodeNotice::connected(COMMON, SharedClient::new(client))
}

fn disconnected(client_id: &str, cause: RefusalCause) -> NodeNotice {
    let (reason, why) = (ReasonCode::Success, cause.into());
    let head = EventHead::new(COMMON, client_id);
    NodeNotice {
        head,
        event: NodeEvent::Shard(Event::Disconnected {
            reason,
            why,
            will: None,
        }),
    }
}

fn online(of: &[ClientPresence]) -> Vec<(&str, bool)> {
    of.iter().map(|one| (&*one.client_id, one.online)).collect()
}

#[test]
fn a_client_is_online_from_its_connect_to_its_end() {
    let presence = Presence::default();
    assert_eq!(presence.of(TenantId(0), "c"), None);
    presence.begin().note(&connected("c"), 5);
    let now = presence.of(TenantId(0), "c").unwrap();
    assert!(now.online && now.since_ms == 5 && now.address == "127.0.0.1:9");
    let who = presence
        .begin()
        .note(&disconnected("c", RefusalCause::KeepAlive), 9);
    assert_eq!(who.unwrap().user().map(|user| user.name), Some("user"));
    let now = presence.of(TenantId(0), "c").unwrap();
    assert_eq!((now.online, now.since_ms, now.last_seen_ms), (false, 9, 9));
    assert_eq!(now.why, RefusalCause::KeepAlive.text());
}

#[test]
fn what_changes_in_between_is_told_once_as_it_is_at_last() {
    let presence = Presence::default();
    presence.begin().keep_changes();
    presence.begin().note(&connected("c"), 1);
    // Taken over.
    presence
        .begin()
        .note(&disconnected("c", RefusalCause::TakenOver), 2);
    presence.begin().note(&connected("c"), 2);
    presence.begin().note(&connected("d"), 3);
    let changed = presence.begin().take_changes(usize::MAX);
    assert_eq!(online(&changed), [("c", true), ("d", true)]);
    assert!(presence.begin().take_changes(usize::MAX).is_empty());
}

#[tokio::test]
async fn who_was_online_is_offline_after_a_restart_since_the_node_was_last_alive() {
    let store = PresenceInMemory::default();
    let noted = |client_id: &str, online, is_reported| StoredPresence {
        client: ClientPresence {
            client_id: client_id.to_owned(),
            online,
            since_ms: 5,
            last_seen_ms: 6,
            ..ClientPresence::default()
        },
        is_reported,
    };
    let written = [
        noted("was", true, true),
        noted("not", false, true),
        noted("again", true, true),
        noted("untold", false, false),
    ];
    store.write(&written).await.unwrap();
    let presence = Presence::default();
    presence.begin().keep_changes();
    presence.begin().note(&connected("again"), 30);
    presence.begin().take_changes(usize::MAX);
    let ended = store.all_offline(20, "the node ended").await.unwrap();
    presence.restore(&ended);
    let mut changed = presence.begin().take_changes(usize::MAX);
    changed.sort_by(|one, other| one.client_id.cmp(&other.client_id));
    assert_eq!(online(&changed), [("untold", false), ("was", false)]);
    let was = presence.of(TenantId(0), "was").unwrap();
    assert_eq!((was.since_ms, &*was.why), (20, "the node ended"));
    assert_eq!(presence.of(TenantId(0), "untold").unwrap().since_ms, 5);
    assert!(presence.of(TenantId(0), "again").unwrap().online);
    assert_eq!(store.find("not").unwrap().client.since_ms, 5);
}

#[test]
fn at_the_stop_everybody_goes_and_who_was_gone_before_stays_so() {
    let presence = Presence::new(&["mqtt://127.0.0.1:1".to_owned()], None);
    presence.begin().keep_changes();
    presence.begin().note(&connected("c"), 1);
    presence.begin().note(&connected("gone"), 2);
    presence
        .begin()
        .note(&disconnected("gone", RefusalCause::KeepAlive), 3);
    presence.begin().take_changes(usize::MAX);
    presence.begin().end_all(9, "the node was stopped");
    let changed = presence.begin().take_changes(usize::MAX);
    assert_eq!(online(&changed), [("c", false)]);
    assert_eq!((changed[0].since_ms, changed[0].last_seen_ms), (9, 9));
    assert_eq!(changed[0].listener_url, "mqtt://127.0.0.1:1");
    let offline_client = presence.of(TenantId(0), "gone").unwrap();
    assert_eq!(offline_client.why, RefusalCause::KeepAlive.text());
}

#[test]
fn those_who_never_come_again_are_forgotten_at_last() {
    let presence = Presence::default();
    presence.begin().note(&connected("stays"), 1);
    for number in 0..OFFLINE_MAX as u64 + 10 {
        let client_id = number.to_string();
        let mut known = presence.begin();
        known.note(&connected(&client_id), number);
        known.note(&disconnected(&client_id, RefusalCause::Goodbye), number);
    }
    assert_eq!(presence.of(TenantId(0), "0"), None);
    assert!(presence.of(TenantId(0), "10").is_some());
    assert!(presence.of(TenantId(0), "stays").unwrap().online);
}

#[test]
fn long_names_of_those_who_have_gone_take_no_more_bytes_than_there_are() {
    const BYTES: usize = 400_000;
    let presence = Presence::new(&[], Some(BYTES));
    let mut known = presence.begin();
    known.keep_changes();
    let name = |number: u64| format!("{number}-{}", "c".repeat(20_000));
    known.note(&connected(&name(0)), 0);
    for number in 1..1_000 {
        known.note(&connected(&name(number)), number);
        known.note(&disconnected(&name(number), RefusalCause::Goodbye), number);
        // The same client again and again is one client.
        known.note(&connected("again"), number);
        known.note(&disconnected("again", RefusalCause::Goodbye), number);
        assert!(
            known.memory_bytes() < BYTES + 100_000,
            "{}",
            known.memory_bytes()
        );
    }
    let changed = known.take_changes(usize::MAX);
    assert!((5..50).contains(&changed.len()), "{}", changed.len());
    assert!(changed.iter().any(|client| client.client_id == "again"));
    assert!(known.take_changes(usize::MAX).is_empty());
    drop(known);
    assert!(presence.of(TenantId(0), &name(0)).unwrap().online);
    assert!(presence.of(TenantId(0), &name(999)).is_some());
    assert!(presence.of(TenantId(0), &name(1)).is_none());
}

#[test]
fn the_node_knows_when_it_was_last_alive_and_how_it_ended() {
    let directory = std::env::temp_dir().join(format!("martlet-alive-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    assert_eq!(Alive::open(&directory).before(), None);
    let alive = Alive::open(&directory);
    alive.note(7, false).unwrap();
    assert_eq!(Alive::open(&directory).node(), alive.node());
    let ended = Some((7, "the node ended without a stop"));
    assert_eq!(Alive::open(&directory).before(), ended);
    alive.note(9, true).unwrap();
    assert_eq!(
        Alive::open(&directory).before(),
        Some((9, "the node was stopped"))
    );
    let own = alive.node().to_owned();
    let note = |restored_ms| crate::RestoreNote {
        backup_ms: None,
        restored_ms,
        has_tables: true,
        node: Some("other".to_owned()),
    };
    // A backup of another node was restored after that run, and that node goes on.
    let path = directory.join("restored.json");
    note(10).write(&path).unwrap();
    assert_eq!(Alive::open(&directory).node(), "other");
    std::fs::remove_file(&path).unwrap();
    note(8).write(&path).unwrap();
    assert_eq!(Alive::open(&directory).node(), own);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn no_identifier_makes_a_topic_of_its_own() {
    let topics = PresenceTopics::new("iot/{client_id}/status/{state}").unwrap();
    let of = |client_id| topics.of(client_id, "online");
    assert_eq!(of("c").as_deref(), Some("iot/c/status/online"));
    assert_eq!(of("{state}").as_deref(), Some("iot/{state}/status/online"));
    assert!(of("a+").is_none() && of("#").is_none());
    let topics = PresenceTopics::new("{client_id}/{state}").unwrap();
    assert_eq!(topics.of("$SYS", "online"), None);
    for wrong in ["iot/{client_id}", "iot/{state}", "#/{client_id}/{state}"] {
        assert!(PresenceTopics::new(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn of_who_came_without_an_identifier_nothing_is_published() {
    let topics = PresenceTopics::new("s/{client_id}/{state}").unwrap();
    let has_topics = |client_id: &str| {
        let client = ClientPresence {
            client_id: client_id.to_owned(),
            ..ClientPresence::default()
        };
        topics.messages(&client).is_some()
    };
    for assigned in [
        "auto-0af90af9-0af9-4af9-8af9-0af90af90af9",
        // Without hyphens, as older nodes did.
        &format!("auto-{}", "0af9".repeat(8)),
    ] {
        assert!(!has_topics(assigned), "{assigned}");
    }
    for own in [
        "d1",
        "auto-",
        "auto-0af9",
        "auto-0af90af9-0af9-4af9-8af9_0af90af90af9",
        &format!("auto-{}", "0AF9".repeat(8)),
    ] {
        assert!(has_topics(own), "{own}");
    }
}

#[test]
fn clients_of_two_tenants_with_one_identifier_are_two() {
    let presence = Presence::default();
    presence.begin().keep_changes();
    let own = TenantId(7);
    presence.begin().note(&connected("c"), 1);
    let mut other = connected("c");
    other.head.tenant = own;
    presence.begin().note(&other, 2);
    presence
        .begin()
        .note(&disconnected("c", RefusalCause::KeepAlive), 3);
    assert!(!presence.of(TenantId(0), "c").unwrap().online);
    assert!(presence.of(own, "c").unwrap().online);
    let mut changed = presence.begin().take_changes(usize::MAX);
    changed.sort_by_key(|client| client.tenant);
    assert_eq!(online(&changed), [("c", false), ("c", true)]);
    presence.begin().end_all(9, "the node was stopped");
    assert_eq!(presence.begin().take_changes(usize::MAX)[0].tenant, 7);
}
