//! An API caller grants, changes and ends only what has no right that the caller lacks: every pair
//! of a caller's scopes and a target's.

use axum::http::StatusCode;
use martlet_api::{ApiKey, Settings};
use martlet_control::principal::{Role, Scope, Scopes};
use serde_json::{Value, json};

use crate::node::{Node, with_keys};
use crate::registry::{TemporaryDirectory, done, send};

const ADMINISTRATOR: &str = crate::node::KEY;

/// Sets of scopes: each scope alone, and all but each.
fn sets() -> Vec<Scopes> {
    let alone = Scope::ALL.iter().map(|scope| [*scope].into());
    let all_but = Scope::ALL.iter().map(|left_out| {
        let others = Scope::ALL.iter().filter(|scope| *scope != left_out);
        others.copied().collect()
    });
    let both = [Scopes::all(), Scopes::NONE].into_iter();
    alone.chain(all_but).chain(both).collect()
}

/// A caller with each set of scopes, and the scope that the route asks for.
fn callers(route: Scope) -> Vec<(String, Scopes)> {
    let number = |(number, scopes): (usize, Scopes)| {
        let name = format!("0123456789abcdef-{number}");
        (name, scopes.or([route].into()))
    };
    sets().into_iter().enumerate().map(number).collect()
}

fn node_with(callers: &[(String, Scopes)], place: &TemporaryDirectory) -> Node {
    let mut settings: Settings = with_keys();
    let keys = callers
        .iter()
        .map(|(key, scopes)| ApiKey::new(key.clone(), key, *scopes));
    settings.keys.extend(keys);
    Node::with_tables(settings, &place.0)
}

fn is_within(target: Scopes, caller: Scopes) -> bool {
    target.and(caller) == target
}

async fn administrator(node: &Node, method: &str, target: &str, body: &Value) -> Value {
    done(node, ADMINISTRATOR, method, target, body).await
}

/// Asks, and expects success or 403.
async fn expect(
    node: &Node,
    (key, has): &(String, Scopes),
    (method, target, body): (&str, &str, &Value),
    rights: Scopes,
) -> bool {
    let answer = send(node, key, method, target, body).await;
    let may = is_within(rights, *has);
    let description = format!("{has:?} does {method} {target} {body} to {rights:?}: {answer:?}");
    match may {
        true => assert!(answer.status.is_success(), "{description}"),
        false => assert_eq!(answer.status, StatusCode::FORBIDDEN, "{description}"),
    }
    may
}

#[tokio::test]
async fn keys_are_added_changed_and_revoked_by_who_has_their_scopes() {
    let place = TemporaryDirectory::new();
    let callers = callers(Scope::KeysWrite);
    let node = node_with(&callers, &place);
    let scopes = Scope::ALL.len();
    for (number, target) in sets().into_iter().enumerate() {
        // Who has just as much, another scope, all but this one, everything, nothing.
        let others = [
            number,
            number + 1,
            number + scopes,
            2 * scopes,
            2 * scopes + 1,
        ];
        let callers = others.map(|at| &callers[at % callers.len()]);
        let body = json!({ "name": "target", "scopes": target.names() });
        let few = json!({ "name": "target", "scopes": [] });
        let make = || administrator(&node, "POST", "/api/v1/keys", &body);
        let mut path = format!("/api/v1/keys/{}", make().await["id"].as_str().unwrap());
        for caller in callers {
            expect(&node, caller, ("POST", "/api/v1/keys", &body), target).await;
            if expect(&node, caller, ("PUT", &path, &few), target).await {
                // It has nothing now, and is given all of it again.
                expect(&node, caller, ("PUT", &path, &body), target).await;
            }
            if expect(&node, caller, ("DELETE", &path, &few), target).await {
                path = format!("/api/v1/keys/{}", make().await["id"].as_str().unwrap());
            }
        }
    }
}

/// Checks what can be done to users, with what the user has to be before.
async fn expect_of_user(node: &Node, caller: &(String, Scopes), name: &str, rights: Scopes) {
    let path = format!("/api/v1/users/{name}");
    let of = |last: &str| format!("{path}/{last}");
    let password = json!({ "password": "another horse" });
    let key = json!({ "name": "theirs", "scopes": [], "owner": name });
    expect(node, caller, ("POST", "/api/v1/keys", &key), rights).await;
    expect(node, caller, ("PUT", &of("password"), &password), rights).await;
    let change = json!({ "full_name": "Target" });
    expect(node, caller, ("PATCH", &path, &change), rights).await;
    let is_deleted = expect(node, caller, ("DELETE", &path, &Value::Null), rights).await;
    if !is_deleted {
        administrator(node, "DELETE", &path, &Value::Null).await;
    }
    let restore = of("restore");
    if !expect(node, caller, ("POST", &restore, &Value::Null), rights).await {
        administrator(node, "POST", &restore, &Value::Null).await;
    }
    if !is_within(rights, caller.1) {
        expect(node, caller, ("POST", &of("purge"), &Value::Null), rights).await;
    }
}

#[tokio::test]
async fn users_are_changed_and_have_keys_made_by_who_has_their_rights() {
    let place = TemporaryDirectory::new();
    let both: Scopes = [Scope::UsersWrite, Scope::KeysWrite].into();
    let callers: Vec<_> = callers(Scope::UsersWrite)
        .into_iter()
        .map(|(name, scopes)| (name, scopes.or(both)))
        .collect();
    let node = node_with(&callers, &place);
    let topics = json!({ "name": "reader", "rules": ["topic read #"] });
    administrator(&node, "POST", "/api/v1/roles", &topics).await;
    let team = json!({ "name": "north", "owns_tenant": true });
    administrator(&node, "POST", "/api/v1/teams", &team).await;
    let messages: Scopes = [Scope::MessagesRead, Scope::MessagesWrite].into();
    let of_team = Role::Operator.scopes().and(Scopes::of_any_team());
    let targets = [
        ("nobody", "none", "none", Scopes::NONE),
        ("talks", "none", "user", messages),
        ("reads", "none", "reader", [Scope::MessagesRead].into()),
        ("views", "viewer", "none", Role::Viewer.scopes()),
        ("operates", "operator", "none", Role::Operator.scopes()),
        ("rules", "administrator", "none", Scopes::all()),
        ("owns", "none", "administrator", Scopes::all()),
        ("member", "none", "none", of_team),
    ];
    for (name, api_role, role, rights) in targets {
        let body = json!({ "name": name, "password": "correct horse", "api_role": api_role,
            "role": role });
        for caller in &callers {
            let rights = if name == "member" {
                Scopes::NONE
            } else {
                rights
            };
            if expect(&node, caller, ("POST", "/api/v1/users", &body), rights).await {
                let path = format!("/api/v1/users/{name}/purge");
                administrator(&node, "POST", &path, &Value::Null).await;
            }
        }
        administrator(&node, "POST", "/api/v1/users", &body).await;
        let path = format!("/api/v1/teams/north/members/{name}");
        let operator = json!({ "role": "operator" });
        if name == "member" {
            administrator(&node, "PUT", &path, &operator).await;
        }
        // Each of them takes four hashes of passwords: a sample is enough here.
        for caller in callers.iter().step_by(3) {
            expect_of_user(&node, caller, name, rights).await;
        }
    }
}

#[tokio::test]
async fn memberships_are_given_and_taken_by_who_has_their_rights() {
    let place = TemporaryDirectory::new();
    let callers = callers(Scope::UsersWrite);
    let node = node_with(&callers, &place);
    let team = json!({ "name": "north", "owns_tenant": true });
    administrator(&node, "POST", "/api/v1/teams", &team).await;
    let body = json!({ "name": "ann", "password": "correct horse", "role": "none" });
    administrator(&node, "POST", "/api/v1/users", &body).await;
    let path = "/api/v1/teams/north/members/ann";
    for role in Role::ALL {
        let rights = role.scopes().and(Scopes::of_any_team());
        let given = json!({ "role": role.name() });
        let none = json!({ "role": "none" });
        for caller in &callers {
            expect(&node, caller, ("PUT", path, &given), rights).await;
            administrator(&node, "PUT", path, &given).await;
            expect(&node, caller, ("PUT", path, &none), rights).await;
            administrator(&node, "PUT", path, &given).await;
            expect(&node, caller, ("DELETE", path, &Value::Null), rights).await;
            administrator(&node, "PUT", path, &none).await;
        }
    }
}

#[tokio::test]
async fn a_team_goes_and_comes_with_its_keys_and_members_rights() {
    let place = TemporaryDirectory::new();
    let callers = callers(Scope::UsersWrite);
    let node = node_with(&callers, &place);
    let team = json!({ "name": "north", "owns_tenant": true });
    let created = administrator(&node, "POST", "/api/v1/teams", &team).await;
    let key = json!({ "name": "k", "scopes": ["messages:read"], "team": "north" });
    administrator(&node, "POST", "/api/v1/keys", &key).await;
    let body = json!({ "name": "ann", "password": "correct horse", "role": "none" });
    administrator(&node, "POST", "/api/v1/users", &body).await;
    let member = json!({ "role": "viewer" });
    administrator(&node, "PUT", "/api/v1/teams/north/members/ann", &member).await;
    let path = format!("/api/v1/teams/{}", created["id"].as_str().unwrap());
    let restore = format!("{path}/restore");
    let viewer = Role::Viewer.scopes().and(Scopes::of_any_team());
    let own = [Scope::DevicesWrite, Scope::KeysWrite, Scope::MessagesRead];
    let rights = viewer.or(own.into());
    for caller in &callers {
        if !expect(&node, caller, ("DELETE", &path, &Value::Null), rights).await {
            administrator(&node, "DELETE", &path, &Value::Null).await;
        }
        if !expect(&node, caller, ("POST", &restore, &Value::Null), rights).await {
            administrator(&node, "POST", &restore, &Value::Null).await;
        }
    }
}

#[tokio::test]
async fn rules_are_given_and_taken_by_who_has_what_they_permit() {
    let place = TemporaryDirectory::new();
    let callers = callers(Scope::AclWrite);
    let node = node_with(&callers, &place);
    let rights = [
        ("pattern readwrite d/%u/#", Scopes::NONE),
        ("topic deny #", Scopes::NONE),
        ("topic read a/#", [Scope::MessagesRead].into()),
        ("topic write a/#", [Scope::MessagesWrite].into()),
        (
            "topic readwrite a/#",
            [Scope::MessagesRead, Scope::MessagesWrite].into(),
        ),
    ];
    administrator(&node, "POST", "/api/v1/groups", &json!({ "name": "hall" })).await;
    let both: Scopes = [Scope::MessagesRead, Scope::MessagesWrite].into();
    for (rule, rights) in rights {
        for kind in ["roles", "device-types"] {
            let of_rule = rights;
            // Callers that may name users choose which name `%u` is.
            let rights_for = |has: Scopes| {
                let is_any_name = kind == "roles" && rule.contains("%u");
                match is_any_name && has.has(Scope::UsersWrite) {
                    true => both,
                    false => of_rule,
                }
            };
            let (all, one) = (format!("/api/v1/{kind}"), format!("/api/v1/{kind}/target"));
            let body = json!({ "name": "target", "rules": [rule] });
            let given = json!({ "rules": [rule] });
            let none = json!({ "rules": [] });
            let (single, first) = (format!("{one}/rules"), json!({ "rule": rule }));
            let typed = rule
                .replace('%', "%25")
                .replace(' ', "%20")
                .replace('#', "%23");
            let this = format!("{single}?rule={typed}");
            for caller in &callers {
                let rights = rights_for(caller.1);
                if !expect(&node, caller, ("POST", &all, &body), rights).await {
                    administrator(&node, "POST", &all, &body).await;
                }
                if expect(&node, caller, ("PUT", &one, &none), rights).await {
                    if expect(&node, caller, ("POST", &single, &first), rights).await {
                        expect(&node, caller, ("DELETE", &this, &Value::Null), rights).await;
                    }
                    expect(&node, caller, ("PUT", &one, &given), rights).await;
                }
                if !expect(&node, caller, ("DELETE", &one, &Value::Null), rights).await {
                    administrator(&node, "DELETE", &one, &Value::Null).await;
                }
            }
        }
        let path = "/api/v1/groups/hall/rules";
        let (given, none) = (json!({ "rules": [rule] }), json!({ "rules": [] }));
        let of_group = callers.iter();
        for caller in of_group.filter(|(_, has)| has.has(Scope::DevicesWrite)) {
            expect(&node, caller, ("PUT", path, &given), rights).await;
            administrator(&node, "PUT", path, &given).await;
            expect(&node, caller, ("PUT", path, &none), rights).await;
            administrator(&node, "PUT", path, &none).await;
        }
    }
}

#[tokio::test]
async fn provisioning_keys_are_added_and_revoked_by_who_adds_devices() {
    let place = TemporaryDirectory::new();
    let callers = callers(Scope::KeysWrite);
    let node = node_with(&callers, &place);
    let body = json!({ "name": "line" });
    let rights = [Scope::DevicesWrite].into();
    for caller in &callers {
        let created = administrator(&node, "POST", "/api/v1/provisioning-keys", &body).await;
        expect(
            &node,
            caller,
            ("POST", "/api/v1/provisioning-keys", &body),
            rights,
        )
        .await;
        let path = format!(
            "/api/v1/provisioning-keys/{}",
            created["id"].as_str().unwrap()
        );
        expect(&node, caller, ("DELETE", &path, &Value::Null), rights).await;
    }
}

#[tokio::test]
async fn who_names_users_gives_no_role_with_their_names_beyond_its_rights() {
    let place = TemporaryDirectory::new();
    let callers: Vec<_> = callers(Scope::UsersWrite);
    let node = node_with(&callers, &place);
    let role = json!({ "name": "own", "rules": ["pattern readwrite %u/#"] });
    administrator(&node, "POST", "/api/v1/roles", &role).await;
    let rights: Scopes = [Scope::MessagesRead, Scope::MessagesWrite].into();
    let user =
        |name: &str, role: &str| json!({ "name": name, "role": role, "password": "longlonglong" });
    administrator(&node, "POST", "/api/v1/users", &user("there", "none")).await;
    for (number, caller) in callers.iter().enumerate() {
        let new = user(&format!("plant{number}"), "own");
        expect(&node, caller, ("POST", "/api/v1/users", &new), rights).await;
        let change = json!({ "role": "own" });
        let path = "/api/v1/users/there";
        if expect(&node, caller, ("PATCH", path, &change), rights).await {
            administrator(&node, "PATCH", path, &json!({ "role": "none" })).await;
        }
    }
}

#[tokio::test]
async fn users_are_banned_by_who_has_their_rights() {
    let place = TemporaryDirectory::new();
    let callers = callers(Scope::ClientsWrite);
    let node = node_with(&callers, &place);
    for (name, api_role, rights) in [
        ("nobody", "none", Scopes::NONE),
        ("views", "viewer", Role::Viewer.scopes()),
        ("rules", "administrator", Scopes::all()),
    ] {
        let user = json!({ "name": name, "password": "correct horse", "api_role": api_role,
            "role": "none" });
        administrator(&node, "POST", "/api/v1/users", &user).await;
        let ban = json!({ "kind": "user_name", "value": name });
        for caller in &callers {
            expect(&node, caller, ("POST", "/api/v1/bans", &ban), rights).await;
        }
    }
    // An address belongs to no user.
    let ban = json!({ "kind": "address", "value": "192.0.2.7" });
    for caller in &callers {
        expect(&node, caller, ("POST", "/api/v1/bans", &ban), Scopes::NONE).await;
    }
}
