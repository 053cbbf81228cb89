//! Integrations and their dead letters: what operators see and do, and what other tenants do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::StatusCode;
use martlet_api::NodeParts;
use martlet_broker::TenantId;
use martlet_control::integrations::{
    AddedKind, AllowedNetworks, ConfiguredSink, DeadLettersKept, IntegrationMaker,
    IntegrationSettings, Integrations, KINDS, Surroundings, Unusable,
};
use martlet_control::principal::{Principal, PrincipalKind, Scopes};
use martlet_control::secrets::SecretStore;
use martlet_registry::DeadLetterRow;
use martlet_settings::{Value as Setting, Values};
use serde_json::{Value, json};

use crate::node::{Answer, Node, VIEWER, control, request, tables_at, with_keys};
use crate::registry::TemporaryDirectory;

const AUDIT: &str = "/api/v1/integrations/file/audit";
const LETTERS: &str = "/api/v1/integrations/file/audit/dead-letters";
const KEPT: DeadLettersKept = DeadLettersKept {
    letters: 100,
    bytes: 1 << 20,
};
const WITHIN: Duration = Duration::from_secs(20);

fn letter(name: &str, message_id: u64, tenant: u32) -> DeadLetterRow {
    DeadLetterRow {
        kind: "file".to_owned(),
        name: name.to_owned(),
        tenant,
        message_id,
        topic: "plant/1".to_owned(),
        payload_bytes: 2,
        qos: 1,
        received_ms: 1_700_000_000_000,
        refused_ms: 1_700_000_001_000,
        reason: "too large".to_owned(),
        refusals: 2,
        publisher: r#"{"client_id":"pump"}"#.to_owned(),
        payload: vec![0, 255],
        ..DeadLetterRow::default()
    }
}

/// Makes no bridge.
struct NoneMade;

impl IntegrationMaker for NoneMade {
    fn make(
        &self,
        _: AddedKind,
        _: &str,
        _: &str,
        _: &serde_json::Map<String, Value>,
        _: bool,
    ) -> Result<ConfiguredSink, Unusable> {
        Err(Unusable {
            key: Some("url".to_owned()),
            why: "none is made in this test".to_owned(),
        })
    }

    fn queue_bytes(&self) -> u64 {
        1_000_000
    }
}

/// A node with the sink `audit` and these dead letters.
async fn node(place: &TemporaryDirectory, letters: Vec<DeadLetterRow>) -> Node {
    let control = control();
    let tables = Arc::new(tables_at(place.0.join("martlet.db"), &control));
    let put = tables.note(move |registry| {
        Box::pin(async move { registry.put_dead_letters("n1", &letters, KEPT).await })
    });
    assert_eq!(put.await.unwrap(), 0);
    let path = place.0.join("out").join("audit.json");
    let keys = Values::from([
        ("name".to_owned(), Setting::Text("audit".to_owned())),
        (
            "filters".to_owned(),
            Setting::Texts(vec!["plant/#".to_owned()]),
        ),
        (
            "path".to_owned(),
            Setting::Text(path.to_str().unwrap().to_owned()),
        ),
    ]);
    let surroundings = Surroundings {
        data_dir: &place.0,
        allowed: &AllowedNetworks::default(),
        owner: "",
    };
    let file = KINDS.iter().find(|known| known.kind == "file").unwrap();
    let sinks = vec![(file.make)(&keys, &surroundings).unwrap()];
    let secrets = SecretStore::new(Arc::clone(&tables), place.0.join("secrets.key"), "");
    let secrets = Arc::new(secrets);
    let settings = IntegrationSettings {
        node: "n1".to_owned(),
        dead_letters: KEPT,
        secrets,
        maker: Arc::new(NoneMade),
    };
    let all = Integrations::new(&control, &tables, settings);
    all.start(sinks);
    let parts = NodeParts {
        integrations: Some(Arc::new(all)),
        ..NodeParts::default()
    };
    Node::with_parts(with_keys(), control, parts)
}

async fn by(node: &Node, key: &str, method: &str, target: &str) -> Answer {
    let builder = request(method, target).header("x-api-key", key);
    node.send(builder.body(Body::empty()).unwrap()).await
}

/// The integration when it is as wanted.
async fn until(node: &Node, is_it: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let found = node.ask("GET", AUDIT).await.json();
        if is_it(&found) {
            return found;
        }
        assert!(started.elapsed() < WITHIN, "{found}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_is_listed_paused_and_resumed() {
    let place = TemporaryDirectory::new();
    let node = node(&place, vec![letter("audit", 1, 0)]).await;
    // The node of these tests takes no parts.
    let found = until(&node, |one| !one["failure"].is_null()).await;
    assert_eq!(
        (&found["kind"], &found["name"]),
        (&json!("file"), &json!("audit"))
    );
    assert_eq!(found["client_id"], "$integration/file/audit");
    assert_eq!(found["filters"], json!(["plant/#"]));
    assert_eq!(found["dead_letters_stored"], 1);
    assert!(found["failure"]["since"].is_string() && found["team"].is_null());
    let listed = node.ask("GET", "/api/v1/integrations").await.json();
    assert_eq!(
        listed["items"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );

    let done = node.ask("POST", &format!("{AUDIT}/pause")).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT, "{done:?}");
    assert_eq!(node.ask("GET", AUDIT).await.json()["state"], "paused");
    let done = node.ask("POST", &format!("{AUDIT}/resume")).await;
    assert_eq!(done.status, StatusCode::NO_CONTENT, "{done:?}");
    assert_ne!(node.ask("GET", AUDIT).await.json()["state"], "paused");
    let audit = node.directory.audit.lock().unwrap();
    let actions: Vec<&str> = audit.iter().map(|entry| &*entry.action).collect();
    assert_eq!(
        actions,
        [
            format!("POST {AUDIT}/pause").as_str(),
            format!("POST {AUDIT}/resume").as_str()
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_whether_the_target_can_be_reached() {
    let place = TemporaryDirectory::new();
    let node = node(&place, Vec::new()).await;
    let tested = node.ask("POST", &format!("{AUDIT}/test")).await;
    assert_eq!(tested.status, StatusCode::OK, "{tested:?}");
    let tested = tested.json();
    assert_eq!(tested["ok"], false);
    assert!(
        tested["error"].as_str().unwrap().contains("out"),
        "{tested}"
    );
    std::fs::create_dir(place.0.join("out")).unwrap();
    let tested = node.ask("POST", &format!("{AUDIT}/test")).await.json();
    assert_eq!(tested, json!({ "ok": true, "error": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_sent_and_dropped() {
    let place = TemporaryDirectory::new();
    let letters = (1..=5).map(|id| letter("audit", id, 0)).collect();
    let node = node(&place, letters).await;
    let page = node.ask("GET", &format!("{LETTERS}?limit=3")).await.json();
    let next = page["next"].as_str().unwrap();
    let last = node
        .ask("GET", &format!("{LETTERS}?limit=3&cursor={next}"))
        .await
        .json();
    let ids = |page: &Value| -> Vec<u64> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|one| one["id"].as_u64().unwrap()).collect()
    };
    assert_eq!((ids(&page), ids(&last)), (vec![1, 2, 3], vec![4, 5]));
    assert!(last["next"].is_null());

    let found = node.ask("GET", &format!("{LETTERS}/2")).await.json();
    assert_eq!(
        (&found["payload"], &found["payload_encoding"]),
        (&json!("AP8="), &json!("base64"))
    );
    assert_eq!(
        (&found["reason"], &found["client_id"]),
        (&json!("too large"), &json!("pump"))
    );

    let removed = node.ask("DELETE", &format!("{LETTERS}/2")).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(
        node.ask("DELETE", &format!("{LETTERS}/2")).await.problem(),
        "not-found"
    );
    let send_again = format!("{LETTERS}/send-again");
    let removed = json!({ "ids": [2] });
    let unknown = node.ask_with("POST", &send_again, &removed).await;
    assert_eq!(unknown.problem(), "not-found");

    std::fs::create_dir(place.0.join("out")).unwrap();
    let twice = json!({ "ids": [1, 3, 3] });
    let sent = node.ask_with("POST", &send_again, &twice).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{sent:?}");
    assert_eq!(sent.json(), json!({ "sending": 2, "has_more": false }));
    until(&node, |one| {
        one["dead_letters_stored"] == 2 && one["sending_again"] == 0
    })
    .await;
    let written = std::fs::read_to_string(place.0.join("out").join("audit.json")).unwrap();
    assert_eq!(written.lines().count(), 2, "{written}");

    assert_eq!(node.ask("DELETE", LETTERS).await.problem(), "bad-request");
    assert_eq!(
        node.ask("DELETE", &format!("{LETTERS}?all=false"))
            .await
            .problem(),
        "bad-request"
    );
    let dropped = node.ask("DELETE", &format!("{LETTERS}?all=true")).await;
    assert_eq!(dropped.json(), json!({ "dropped": 2 }));
    assert_eq!(
        ids(&node.ask("GET", LETTERS).await.json()),
        Vec::<u64>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_named() {
    let place = TemporaryDirectory::new();
    let node = node(&place, Vec::new()).await;
    let target = format!("{LETTERS}/send-again");
    for body in [
        json!({}),
        json!({ "all": false }),
        json!({ "ids": [] }),
        json!({ "ids": [1], "all": true }),
    ] {
        assert_eq!(
            node.ask_with("POST", &target, &body).await.problem(),
            "invalid",
            "{body}"
        );
    }
    let all = node
        .ask_with("POST", &target, &json!({ "all": true }))
        .await;
    assert_eq!(all.json(), json!({ "sending": 0, "has_more": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_an_integration_that_is_not_configured_any_more_are_there() {
    let place = TemporaryDirectory::new();
    let node = node(&place, vec![letter("former", 1, 0)]).await;
    let former = "/api/v1/integrations/file/former";
    assert_eq!(node.ask("GET", former).await.problem(), "not-found");
    let page = node
        .ask("GET", &format!("{former}/dead-letters"))
        .await
        .json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    let dropped = node
        .ask("DELETE", &format!("{former}/dead-letters?all=true"))
        .await;
    assert_eq!(dropped.json(), json!({ "dropped": 1 }));
    let page = node.ask("GET", &format!("{former}/dead-letters")).await;
    assert_eq!(page.problem(), "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_a_team_sees_and_changes_what_is_of_its_tenant() {
    let place = TemporaryDirectory::new();
    let mut letters = vec![letter("audit", 1, 0), letter("former", 2, 7)];
    letters.extend((3..=5).map(|id| letter("others", id, 0)));
    letters.extend((6..=8).map(|id| letter("both", id, if id == 8 { 7 } else { 0 })));
    let node = node(&place, letters).await;
    let key = "0123456789abcdef-team";
    let principal = Principal {
        kind: PrincipalKind::ApiKey {
            id: "team".to_owned(),
            name: "team".to_owned(),
        },
        scopes: Scopes::of_team(TenantId(7)),
        team: Some("north".to_owned()),
        tenant: TenantId(7),
    };
    let known = (key.as_bytes().to_vec(), principal);
    node.directory.keys.lock().unwrap().push(known);
    let listed = by(&node, key, "GET", "/api/v1/integrations").await.json();
    assert_eq!(listed, json!({ "items": [] }));
    for (method, target) in [
        ("GET", AUDIT.to_owned()),
        ("POST", format!("{AUDIT}/pause")),
        ("POST", format!("{AUDIT}/resume")),
        ("POST", format!("{AUDIT}/skip")),
        ("POST", format!("{AUDIT}/drain")),
        ("POST", format!("{AUDIT}/test")),
        ("GET", LETTERS.to_owned()),
        ("GET", format!("{LETTERS}/1")),
        ("DELETE", format!("{LETTERS}/1")),
        ("DELETE", format!("{LETTERS}?all=true")),
    ] {
        let answer = by(&node, key, method, &target).await;
        assert_eq!(answer.problem(), "not-found", "{method} {target}");
    }
    assert_eq!(
        node.ask("GET", AUDIT).await.json()["dead_letters_stored"],
        1
    );
    // Pages of others' letters are no pages.
    let others = "/api/v1/integrations/file/others/dead-letters?limit=1";
    assert_eq!(by(&node, key, "GET", others).await.problem(), "not-found");
    let both = "/api/v1/integrations/file/both/dead-letters?limit=1";
    let page = by(&node, key, "GET", both).await.json();
    assert_eq!(
        (&page["items"][0]["id"], &page["next"]),
        (&json!(8), &json!(null))
    );
    let own = "/api/v1/integrations/file/former/dead-letters";
    assert_eq!(
        by(&node, key, "GET", &format!("{own}/2")).await.status,
        StatusCode::OK
    );
    let dropped = by(&node, key, "DELETE", &format!("{own}?all=true")).await;
    assert_eq!(dropped.json(), json!({ "dropped": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_states_and_neither_payloads_nor_changes() {
    let place = TemporaryDirectory::new();
    let node = node(&place, vec![letter("audit", 1, 0)]).await;
    for (method, target) in [("GET", AUDIT), ("GET", LETTERS)] {
        assert_eq!(
            by(&node, VIEWER, method, target).await.status,
            StatusCode::OK
        );
    }
    for (method, target) in [
        ("GET", format!("{LETTERS}/1")),
        ("POST", format!("{AUDIT}/pause")),
        ("DELETE", format!("{LETTERS}/1")),
    ] {
        let answer = by(&node, VIEWER, method, &target).await;
        assert_eq!(answer.problem(), "forbidden", "{method} {target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_state_and_dead_letters() {
    let place = TemporaryDirectory::new();
    let node = node(&place, vec![letter("audit", 1, 0)]).await;
    node.ask("POST", &format!("{AUDIT}/pause")).await;
    let page = node.get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let of = r#"kind="file",name="audit""#;
    for line in [
        format!("martlet_integration_state{{{of},state=\"paused\"}} 1"),
        format!("martlet_integration_state{{{of},state=\"running\"}} 0"),
        format!("martlet_integration_dead_letters_stored{{{of}}} 1"),
        format!("martlet_integration_delivered_total{{{of}}} 0"),
        format!("martlet_integration_in_hand_messages{{{of}}} 0"),
        format!("martlet_integration_oldest_message_age_seconds{{{of}}} 0"),
    ] {
        assert!(page.contains(&line), "{line}: {page}");
    }
}
