//! Requests of every kind, and what they are answered.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use martlet_api::Settings;
use serde_json::json;

use crate::node::{KEY, Node, request, with_keys};

#[tokio::test]
async fn every_error_is_a_problem() {
    let node = Node::new(Settings {
        body_bytes: 1024,
        ..with_keys()
    });
    let answer = node.ask("GET", "/nowhere").await;
    assert_eq!(answer.problem(), "not-found");
    let answer = node.ask("DELETE", "/api/v1/status").await;
    assert_eq!(answer.problem(), "method-not-allowed");
    assert_eq!(answer.header("allow"), "GET,HEAD");
    let answer = node.ask("GET", "/api/v1/clients?limit=many").await;
    assert_eq!(answer.problem(), "bad-request");
    assert_eq!(answer.json()["errors"][0]["parameter"], "limit");
    let answer = node.ask("GET", "/api/v1/clients?limt=1").await;
    assert_eq!(answer.problem(), "bad-request");
    let answer = node
        .ask("GET", "/api/v1/acl/explain?action=fly&topic=a")
        .await;
    assert_eq!(answer.problem(), "bad-request");
    let answer = node.ask("GET", "/docs/%ff").await;
    assert_eq!(answer.problem(), "bad-request");
    let answer = node.ask("GET", &format!("/{}", "x".repeat(9000))).await;
    assert_eq!(answer.problem(), "uri-too-long");
    let long = request("GET", "/health/live").header("x", "y".repeat(17 * 1024));
    let answer = node.send(long.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.problem(), "headers-too-large");
    let answer = node
        .post("/api/v1/session", &json!({ "user": "x".repeat(2000) }))
        .await;
    assert_eq!(answer.problem(), "too-large");
    let answer = node
        .post("/api/v1/session", &json!({ "user": "x", "password": 7 }))
        .await;
    assert_eq!(answer.problem(), "invalid");
    assert_eq!(answer.json()["errors"][0]["pointer"], "/password");
    let plain = request("POST", "/api/v1/session").header("content-type", "text/plain");
    let answer = node.send(plain.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.problem(), "unsupported-media-type");
    let answer = node.ask("GET", "/api/v1/backup").await;
    assert_eq!(answer.problem(), "unavailable");
}

#[tokio::test]
async fn a_problem_says_what_its_type_means() {
    let node = Node::new(with_keys());
    let answer = node.get("/api/v1/status").await;
    let kind = answer.json()["type"].as_str().unwrap().to_owned();
    let meaning = node.get(&kind).await;
    assert_eq!(meaning.status, StatusCode::OK);
    assert!(
        meaning.body.starts_with(b"Not authenticated (401)"),
        "{meaning:?}"
    );
}

#[tokio::test]
async fn answers_are_protected_and_numbered() {
    let node = Node::new(with_keys());
    let builder = request("GET", "/health/live").header("x-request-id", "mine-7");
    let answer = node.send(builder.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("x-request-id"), "mine-7");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert!(
        answer
            .header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    assert_eq!(answer.header("strict-transport-security"), "");
}

#[tokio::test]
async fn a_write_that_is_sent_again_is_done_once() {
    let node = Node::new(with_keys());
    let send = |key: &str, caller: &str, target: &str| {
        let builder = request("POST", target).header("x-api-key", caller);
        let builder = builder.header("idempotency-key", key);
        node.send(builder.body(Body::empty()).unwrap())
    };
    let first = send("k1", KEY, "/api/v1/reload").await;
    assert_eq!(
        (first.status, first.header("idempotency-replayed")),
        (StatusCode::OK, "")
    );
    let again = send("k1", KEY, "/api/v1/reload").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.body, first.body);
    let other = send("k1", KEY, "/api/v1/reload?only=tables").await;
    assert_eq!(other.problem(), "invalid");
    let long = send(&"k".repeat(256), KEY, "/api/v1/reload").await;
    assert_eq!(long.problem(), "bad-request");
}

#[tokio::test]
async fn lists_come_page_by_page() {
    let node = Node::new(with_keys());
    let first = node
        .ask("GET", "/api/v1/keys?limit=1&total=true")
        .await
        .json();
    assert_eq!(
        (&first["items"][0]["name"], &first["total"]),
        (&json!("all"), &json!(2))
    );
    let next = first["next"].as_str().unwrap();
    let last = node
        .ask("GET", &format!("/api/v1/keys?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(
        (&last["items"][0]["name"], &last["next"]),
        (&json!("viewer"), &json!(null))
    );
    assert!(!last.to_string().contains("0123456789abcdef"));
    for bad in ["limit=0", "limit=1001", "cursor=x"] {
        let answer = node.ask("GET", &format!("/api/v1/keys?{bad}")).await;
        assert_eq!(answer.problem(), "bad-request", "{bad}");
    }
}

#[tokio::test]
async fn probes_and_metrics_are_open_and_have_their_usual_names() {
    let node = Node::new(with_keys());
    for target in ["/health/live", "/healthz", "/livez"] {
        assert_eq!(node.get(target).await.status, StatusCode::OK, "{target}");
    }
    let until_ready = ["/health/ready", "/readyz", "/health/startup"];
    for target in until_ready {
        assert_eq!(
            node.get(target).await.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{target}"
        );
    }
    node.control.health.set_ready();
    for target in until_ready {
        assert_eq!(node.get(target).await.status, StatusCode::OK, "{target}");
    }
    node.control.health.set_stopping();
    assert_eq!(
        node.get("/health/ready").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(node.get("/health/startup").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_bad_request() {
    let node = Node::new(with_keys());
    let broken = futures_util::stream::iter([
        Ok(axum::body::Bytes::from_static(b"{")),
        Err(std::io::Error::other("gone")),
    ]);
    let builder = Request::post("/api/v1/session").header("content-type", "application/json");
    let answer = node
        .send(builder.body(Body::from_stream(broken)).unwrap())
        .await;
    assert_eq!(answer.problem(), "bad-request");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let node = Node::new(with_keys());
    let never = futures_util::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
    let builder = Request::post("/api/v1/session").header("content-type", "application/json");
    let answer = node
        .send(builder.body(Body::from_stream(never)).unwrap())
        .await;
    assert_eq!(answer.problem(), "timeout");
}
