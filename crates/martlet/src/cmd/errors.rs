//! Error texts in the terms of commands.

use martlet_control::remedy::{self, Remedy};
use martlet_control::use_cases::UseCaseError;
use martlet_registry::{RegistryError, Remedies};
use serde::Deserialize;
use serde_json::Value;

use crate::cmd::node_options::{for_node, typed_options};

/// Text of an error with its remedies, as commands for the same node.
pub(crate) fn in_commands(error: &dyn Remedies) -> String {
    remedy::in_commands(error, typed_options().trim_end())
}

/// Text of an error with its causes. The remedy for an error of the tables is a command.
pub(crate) fn error_text(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| {
        if let Some(error) = cause.downcast_ref::<UseCaseError>() {
            in_commands(error)
        } else if let Some(error) = cause.downcast_ref::<RegistryError>() {
            in_commands(error)
        } else {
            cause.to_string()
        }
    });
    for_node(&causes.collect::<Vec<_>>().join(": ")).into_owned()
}

/// Problem details of a running node, as used by commands.
#[derive(Debug, Deserialize)]
struct Details {
    detail: String,
    /// The cause, if the detail also contains the faulty field or the remedy.
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    errors: Vec<FaultyField>,
    #[serde(default)]
    remedies: Vec<Remedy>,
}

/// The place of a faulty field.
#[derive(Debug, Deserialize)]
struct FaultyField {
    #[serde(default)]
    pointer: Option<String>,
    #[serde(default)]
    parameter: Option<String>,
}

impl FaultyField {
    /// Name of the field, or the option for it.
    fn words(&self, source: FieldSource) -> String {
        let pointer = self.pointer.as_ref().or(self.parameter.as_ref());
        let name = pointer.map_or("", |pointer| pointer.trim_start_matches('/'));
        let is_option = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        match name {
            "" => String::new(),
            name if source == FieldSource::Options && name.chars().all(is_option) => {
                format!("--{}: ", name.replace('_', "-"))
            }
            name => format!("{name}: "),
        }
    }
}

/// Where the fields of a request come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldSource {
    /// Options of the command.
    Options,
    /// A file.
    File,
}

/// Text for problem details of a running node, with options and commands in place of fields and
/// requests. `None` if these are not problem details.
pub(crate) fn in_words_of_commands(body: &str) -> Option<String> {
    let problem: Value = serde_json::from_str(body).ok()?;
    let detail = problem["detail"].as_str()?.to_owned();
    // A newer node may have remedies that are unknown to this command.
    let problem = serde_json::from_value(problem).ok();
    let worded = problem.map(|problem| worded(problem, FieldSource::Options));
    Some(worded.unwrap_or(detail))
}

/// Text for problem details of a request that was read from a file. `None` if no single field is
/// faulty.
pub(crate) fn in_words_of_files(body: &str) -> Option<String> {
    let problem: Details = serde_json::from_str(body).ok()?;
    match problem.errors.len() {
        1 => Some(worded(problem, FieldSource::File)),
        _ => None,
    }
}

/// Why a row of an import is refused, with commands in place of requests.
pub(crate) fn row_in_words_of_commands(row: &Value) -> String {
    let mut problem = row.clone();
    problem["detail"] = row["why"].clone();
    let worded = in_words_of_commands(&problem.to_string()).unwrap_or_default();
    for_node(&worded).into_owned()
}

fn worded(problem: Details, source: FieldSource) -> String {
    let Some(reason) = problem.reason else {
        return problem.detail;
    };
    let place = match &problem.errors[..] {
        [place] => place.words(source),
        _ => String::new(),
    };
    let remedies: Vec<String> = problem.remedies.iter().map(Remedy::as_command).collect();
    match remedies.is_empty() {
        true => format!("{place}{reason}"),
        false => format!("{place}{reason}: {}", remedies.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_names_options_and_commands() {
        let listed = json!([
            { "kind": "view", "sentence": "lists them", "command": "martlet device ls" },
        ]);
        let deleted = json!([
            { "kind": "request", "sentence": "restores it",
                "command": "martlet device restore d" },
            { "kind": "request", "sentence": "removes it permanently",
                "command": "martlet device rm --purge d" },
        ]);
        for (problem, text) in [
            (
                json!({ "detail": "the body: /minutes: expected 1 to 1440",
                    "reason": "expected 1 to 1440", "errors": [{ "pointer": "/minutes" }] }),
                "--minutes: expected 1 to 1440",
            ),
            (
                json!({ "detail": "the query: expires_in: expected a number",
                    "reason": "expected a number", "errors": [{ "parameter": "expires_in" }] }),
                "--expires-in: expected a number",
            ),
            (
                json!({ "detail": "the body: /items/1/limit: expected a number",
                    "reason": "expected a number", "errors": [{ "pointer": "/items/1/limit" }] }),
                "items/1/limit: expected a number",
            ),
            (
                json!({ "detail": "there is no device x: GET /api/v1/devices lists them",
                    "reason": "there is no device x", "remedies": listed }),
                "there is no device x: martlet device ls lists them",
            ),
            (
                json!({ "detail": "d was deleted: …", "reason": "d was deleted",
                    "remedies": deleted }),
                "d was deleted: martlet device restore d restores it, martlet device rm --purge d \
                 removes it permanently",
            ),
            (
                json!({ "detail": "x is missing: do this", "reason": "x is missing",
                    "remedies": [{ "kind": "something-new" }] }),
                "x is missing: do this",
            ),
            (
                json!({ "detail": "the client \"c\" is not connected",
                    "errors": [{ "parameter": "client_id" }] }),
                "the client \"c\" is not connected",
            ),
        ] {
            let found = in_words_of_commands(&problem.to_string());
            assert_eq!(found.as_deref(), Some(text));
        }
        assert_eq!(in_words_of_commands("no JSON"), None);
    }
}
