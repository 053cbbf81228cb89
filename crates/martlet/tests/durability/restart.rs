//! State that is restored after a kill, one aspect per test.

use std::time::Duration;

use martlet_client::{ConnectOptions, Message, Will};
use martlet_codec::QoS;

use crate::node::{Directory, Node, block_on, lasting, martlet, text};

const QUIET: Duration = Duration::from_millis(300);

#[test]
fn sessions_queues_and_retained_messages_outlive_a_kill_and_a_change_of_threads() {
    let directory = Directory::new("restart");
    block_on(async {
        let mut node = Node::start(&directory, &["--threads", "3"]).await;
        let mut subscriber = node.connect(&lasting("subscriber")).await;
        subscriber.subscribe("queue/#", QoS::ExactlyOnce).await;
        drop(subscriber);
        let mut publisher = node.connect(&lasting("publisher")).await;
        for number in 0..500 {
            let qos = if number % 2 == 0 {
                QoS::AtLeastOnce
            } else {
                QoS::ExactlyOnce
            };
            publisher
                .publish("queue/a", &number.to_string(), qos, false)
                .await;
        }
        publisher
            .publish("state/a", "old", QoS::AtLeastOnce, true)
            .await;
        publisher
            .publish("state/a", "new", QoS::AtLeastOnce, true)
            .await;
        publisher
            .publish("state/b", "gone", QoS::AtLeastOnce, true)
            .await;
        publisher
            .publish("state/b", "", QoS::AtLeastOnce, true)
            .await;
        node.broker.kill().unwrap();

        let node = Node::start(&directory, &["--threads", "1"]).await;
        let mut subscriber = node.connect(&lasting("subscriber")).await;
        for number in 0..500 {
            let expected = ("queue/a".to_owned(), number.to_string());
            assert_eq!(subscriber.message().await, expected);
        }
        assert!(subscriber.nothing_for(QUIET).await, "each came once");
        subscriber.subscribe("state/#", QoS::AtLeastOnce).await;
        let retained = subscriber.message().await;
        assert_eq!(retained, ("state/a".to_owned(), "new".to_owned()));
        assert!(
            subscriber.nothing_for(QUIET).await,
            "what was cleared stays so"
        );
    });
}

#[test]
fn a_will_comes_once_after_a_kill_unless_its_client_is_back() {
    let directory = Directory::new("will");
    block_on(async {
        // Long enough to reconnect on a busy machine.
        let options = ["--set", "limits.will_restart_secs=4"];
        let mut node = Node::start(&directory, &options).await;
        let mut watcher = node.connect(&lasting("watcher")).await;
        watcher.subscribe("will/#", QoS::AtLeastOnce).await;
        let with_will = |name: &str| ConnectOptions {
            client_id: name.to_owned(),
            will: Some(Will {
                message: Message {
                    topic: format!("will/{name}"),
                    payload: "lost".to_owned().into(),
                    qos: QoS::AtLeastOnce,
                    ..Message::default()
                },
                delay_secs: None,
            }),
            ..ConnectOptions::default()
        };
        let stays_away = node.connect(&with_will("stays-away")).await;
        let comes_back = node.connect(&with_will("comes-back")).await;
        node.crash().await;
        drop((stays_away, comes_back));
        let _back = node.connect(&with_will("comes-back")).await;
        let mut watcher = node.connect(&lasting("watcher")).await;
        let will = watcher.message().await;
        assert_eq!(will, ("will/stays-away".to_owned(), "lost".to_owned()));
        let quiet = Duration::from_secs(5);
        assert!(
            watcher.nothing_for(quiet).await,
            "no other Will, and none twice"
        );
        node.crash().await;
        let mut watcher = node.connect(&lasting("watcher")).await;
        let will = watcher.message().await;
        assert_eq!(will.0, "will/comes-back", "a Will that was sent is used up");
        assert!(watcher.nothing_for(quiet).await);
    });
}

#[test]
fn a_session_that_was_ended_stays_ended() {
    let directory = Directory::new("ended");
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        let mut client = node.connect(&lasting("client")).await;
        client.subscribe("a", QoS::AtLeastOnce).await;
        drop(client);
        let clean = ConnectOptions {
            clean_start: true,
            ..lasting("client")
        };
        drop(node.connect(&clean).await);
        node.crash().await;
        let mut publisher = node.connect(&lasting("publisher")).await;
        publisher.publish("a", "x", QoS::AtLeastOnce, false).await;
        let mut client = node.connect(&lasting("client")).await;
        assert!(
            client.nothing_for(QUIET).await,
            "its subscription ended with it"
        );
    });
}

#[test]
fn the_protocol_version_of_a_client_that_is_away_is_known_after_a_kill() {
    let directory = Directory::new("version");
    let data = directory.data().display().to_string();
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        let old = ConnectOptions {
            version: martlet_codec::ProtocolVersion::V311,
            session_expiry_secs: None,
            ..lasting("old")
        };
        let mut client = node.connect(&old).await;
        client.subscribe("a", QoS::AtLeastOnce).await;
        node.crash().await;
        let listed = martlet(&["clients", "--data-dir", &data]);
        let listed = text(&listed.stdout);
        assert!(
            listed.contains("old") && listed.contains("3.1.1"),
            "{listed}"
        );
    });
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let directory = Directory::new("second");
    block_on(async {
        let _node = Node::start(&directory, &[]).await;
        let data = directory.data().display().to_string();
        let listen = ["--listen", "mqtt://127.0.0.1:0", "--http", "off"];
        let second = martlet(&[&["serve", "--data-dir", &data], &listen[..]].concat());
        assert!(!second.status.success());
        let error = text(&second.stderr);
        assert!(error.contains("in use") && error.contains(&data), "{error}");
    });
}

#[test]
fn stop_waits_until_the_node_has_ended_and_all_is_kept() {
    let directory = Directory::new("stop");
    let data = directory.data().display().to_string();
    let stop = |more: &[&str]| martlet(&[&["stop", "--data-dir", &data], more].concat());
    assert_eq!(stop(&[]).status.code(), Some(1), "no node answers");
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        let mut client = node.connect(&lasting("client")).await;
        client.subscribe("a", QoS::AtLeastOnce).await;
        let stopped = stop(&[]);
        assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
        assert!(text(&stopped.stdout).starts_with("stopped ("));
        // At once, with the same directory.
        node.broker.start().expect("it starts again");
        node.broker.accepts().await.expect("it accepts clients");
        drop(client);
        let mut publisher = node.connect(&lasting("publisher")).await;
        publisher.publish("a", "x", QoS::AtLeastOnce, false).await;
        let mut client = node.connect(&lasting("client")).await;
        assert_eq!(client.message().await.1, "x");
    });
}

#[test]
fn stop_says_when_the_node_still_runs_after_its_time() {
    let directory = Directory::new("stop-slowly");
    let data = directory.data().display().to_string();
    block_on(async {
        let grace = ["--threads", "1", "--set", "mqtt.shutdown_grace_secs=3"];
        let node = Node::start(&directory, &grace).await;
        // A client that reads nothing, with more output than its socket buffers: the node waits for
        // it during the grace period.
        let mut deaf = node.connect(&ConnectOptions::default()).await;
        deaf.subscribe("much", QoS::AtMostOnce).await;
        let mut publisher = node.connect(&ConnectOptions::default()).await;
        let payload = "x".repeat(200 * 1024);
        for _ in 0..60 {
            publisher
                .publish("much", &payload, QoS::AtMostOnce, false)
                .await;
        }
        publisher
            .publish("other", "x", QoS::AtLeastOnce, false)
            .await;
        let asked = martlet(&["stop", "--timeout", "1", "--data-dir", &data]);
        assert_eq!(asked.status.code(), Some(2), "{}", text(&asked.stdout));
        assert!(text(&asked.stdout).starts_with("still stopping"));
    });
}
