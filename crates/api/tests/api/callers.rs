//! Who may ask for what.

use axum::body::Body;
use axum::http::StatusCode;
use martlet_api::{ListenerKind, RouteSettings, Settings};
use martlet_control::principal::{Role, Scope, Scopes};

use crate::node::{FAR, KEY, NEAR, Node, VIEWER, request, with_keys};

#[tokio::test]
async fn a_key_may_be_in_a_header_a_bearer_or_the_query() {
    let node = Node::new(with_keys());
    let bearer = format!("Bearer {KEY}");
    for (name, value) in [("x-api-key", KEY), ("authorization", bearer.as_str())] {
        let builder = request("GET", "/api/v1/status").header(name, value);
        let answer = node.send(builder.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
    }
    let by_query = node
        .get(&format!("/api/v1/clients?limit=1&api_key={KEY}"))
        .await;
    assert_eq!(by_query.status, StatusCode::OK);
}

#[tokio::test]
async fn without_credentials_or_with_wrong_ones_nothing_is_told() {
    let node = Node::new(with_keys());
    for target in [
        "/api/v1/status",
        "/api/v1/status?api_key=wrong",
        "/api/v1/backup",
    ] {
        let answer = node.get(target).await;
        assert_eq!(answer.problem(), "unauthenticated", "{target}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    // A key that is wrong is not saved by a good one in a weaker place.
    let both = request("GET", &format!("/api/v1/status?api_key={KEY}")).header("x-api-key", "no");
    let answer = node.send(both.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_is_known_and_may_not_is_told_which_scope_is_missing() {
    let node = Node::new(with_keys());
    let builder = request("POST", "/api/v1/shutdown").header("x-api-key", VIEWER);
    let answer = node.send(builder.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.problem(), "forbidden");
    let body = answer.json();
    assert_eq!(body["detail"], "key:viewer lacks the scope node:write");
    assert_eq!(
        node.ask("POST", "/api/v1/shutdown").await.status,
        StatusCode::ACCEPTED
    );
    tokio::time::timeout(
        std::time::Duration::from_secs(5),
        node.control.stop_requested(),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn keys_of_the_directory_are_good_too() {
    let node = Node::new(with_keys());
    let scopes: Scopes = [Scope::NodeRead].into_iter().collect();
    node.directory.add_key("shop", "of-the-directory", scopes);
    let answer = node.get("/api/v1/session?api_key=of-the-directory").await;
    assert_eq!(answer.json()["principal"], "key:shop");
    assert_eq!(answer.json()["scopes"], serde_json::json!(["node:read"]));
}

#[tokio::test]
async fn loopback_is_open_until_somebody_can_administer_the_node() {
    let node = Node::new(Settings::default()).at(NEAR);
    assert_eq!(node.get("/api/v1/status").await.status, StatusCode::OK);
    node.directory.add_user("eve", Role::Operator, "password");
    assert_eq!(node.get("/api/v1/status").await.status, StatusCode::OK);
    node.directory
        .add_user("ada", Role::Administrator, "password");
    assert_eq!(
        node.get("/api/v1/status").await.problem(),
        "unauthenticated"
    );
    // Never beyond loopback, and not where keys are configured.
    let far = Node::new(Settings::default()).at(FAR);
    assert_eq!(far.get("/api/v1/status").await.problem(), "unauthenticated");
    let with_keys = Node::new(with_keys()).at(NEAR);
    assert_eq!(
        with_keys.get("/api/v1/status").await.problem(),
        "unauthenticated"
    );
}

#[tokio::test]
async fn a_listener_on_all_interfaces_is_open_to_this_machine_alone() {
    for here in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let node = Node::new(Settings::default()).at(FAR);
        let node = node.from(here.parse().unwrap());
        assert_eq!(node.get("/api/v1/status").await.status, StatusCode::OK);
        let with = |name: &'static str, value: &'static str| {
            let builder = request("GET", "/api/v1/status").header(name, value);
            node.send(builder.body(Body::empty()).unwrap())
        };
        let good = with("host", "127.0.0.1:8080").await;
        assert_eq!(good.status, StatusCode::OK);
        for (name, value) in [
            ("host", "rebound.example"),
            ("x-forwarded-for", "192.0.2.7"),
            ("via", "1.1 proxy"),
        ] {
            let answer = with(name, value).await;
            assert_eq!(answer.problem(), "unauthenticated", "{name}");
        }
    }
}

#[tokio::test]
async fn an_open_route_needs_no_credentials_and_no_other_is_opened_by_it() {
    let settings = Settings {
        routes: RouteSettings {
            open_routes: vec!["POST /api/v1/reload".to_owned()],
            ..RouteSettings::default()
        },
        ..with_keys()
    };
    let node = Node::new(settings);
    let nobody = |method: &str, target: &str| {
        node.send(request(method, target).body(Body::empty()).unwrap())
    };
    assert_eq!(
        nobody("POST", "/api/v1/reload").await.status,
        StatusCode::OK
    );
    let answer = nobody("POST", "/api/v1/shutdown").await;
    assert_eq!(answer.problem(), "unauthenticated");
    // Credentials that are shown are looked at all the same.
    let wrong = nobody("POST", "/api/v1/reload?api_key=wrong").await;
    assert_eq!(wrong.problem(), "unauthenticated");
}

#[tokio::test]
async fn the_socket_may_everything() {
    let node = Node::new(with_keys()).at(ListenerKind::Socket { uid: 7 });
    assert_eq!(node.get("/api/v1/status").await.status, StatusCode::OK);
    assert_eq!(
        node.get("/api/v1/session").await.json()["principal"],
        "admin.sock"
    );
}

#[tokio::test]
async fn on_loopback_a_name_that_others_made_is_not_served() {
    let node = Node::new(with_keys()).at(NEAR);
    let with_host = |host: &str, target: &str| {
        let builder = request("GET", target)
            .header("host", host)
            .header("x-api-key", KEY);
        node.send(builder.body(Body::empty()).unwrap())
    };
    assert_eq!(
        with_host("rebound.example", "/api/v1/status")
            .await
            .problem(),
        "misdirected"
    );
    assert_eq!(
        with_host("127.0.0.1:8080", "/api/v1/status").await.status,
        StatusCode::OK
    );
    assert_eq!(
        with_host("kubelet", "/health/live").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let settings = Settings {
        origins: vec!["https://panel.example".to_owned()],
        ..Settings::default()
    };
    let node = Node::new(settings).at(NEAR);
    let from = |origin: &str, method: &str, target: &str| {
        let builder = request(method, target).header("origin", origin);
        node.send(builder.body(Body::empty()).unwrap())
    };
    let reload = "/api/v1/reload";
    for (origin, status) in [
        ("https://evil.example", StatusCode::FORBIDDEN),
        ("null", StatusCode::FORBIDDEN),
        ("http://localhost:8080", StatusCode::OK),
        ("https://panel.example", StatusCode::OK),
    ] {
        assert_eq!(
            from(origin, "POST", reload).await.status,
            status,
            "{origin}"
        );
    }
    let seen = from("https://panel.example", "GET", "/api/v1/status").await;
    assert_eq!(
        seen.header("access-control-allow-origin"),
        "https://panel.example"
    );
    let unseen = from("https://evil.example", "GET", "/api/v1/status").await;
    assert_eq!(unseen.header("access-control-allow-origin"), "");
    assert_eq!(unseen.header("vary"), "Origin");
}

#[tokio::test]
async fn every_origin_is_permitted_without_credentials_of_the_browser() {
    let settings = Settings {
        origins: vec!["*".to_owned()],
        ..with_keys()
    };
    let node = Node::new(settings);
    let builder = request("OPTIONS", "/api/v1/reload")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "POST");
    let answer = node.send(builder.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let builder = request("POST", "/api/v1/reload")
        .header("origin", "https://a.example")
        .header("x-api-key", KEY);
    let answer = node.send(builder.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let settings = Settings {
        rate: 1,
        burst: 3,
        ..with_keys()
    };
    let node = Node::new(settings);
    for left in ["2", "1", "0"] {
        let answer = node.ask("GET", "/api/v1/status").await;
        assert_eq!(answer.header("ratelimit-remaining"), left);
        assert_eq!(answer.header("x-ratelimit-limit"), "3");
    }
    let answer = node.ask("GET", "/api/v1/status").await;
    assert_eq!(answer.problem(), "rate-limited");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    // Probes go on.
    assert_eq!(node.get("/health/live").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_was_changed_is_written_down_with_who_did_it() {
    let node = Node::new(with_keys());
    let target = format!("/api/v1/reload?api_key={KEY}");
    let builder = request("POST", &target).header("x-request-id", "r-1");
    node.send(builder.body(Body::empty()).unwrap()).await;
    node.ask("GET", "/api/v1/status").await;
    let audit = node.directory.audit.lock().unwrap();
    let [entry] = audit.as_slice() else {
        panic!("{audit:?}");
    };
    assert_eq!(entry.principal, "key:all");
    assert_eq!(entry.action, "POST /api/v1/reload");
    assert_eq!((entry.status, entry.request_id.as_str()), (200, "r-1"));
    assert_eq!(entry.address.as_deref(), Some("192.0.2.7"));
}
