//! Devices, users, teams and keys, in real tables.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::StatusCode;
use martlet_api::Settings;
use serde_json::{Value, json};

use crate::node::{Answer, KEY, NEAR, Node, json as builder, request, with_keys};

/// A directory that goes with the test.
pub(crate) struct TemporaryDirectory(pub(crate) PathBuf);

impl TemporaryDirectory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("martlet-api-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) async fn send(
    node: &Node,
    key: &str,
    method: &str,
    target: &str,
    body: &Value,
) -> Answer {
    let mut request = builder(method, target, body);
    let headers = request.headers_mut();
    headers.insert("x-api-key", key.parse().unwrap());
    headers.insert("if-match", "*".parse().unwrap());
    node.send(request).await
}

pub(crate) async fn done(
    node: &Node,
    key: &str,
    method: &str,
    target: &str,
    body: &Value,
) -> Value {
    let answer = send(node, key, method, target, body).await;
    assert!(answer.status.is_success(), "{method} {target}: {answer:?}");
    match answer.body.is_empty() {
        true => Value::Null,
        false => answer.json(),
    }
}

fn ids(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn looking_makes_no_tables_and_the_first_device_does() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let list = node.ask("GET", "/api/v1/devices?total=true").await;
    assert_eq!(
        list.json(),
        json!({ "items": [], "next": null, "total": 0 })
    );
    assert!(!place.0.join("martlet.db").exists());
    let created = done(
        &node,
        KEY,
        "POST",
        "/api/v1/devices",
        &json!({ "id": "pump-7" }),
    )
    .await;
    assert!(created["secret"].as_str().unwrap().len() >= 20, "{created}");
    let list = node.ask("GET", "/api/v1/devices").await.json();
    assert_eq!(ids(&list), ["pump-7"]);
    assert!(
        !list
            .to_string()
            .contains(created["secret"].as_str().unwrap())
    );
}

#[tokio::test]
async fn a_device_is_changed_by_who_knows_its_version() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let body = json!({ "id": "pump-7", "tags": ["a"], "location": "roof" });
    let created = send(&node, KEY, "POST", "/api/v1/devices", &body).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.header("location"), "/api/v1/devices/pump-7");
    let tag = created.header("etag").to_owned();
    let change = |tag: Option<&str>| {
        let mut request = builder(
            "PATCH",
            "/api/v1/devices/pump-7",
            &json!({ "status": "inactive" }),
        );
        let headers = request.headers_mut();
        headers.insert("x-api-key", KEY.parse().unwrap());
        if let Some(tag) = tag {
            headers.insert("if-match", tag.parse().unwrap());
        }
        node.send(request)
    };
    assert_eq!(change(None).await.problem(), "precondition-required");
    let changed = change(Some(&tag)).await;
    assert_eq!(changed.json()["status"], "inactive");
    assert_eq!(changed.json()["location"], "roof");
    assert_eq!(change(Some(&tag)).await.problem(), "precondition-failed");
    assert_eq!(change(Some("\"x\"")).await.problem(), "precondition-failed");
    let known = request("GET", "/api/v1/devices/pump-7")
        .header("x-api-key", KEY)
        .header("if-none-match", changed.header("etag"));
    let known = node.send(known.body(Body::empty()).unwrap()).await;
    // Whether it is connected may have changed, which is no version.
    assert_eq!(known.status, StatusCode::OK);
    assert_eq!(known.header("etag"), changed.header("etag"));
    assert_eq!(known.json()["online"], false);
}

/// Sends a request with an `Idempotency-Key`: its own path.
async fn send_again(node: &Node, target: &str, body: &Value) -> Answer {
    let mut request = builder("POST", target, body);
    let headers = request.headers_mut();
    headers.insert("x-api-key", KEY.parse().unwrap());
    headers.insert("idempotency-key", target.parse().unwrap());
    node.send(request).await
}

#[tokio::test]
async fn what_is_shown_once_is_not_in_the_answer_to_who_asks_again() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    done(&node, KEY, "POST", "/api/v1/devices", &json!({ "id": "d" })).await;
    let builder = [
        ("/api/v1/devices", json!({ "id": "a" })),
        (
            "/api/v1/devices/bulk",
            json!({ "devices": [{ "id": "b" }] }),
        ),
        (
            "/api/v1/devices/import",
            json!({ "devices": [{ "id": "c" }] }),
        ),
        ("/api/v1/devices/d/credentials", json!({})),
        ("/api/v1/devices/d/rotate", json!({})),
        ("/api/v1/keys", json!({ "name": "k", "scopes": ["viewer"] })),
        (
            "/api/v1/provisioning-keys",
            json!({ "name": "p", "devices_max": 1 }),
        ),
        ("/api/v1/teams/plant/tokens", json!({ "name": "t" })),
    ];
    let team = json!({ "name": "plant" });
    assert!(
        send_again(&node, "/api/v1/teams", &team)
            .await
            .status
            .is_success()
    );
    let mut secrets = Vec::new();
    for (target, body) in &builder {
        let first = send_again(&node, target, body).await;
        assert!(first.status.is_success(), "{target}: {first:?}");
        let again = send_again(&node, target, body).await;
        assert_eq!(again.status, first.status, "{target}");
        assert_eq!(again.header("idempotency-replayed"), "true");
        let name = again.header("idempotency-left-out").to_owned();
        let (first, again) = (first.json(), again.json());
        let secret = found(&first, &name).unwrap_or_else(|| panic!("{target}: {first}"));
        // One, or several under their names.
        let some: Vec<&str> = match secret {
            Value::Object(members) => members.values().filter_map(Value::as_str).collect(),
            secret => secret.as_str().into_iter().collect(),
        };
        assert!(!some.is_empty() && some.iter().all(|secret| secret.len() >= 16));
        assert_eq!(found(&again, &name), Some(&Value::Null), "{target}");
        secrets.extend(some.into_iter().map(str::to_owned));
    }
    // By another process with the same tables.
    let node = Node::with_tables(with_keys(), &place.0);
    for (target, body) in &builder {
        let again = send_again(&node, target, body).await;
        assert_eq!(again.header("idempotency-replayed"), "true", "{target}");
        let text = String::from_utf8_lossy(&again.body).into_owned();
        assert!(secrets.iter().all(|secret| !text.contains(secret)));
    }
    let document = node.ask("GET", "/api/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut with_secrets: Vec<&str> = Vec::new();
    for (path, item) in paths {
        for (_, operation) in item.as_object().unwrap() {
            let text = with_references(&document, &operation["responses"], 0);
            if text.to_lowercase().contains("shown only once") {
                with_secrets.push(path);
            }
        }
    }
    with_secrets.sort_unstable();
    let expected = [
        "/api/v1/devices",
        "/api/v1/devices/bulk",
        "/api/v1/devices/import",
        "/api/v1/devices/{id}/credentials",
        "/api/v1/devices/{id}/rotate",
        "/api/v1/keys",
        // Without credentials, and so without a key.
        "/api/v1/provision",
        "/api/v1/provisioning-keys",
        "/api/v1/teams/{id}/tokens",
    ];
    assert_eq!(with_secrets, expected);
}

/// Value under a name, somewhere.
fn found<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Array(all) => all.iter().find_map(|value| found(value, name)),
        Value::Object(all) => match all.get(name) {
            Some(found) => Some(found),
            None => all.values().find_map(|value| found(value, name)),
        },
        _ => None,
    }
}

/// A part of the document as text, with what it refers to.
fn with_references(document: &Value, part: &Value, depth: usize) -> String {
    let mut text = part.to_string();
    if depth > 4 {
        return text;
    }
    let pieces: Vec<String> = text.split('"').map(str::to_owned).collect();
    for name in pieces
        .iter()
        .filter_map(|piece| piece.strip_prefix("#/components/schemas/"))
    {
        let schema = &document["components"]["schemas"][name];
        text.push_str(&with_references(document, schema, depth + 1));
    }
    text
}

#[tokio::test]
async fn a_deleted_device_is_gone_and_comes_back() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let none = json!({});
    done(&node, KEY, "POST", "/api/v1/devices", &json!({ "id": "d" })).await;
    done(&node, KEY, "DELETE", "/api/v1/devices/d", &none).await;
    let removed = node.ask("GET", "/api/v1/devices/d").await;
    assert_eq!(removed.problem(), "not-found");
    let again = send(&node, KEY, "POST", "/api/v1/devices", &json!({ "id": "d" })).await;
    assert_eq!(again.problem(), "conflict");
    let list = node.ask("GET", "/api/v1/devices?deleted=true").await.json();
    assert_eq!(ids(&list), ["d"]);
    let back = done(&node, KEY, "POST", "/api/v1/devices/d/restore", &none).await;
    assert_eq!(back["credentials"], 1);
    done(&node, KEY, "POST", "/api/v1/devices/d/purge", &none).await;
    done(&node, KEY, "POST", "/api/v1/devices", &json!({ "id": "d" })).await;
}

#[tokio::test]
async fn pages_follow_each_other_and_filters_choose() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let devices: Vec<_> = (0..25)
        .map(|at| json!({ "id": format!("d{at:02}"), "tags": [format!("t{}", at % 2)] }))
        .collect();
    let body = json!({ "devices": devices });
    let created = done(&node, KEY, "POST", "/api/v1/devices/bulk", &body).await;
    assert_eq!(created["added"], 25);
    let mut all = Vec::new();
    let mut target = "/api/v1/devices?limit=10&tag=t1".to_owned();
    loop {
        let page = node.ask("GET", &target).await.json();
        all.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => {
                target = format!("/api/v1/devices?limit=10&tag=t1&cursor={next}");
                let other = format!("/api/v1/devices?limit=10&cursor={next}");
                assert_eq!(node.ask("GET", &other).await.problem(), "bad-request");
            }
            None => break,
        }
    }
    let expected: Vec<_> = (0..25)
        .filter(|at| at % 2 == 1)
        .map(|at| format!("d{at:02}"))
        .collect();
    assert_eq!(all, expected);
    for odd in ["status=x", "sort=x", "online=x", "nothing=1"] {
        let answer = node.ask("GET", &format!("/api/v1/devices?{odd}")).await;
        assert_eq!(answer.problem(), "bad-request", "{odd}");
    }
}

#[tokio::test]
async fn a_table_says_of_each_row_what_has_become_of_it() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let table = "id,name,status,tags\r\none,\"Pump, the first\",active,a;b\r\nt/o,,,\r\n\
                 one,again,,\r\nthree,,asleep,\r\nfour,,,,\r\nfive\r\n";
    let send = |target: &str| {
        let request = request("POST", target)
            .header("x-api-key", KEY)
            .header("content-type", "text/csv");
        node.send(request.body(Body::from(table)).unwrap())
    };
    let dry = send("/api/v1/devices/import?dry_run=true").await.json();
    assert_eq!(dry["added"], 0);
    assert_eq!(dry["rows"][0]["outcome"], "would_add");
    let whole = send("/api/v1/devices/import?all_or_none=true").await.json();
    assert_eq!(whole["added"], 0, "{whole}");
    assert_eq!(whole["rows"][0]["outcome"], "not_done");
    let some = send("/api/v1/devices/import").await.json();
    let outcomes = some["rows"].as_array().unwrap().iter();
    let outcomes: Vec<_> = outcomes
        .map(|row| {
            (
                row["row"].as_u64().unwrap(),
                row["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            (2, "added"),
            (3, "refused"),
            (4, "exists"),
            (5, "refused"),
            (6, "refused"),
            (7, "added")
        ],
        "{some}"
    );
    let export = node.ask("GET", "/api/v1/devices/export").await;
    let text = String::from_utf8(export.body.to_vec()).unwrap();
    assert!(
        text.contains("one,\"Pump, the first\",device,,active"),
        "{text}"
    );
    assert!(text.contains("a;b"), "{text}");
}

#[tokio::test]
async fn credentials_are_shown_once_and_end() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    done(&node, KEY, "POST", "/api/v1/devices", &json!({ "id": "d" })).await;
    let path = "/api/v1/devices/d/credentials";
    let added = done(&node, KEY, "POST", path, &json!({ "name": "spare" })).await;
    let list = node.ask("GET", path).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(added["secret"].as_str().unwrap()));
    let one = format!("{path}/{}", added["id"].as_str().unwrap());
    done(&node, KEY, "DELETE", &one, &json!({})).await;
    let again = send(&node, KEY, "DELETE", &one, &json!({})).await;
    assert_eq!(again.problem(), "not-found");
    let short = send(&node, KEY, "POST", path, &json!({ "secret": "short" })).await;
    assert_eq!(short.problem(), "invalid");
    let print = json!({ "fingerprint": "ab:".repeat(32).trim_end_matches(':') });
    let added = done(&node, KEY, "POST", path, &print).await;
    assert_eq!(
        (&added["kind"], &added["secret"]),
        (&json!("certificate"), &Value::Null)
    );
    let rotated = done(&node, KEY, "POST", "/api/v1/devices/d/rotate", &json!({})).await;
    assert!(rotated["secret"].is_string());
}

#[tokio::test]
async fn a_key_permits_what_it_says_until_it_is_revoked() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let body = json!({ "name": "shop", "scopes": ["devices:read"] });
    let created = done(&node, KEY, "POST", "/api/v1/keys", &body).await;
    let (key, id) = (
        created["key"].as_str().unwrap(),
        created["id"].as_str().unwrap(),
    );
    let none = json!({});
    done(&node, key, "GET", "/api/v1/devices", &none).await;
    let more = send(&node, key, "POST", "/api/v1/devices", &json!({ "id": "d" })).await;
    assert_eq!(more.problem(), "forbidden");
    let list = node.ask("GET", "/api/v1/keys").await.json();
    assert!(!list.to_string().contains(key), "{list}");
    done(&node, KEY, "DELETE", &format!("/api/v1/keys/{id}"), &none).await;
    let late = send(&node, key, "GET", "/api/v1/devices", &none).await;
    assert_eq!(late.problem(), "unauthenticated");
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let body = json!({ "name": "hr", "scopes": ["users:write", "users:read", "keys:write"] });
    let created = done(&node, KEY, "POST", "/api/v1/keys", &body).await;
    let hr = created["key"].as_str().unwrap();
    let password = "correct horse";
    let boss = json!({ "name": "eve", "password": password, "api_role": "administrator" });
    let refused = send(&node, hr, "POST", "/api/v1/users", &boss).await;
    assert_eq!(refused.problem(), "forbidden");
    done(&node, KEY, "POST", "/api/v1/users", &boss).await;
    let taken = json!({ "password": "another horse" });
    for (method, target, body) in [
        ("PUT", "/api/v1/users/eve/password", &taken),
        ("DELETE", "/api/v1/users/eve", &json!({})),
        ("PATCH", "/api/v1/users/eve", &json!({ "enabled": false })),
        (
            "POST",
            "/api/v1/keys",
            &json!({ "name": "more", "scopes": ["backup:read"] }),
        ),
    ] {
        let answer = send(&node, hr, method, target, body).await;
        assert_eq!(answer.problem(), "forbidden", "{method} {target}");
    }
    let plain = json!({ "name": "bob", "password": password, "role": "none" });
    done(&node, hr, "POST", "/api/v1/users", &plain).await;
}

#[tokio::test]
async fn the_setup_link_makes_somebody_who_logs_in_and_whose_session_ends_with_them() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(Settings::default(), &place.0).at(NEAR);
    let token = node.api.setup_token().await.unwrap();
    assert!(node.api.is_unclaimed().await);
    let body = json!({ "token": token, "name": "ada", "password": "correct horse" });
    let created = node.post("/api/v1/setup", &body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert!(!node.api.is_unclaimed().await);
    assert_eq!(
        node.get("/api/v1/devices").await.problem(),
        "unauthenticated"
    );
    let login = json!({ "user": "ada", "password": "correct horse" });
    let session = node.post("/api/v1/session", &login).await;
    assert_eq!(session.status, StatusCode::OK, "{session:?}");
    let cookie = session
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let csrf = session.json()["csrf_token"].as_str().unwrap().to_owned();
    let by_cookie = |method: &'static str, target: &'static str, body: Value| {
        let mut request = builder(method, target, &body);
        let headers = request.headers_mut();
        headers.insert("cookie", cookie.parse().unwrap());
        headers.insert("x-csrf-token", csrf.parse().unwrap());
        headers.insert("if-match", "*".parse().unwrap());
        node.send(request)
    };
    let user = json!({ "name": "bob", "password": "correct horse", "api_role": "viewer" });
    let created = by_cookie("POST", "/api/v1/users", user).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let login = json!({ "user": "bob", "password": "correct horse" });
    let bob = node.post("/api/v1/session", &login).await;
    let bob = bob
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let by_bob = || {
        let builder = request("GET", "/api/v1/devices").header("cookie", &bob);
        node.send(builder.body(Body::empty()).unwrap())
    };
    assert_eq!(by_bob().await.status, StatusCode::OK);
    let off = by_cookie("PATCH", "/api/v1/users/bob", json!({ "enabled": false })).await;
    assert_eq!(off.status, StatusCode::OK, "{off:?}");
    assert_eq!(by_bob().await.problem(), "unauthenticated");
    let audit = by_cookie("GET", "/api/v1/audit", json!({})).await.json();
    let actions = audit["items"].as_array().unwrap().iter();
    let actions: Vec<_> = actions
        .map(|line| {
            (
                line["who"].as_str().unwrap(),
                line["action"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(actions.contains(&("user:ada", "user.add")), "{actions:?}");
    assert!(!audit.to_string().contains("correct horse"));
}

#[tokio::test]
async fn a_device_adds_itself_by_a_provisioning_key_alone() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let body = json!({ "name": "line 3", "id_pattern": "pump-*", "devices_max": 1 });
    let created = done(&node, KEY, "POST", "/api/v1/provisioning-keys", &body).await;
    let key = created["key"].as_str().unwrap();
    let add = |key: &str, id: &str| {
        let body = json!({ "key": key, "id": id });
        let request = builder("POST", "/api/v1/provision", &body);
        node.send(request)
    };
    assert_eq!(add("mp_wrong", "pump-1").await.problem(), "unauthenticated");
    assert_eq!(add(key, "valve-1").await.problem(), "invalid");
    let first = add(key, "pump-1").await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    assert!(first.json()["secret"].is_string());
    assert_eq!(add(key, "pump-2").await.problem(), "conflict");
}

#[tokio::test]
async fn every_route_keeps_one_teams_people_from_anothers() {
    let place = TemporaryDirectory::new();
    let node = Node::with_tables(with_keys(), &place.0);
    let mut teams = Vec::new();
    for name in ["red", "blue"] {
        let team = done(
            &node,
            KEY,
            "POST",
            "/api/v1/teams",
            &json!({ "name": name }),
        )
        .await;
        let team = team["id"].as_str().unwrap().to_owned();
        let body = json!({ "name": name, "scopes": ["administrator"], "team": team });
        let key = done(&node, KEY, "POST", "/api/v1/keys", &body).await;
        let key = key["key"].as_str().unwrap().to_owned();
        let own = format!("{name}-device-secretly");
        done(
            &node,
            &key,
            "POST",
            "/api/v1/devices",
            &json!({ "id": own }),
        )
        .await;
        let group = json!({ "name": format!("{name}-group-secretly") });
        let group = done(&node, &key, "POST", "/api/v1/groups", &group).await;
        teams.push((key, own, team, group["id"].as_str().unwrap().to_owned()));
    }
    let (red, _, _, _) = &teams[0];
    let (_, device, team, group) = &teams[1];
    let before = node
        .ask("GET", "/api/v1/devices/export?format=json")
        .await
        .body;
    let document = node.get("/api/v1/openapi.json").await.json();
    let mut builder = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            let target = path
                .replace("/devices/{id}", &format!("/devices/{device}"))
                .replace("/teams/{id}", &format!("/teams/{team}"))
                .replace("/groups/{id}", &format!("/groups/{group}"))
                .replace("{id}", device)
                .replace("{name}", "device")
                .replace("{user}", "ada")
                .replace("{key}", "k")
                .replace("{credential}", "c")
                .replace("{clientid}", device);
            let body = json!({
                "name": "x", "status": "inactive", "rules": [], "role": "viewer", "value": "x",
                "devices": [device], "password": "correct horse",
            });
            for body in [&body, &json!({}), &json!({ "status": "inactive" })] {
                let method = method.to_uppercase();
                let answer = send(&node, red, &method, &target, body).await;
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let own_words = text.replace(&target, "").replace(device.as_str(), "");
                let tells = text.contains("blue-group-secretly")
                    || (answer.status.is_success() && text.contains(device.as_str()));
                assert!(!tells, "{method} {target} tells {own_words}");
                builder += 1;
            }
        }
    }
    assert!(builder > 150, "{builder}");
    let after = node
        .ask("GET", "/api/v1/devices/export?format=json")
        .await
        .body;
    let blue = |body: &[u8]| {
        let all: Vec<Value> = serde_json::from_slice(body).unwrap();
        all.into_iter().find(|one| one["id"] == device.as_str())
    };
    assert_eq!(blue(&before), blue(&after));
}
