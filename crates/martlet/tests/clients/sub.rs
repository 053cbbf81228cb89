//! Compares `martlet sub` with `mosquitto_sub`.

use std::io::{BufRead, BufReader, Read};

use rustix::process::Signal;

use crate::support::{Broker, FAMILIES, Family, send_signal, wait};

/// Starts a broker with some retained messages.
fn with_retained_messages() -> Broker {
    let broker = Broker::open();
    broker.publish(&[
        "-r",
        "-q",
        "1",
        "-t",
        "f/1",
        "-m",
        "hé\"l\\l\to",
        "-D",
        "publish",
        "content-type",
        "text/pl",
        "-D",
        "publish",
        "response-topic",
        "re/sp",
        "-D",
        "publish",
        "correlation-data",
        "c\"d",
        "-D",
        "publish",
        "user-property",
        "k1",
        "v1",
        "-D",
        "publish",
        "user-property",
        "k2",
        "v 2",
        "-D",
        "publish",
        "payload-format-indicator",
        "1",
    ]);
    broker.publish(&[
        "-r",
        "-t",
        "f/2",
        "-m",
        "{\"a\": 1,  \"b\":[1,2.50,{\"c\":null}], \"s\":\"é\"}",
    ]);
    broker.publish(&["-r", "-t", "f/3", "-m", "123"]);
    broker
}

#[test]
fn retained_messages_print_the_same_in_every_format() {
    let broker = with_retained_messages();
    let plain: [&[&str]; 10] = [
        &["-t", "f/1", "-C", "1"],
        &["-t", "f/1", "-C", "1", "-v"],
        &["-t", "f/1", "-C", "1", "-v", "-N"],
        &["-t", "f/1", "-t", "f/2", "-C", "2", "-v"],
        &["-t", "f/#", "-T", "f/1", "-C", "2", "-v"],
        &["-t", "f/#", "-C", "3", "-q", "2"],
        &["-t", "f/1", "-C", "1", "-V", "31"],
        &["-t", "f/2", "-C", "1", "-F", "%J", "--pretty"],
        &["-t", "f/3", "-C", "1", "-F", "x%t", "-N"],
        &["-t", "f/1", "-C", "1", "-F", "%J"],
    ];
    for args in plain {
        assert_eq!(broker.compare("sub", args).code, 0, "{args:?}");
    }
    for version in ["311", "5"] {
        for format in [
            "%t|%p|%q|%r|%l|%m|%x|%X",
            "%C|%D|%E|%F|%A|%P|%R|%S|",
            "%20t|%-20t|%020t|%.2t|%10.2t|%20p|%-20p|%020p|",
            "%5l|%05l|%-5l|%5m|%05m|%-5m|%5q|%5r|",
            "%20C|%-20C|%.2C|%10F|%10A|",
            "a\\tb\\n\\\\c\\a\\v\\ed@@%%",
            "@Y-@m-@d",
        ] {
            let args = [
                "-t", "f/1", "-C", "1", "-q", "1", "-V", version, "-F", format,
            ];
            assert_eq!(broker.compare("sub", &args).code, 0, "{format}");
        }
    }
}

#[test]
fn a_random_filter_of_100_percent_prints_all() {
    let broker = with_retained_messages();
    let args = ["-t", "f/3", "-C", "1", "--random-filter", "100"];
    let run = broker.run(Family::Martlet, "sub", &args, b"");
    assert_eq!((run.code, run.stdout.as_str()), (0, "123"));
}

#[test]
fn json_prints_the_same() {
    let broker = with_retained_messages();
    for args in [
        &["-t", "f/2", "-C", "1", "-F", "%j"][..],
        &["-t", "f/2", "-C", "1", "-F", "%J"],
        &["-t", "f/3", "-C", "1", "-F", "%J", "-V", "5"],
        &["-t", "f/2", "-C", "1", "-F", "%j", "--pretty"],
        &["-t", "f/1", "-C", "1", "-F", "%j", "-q", "1"],
        &["-t", "f/1", "-C", "1", "-F", "%j", "-q", "1", "-V", "5"],
    ] {
        assert_eq!(broker.compare("sub", args).code, 0, "{args:?}");
    }
}

#[test]
fn debug_lines_are_the_same() {
    let broker = with_retained_messages();
    for args in [
        &["-t", "f/1", "-C", "1", "-d"][..],
        &["-t", "f/1", "-t", "f/2", "-E", "-d", "-q", "2"],
        &["-t", "f/1", "-E", "-d", "--retain-as-published", "-V", "5"],
        &["-t", "$share/group/f/1", "-E", "-d", "-V", "5"],
        &["-t", "f/1", "-c", "-i", "keeps", "-E", "-d"],
        &[
            "-t",
            "f/1",
            "-D",
            "subscribe",
            "subscription-identifier",
            "7",
            "-E",
            "-d",
        ],
    ] {
        assert_eq!(broker.compare("sub", args).code, 0, "{args:?}");
    }
}

#[test]
fn a_kept_session_delivers_what_came_meanwhile() {
    let broker = Broker::open();
    for family in FAMILIES {
        for qos in ["1", "2"] {
            let session = ["-c", "-i", "keeps", "-q", qos, "-t", "a/#"];
            let created = broker.run(family, "sub", &[&session[..], &["-E"]].concat(), b"");
            assert_eq!(created.code, 0, "{}", created.stderr);
            broker.publish(&["-t", "a/1", "-m", "one", "-q", qos]);
            broker.publish(&["-t", "a/2", "-n", "-q", qos]);
            broker.publish(&["-t", "a/3", "-m", "three", "-q", qos]);
            let args = [&session[..], &["-C", "3", "-v", "-W", "5"]].concat();
            let run = broker.run(family, "sub", &args, b"");
            assert_eq!(
                run.stdout, "a/1 one\na/2 (null)\na/3 three",
                "{family:?} QoS {qos}"
            );
            assert_eq!(run.code, 0);
        }
    }
}

#[test]
fn a_timeout_ends_with_27() {
    let broker = with_retained_messages();
    for args in [
        &["-t", "nothing", "-W", "1"][..],
        &["-t", "f/1", "-W", "1", "-v"],
        &["-t", "f/#", "-W", "1", "-R"],
        &["-t", "f/#", "-W", "1", "--retained-only", "-v", "-V", "5"],
    ] {
        assert_eq!(broker.compare("sub", args).code, 27, "{args:?}");
    }
}

#[test]
fn remove_retained_clears_what_it_receives_but_not_what_is_filtered_out() {
    let broker = with_retained_messages();
    let args = [
        "-t",
        "f/#",
        "-T",
        "f/3",
        "--remove-retained",
        "-C",
        "2",
        "-v",
        "-W",
        "5",
    ];
    let run = broker.run(Family::Martlet, "sub", &args, b"");
    assert_eq!(
        (run.code, run.stdout.lines().count()),
        (0, 2),
        "{}",
        run.stdout
    );
    let left = broker.compare("sub", &["-t", "f/#", "-W", "1", "-v"]);
    assert_eq!(left.stdout, "f/3 123");
}

#[test]
fn retained_only_ends_at_the_first_fresh_message() {
    let broker = with_retained_messages();
    for family in FAMILIES {
        let session = ["-c", "-i", "keeps", "-q", "1", "-t", "a"];
        broker.run(family, "sub", &[&session[..], &["-E"]].concat(), b"");
        broker.publish(&["-t", "a", "-m", "fresh", "-q", "1"]);
        let args = [&session[..], &["--retained-only", "-W", "5"]].concat();
        let run = broker.run(family, "sub", &args, b"");
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (0, ""),
            "{family:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn wrong_arguments_have_the_same_words_and_codes() {
    let broker = Broker::open();
    for args in [
        &["-E"][..],
        &["-t", "a#"],
        &["-t", "a", "-U", "a+"],
        &["-t", "a", "-T", "a+"],
        &["-t"],
        &["-t", "a", "-F"],
        &["-t", "a", "-F", "%Z"],
        &["-t", "a", "-F", "%"],
        &["-t", "a", "-F", "@"],
        &["-t", "a", "-F", "\\q"],
        &["-t", "a", "-C"],
        &["-t", "a", "-C", "0"],
        &["-t", "a", "-W"],
        &["-t", "a", "-W", "0"],
        &["-t", "a", "-q", "3"],
        &["-t", "a", "--random-filter", "0"],
        &["-t", "a", "-c"],
        &["nonsense"],
    ] {
        let run = broker.compare("sub", args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}");
    }
}

#[test]
fn refused_connections_have_the_same_words_and_codes() {
    let broker = Broker::with_password();
    for (args, code) in [
        (&["-t", "ok/a", "-u", "u", "-P", "no"][..], 5),
        (&["-t", "ok/a", "-u", "u", "-P", "no", "-V", "31"], 5),
        (&["-t", "ok/a", "-u", "u", "-P", "no", "-V", "5"], 135),
        (&["-t", "ok/a", "-u", "u", "-P", "pw", "-V", "5", "-E"], 0),
    ] {
        assert_eq!(broker.compare("sub", args).code, code, "{args:?}");
    }
}

#[test]
fn a_reader_that_leaves_ends_the_subscriber_quietly() {
    let broker = Broker::open();
    let mut child = broker.spawn(Family::Martlet, "sub", &["-t", "a", "-q", "1", "-d"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().starts_with("Subscribed") {}
    drop(lines);
    broker.publish(&["-t", "a", "-m", "x", "-q", "1"]);
    broker.publish(&["-t", "a", "-m", "x", "-q", "1"]);
    let output = wait(child, "sub without a reader");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn sigterm_ends_a_subscriber_in_order() {
    let broker = Broker::open();
    let mut child = broker.spawn(Family::Martlet, "sub", &["-t", "a", "-d"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().starts_with("Subscribed") {}
    send_signal(child.id(), Signal::TERM);
    assert!(
        lines
            .next()
            .unwrap()
            .unwrap()
            .ends_with("sending DISCONNECT")
    );
    assert_eq!(wait(child, "sub after SIGTERM").status.code(), Some(0));
}

#[test]
fn sigterm_ends_a_client_that_waits_for_its_connection() {
    let broker = Broker::open();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let url = format!("ws://127.0.0.1:{port}/mqtt");
    let cases: [(_, &[&str]); 2] = [("sub", &["-t", "a"]), ("pub", &["-t", "a", "-l"])];
    for (command, args) in cases {
        let args = [&["-L", &url], args].concat();
        let child = broker.spawn(Family::Martlet, command, &args);
        let (mut stream, _) = listener.accept().expect("it connects");
        // The WebSocket handshake has begun and gets no answer.
        stream.read_exact(&mut [0; 4]).expect("it asks");
        send_signal(child.id(), Signal::TERM);
        assert_eq!(wait(child, command).status.code(), Some(0));
    }
}

#[test]
fn a_lost_connection_is_made_again_with_its_subscriptions() {
    let mut broker = Broker::open();
    let mut child = broker.spawn(Family::Martlet, "sub", &["-t", "a", "-d", "-C", "1"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().starts_with("Subscribed") {}
    broker.restart();
    while !lines.next().unwrap().unwrap().starts_with("Subscribed") {}
    broker.publish(&["-t", "a", "-m", "after all"]);
    assert!(lines.any(|line| line.unwrap() == "after all"));
    assert_eq!(wait(child, "sub after a restart").status.code(), Some(0));
}
