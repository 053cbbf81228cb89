//! Valid and invalid requests for a WebSocket connection.

use proptest::prelude::*;

use super::*;

fn rules() -> UpgradeRules {
    UpgradeRules {
        path: "/mqtt".into(),
        origins: Origins::All,
    }
}

/// A valid request, without the lines that begin with an entry of `without`, and with the lines
/// `with`.
fn request(without: &[&str], with: &[&str]) -> String {
    let lines = [
        "GET /mqtt HTTP/1.1",
        "Host: broker.example:8083",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat, mqtt",
    ];
    let kept = lines
        .into_iter()
        .filter(|line| !without.iter().any(|w| line.starts_with(w)));
    let first = with.iter().copied().filter(|line| line.contains(" HTTP/"));
    let rest = with.iter().copied().filter(|line| !line.contains(" HTTP/"));
    let all: Vec<&str> = first.chain(kept).chain(rest).collect();
    format!("{}\r\n\r\n", all.join("\r\n"))
}

fn status(request: &str) -> u16 {
    match read_request(request.as_bytes(), &rules()) {
        Ok(Some(_)) => 101,
        Ok(None) => 0,
        Err(refusal) => refusal.status,
    }
}

#[test]
fn a_good_request_is_answered_with_key_and_subprotocol() {
    let text = request(&[], &[]);
    let accepted = read_request(text.as_bytes(), &rules()).unwrap().unwrap();
    assert_eq!(accepted.head_len, text.len());
    let mut response = Vec::new();
    accepted.append_response(&mut response);
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    // The example of RFC 6455 section 1.3.
    assert!(response.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(
        response.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"),
        "{response}"
    );
    assert!(
        !response.contains("Extensions"),
        "no extension is ever agreed on"
    );
}

#[test]
fn the_subprotocol_named_is_one_that_the_client_offered() {
    // [MQTT-6.0.0-3] [MQTT-6.0.0-4]
    let named = |offer: &str| {
        let text = request(&["Sec-WebSocket-Protocol"], &[offer]);
        read_request(text.as_bytes(), &rules()).map(|accepted| accepted.unwrap().subprotocol)
    };
    assert_eq!(named("Sec-WebSocket-Protocol: mqttv3.1"), Ok("mqttv3.1"));
    assert_eq!(
        named("sec-websocket-protocol: mqttv3.1,mqtt"),
        Ok("mqttv3.1")
    );
    assert_eq!(
        named("Sec-WebSocket-Protocol: MQTT").unwrap_err().status,
        400
    );
    assert_eq!(
        named("Sec-WebSocket-Protocol: amqp").unwrap_err().status,
        400
    );
    assert_eq!(status(&request(&["Sec-WebSocket-Protocol"], &[])), 400);
}

#[test]
fn requests_that_cannot_become_websocket_connections_are_refused() {
    assert_eq!(status(&request(&["GET"], &["GET / HTTP/1.1"])), 404);
    assert_eq!(status(&request(&["GET"], &["GET /mqtt?a=b HTTP/1.1"])), 101);
    assert_eq!(status(&request(&["GET"], &["POST /mqtt HTTP/1.1"])), 405);
    assert_eq!(status(&request(&["GET"], &["GET /mqtt HTTP/1.0"])), 400);
    assert_eq!(status(&request(&["Host"], &[])), 400);
    assert_eq!(
        status(&request(&["Upgrade", "Connection"], &[])),
        400,
        "plain HTTP"
    );
    assert_eq!(status(&request(&["Sec-WebSocket-Version"], &[])), 426);
    let old = "Sec-WebSocket-Version: 8";
    assert_eq!(status(&request(&["Sec-WebSocket-Version"], &[old])), 426);
    assert_eq!(status(&request(&["Sec-WebSocket-Key"], &[])), 400);
    let short = "Sec-WebSocket-Key: c2hvcnQ=";
    assert_eq!(status(&request(&["Sec-WebSocket-Key"], &[short])), 400);
    let again = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(status(&request(&[], &[again])), 400, "key given twice");
    assert_eq!(status(&request(&[], &["Content-Length: 5"])), 400);
    assert_eq!(status(&request(&[], &["Transfer-Encoding: chunked"])), 400);
    assert_eq!(status("\x10\x0C\0\x04MQTT"), 400, "MQTT without WebSocket");
    assert_eq!(status("\x16\x03\x01"), 400, "TLS");
}

#[test]
fn a_request_for_another_version_is_told_which_one_is_spoken() {
    let text = request(&["Sec-WebSocket-Version"], &["Sec-WebSocket-Version: 8"]);
    let refusal = read_request(text.as_bytes(), &rules()).unwrap_err();
    let mut response = Vec::new();
    refusal.append_response(&mut response);
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 426 "), "{response}");
    assert!(
        response.contains("\r\nSec-WebSocket-Version: 13\r\n"),
        "{response}"
    );
}

#[test]
fn foreign_origins_are_refused_when_there_is_a_list() {
    let listed = UpgradeRules {
        path: "/mqtt".into(),
        origins: Origins::Listed(vec!["https://panel.example".into()]),
    };
    let judged = |origin: &str| {
        let text = request(&[], &[origin, "Cookie: session=1"]);
        read_request(text.as_bytes(), &listed).map(|accepted| accepted.is_some())
    };
    assert_eq!(judged("Origin: https://panel.example"), Ok(true));
    assert_eq!(
        judged("Origin: https://evil.example").unwrap_err().status,
        403
    );
    assert_eq!(judged("Origin: null").unwrap_err().status, 403);
    assert_eq!(
        judged("X-Origin: none"),
        Ok(true),
        "a device names no origin"
    );
}

#[test]
fn pages_of_this_machine_alone_may_be_let_in() {
    let local = UpgradeRules {
        path: "/mqtt".into(),
        origins: Origins::Local,
    };
    let is_let_in = |origin: &str| {
        let text = request(&[], &[&format!("Origin: {origin}")]);
        read_request(text.as_bytes(), &local).is_ok()
    };
    for origin in [
        "http://localhost",
        "http://LocalHost:3000",
        "https://127.0.0.1:8443",
        "http://[::1]",
        "http://[::1]:80",
    ] {
        assert!(is_let_in(origin), "{origin}");
    }
    for origin in [
        "null",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example:80@localhost",
        "http://192.168.0.7",
        "localhost",
        "http://",
        "http://127.0.0.1.evil.example:80",
    ] {
        assert!(!is_let_in(origin), "{origin}");
    }
    assert!(read_request(request(&[], &[]).as_bytes(), &local).is_ok());
}

#[test]
fn any_path_may_lead_here() {
    let any = UpgradeRules {
        path: ANY_PATH.into(),
        origins: Origins::All,
    };
    for path in ["/", "/mqtt", "/ws?token=1", "/a/b"] {
        let text = request(&["GET"], &[&format!("GET {path} HTTP/1.1")]);
        assert!(read_request(text.as_bytes(), &any).is_ok(), "{path}");
    }
}

#[test]
fn compression_offered_is_not_agreed_on() {
    let text = request(&[], &["Sec-WebSocket-Extensions: permessage-deflate"]);
    let mut response = Vec::new();
    let accepted = read_request(text.as_bytes(), &rules()).unwrap().unwrap();
    accepted.append_response(&mut response);
    assert!(!String::from_utf8(response).unwrap().contains("Extensions"));
}

#[test]
fn heads_too_long_and_too_many_headers_are_refused() {
    let long = format!("X-Long: {}", "a".repeat(1 << 20));
    assert_eq!(status(&request(&[], &[&long])), 431);
    let many = vec!["X-Many: 1"; 10_000];
    assert_eq!(status(&request(&[], &many)), 431);
    let many = vec!["A: 1"; 100];
    assert_eq!(status(&request(&[], &many)), 431);
}

#[test]
fn an_unfinished_request_is_waited_for() {
    let text = request(&[], &[]);
    for end in 0..text.len() {
        assert_eq!(status(&text[..end]), 0, "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_the_judge_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        text in "GET /mqtt HTTP/1.1\r\n(([A-Z][a-z-]{0,8}: [ -~]{0,20})\r\n){0,6}\r\n",
    ) {
        let _ = read_request(&bytes, &rules());
        let _ = read_request(text.as_bytes(), &rules());
    }
}
