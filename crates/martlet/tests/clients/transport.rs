//! Ways to select and reach the broker other than `-h` and `-p`.

use crate::support::{Broker, Family};

#[test]
fn a_url_is_read_the_same() {
    let broker = Broker::with_password();
    let port = broker.port;
    let url = |rest: &str| format!("mqtt://u:pw@127.0.0.1:{port}{rest}");
    let with_topic = url("/ok/a/b");
    let run = broker.compare("pub", &["-L", &with_topic, "-m", "x", "-d", "-q", "1"]);
    assert!(run.stdout.contains("'ok/a/b'"), "{}", run.stdout);
    broker.compare("sub", &["-L", &with_topic, "-t", "ok/c", "-E"]);
}

#[test]
fn messages_go_over_web_socket_both_ways() {
    let broker = Broker::open();
    let url = format!("ws://127.0.0.1:{}/mqtt", broker.web_socket_port);
    let port = broker.web_socket_port.to_string();
    // This broker writes 4 KiB to a WebSocket every 100 ms, so a large message is read over TCP.
    let over_tcp = ["-C", "1", "-W", "5"];
    let over_web_socket = ["-h", "127.0.0.1", "-p", &port, "--ws", "-C", "1", "-W", "5"];
    for (topic, len, read) in [
        ("a", 200_000, &over_tcp[..]),
        ("b", 9_000, &over_web_socket),
    ] {
        let payload = "x".repeat(len);
        let args = ["-L", &url, "-t", topic, "-l", "-q", "1", "-r", "-V", "5"];
        let run = broker.run(Family::Martlet, "pub", &args, payload.as_bytes());
        assert_eq!(run.code, 0, "{}", run.stderr);
        let run = broker.run(
            Family::Martlet,
            "sub",
            &[read, &["-t", topic]].concat(),
            b"",
        );
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(run.stdout, payload);
    }
}

#[test]
fn options_of_tls_that_cannot_be_followed_are_refused_in_words() {
    let broker = Broker::open();
    let topic = ["-t", "a", "-m", "x"];
    for (args, why) in [
        (
            &["--cafile", "/nowhere/ca.pem"][..],
            "cannot read /nowhere/ca.pem",
        ),
        (&["--insecure"], "the connection is not encrypted"),
        (
            &["--cert", "a.crt", "--tls-use-os-certs"],
            "Both certfile and keyfile",
        ),
        (
            &["--psk", "0123", "--psk-identity", "x"],
            "pre-shared keys are not supported",
        ),
    ] {
        let run = broker.run(Family::Martlet, "pub", &[&topic, args].concat(), b"");
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains(why), "{}", run.stderr);
    }
}
