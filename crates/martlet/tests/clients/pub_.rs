//! Compares `martlet pub` with `mosquitto_pub`.

use std::io::{BufRead, BufReader, Write};

use rustix::process::Signal;

use crate::support::{Broker, CREDENTIALS_ADVICE, FAMILIES, Family, WHY_ADVICE, send_signal, wait};

/// All fields of a message except its expiry, which counts down.
const FORMAT: &str = "%t|%q|%r|%x|%C|%R|%D|%F|%P";

/// Returns what a subscriber of `case/#` received from one run of a publisher.
fn observed(broker: &Broker, family: Family, args: &[&str], input: &[u8], count: u32) -> String {
    let session = ["-c", "-i", "observer", "-q", "2", "-t", "case/#", "-V", "5"];
    let created = broker.run(
        Family::Mosquitto,
        "sub",
        &[&session[..], &["-E"]].concat(),
        b"",
    );
    assert_eq!(created.code, 0, "{}", created.stderr);
    let published = broker.run(family, "pub", args, input);
    assert_eq!(
        (published.code, published.stdout.as_str()),
        (0, ""),
        "{}",
        published.stderr
    );
    let count = count.to_string();
    let collect = ["-C", &count, "-W", "5", "-F", FORMAT];
    let got = broker.run(
        Family::Mosquitto,
        "sub",
        &[&session[..], &collect].concat(),
        b"",
    );
    assert_eq!(got.code, 0, "{family:?} {args:?}: {}", got.stdout);
    // Ends the session, so that the next run begins with a new one.
    broker.run(
        Family::Mosquitto,
        "sub",
        &["-i", "observer", "-t", "x", "-E"],
        b"",
    );
    got.stdout
}

#[test]
// Table: command lines that are tried.
fn what_arrives_is_the_same() {
    let broker = Broker::open();
    let file = broker
        .home
        .write("payload", "from a\nfile\n")
        .display()
        .to_string();
    let cases: [(&[&str], &[u8], u32); 17] = [
        (&["-t", "case/a", "-m", "hello"], b"", 1),
        (&["-t", "case/a", "-m", "hello", "-q", "1"], b"", 1),
        (
            &["-t", "case/a", "-m", "hello", "-q", "2", "-V", "31"],
            b"",
            1,
        ),
        (&["-t", "case/a", "-m", "-d"], b"", 1),
        (&["-t", "case/a", "-m", ""], b"", 1),
        (&["-t", "case/a", "-n"], b"", 1),
        (&["-t", "case/a", "-f", &file, "-q", "1"], b"", 1),
        (&["-t", "case/a", "-s"], b"all\nof it\n", 1),
        (
            &["-t", "case/a", "-l", "-q", "1"],
            b"one\ntwo\n\nfour without end",
            4,
        ),
        (&["-t", "case/a", "-l"], b"one\ntwo\n", 2),
        (&["-t", "case/a", "-m", "x", "--repeat", "3"], b"", 3),
        (
            &[
                "-t",
                "case/a",
                "-m",
                "x",
                "--repeat",
                "2",
                "--repeat-delay",
                "0.05",
                "-q",
                "2",
            ],
            b"",
            2,
        ),
        (
            &["--topic", "case/long", "--message", "x", "--qos", "1"],
            b"",
            1,
        ),
        (
            &[
                "-t",
                "case/a",
                "-m",
                "x",
                "-i",
                "me",
                "-k",
                "10",
                "-M",
                "1",
                "--nodelay",
            ],
            b"",
            1,
        ),
        (
            &[
                "-t",
                "case/a",
                "-m",
                "x",
                "-V",
                "mqttv5",
                "-D",
                "publish",
                "content-type",
                "text/plain",
                "-D",
                "publish",
                "response-topic",
                "re",
                "-D",
                "PUBLISH",
                "correlation-data",
                "cd",
                "-D",
                "publish",
                "payload-format-indicator",
                "1",
                "-D",
                "publish",
                "user-property",
                "k",
                "v w",
                "-D",
                "publish",
                "user-property",
                "k",
                "",
            ],
            b"",
            1,
        ),
        (
            &[
                "-t",
                "case/alias",
                "-m",
                "x",
                "-D",
                "publish",
                "topic-alias",
                "1",
                "--repeat",
                "2",
            ],
            b"",
            2,
        ),
        (
            &[
                "-t",
                "case/a",
                "-m",
                "x",
                "--will-topic",
                "case/will",
                "--will-payload",
                "w",
                "-D",
                "will",
                "content-type",
                "t",
                "-x",
                "10",
            ],
            b"",
            1,
        ),
    ];
    for (args, input, count) in cases {
        let [mosquitto, martlet] =
            FAMILIES.map(|family| observed(&broker, family, args, input, count));
        assert_eq!(martlet, mosquitto, "{args:?}");
    }
}

#[test]
fn a_message_expiry_interval_is_sent() {
    let broker = Broker::open();
    let expiry = ["-D", "publish", "message-expiry-interval", "1000"];
    let args = [&["-t", "a", "-m", "x", "-r"][..], &expiry].concat();
    assert_eq!(broker.run(Family::Martlet, "pub", &args, b"").code, 0);
    let args = ["-t", "a", "-C", "1", "-V", "5", "-F", "%E"];
    let run = broker.run(Family::Martlet, "sub", &args, b"");
    let left: u32 = run.stdout.parse().expect("seconds");
    assert!((900..=1000).contains(&left), "{left}");
}

#[test]
fn a_retained_message_is_kept_and_an_empty_one_clears_it() {
    let broker = Broker::open();
    broker.run(
        Family::Martlet,
        "pub",
        &["-t", "kept", "-m", "x", "-r"],
        b"",
    );
    broker.compare("sub", &["-t", "kept", "-C", "1", "-F", "%t %r %p"]);
    broker.run(Family::Martlet, "pub", &["-t", "kept", "-n", "-r"], b"");
    let run = broker.compare("sub", &["-t", "kept", "-W", "1"]);
    assert_eq!((run.code, run.stdout.as_str()), (27, ""));
}

#[test]
fn debug_lines_are_the_same() {
    let broker = Broker::open();
    for args in [
        &["-t", "a", "-m", "x", "-d"][..],
        &["-t", "a", "-m", "x", "-d", "-q", "1"],
        &["-t", "a", "-m", "x", "-d", "-q", "2", "-r"],
        &["-t", "a", "-m", "x", "-d", "-V", "5", "--repeat", "3"],
        &[
            "-t",
            "a",
            "-m",
            "x",
            "-D",
            "publish",
            "topic-alias",
            "1",
            "--repeat",
            "2",
            "-d",
        ],
    ] {
        let run = broker.compare("pub", args);
        assert!(run.stdout.contains("sending PUBLISH"));
    }
}

#[test]
fn refused_connections_have_the_same_words_and_codes() {
    let broker = Broker::with_password();
    for (args, code) in [
        (&["-t", "ok/a", "-m", "x"][..], 5),
        (&["-t", "ok/a", "-m", "x", "-V", "5"], 135),
        (&["-t", "ok/a", "-m", "x", "-u", "u", "-P", "wrong"], 5),
        (
            &[
                "-t", "ok/a", "-m", "x", "-u", "u", "-P", "wrong", "-V", "5", "-d",
            ],
            135,
        ),
        (
            &["-t", "ok/a", "-m", "x", "-u", "u", "-P", "wrong", "--quiet"],
            5,
        ),
        (&["-t", "ok/a", "-m", "x", "-u", "u", "-P", "pw"], 0),
        (
            &["-t", "no", "-m", "x", "-u", "u", "-P", "pw", "-q", "1"],
            0,
        ),
        (
            &[
                "-t", "no", "-m", "x", "-u", "u", "-P", "pw", "-q", "1", "-V", "5",
            ],
            0,
        ),
        (
            &[
                "-t", "no", "-m", "x", "-u", "u", "-P", "pw", "-q", "2", "-V", "5",
            ],
            0,
        ),
    ] {
        let run = broker.compare("pub", args);
        assert_eq!(run.code, code, "{args:?}");
        let is_advised = run.stderr.contains(CREDENTIALS_ADVICE);
        assert_eq!(is_advised, code != 0 && !args.contains(&"-u"), "{args:?}");
        let names_why = run.stderr.contains(&format!("{WHY_ADVICE}u"));
        // With MQTT 5 the broker says that it refuses a message.
        let is_refused = code != 0 || args.contains(&"no") && args.contains(&"5");
        let is_told = is_refused && args.contains(&"-u") && !args.contains(&"--quiet");
        assert_eq!(names_why, is_told, "{args:?}");
    }
}

#[test]
fn wrong_arguments_have_the_same_words_and_codes() {
    let broker = Broker::open();
    for args in [
        &["-t", "a/+", "-m", "x"][..],
        &["-t", "a", "-m", "x", "-q", "3"],
        &["-t", "a", "-m", "x", "-z"],
        &["-t", "a", "-m", "x", "--nonsense"],
        &["-t", "a", "-m"],
        &["-t", "a", "-m", "x", "-h"],
        &["-t", "a", "-m", "x", "-p"],
        &["-t", "a", "-m", "x", "-p", "70000"],
        &["-t", "a", "-m", "x", "-k", "3"],
        &["-t", "a", "-m", "x", "-k", "66000"],
        &["-t", "a", "-m", "x", "-M", "0"],
        &["-t", "a", "-m", "x", "-V", "6"],
        &["-t", "a", "-m", "x", "-c"],
        &["-t", "a", "-m", "x", "-i", ""],
        &["-t", "a", "-m", "x", "-i", "a", "-I", "b"],
        &["-t", "a", "-m", "x", "-n"],
        &["-t", "a", "-m", "x", "-x", "soon"],
        &["-t", "a", "-m", "x", "--repeat", "0"],
        &["-t", "a", "-m", "x", "--will-payload", "x"],
        &["-t", "a", "-m", "x", "--will-retain"],
        &["-t", "a", "-m", "x", "--will-qos", "3"],
        &["-t", "a", "-m", "x", "--will-topic", "a/+"],
        &["-t", "a", "-m", "x", "-P", "pw"],
        &["-t", "a", "-f", "/nonexistent/file"],
        &["-t", "a", "-m", "x", "-D"],
        &["-t", "a", "-m", "x", "-D", "publish", "content-type"],
        &["-t", "a", "-m", "x", "-D", "connect", "user-property", "a"],
        &["-t", "a", "-m", "x", "-D", "publish", "foo", "bar"],
        &["-t", "a", "-m", "x", "-D", "nothing", "content-type", "bar"],
        &["-t", "a", "-m", "x", "-D", "CONNECT", "content-type", "bar"],
        &["-t", "a", "-m", "x", "-D", "auth", "reason-string", "bar"],
        &[
            "-t",
            "a",
            "-m",
            "x",
            "-D",
            "publish",
            "topic-alias",
            "70000",
        ],
        &[
            "-t",
            "a",
            "-m",
            "x",
            "-D",
            "publish",
            "message-expiry-interval",
            "-1",
        ],
        &["-m", "x", "-L", "mqx://h/x"],
        &["-m", "x", "-L"],
    ] {
        let run = broker.compare("pub", args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_reported_with_its_address() {
    let broker = Broker::open();
    // Our text contains the address.
    for (host, why) in [
        ("127.0.0.1", "Connection refused"),
        ("host.invalid", "Lookup error."),
    ] {
        let args = &["-p", "1", "-h", host, "-t", "a", "-m", "x"];
        let [ours, theirs] =
            [Family::Martlet, Family::Mosquitto].map(|family| broker.run(family, "pub", args, b""));
        assert_eq!((ours.code, theirs.code), (1, 1));
        assert!(theirs.stderr.contains(why), "{theirs:?}");
        assert!(ours.stderr.contains(why), "{ours:?}");
        assert!(ours.stderr.contains(&format!("{host}:1")), "{ours:?}");
    }
    let args = &["-t", "a", "-m", "x", "-A", "192.0.2.1"];
    let [ours, theirs] =
        [Family::Martlet, Family::Mosquitto].map(|family| broker.run(family, "pub", args, b""));
    assert_eq!((ours.code, theirs.code), (1, 1));
    let why = theirs.stderr.replace("Error: ", "");
    assert!(ours.stderr.contains(&why), "{ours:?}");
}

/// A line that was unacknowledged when the broker was killed is sent again, followed by later
/// lines.
#[test]
fn lines_go_on_where_they_were_after_the_broker_was_killed() {
    for qos in ["1", "2"] {
        let mut broker = Broker::open();
        let args = ["-t", "a", "-l", "-d", "-q", qos];
        let mut child = broker.spawn(Family::Martlet, "pub", &args);
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut wait_for = |what: &str| {
            let found = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(what)));
            found
                .unwrap_or_else(|| panic!("no {what:?}"))
                .expect("text")
        };
        let end = ["", "received PUBACK", "received PUBCOMP"][qos.parse::<usize>().unwrap()];
        writeln!(stdin, "one").expect("it reads");
        wait_for(end);
        send_signal(broker.pid(), Signal::STOP);
        writeln!(stdin, "two").expect("it reads");
        wait_for("sending PUBLISH");
        broker.restart();
        wait_for("received CONNACK");
        wait_for("sending PUBLISH");
        wait_for(end);
        writeln!(stdin, "three").expect("it reads");
        wait_for(end);
        drop(stdin);
        let output = wait(child, "pub after a restart");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*errors), (Some(0), ""));
    }
}

#[test]
fn repeated_messages_go_on_after_the_broker_was_killed() {
    let mut broker = Broker::open();
    // At QoS 0 the second message has only its Topic Alias, on the first connection.
    let repeat = ["--repeat", "3", "--repeat-delay", "0.2", "-V", "5"];
    let alias = [
        "-t",
        "a",
        "-m",
        "x",
        "-d",
        "-D",
        "publish",
        "topic-alias",
        "1",
    ];
    let mut child = broker.spawn(Family::Martlet, "pub", &[&repeat[..], &alias].concat());
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut sent = 0;
    for line in lines {
        sent += u32::from(line.expect("text").contains("sending PUBLISH"));
        if sent == 2 {
            broker.restart();
            sent += 1;
        }
    }
    let output = wait(child, "pub after a restart");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), sent, &*errors), (Some(0), 4, ""));
}

#[test]
fn a_first_connection_that_is_lost_is_not_tried_again() {
    let broker = Broker::open();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener
        .local_addr()
        .expect("it is bound")
        .port()
        .to_string();
    let args = ["-h", "127.0.0.1", "-p", &port, "-t", "a", "-l"];
    let child = broker.spawn(Family::Martlet, "pub", &args);
    drop(listener.accept().expect("it connects"));
    assert_eq!(wait(child, "pub").status.code(), Some(7));
}

#[test]
fn defaults_come_from_mosquittos_configuration_file() {
    let broker = Broker::open();
    let defaults = format!("# defaults\n-h 127.0.0.1\n-p {}\n-q 2\n-d\n", broker.port);
    broker.home.write(".config/mosquitto_pub", &defaults);
    let run = broker.compare("pub", &["--no-port", "-t", "a", "-m", "x"]);
    assert!(run.stdout.contains("q2"), "{}", run.stdout);
    let run = broker.compare("pub", &["--no-port", "-t", "a", "-m", "x", "-q", "1"]);
    assert!(run.stdout.contains("q1"), "{}", run.stdout);
}
