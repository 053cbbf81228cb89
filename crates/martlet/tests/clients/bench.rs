//! `martlet bench` with a broker that neither loses nor repeats messages.

use crate::support::{Broker, Family};

fn bench(broker: &Broker, args: &[&str]) -> serde_json::Value {
    let (port, pid) = (broker.port.to_string(), broker.pid().to_string());
    let common = [
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--pid",
        &pid,
        "--json",
    ];
    let short = ["--warmup", "0.1", "--duration", "0.3"];
    let run = broker.run(
        Family::Martlet,
        "bench",
        &[args, &common, &short].concat(),
        b"",
    );
    assert_eq!(run.code, 0, "{args:?}: {} {}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).expect("one line of JSON")
}

#[test]
fn every_scenario_delivers_all_in_order() {
    let broker = Broker::open();
    for args in [
        &["pipes", "--clients", "5"][..],
        &["pipes", "--clients", "5", "--qos", "1", "--version", "5"],
        &["pipes", "--clients", "5", "--qos", "2"],
        &["pipes", "--clients", "5", "--rate", "500", "--qos", "1"],
        &["fan-out", "--clients", "20"],
        &["fan-out", "--clients", "20", "--qos", "2", "--version", "5"],
        &["fan-in", "--clients", "10", "--qos", "1"],
        &["wildcards", "--clients", "10", "--topics", "100"],
        &[
            "filters",
            "--clients",
            "10",
            "--topics",
            "2000",
            "--qos",
            "1",
        ],
        &["share", "--clients", "3", "--window", "20"],
        &["pipes", "--clients", "5", "--idle", "30"],
        &["share", "--publishers", "2", "--window", "20", "--qos", "2"],
        &[
            "pipes",
            "--clients",
            "2",
            "--payload",
            "300000",
            "--window",
            "2",
        ],
    ] {
        let report = bench(&broker, args);
        assert!(report["delivered"].as_u64() > Some(0), "{args:?}: {report}");
        for count in ["lost", "duplicated", "reordered", "refused"] {
            assert_eq!(report[count], 0, "{args:?}: {report}");
        }
        assert!(
            report["latency_us"]["p50"].as_f64() > Some(0.0),
            "{args:?}: {report}"
        );
    }
}

#[test]
fn a_schedule_is_kept() {
    let broker = Broker::open();
    let report = bench(&broker, &["pipes", "--clients", "4", "--rate", "1000"]);
    let rate = report["published_per_sec"].as_f64().unwrap();
    assert!((800.0..1200.0).contains(&rate), "{report}");
}

#[test]
fn what_is_stored_is_fetched_once_and_removed() {
    let broker = Broker::open();
    for args in [
        &["retained", "--messages", "500"][..],
        &["retained", "--messages", "500", "--qos", "0"],
        &[
            "retained",
            "--messages",
            "50",
            "--clients",
            "3",
            "--version",
            "5",
        ],
        &["offline", "--messages", "300", "--idle", "5"],
        &[
            "offline",
            "--messages",
            "301",
            "--clients",
            "7",
            "--publishers",
            "2",
        ],
        &[
            "offline",
            "--messages",
            "300",
            "--clients",
            "7",
            "--qos",
            "2",
            "--version",
            "5",
        ],
    ] {
        let report = bench(&broker, args);
        let count = |phase: usize| report["phases"][phase]["messages"].as_u64();
        let copies = if args.contains(&"3") { 3 } else { 1 };
        assert_eq!(count(1), count(0).map(|count| count * copies), "{report}");
        assert_eq!(report["delivered"].as_u64(), count(1), "{args:?}: {report}");
        assert_eq!(
            report["faults"],
            serde_json::json!([]),
            "{args:?}: {report}"
        );
    }
    let retained = broker.run(
        Family::Martlet,
        "sub",
        &["-t", "bench/#", "-W", "1", "--retained-only"],
        b"",
    );
    assert_eq!(retained.stdout, "");
}

#[test]
fn connections_come_from_the_addresses_named() {
    let broker = Broker::open();
    let range = [
        "idle",
        "--clients",
        "4",
        "--local-address",
        "127.0.0.2-127.0.0.3",
    ];
    assert_eq!(bench(&broker, &range)["connected"], 4);
    let nowhere = ["idle", "--local-address", "192.0.2.1", "--port"];
    let port = broker.port.to_string();
    let run = broker.run(
        Family::Martlet,
        "bench",
        &[&nowhere[..], &[&port]].concat(),
        b"",
    );
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("192.0.2.1"), "{}", run.stderr);
}

#[test]
fn connections_are_made_counted_and_weighed() {
    let broker = Broker::open();
    for scenario in ["connects", "idle"] {
        let report = bench(
            &broker,
            &[scenario, "--clients", "60", "--concurrency", "20"],
        );
        assert_eq!(report["connected"], 60, "{report}");
        assert!(
            report["broker"]["resident_bytes_after"].as_u64() > Some(0),
            "{report}"
        );
    }
}

#[test]
fn a_broker_that_drops_messages_makes_the_exit_code_1() {
    let options = "allow_anonymous true\nmessage_size_limit 100\n";
    let broker = Broker::start(options);
    let port = broker.port.to_string();
    let args = [
        "pipes",
        "--clients",
        "2",
        "--payload",
        "1000",
        "--host",
        "127.0.0.1",
        "--port",
    ];
    let run = broker.run(
        Family::Martlet,
        "bench",
        &[&args[..], &[&port]].concat(),
        b"",
    );
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains("FAULT"), "{}", run.stdout);
}
