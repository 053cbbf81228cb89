//! Whether the document is whole, and says what is so.

use axum::body::Body;
use axum::http::StatusCode;
use martlet_api::{CompatApi, RouteSettings, Settings};
use martlet_control::remedy::form::COMMAND_FORMS;
use serde_json::Value;

use crate::node::{KEY, Node, VIEWER, request, with_keys};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Method, path and operation of each.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                all.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    all
}

/// All systems whose routes can be served.
const SYSTEMS: [CompatApi; 4] = [
    CompatApi::Microservice,
    CompatApi::PanelBroker,
    CompatApi::IotFlow,
    CompatApi::DeviceService,
];

/// A node with the routes of these systems.
fn with_systems(compat: &[CompatApi]) -> Node {
    let routes = RouteSettings {
        compat: compat.to_vec(),
        ..RouteSettings::default()
    };
    Node::new(Settings {
        routes,
        ..with_keys()
    })
}

async fn document(node: &Node) -> Value {
    let answer = node.get("/api/v1/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.json()
}

/// The schema that this one stands for.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit_once('/'));
    name.map_or(schema, |(_, name)| &document["components"]["schemas"][name])
}

/// Answers with a list in them that are no lists: facts about one thing.
const NO_LISTS: [&str; 10] = [
    "/api/v1/acl/explain",
    "/api/v1/config",
    "/api/v1/health",
    "/api/v1/logs/levels",
    "/api/v1/metrics/history",
    "/api/v1/session",
    "/api/v1/status",
    "/health/ready",
    "/health/startup",
    "/readyz",
];

#[tokio::test]
async fn every_list_has_its_items_under_that_name() {
    let document = document(&Node::new(with_keys())).await;
    let is_array = |schema: &Value| schema["type"] == "array";
    let (mut lists, mut others) = (Vec::new(), Vec::new());
    for (method, path, operation) in operations(&document) {
        let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        // An export is a file, which an import reads.
        if method != "GET" || answer.is_null() || path.ends_with("/export") {
            continue;
        }
        let answer = resolved(&document, answer);
        assert!(!is_array(answer), "{path} answers a bare list");
        let properties = answer["properties"].as_object();
        let mut properties = properties.into_iter().flatten();
        // Of one thing, whose name stands in the path, a list is a part; rules are put as a whole.
        let is_of_one = ["}", "/why", "}/rules"]
            .iter()
            .any(|end| path.ends_with(end));
        let has_list = properties.any(|(_, property)| is_array(resolved(&document, property)));
        if has_list && !is_of_one && !NO_LISTS.contains(&&*path) {
            let items = resolved(&document, &answer["properties"]["items"]);
            match is_array(items) {
                true => lists.push(path),
                false => others.push(path),
            }
        }
    }
    assert!(others.is_empty(), "{others:?}");
    for path in [
        "certificates",
        "listeners",
        "traffic",
        "events",
        "logs",
        "devices",
    ] {
        assert!(
            lists.contains(&format!("/api/v1/{path}")),
            "{path}: {lists:?}"
        );
    }
}

#[tokio::test]
async fn the_document_describes_everything_that_is_in_it() {
    let document = document(&with_systems(&SYSTEMS)).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["version"], "1.2.3");
    let all = operations(&document);
    assert!(all.len() >= 20, "{}", all.len());
    let mut ids = std::collections::HashSet::new();
    let says = |value: &Value| value.as_str().is_some_and(|text| text.len() > 2);
    for (method, path, operation) in all {
        let place = format!("{method} {path}");
        assert!(says(&operation["summary"]), "{place} has no summary");
        assert_eq!(
            operation["tags"].as_array().map(Vec::len),
            Some(1),
            "{place}"
        );
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{place}: its id is another's"
        );
        assert!(
            operation["security"].is_array(),
            "{place} does not say who may ask"
        );
        let is_closed = !operation["security"].as_array().unwrap().is_empty();
        let is_of_device = operation["description"]
            .as_str()
            .is_some_and(|text| text.ends_with("For a device, with its secret as the key."));
        if is_closed && path != "/api/v1/session" && !is_of_device {
            assert!(says(&operation["x-scope"]), "{place} names no scope");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(says(&parameter["description"]), "{place}: {parameter}");
        }
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("default"), "{place}");
        assert!(
            responses.keys().any(|status| status.starts_with('2'))
                // There is no Redis.
                || path.ends_with("/redis-db-sync/{rest}"),
            "{place}"
        );
        for (status, response) in responses {
            assert!(says(&response["description"]), "{place} {status}");
            let is_empty = ["204", "304", "307"].contains(&status.as_str());
            assert!(
                is_empty || response["content"].is_object(),
                "{place} {status}"
            );
        }
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            // One of a closed list, or none, has its description beside the list.
            let mut forms = property["oneOf"].as_array().into_iter().flatten();
            let is_told = says(&property["description"])
                || property.get("$ref").is_some()
                || forms.any(|form| says(&form["description"]));
            assert!(is_told, "{name}.{field} has no description");
        }
    }
}

/// Whatever is asked, the status is one that the document has.
#[tokio::test(flavor = "multi_thread")]
async fn every_status_that_comes_is_in_the_document() {
    let node = Node::new(with_keys());
    let document = document(&node).await;
    for (method, path, operation) in operations(&document) {
        let path = path.replace("{kind}", "forbidden");
        let path = path.replace("{client_id}", "a%2Fb");
        let path = path.replace("{topic}", "room/7/light");
        for key in [None, Some(KEY), Some(VIEWER), Some("wrong")] {
            for query in [
                "",
                "?limit=x",
                "?limit=1&what=%ff",
                "?action=publish&topic=%2B",
            ] {
                for (content_type, body) in [
                    ("application/json", "{}"),
                    ("application/json", "{"),
                    ("text/plain", "x"),
                ] {
                    let mut builder = request(&method, &format!("{path}{query}"));
                    builder = builder.header("content-type", content_type);
                    if let Some(key) = key {
                        builder = builder.header("x-api-key", key);
                    }
                    let answer = node.send(builder.body(Body::from(body)).unwrap()).await;
                    let status = answer.status.as_u16().to_string();
                    let place = format!("{method} {path}{query} {key:?} {body}");
                    let declared = &operation["responses"][&status];
                    assert!(
                        declared.is_object(),
                        "{place}: {status} is not in the document"
                    );
                    assert!(
                        answer.status != StatusCode::INTERNAL_SERVER_ERROR,
                        "{place}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn who_has_the_document_is_not_sent_it_again() {
    let node = Node::new(with_keys());
    let answer = node.get("/api/v1/openapi.json").await;
    let builder =
        request("GET", "/api/v1/openapi.json").header("if-none-match", answer.header("etag"));
    let again = node.send(builder.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (again.status, again.body.len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
}

/// References of a page to what it loads: `src`, `href` and `url(…)` of the texts.
#[tokio::test]
async fn pages_load_nothing_from_other_hosts() {
    let node = Node::new(with_keys());
    let slash = node.get("/docs").await;
    assert_eq!(
        (slash.status, slash.header("location")),
        (StatusCode::PERMANENT_REDIRECT, "/docs/")
    );
    for page in ["/docs/", "/docs/index.html", "/setup"] {
        let answer = node.get(page).await;
        assert!(
            answer.header("content-type").starts_with("text/html"),
            "{page}"
        );
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("http"),
            "{policy}"
        );
        assert!(policy.contains("connect-src 'self'") && policy.contains("script-src 'self'"));
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        for attribute in ["src=\"", "href=\""] {
            for rest in text.split(attribute).skip(1) {
                let target = rest.split('"').next().unwrap();
                assert!(!target.contains("//"), "{page} loads {target}");
                let target = match target.strip_prefix('/') {
                    Some(_) => target.to_owned(),
                    None if page == "/setup" => format!("/{target}"),
                    None => format!("/docs/{target}"),
                };
                assert_eq!(node.get(&target).await.status, StatusCode::OK, "{target}");
            }
        }
    }
    let style = node.get("/docs/swagger-ui.css").await;
    let style = String::from_utf8(style.body.to_vec()).unwrap();
    for rest in style.split("url(").skip(1) {
        let target = rest.trim_start_matches(['"', '\'']);
        assert!(
            target.starts_with("data:"),
            "the style loads {}",
            &target[..40.min(target.len())]
        );
    }
    for script in ["/docs/start.js", "/setup.js"] {
        let text = String::from_utf8(node.get(script).await.body.to_vec()).unwrap();
        assert!(!text.contains("://"), "{script}");
    }
}

/// Where a `POST` without a body is taken, and where it is not.
#[tokio::test]
async fn a_body_of_which_nothing_is_needed_is_optional() {
    let document = document(&Node::new(with_keys())).await;
    let is_needed = |path: &str| {
        let body = &document["paths"][path]["post"]["requestBody"];
        assert!(body["content"].is_object(), "{path}: {body}");
        body["required"].as_bool().unwrap_or(false)
    };
    for path in ["/api/v1/devices/{id}/rotate", "/api/v1/devices"] {
        assert!(!is_needed(path), "{path}");
    }
    for path in ["/api/v1/keys", "/api/v1/session", "/api/v1/publish"] {
        assert!(is_needed(path), "{path}");
    }
}

/// The routes of each system.
const ROUTES: [(CompatApi, &str, &str); 4] = [
    (
        CompatApi::Microservice,
        "Microservice",
        "POST /publish, GET /status, GET /broker/status, GET /logs, POST /subscribe,
         POST /unsubscribe, GET /messages, DELETE /messages/confirmed, GET /messages/{id},
         DELETE /messages/{id}, POST /messages/{id}/confirm, GET /webhooks, POST /webhooks,
         GET /webhooks/{id}, PUT /webhooks/{id}, DELETE /webhooks/{id}",
    ),
    (
        CompatApi::PanelBroker,
        "MQTT panel",
        "GET /, POST /api/mqtt/auth",
    ),
    (
        CompatApi::IotFlow,
        "IoTFlow",
        "GET /, GET /health, GET /status, POST /api/v1/devices/register,
         GET /api/v1/devices/status, POST /api/v1/devices/heartbeat, GET /api/v1/devices/config,
         PUT /api/v1/devices/config, POST /api/v1/devices/config,
         GET /api/v1/devices/credentials, GET /api/v1/devices/mqtt-credentials,
         GET /api/v1/devices/telemetry, POST /api/v1/devices/telemetry,
         GET /api/v1/devices/statuses, GET /api/v1/devices/{id}/status,
         GET /api/v1/devices/{id}/summary, POST /api/v1/devices/{id}/control,
         GET /api/v1/devices/{id}/control/pending,
         POST /api/v1/devices/{id}/control/{command}/status, GET /api/v1/mqtt/status,
         POST /api/v1/mqtt/publish, POST /api/v1/mqtt/subscribe,
         GET /api/v1/mqtt/monitoring/metrics, GET /api/v1/mqtt/topics/structure,
         POST /api/v1/mqtt/topics/validate, GET /api/v1/mqtt/topics/device/{id},
         POST /api/v1/mqtt/device/{id}/command, POST /api/v1/mqtt/fleet/{group}/command,
         POST /api/v1/mqtt/telemetry/{id}, POST /api/v1/telemetry, GET /api/v1/telemetry/status,
         GET /api/v1/telemetry/user/{user}, GET /api/v1/telemetry/device/{id},
         GET /api/v1/telemetry/device/{id}/aggregated, GET /api/v1/telemetry/{id},
         DELETE /api/v1/telemetry/{id}, GET /api/v1/telemetry/{id}/latest,
         GET /api/v1/telemetry/{id}/aggregated, GET /api/v1/admin/devices,
         GET /api/v1/admin/devices/{id}, PUT /api/v1/admin/devices/{id},
         DELETE /api/v1/admin/devices/{id}, PUT /api/v1/admin/devices/{id}/status,
         GET /api/v1/admin/stats, GET /api/v1/admin/dashboard, GET /api/v1/admin/telemetry,
         GET /api/v1/admin/cache/device-status, DELETE /api/v1/admin/cache/device-status,
         DELETE /api/v1/admin/cache/devices/{id}, GET /api/v1/admin/redis-db-sync/status,
         POST /api/v1/admin/redis-db-sync/{rest}",
    ),
    (
        CompatApi::DeviceService,
        "Service-MQTT",
        "POST /devices, GET /docs/doc.json",
    ),
];

/// Methods and paths of the operations with this tag, in their order.
fn tagged(document: &Value, tag: &str) -> Vec<String> {
    let all = operations(document).into_iter();
    let all = all.filter(|(_, _, operation)| operation["tags"][0] == tag);
    let mut all: Vec<String> = all
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn routes_of_other_systems_are_in_the_document_as_they_are_served() {
    let native = operations(&document(&Node::new(with_keys())).await).len();
    for (system, tag, routes) in ROUTES {
        let node = with_systems(&[system]);
        let document = document(&node).await;
        let mut expected: Vec<&str> = routes.split(',').map(str::trim).collect();
        expected.sort_unstable();
        assert_eq!(tagged(&document, tag), expected);
        assert_eq!(operations(&document).len(), native + expected.len());
        let tags = document["tags"].as_array().unwrap();
        assert!(tags.iter().any(|known| known["name"] == tag), "{tag}");
        for route in expected {
            let (method, path) = route.split_once(' ').unwrap();
            let answer = node.send(request(method, path).body(Body::empty()).unwrap());
            // Who the caller is, is asked of a route alone.
            let status = answer.await.status;
            let is_served =
                ![StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
            assert!(is_served, "{route}: {status}");
        }
    }
}

#[tokio::test]
async fn a_path_of_two_systems_is_that_of_the_first_one_in_the_document() {
    use CompatApi::{IotFlow, Microservice, PanelBroker};
    for (order, path, tag) in [
        ([Microservice, IotFlow], "/status", "Microservice"),
        ([IotFlow, Microservice], "/status", "IoTFlow"),
        ([PanelBroker, IotFlow], "/", "MQTT panel"),
        ([IotFlow, PanelBroker], "/", "IoTFlow"),
    ] {
        let document = document(&with_systems(&order)).await;
        let tags = &document["paths"][path]["get"]["tags"];
        assert_eq!(tags, &serde_json::json!([tag]), "{order:?} {path}");
    }
}

/// Each listener has its own systems.
#[tokio::test]
async fn a_listener_has_the_document_of_its_own_routes() {
    let node = with_systems(&[CompatApi::Microservice]);
    assert!(document(&node).await["paths"]["/publish"].is_object());
    let node = node.with_routes(RouteSettings::default());
    assert!(document(&node).await["paths"]["/publish"].is_null());
}

/// The path with a sign in place of each name.
fn without_names(path: &str) -> String {
    let path = path.split(['?', '&']).next().unwrap_or_default();
    let path = path.trim_end_matches('{').replace("{:0}", "{0}/{0}");
    let parts = path.split('{').enumerate().map(|(at, part)| match at {
        0 => part.to_owned(),
        _ => part
            .split_once('}')
            .map_or_else(String::new, |(_, rest)| format!("{{}}{rest}")),
    });
    parts.collect()
}

#[tokio::test]
async fn requests_of_remedies_are_routes() {
    let document = document(&with_systems(&[])).await;
    let all = operations(&document);
    for form in COMMAND_FORMS.iter().filter_map(|form| form.request) {
        let path = without_names(form.path);
        let mut all = all.iter();
        let found = all.find(|(method, of, _)| method == form.method && without_names(of) == path);
        let (_, _, operation) = found.unwrap_or_else(|| panic!("{} {path}", form.method));
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let takes = |name: &str| parameters.iter().any(|one| one["name"] == name);
        if form.path.contains("team}") {
            assert!(takes("team"), "{} {path}", form.method);
        }
        let query = form
            .path
            .split_once('?')
            .and_then(|(_, query)| query.split_once('='));
        if let Some((name, _)) = query {
            assert!(takes(name), "{} {path} {name}", form.method);
        }
        let body = &operation["requestBody"];
        match form.body {
            "" => assert_ne!(body["required"], true, "{} {path}", form.method),
            _ => assert!(!body.is_null(), "{} {path}", form.method),
        }
    }
}
