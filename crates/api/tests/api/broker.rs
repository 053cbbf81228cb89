//! Clients, subscriptions, retained messages and publishing: what is asked, and what comes of it.

use axum::body::Body;
use axum::http::StatusCode;
use martlet_api::Settings;
use martlet_control::principal::Scopes;
use serde_json::{Value, json};

use crate::node::{CLIENT, Node, RETAINED, VIEWER, json as with_json, request, with_keys};

/// As part of a path.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| format!("%{byte:02X}");
    text.bytes().map(byte).collect()
}

fn pointer(answer: &Value) -> &str {
    answer["errors"][0]["pointer"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_client_identifier_is_one_part_of_the_path_whatever_is_in_it() {
    let node = Node::new(with_keys());
    let path = format!("/api/v1/clients/{}", encoded(CLIENT));
    let answer = node.ask("DELETE", &path).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let session = format!("/api/v1/sessions/{}", encoded(CLIENT));
    assert_eq!(
        node.ask("DELETE", &session).await.status,
        StatusCode::NO_CONTENT
    );
    for path in [
        "/api/v1/clients/a/b",
        "/api/v1/clients/",
        "/api/v1/clients/a%2Fb",
        "/api/v1/clients/%2F",
        "/api/v1/sessions/nobody",
    ] {
        assert_eq!(
            node.ask("DELETE", path).await.problem(),
            "not-found",
            "{path}"
        );
    }
    assert_eq!(
        node.ask("GET", "/api/v1/clients/%FF").await.problem(),
        "bad-request"
    );
    assert_eq!(
        node.ask("GET", "/api/v1/clients/x").await.problem(),
        "not-found"
    );
}

#[tokio::test]
async fn who_may_only_look_changes_nothing() {
    let node = Node::new(with_keys());
    for (method, target) in [
        ("DELETE", "/api/v1/clients/x"),
        ("DELETE", "/api/v1/sessions/x"),
        ("DELETE", "/api/v1/clients/x/subscriptions?filter=a"),
        ("DELETE", "/api/v1/retained?filter=a&preview=true"),
        ("DELETE", "/api/v1/retained/room/7/light"),
        ("POST", "/api/v1/publish"),
        ("POST", "/api/v1/publish/bulk"),
        ("POST", "/api/v1/request"),
    ] {
        let builder = request(method, target).header("x-api-key", VIEWER);
        let answer = node.send(builder.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem(), "forbidden", "{method} {target}");
    }
    for target in [
        "/api/v1/clients",
        "/api/v1/subscriptions",
        "/api/v1/retained",
    ] {
        let builder = request("GET", target).header("x-api-key", VIEWER);
        let answer = node.send(builder.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{target}");
    }
}

#[tokio::test]
async fn subscriptions_are_made_and_ended_for_a_client() {
    let node = Node::new(with_keys());
    let path = format!("/api/v1/clients/{}/subscriptions", encoded(CLIENT));
    let answer = node
        .ask_with("POST", &path, &json!({ "filter": "t/+", "qos": 1 }))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["reason"], "Granted QoS 1");
    for (body, at) in [
        (json!({ "filter": "t/+", "qos": 2 }), "/filter"),
        (json!({ "filter": "t/+x" }), "/filter"),
        (json!({ "filter": "" }), "/filter"),
        (json!({ "filter": "t", "qos": 3 }), "/qos"),
        (
            json!({ "filter": "t", "retain_handling": 3 }),
            "/retain_handling",
        ),
        (
            json!({ "filter": "t", "subscription_id": 0 }),
            "/subscription_id",
        ),
        (
            json!({ "filter": "$share/g/t", "no_local": true }),
            "/no_local",
        ),
    ] {
        let answer = node.ask_with("POST", &path, &body).await;
        assert_eq!(answer.problem(), "invalid", "{body}");
        assert_eq!(pointer(&answer.json()), at, "{body}");
    }
    let other = "/api/v1/clients/other/subscriptions";
    let answer = node
        .ask_with("POST", other, &json!({ "filter": "t" }))
        .await;
    assert_eq!(answer.problem(), "not-found");
    assert_eq!(node.ask("GET", other).await.problem(), "not-found");
    let ended = node.ask("DELETE", &format!("{path}?filter=t%2F%2B")).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    let none = node.ask("DELETE", &format!("{path}?filter=other")).await;
    assert_eq!(none.problem(), "not-found");
    assert_eq!(node.ask("DELETE", &path).await.problem(), "bad-request");
}

#[tokio::test]
async fn a_retained_message_is_json_or_bytes() {
    let node = Node::new(with_keys());
    let (topic, payload) = RETAINED;
    for path in [topic.to_owned(), encoded(topic)] {
        let answer = node.ask("GET", &format!("/api/v1/retained/{path}")).await;
        let message = answer.json();
        assert_eq!(message["topic"], topic);
        assert_eq!(
            message["payload"].as_str().map(str::as_bytes),
            Some(payload)
        );
        assert_eq!(message["payload_encoding"], "text");
        assert_eq!(message["received_at"], "2023-11-14T22:13:20.000000Z");
    }
    let builder = request("GET", &format!("/api/v1/retained/{topic}"))
        .header("x-api-key", VIEWER)
        .header("accept", "text/html");
    let answer = node.send(builder.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.body, payload);
    assert_eq!(answer.header("content-type"), "text/html");
    // What a device publishes does not run as a page of the node.
    assert!(answer.header("content-security-policy").contains("sandbox"));
    assert_eq!(answer.header("content-disposition"), "attachment");
    assert_eq!(
        node.ask("GET", "/api/v1/retained/none").await.problem(),
        "not-found"
    );
    assert_eq!(
        node.ask("GET", "/api/v1/retained/%23").await.problem(),
        "bad-request"
    );
    let listed = node.ask("GET", "/api/v1/retained?total=true").await.json();
    assert_eq!(
        (&listed["total"], &listed["items"][0]["payload"]),
        (&json!(1), &Value::Null)
    );
    let answer = node.ask("GET", "/api/v1/retained?filter=a%23").await;
    assert_eq!(answer.problem(), "bad-request");
}

#[tokio::test]
async fn retained_messages_go_after_a_look() {
    let node = Node::new(with_keys());
    let seen = node
        .ask("DELETE", "/api/v1/retained?filter=room/%23&preview=true")
        .await;
    let seen = seen.json();
    assert_eq!(
        (&seen["preview"], &seen["count"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(seen["topics"], json!([RETAINED.0]));
    let removed = node
        .ask("DELETE", "/api/v1/retained?filter=room/%23")
        .await
        .json();
    assert_eq!(
        (&removed["preview"], &removed["count"]),
        (&json!(false), &json!(1))
    );
    let one = format!("/api/v1/retained/{}", RETAINED.0);
    assert_eq!(
        node.ask("DELETE", &one).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        node.ask("DELETE", "/api/v1/retained/none").await.problem(),
        "not-found"
    );
    for target in [
        "/api/v1/retained",
        "/api/v1/retained?filter=%24SYS/%23",
        "/api/v1/retained/%24SYS/broker/uptime",
        // A wildcard in the place of a topic takes nothing away.
        "/api/v1/retained/room/%23",
    ] {
        assert_eq!(
            node.ask("DELETE", target).await.problem(),
            "bad-request",
            "{target}"
        );
    }
}

#[tokio::test]
async fn what_a_client_could_not_publish_is_refused_with_its_field() {
    let node = Node::new(with_keys());
    let path = "/api/v1/publish";
    let answer = node
        .ask_with("POST", path, &json!({ "topic": "t", "payload": "x" }))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["reason"], "No matching subscribers");
    assert_eq!(answer.json()["message_id"], "0");
    let pairs = json!({ "name": "a", "value": "b" });
    for (body, at) in [
        (json!({ "topic": "" }), "/topic"),
        (json!({ "topic": "a/+" }), "/topic"),
        (json!({ "topic": "a/#" }), "/topic"),
        (json!({ "topic": "a\u{0}b" }), "/topic"),
        (json!({ "topic": "/".repeat(200) }), "/topic"),
        (json!({ "topic": "$SYS/broker/uptime" }), "/topic"),
        (json!({ "topic": "$share/g/t" }), "/topic"),
        (json!({ "topic": "t", "qos": 3 }), "/qos"),
        (
            json!({ "topic": "t", "payload": "a", "payload_base64": "YQ==" }),
            "/payload",
        ),
        (
            json!({ "topic": "t", "payload_base64": "a" }),
            "/payload_base64",
        ),
        (
            json!({ "topic": "t", "payload": "x".repeat(2000) }),
            "/payload",
        ),
        (
            json!({ "topic": "t", "payload_base64": "/w==", "payload_is_utf8": true }),
            "/payload_is_utf8",
        ),
        (
            json!({ "topic": "t", "content_type": "a\u{0}" }),
            "/content_type",
        ),
        (
            json!({ "topic": "t", "response_topic": "a/#" }),
            "/response_topic",
        ),
        (
            json!({ "topic": "t", "correlation_data_base64": "?" }),
            "/correlation_data_base64",
        ),
        (
            json!({ "topic": "t", "user_properties": vec![pairs; 300] }),
            "/user_properties",
        ),
        (
            json!({ "topic": "t", "user_properties": [{ "name": "a" }] }),
            "/user_properties/0/value",
        ),
        (
            json!({ "topic": "t", "message_expiry_secs": -1 }),
            "/message_expiry_secs",
        ),
    ] {
        let answer = node.ask_with("POST", path, &body).await;
        assert_eq!(answer.problem(), "invalid", "{body}");
        assert_eq!(pointer(&answer.json()), at, "{body}");
    }
}

#[tokio::test]
async fn retaining_needs_its_own_scope() {
    let node = Node::new(with_keys());
    let key = "0123456789abcdef-publisher";
    node.directory
        .add_key("publisher", key, Scopes::parse("messages:write").unwrap());
    for (retain, status) in [(false, StatusCode::OK), (true, StatusCode::FORBIDDEN)] {
        let body = json!({ "topic": "t", "retain": retain });
        let mut builder = with_json("POST", "/api/v1/publish", &body);
        builder
            .headers_mut()
            .insert("x-api-key", key.parse().unwrap());
        assert_eq!(node.send(builder).await.status, status);
    }
}

#[tokio::test]
async fn a_request_needs_the_scope_of_whoever_reads_its_response() {
    let node = Node::new(with_keys());
    for (name, scopes, problem) in [
        ("writer", "messages:write", "forbidden"),
        // Nobody is at the other end of this node's own connections.
        ("both", "messages:write+messages:read", "unavailable"),
    ] {
        let key = format!("0123456789abcdef-{name}");
        node.directory
            .add_key(name, &key, Scopes::parse(scopes).unwrap());
        let mut builder = with_json("POST", "/api/v1/request", &json!({ "topic": "t" }));
        builder
            .headers_mut()
            .insert("x-api-key", key.parse().unwrap());
        assert_eq!(node.send(builder).await.problem(), problem, "{name}");
    }
}

#[tokio::test]
async fn what_could_not_be_asked_is_refused_with_its_field() {
    let node = Node::new(with_keys());
    for (body, at) in [
        (json!({ "topic": "t/+" }), "/topic"),
        (
            json!({ "topic": "t", "response_topic": "t" }),
            "/response_topic",
        ),
        (
            json!({ "topic": "t", "response_topic": "a/#" }),
            "/response_topic",
        ),
        (
            json!({ "topic": "t", "response_topic": "$SYS/a" }),
            "/response_topic",
        ),
        (json!({ "topic": "t", "timeout_ms": 0 }), "/timeout_ms"),
        (json!({ "topic": "t", "timeout_ms": 60_001 }), "/timeout_ms"),
    ] {
        let answer = node.ask_with("POST", "/api/v1/request", &body).await;
        assert_eq!(answer.problem(), "invalid", "{body}");
        assert_eq!(pointer(&answer.json()), at, "{body}");
    }
}

#[tokio::test]
async fn each_message_of_many_has_its_outcome() {
    let node = Node::new(Settings {
        body_bytes: 1024,
        ..with_keys()
    });
    let path = "/api/v1/publish/bulk";
    let messages = json!({ "messages": [
        { "topic": "a", "payload_json": { "on": null } },
        { "topic": "#" },
        { "topic": "b", "payload": "x".repeat(2000) },
        { "topic": "c", "payload_json": null },
    ]});
    let answer = node.ask_with("POST", path, &messages).await.json();
    assert_eq!(
        (&answer["published"], &answer["refused"]),
        (&json!(2), &json!(2))
    );
    let outcomes = answer["outcomes"].as_array().unwrap();
    let reasons: Vec<_> = outcomes
        .iter()
        .map(|one| one["reason_code"].as_u64())
        .collect();
    assert_eq!(reasons, [Some(0x10), Some(0x90), Some(0x95), Some(0x10)]);
    assert_eq!(
        (&outcomes[1]["pointer"], &outcomes[2]["pointer"]),
        (&json!("/topic"), &json!("/payload"))
    );
    for count in [0, 10_001] {
        let many = json!({ "messages": vec![json!({ "topic": "a" }); count] });
        let answer = node.ask_with("POST", path, &many).await;
        assert_eq!(answer.problem(), "invalid");
        assert_eq!(pointer(&answer.json()), "/messages");
    }
    // All that may be sent is answered, and the answer is kept for its key.
    let many = json!({ "messages": vec![json!({ "topic": "#" }); 10_000] });
    for replayed in ["", "true"] {
        let mut builder = with_json("POST", path, &many);
        builder
            .headers_mut()
            .insert("x-api-key", crate::node::KEY.parse().unwrap());
        builder
            .headers_mut()
            .insert("idempotency-key", "many".parse().unwrap());
        let answer = node.send(builder).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json()["refused"], 10_000);
        assert_eq!(answer.header("idempotency-replayed"), replayed);
    }
    // The body of an unknown caller is not read.
    let endless = Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>());
    let builder = request("POST", path).header("content-type", "application/json");
    let answer = node.send(builder.body(endless).unwrap()).await;
    assert_eq!(answer.problem(), "unauthenticated");
}
