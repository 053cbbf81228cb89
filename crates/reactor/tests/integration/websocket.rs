//! Tests of MQTT over WebSocket on real sockets, with tungstenite as the client, or with handmade
//! input for misbehaving clients. Rows T10 to T15 of the list of hostile inputs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::*;
use martlet_broker::Settings;
use tungstenite::Message;

/// Opens a WebSocket connection with a handmade request.
fn upgraded(node: &Node) -> TcpStream {
    let mut stream = raw(node, &request(&[]));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    stream
}

fn raw(node: &Node, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.web).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The request may be refused before all of it is sent.
    let _ = stream.write_all(bytes.as_bytes());
    stream
}

/// A valid request, with lines replaced or added by name.
fn request(changed: &[(&str, &str)]) -> String {
    let mut lines = vec![
        ("GET", "GET /mqtt HTTP/1.1"),
        ("Host", "Host: test"),
        ("Upgrade", "Upgrade: websocket"),
        ("Connection", "Connection: Upgrade"),
        ("Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("Version", "Sec-WebSocket-Version: 13"),
        ("Protocol", "Sec-WebSocket-Protocol: mqtt"),
    ];
    for change in changed {
        match lines.iter_mut().find(|line| line.0 == change.0) {
            Some(line) => *line = *change,
            None => lines.push(*change),
        }
    }
    let lines: Vec<&str> = lines
        .into_iter()
        .map(|line| line.1)
        .filter(|l| !l.is_empty())
        .collect();
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

/// The status of the response to a request; the connection must end after it.
fn status_of(node: &Node, request: &str) -> u16 {
    let mut response = Vec::new();
    raw(node, request).read_to_end(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response).into_owned();
    response
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect(&response)
}

/// The server's answer to `bytes` on an open WebSocket connection.
fn answer_to(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = upgraded(node);
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// A Close frame with this code.
fn close(code: u16) -> Vec<u8> {
    [&[0x88, 2], &code.to_be_bytes()[..]].concat()
}

#[test]
fn messages_pass_between_websocket_and_tcp() {
    for threads in [1, 2, 4] {
        let node = node(threads);
        let mut web: Vec<Client> = (0..8)
            .map(|number| node.web().connect(&format!("web-{number}")))
            .collect();
        for client in &mut web {
            client.subscribe("from/tcp", 0);
        }
        let mut tcp = node.tcp().connect("tcp");
        tcp.subscribe("from/web", 0);
        tcp.send(&publish("from/tcp", b"hello"));
        for client in &mut web {
            client.expect(&publish("from/tcp", b"hello"));
            client.send(&publish("from/web", b"answer"));
            tcp.expect(&publish("from/web", b"answer"));
        }
    }
}

#[test]
fn packets_need_not_keep_to_the_borders_of_frames() {
    // [MQTT-6.0.0-2], T11
    let node = node(2);
    for number in 0..8 {
        let id = format!("framed-{number}");
        let all = [
            connect(&id, 0x02, None),
            subscribe(&id, 0),
            publish(&id, b"x"),
        ]
        .concat();
        let mut together = node.web();
        together.send(&all);
        together.expect(&[0x20, 2, 0, 0]);
        together.expect(&[0x90, 3, 0, 1, 0]);
        together.expect(&publish(&id, b"x"));
        let mut apart = node.web();
        for byte in &all {
            apart.send(&[*byte]);
        }
        apart.expect(&[0x20, 2, 0, 0]);
        apart.expect(&[0x90, 3, 0, 1, 0]);
        apart.expect(&publish(&id, b"x"));
    }
}

#[test]
fn output_for_a_reader_that_comes_late_is_whole() {
    const COUNT: usize = 100;
    let mut settings = Settings::default();
    settings.limits.output_bytes = 64 * 1024 * 1024;
    let node = run(config(2, settings));
    let payload: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let mut readers = [
        node.web().connect("late-web"),
        node.tcp().connect("late-tcp"),
    ];
    for reader in &mut readers {
        reader.subscribe("large", 0);
    }
    let mut writer = node.web().connect("writer");
    for _ in 0..COUNT {
        writer.send(&publish("large", &payload));
    }
    // Everything has arrived: messages that the readers have not taken wait in the node.
    writer.send(&PINGREQ);
    writer.expect(&PINGRESP);
    for reader in &mut readers {
        for _ in 0..COUNT {
            reader.expect(&publish("large", &payload));
        }
        reader.send(&PINGREQ);
        reader.expect(&PINGRESP);
    }
}

#[test]
fn pings_are_answered_and_a_close_is_answered_by_a_close() {
    let node = node(1);
    let mut client = node.web().connect("pinging");
    let web = client.web_socket();
    web.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(web.read().unwrap(), Message::Pong("are you there".into()));
    web.send(Message::Pong("unasked".into())).unwrap();
    web.close(None).unwrap();
    assert!(matches!(web.read(), Ok(Message::Close(_))));
    drop(client);
    node.await_connections(0);
}

#[test]
fn disconnect_ends_in_a_close_frame() {
    let node = node(1);
    let mut client = node.web().connect("leaving");
    client.send(&DISCONNECT);
    match client.web_socket().read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_that_break_the_protocol_end_in_a_close_frame_that_says_so() {
    // T10, T12
    let node = node(2);
    let masked =
        |first: u8, second: u8, rest: &[u8]| [&[first, second | 0x80, 0, 0, 0, 0], rest].concat();
    assert_eq!(
        answer_to(&node, &masked(0x81, 1, b"x")),
        close(1003),
        "text"
    );
    assert_eq!(answer_to(&node, &[0x82, 1, 0]), close(1002), "not masked");
    assert_eq!(
        answer_to(&node, &masked(0x83, 1, b"x")),
        close(1002),
        "reserved opcode"
    );
    assert_eq!(
        answer_to(&node, &masked(0xC2, 1, b"x")),
        close(1002),
        "RSV1: compression"
    );
    assert_eq!(
        answer_to(&node, &masked(0x09, 1, b"x")),
        close(1002),
        "fragmented Ping"
    );
    let mut long_ping = vec![0x89, 0xFE, 0, 126, 0, 0, 0, 0];
    long_ping.resize(8 + 126, 0);
    assert_eq!(
        answer_to(&node, &long_ping),
        close(1002),
        "Ping of 126 bytes"
    );
    let mut huge = vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(answer_to(&node, &huge), close(1002), "2^63 bytes announced");
    huge[2] = 0x40;
    assert_eq!(answer_to(&node, &huge), close(1009), "2^62 bytes announced");
    node.await_connections(0);
}

#[test]
fn a_million_empty_frames_are_not_worked_off() {
    // T11
    let node = node(1);
    let empty = [0x82, 0x80, 0, 0, 0, 0].repeat(1_000_000);
    let mut stream = upgraded(&node);
    let _ = stream.write_all(&empty);
    let mut answer = Vec::new();
    // Six megabytes exceed what is discarded for one connection, so the connection may end with a
    // reset.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer == close(1008));
    node.await_connections(0);
    assert!(node.running.stats().read_bytes < 3_000_000);
}

#[test]
fn bad_requests_are_refused_with_the_status_that_says_why() {
    // T13
    let node = node(2);
    let status = |name, line| status_of(&node, &request(&[(name, line)]));
    assert_eq!(status("GET", "GET /other HTTP/1.1"), 404);
    assert_eq!(status("GET", "POST /mqtt HTTP/1.1"), 405);
    assert_eq!(status("Protocol", ""), 400);
    assert_eq!(status("Protocol", "Sec-WebSocket-Protocol: chat"), 400);
    assert_eq!(status("Version", "Sec-WebSocket-Version: 8"), 426);
    assert_eq!(status("Upgrade", ""), 400);
    let long = format!("X: {}", "a".repeat(1 << 20));
    assert_eq!(status_of(&node, &request(&[("X", &long)])), 431);
    let many = ["X: 1"; 10_000].join("\r\n");
    assert_eq!(status_of(&node, &request(&[("X", &many)])), 431);
    assert_eq!(
        status_of(&node, "\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0"),
        400,
        "MQTT as such"
    );
    node.await_connections(0);
}

#[test]
fn foreign_origins_are_refused_where_there_is_a_list() {
    // T14
    let mut config = config(1, Settings::default());
    let origins = martlet_reactor::Origins::Listed(vec!["https://panel.example".to_owned()]);
    config.listeners[1].transport = martlet_reactor::Transport::WebSocket {
        path: "/mqtt".into(),
        origins,
    };
    let node = run(config);
    let foreign = "Origin: https://evil.example\r\nCookie: session=stolen";
    assert_eq!(status_of(&node, &request(&[("Origin", foreign)])), 403);
    upgraded(&node);
}

#[test]
fn compression_is_not_negotiated() {
    // T15
    let node = node(1);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let mut stream = raw(&node, &request(&[("Extensions", offer)]));
    let mut response = [0; 1024];
    let count = stream.read(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response[..count]).into_owned();
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    assert!(!response.contains("permessage-deflate"), "{response}");
}

#[test]
fn a_half_open_upgrade_is_closed_at_the_deadline_of_connect() {
    let mut settings = Settings::default();
    settings.limits.connect_timeout_secs = 1;
    let node = run(config(2, settings));
    let begin = Instant::now();
    let mut silent = raw(&node, "");
    let mut half = raw(&node, "GET /mqtt HTTP/1.1\r\nHost: test\r\n");
    let mut open = upgraded(&node);
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    let _ = half.read_to_end(&mut rest);
    let _ = open.read_to_end(&mut rest);
    assert!(begin.elapsed() >= Duration::from_millis(900));
    node.await_connections(0);
}

#[test]
fn a_stream_that_ends_without_a_close_frame_is_a_lost_connection() {
    let node = node(2);
    let mut watcher = node.tcp().connect("watcher");
    watcher.subscribe("will", 0);
    let mut doomed = node.web();
    doomed.send(&connect("doomed", 0x02, Some(("will", "gone"))));
    doomed.expect(&[0x20, 2, 0, 0]);
    drop(doomed);
    watcher.expect(&publish("will", b"gone"));
}
