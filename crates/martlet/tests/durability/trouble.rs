//! Tests of a full disk: acknowledgements wait, QoS 0 continues, and no restart is needed.

use std::time::Duration;

use martlet_client::ConnectOptions;
use martlet_codec::QoS;

use crate::node::{Directory, Node, block_on, lasting, serve};
use martlet_crash::Broker;

/// The largest file that the node may write, set by the shell's `ulimit` (RLIMIT_FSIZE), in units
/// of 1 KiB. It is smaller than a segment, so the first record finds no room.
const FILE_KIB: &str = "64";

#[test]
fn without_room_qos_1_waits_and_qos_0_goes_on() {
    let directory = Directory::new("full");
    block_on(async {
        // The sessions are created while the store has room.
        let mut node = Node::start(&directory, &[]).await;
        let mut subscriber = node.connect(&lasting("subscriber")).await;
        subscriber.subscribe("stored", QoS::AtLeastOnce).await;
        drop(subscriber);
        node.broker.kill().unwrap();

        let command = serve(&["--threads", "1"]).join(" ");
        // With a handler for SIGXFSZ, the process continues and the write fails with EFBIG.
        let script = format!("ulimit -f {FILE_KIB}; exec {command}");
        let limited = ["sh", "-c", &script].map(str::to_owned);
        let mut broker = Broker::new(&limited, &directory.data()).expect("a free port");
        broker.start().expect("the shell starts it");
        let started = broker.accepts().await;
        if started.is_err() {
            // A store that cannot be opened for writing reports this and ends. Then there is
            // nothing to test.
            panic!("it must start with what is there: {started:?}");
        }
        let node = Node { broker };
        let mut live = node.connect(&ConnectOptions::default()).await;
        live.subscribe("live", QoS::AtMostOnce).await;
        let mut publisher = node.connect(&ConnectOptions::default()).await;
        let payload = "x".repeat(200 * 1024);
        publisher.send("stored", &payload, QoS::AtLeastOnce, false);
        let patience = Duration::from_millis(700);
        assert!(
            !publisher.acknowledged_within(patience).await,
            "it cannot have been stored"
        );
        let mut other = node.connect(&ConnectOptions::default()).await;
        for number in 0..100 {
            other
                .publish("live", &number.to_string(), QoS::AtMostOnce, false)
                .await;
            assert_eq!(live.message().await.1, number.to_string());
        }
    });
}
