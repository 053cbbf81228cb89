//! Sessions of the panel, and the first administrator.

use axum::body::Body;
use axum::http::StatusCode;
use martlet_api::{ListenerKind, Settings};
use martlet_control::principal::Role;
use serde_json::{Value, json};

use crate::node::{Answer, Node, request, with_keys};

fn node() -> Node {
    let node = Node::new(with_keys());
    node.directory
        .add_user("ada", Role::Administrator, "correct horse");
    node.directory
        .add_user("vic", Role::Viewer, "correct horse");
    node
}

async fn login(node: &Node, user: &str, password: &str) -> Answer {
    let body = json!({ "user": user, "password": password });
    node.post("/api/v1/session", &body).await
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie");
    cookie.split(';').next().unwrap().to_owned()
}

async fn by_cookie(
    node: &Node,
    cookie: &str,
    method: &str,
    target: &str,
    csrf: Option<&Value>,
) -> Answer {
    let mut builder = request(method, target).header("cookie", cookie);
    if let Some(csrf) = csrf {
        builder = builder.header("x-csrf-token", csrf.as_str().unwrap());
    }
    node.send(builder.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_session_reads_by_its_cookie_and_writes_with_its_token() {
    let node = node();
    let answer = login(&node, "ada", "correct horse").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let set = answer.header("set-cookie");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(attribute), "{set}");
    }
    let (cookie, csrf) = (cookie(&answer), answer.json()["csrf_token"].clone());
    let status = by_cookie(&node, &cookie, "GET", "/api/v1/status", None).await;
    assert_eq!(status.status, StatusCode::OK);
    let forged = by_cookie(&node, &cookie, "POST", "/api/v1/reload", None).await;
    assert_eq!(forged.problem(), "forbidden");
    let other = json!("not it");
    let forged = by_cookie(&node, &cookie, "POST", "/api/v1/reload", Some(&other)).await;
    assert_eq!(forged.problem(), "forbidden");
    let meant = by_cookie(&node, &cookie, "POST", "/api/v1/reload", Some(&csrf)).await;
    assert_eq!(meant.status, StatusCode::OK);
    let removed = by_cookie(&node, &cookie, "DELETE", "/api/v1/session", Some(&csrf)).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let after = by_cookie(&node, &cookie, "GET", "/api/v1/status", None).await;
    assert_eq!(after.problem(), "unauthenticated");
}

#[tokio::test]
async fn over_tls_the_cookie_is_one_that_nobody_else_can_set() {
    let node = node().at(ListenerKind::Tcp {
        is_loopback: false,
        is_secure: true,
    });
    let answer = login(&node, "ada", "correct horse").await;
    let set = answer.header("set-cookie");
    assert!(
        set.starts_with("__Host-martlet=") && set.contains("Secure"),
        "{set}"
    );
    assert!(
        answer
            .header("strict-transport-security")
            .starts_with("max-age=")
    );
}

#[tokio::test]
async fn a_session_ends_with_its_user_and_with_the_password() {
    let node = node();
    let one = cookie(&login(&node, "vic", "correct horse").await);
    let other = cookie(&login(&node, "ada", "correct horse").await);
    node.directory
        .users
        .lock()
        .unwrap()
        .retain(|(user, _)| user.name != "vic");
    node.directory.users.lock().unwrap()[0].0.generation = 2;
    for cookie in [one, other] {
        let answer = by_cookie(&node, &cookie, "GET", "/api/v1/status", None).await;
        assert_eq!(answer.problem(), "unauthenticated");
    }
}

#[tokio::test]
async fn a_session_may_what_its_role_may() {
    let node = node();
    let answer = login(&node, "vic", "correct horse").await;
    let (cookie, csrf) = (cookie(&answer), answer.json()["csrf_token"].clone());
    let answer = by_cookie(&node, &cookie, "POST", "/api/v1/reload", Some(&csrf)).await;
    assert_eq!(
        answer.json()["detail"],
        "user:vic lacks the scope node:write"
    );
}

#[tokio::test]
async fn passwords_are_not_tried_for_ever() {
    let node = node();
    let unknown = login(&node, "nobody", "x").await;
    let wrong = login(&node, "ada", "x").await;
    // Nothing tells one from the other.
    assert_eq!(unknown.json()["detail"], wrong.json()["detail"]);
    assert_eq!(wrong.problem(), "unauthenticated");
    let mut last = wrong;
    for _ in 0..10 {
        last = login(&node, "ada", "x").await;
    }
    assert_eq!(last.problem(), "rate-limited");
    assert!(!last.header("retry-after").is_empty());
}

#[tokio::test]
async fn the_link_makes_the_first_administrator_once() {
    let node = Node::new(Settings::default());
    let token = node.api.setup_token().await.unwrap();
    let body = |token: &str, password: &str| json!({ "token": token, "name": "ada", "password": password });
    let wrong = node
        .post("/api/v1/setup", &body("wrong", "correct horse"))
        .await;
    assert_eq!(wrong.problem(), "forbidden");
    // What the directory refuses does not use the link up.
    let short = node.post("/api/v1/setup", &body(&token, "short")).await;
    assert_eq!(short.problem(), "invalid");
    let created = node
        .post("/api/v1/setup", &body(&token, "correct horse"))
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert_eq!(created.json()["role"], "administrator");
    // With and without the token: there is an administrator, who logs in.
    for token in [&*token, "wrong"] {
        let again = node
            .post("/api/v1/setup", &body(token, "correct horse"))
            .await;
        assert_eq!(again.problem(), "conflict");
    }
    assert_eq!(node.api.setup_token().await, None);
    let answer = login(&node, "ada", "correct horse").await;
    assert_eq!(answer.status, StatusCode::OK);
    let audit = node.directory.audit.lock().unwrap();
    let done = audit
        .iter()
        .map(|entry| (&*entry.principal, &*entry.action));
    // What was refused has changed nothing.
    let expected = [
        ("user:ada", "POST /api/v1/setup"),
        ("user:ada", "POST /api/v1/session"),
    ];
    assert_eq!(done.collect::<Vec<_>>(), expected);
}
