//! Commands of remedies, and the request of the API that does the same.
//!
//! A placeholder in a path or body is the number of a word of the command, such as `{0}`, or the
//! name of an option, such as `{--type}`. A row is for the commands that have all of its
//! placeholders; the first one decides.

/// A command and its request.
pub(super) struct Request {
    /// The command, without its words and options.
    pub(super) command: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// JSON; empty: the request has no body.
    pub(super) body: &'static str,
}

/// Rows without a body.
const fn bare(command: &'static str, method: &'static str, path: &'static str) -> Request {
    with_body(command, method, path, "")
}

const fn with_body(
    command: &'static str,
    method: &'static str,
    path: &'static str,
    body: &'static str,
) -> Request {
    Request {
        command,
        method,
        path,
        body,
    }
}

/// Requests that change something.
pub(super) const CHANGES: &[Request] = &[
    bare("alarm clear", "POST", "/api/v1/alarms/{0}/clear"),
    bare("alarm unshelve", "POST", "/api/v1/alarms/{0}/unshelve"),
    bare("ban rm", "DELETE", "/api/v1/bans/{0}"),
    bare(
        "command cancel",
        "DELETE",
        "/api/v1/devices/{--device}/commands/{0}",
    ),
    bare(
        "command retry",
        "POST",
        "/api/v1/devices/{--device}/commands/{0}/retry",
    ),
    with_body("device add", "POST", "/api/v1/devices", r#"{"id": {0}}"#),
    bare("device restore", "POST", "/api/v1/devices/{0}/restore"),
    bare("device rotate", "POST", "/api/v1/devices/{0}/rotate"),
    with_body(
        "device set",
        "PATCH",
        "/api/v1/devices/{0}",
        r#"{"type": {--type}}"#,
    ),
    with_body(
        "device set",
        "PATCH",
        "/api/v1/devices/{0}",
        r#"{"team": {--to-team}}"#,
    ),
    with_body(
        "device set",
        "PATCH",
        "/api/v1/devices/{0}",
        r#"{"status": {--status}}"#,
    ),
    with_body(
        "device twin",
        "PATCH",
        "/api/v1/devices/{0}/twin/desired",
        "{=--set}",
    ),
    with_body(
        "group member add",
        "POST",
        "/api/v1/groups/{0}/devices",
        r#"{"devices": [{1}]}"#,
    ),
    bare(
        "integration dead-letter send",
        "POST",
        "/api/v1/integrations/{:0}/dead-letters/send-again",
    ),
    bare(
        "integration resume",
        "POST",
        "/api/v1/integrations/{:0}/resume",
    ),
    with_body(
        "key add",
        "POST",
        "/api/v1/keys",
        r#"{"name": {0}, "scopes": [{*--scope}]}"#,
    ),
    bare("lockout rm", "DELETE", "/api/v1/lockouts?address={@0}"),
    bare("lockout rm", "DELETE", "/api/v1/lockouts?user_name={0}"),
    bare("retained rm", "DELETE", "/api/v1/retained/{/0}"),
    bare("rollout resume", "POST", "/api/v1/rollouts/{0}/resume"),
    with_body(
        "rule on",
        "PATCH",
        "/api/v1/rules/{0}",
        r#"{"enabled": true}"#,
    ),
    bare("session rm", "DELETE", "/api/v1/sessions/{0}"),
    bare("team restore", "POST", "/api/v1/teams/{0}/restore"),
    with_body(
        "team token add",
        "POST",
        "/api/v1/teams/{0}/tokens",
        r#"{"name": {1}}"#,
    ),
    bare(
        "team token restore",
        "POST",
        "/api/v1/teams/{0}/tokens/{1}/restore",
    ),
    bare("user restore", "POST", "/api/v1/users/{0}/restore"),
    with_body(
        "user set",
        "PATCH",
        "/api/v1/users/{0}",
        r#"{"api_role": {--api-role}}"#,
    ),
    with_body(
        "user set",
        "PATCH",
        "/api/v1/users/{0}",
        r#"{"role": {--role}}"#,
    ),
    with_body(
        "user set --enable",
        "PATCH",
        "/api/v1/users/{0}",
        r#"{"enabled": true}"#,
    ),
];

/// Requests that show or test something.
pub(super) const VIEWS: &[Request] = &[
    bare("alarm ls", "GET", "/api/v1/alarms"),
    bare("ban ls", "GET", "/api/v1/bans"),
    bare("client ls", "GET", "/api/v1/clients"),
    bare(
        "command show",
        "GET",
        "/api/v1/devices/{--device}/commands/{0}",
    ),
    bare(
        "command show",
        "GET",
        "/api/v1/groups/{--group}/commands/{0}",
    ),
    bare("device ls", "GET", "/api/v1/devices"),
    bare("device twin", "GET", "/api/v1/devices/{0}/twin"),
    bare("firmware ls", "GET", "/api/v1/firmware"),
    bare("group desired", "GET", "/api/v1/groups/{0}/twin/desired"),
    bare("group ls", "GET", "/api/v1/groups"),
    bare(
        "integration dead-letter ls",
        "GET",
        "/api/v1/integrations/{:0}/dead-letters",
    ),
    bare("integration ls", "GET", "/api/v1/integrations"),
    bare("integration show", "GET", "/api/v1/integrations/{:0}"),
    bare("integration test", "POST", "/api/v1/integrations/{:0}/test"),
    bare("key ls", "GET", "/api/v1/keys"),
    bare("lockout ls", "GET", "/api/v1/lockouts"),
    bare("provision ls", "GET", "/api/v1/provisioning-keys"),
    bare("retained ls", "GET", "/api/v1/retained"),
    bare("rollout devices", "GET", "/api/v1/rollouts/{0}/devices"),
    bare("rollout ls", "GET", "/api/v1/rollouts"),
    bare("rollout show", "GET", "/api/v1/rollouts/{0}"),
    bare("rule ls", "GET", "/api/v1/rules"),
    bare("rule show", "GET", "/api/v1/rules/{0}"),
    bare("secret ls", "GET", "/api/v1/secrets"),
    bare("session ls", "GET", "/api/v1/sessions"),
    bare("team ls", "GET", "/api/v1/teams"),
    bare("why", "GET", "/api/v1/why?name={0}"),
];
