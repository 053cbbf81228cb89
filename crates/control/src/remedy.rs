//! Remedies for a problem: the command and the request of the API that do it, the key of the
//! configuration that is to be changed, or that it is not the node that can do something.

mod command;
pub mod form;
mod tables;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use command::{Command, RemedyKind};
use form::CommandForm;
pub use tables::{in_commands, in_requests};

/// Remedy for a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FaultRemedy)]
pub struct Remedy {
    /// Kind of the remedy.
    pub kind: RemedyKind,
    /// Text about what to do, or about what the command does.
    pub sentence: String,
    /// Method of the request. That of a `command` needs a body, which the caller has to make.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "DELETE")]
    pub method: Option<String>,
    /// Path of the request, with its query. A PATCH needs the header If-Match.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "/api/v1/bans/b7")]
    pub path: Option<String>,
    /// Body of the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<serde_json::Value>,
    /// The command that does the same, ready for a shell on the node's machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command: Option<String>,
    /// Key of the configuration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "limits.packet_bytes")]
    pub configuration: Option<String>,
}

/// Sections of the configuration whose keys remedies name.
const SECTIONS: [&str; 14] = [
    "auth",
    "events",
    "feed",
    "http",
    "integrations",
    "iotflow",
    "limits",
    "listeners",
    "mqtt",
    "node",
    "presence",
    "registry",
    "store",
    "telemetry",
];

impl Remedy {
    /// Remedies that a sentence names, and that of the command that belongs to it.
    pub(crate) fn all(sentence: Option<&str>, command: Option<&Command>) -> Vec<Self> {
        let text = sentence.unwrap_or_default();
        let mut found: Vec<Self> = Vec::new();
        found.extend(command.map(|command| Self::of_command(text, command)));
        for key in keys_in(text) {
            let mut known = found.iter();
            if !known.any(|one| one.configuration.as_deref() == Some(key)) {
                found.push(Self {
                    configuration: Some(key.to_owned()),
                    ..Self::new(RemedyKind::Configuration, text)
                });
            }
        }
        if found.is_empty() && !text.is_empty() {
            found.push(Self::new(RemedyKind::Elsewhere, text));
        }
        found
    }

    /// Remedies of a warning, which has commands between grave accents. `node` has the options that
    /// select the node.
    pub(crate) fn of_warning(warning: &str, node: &str) -> Vec<Self> {
        let mut quoted = warning.split('`').skip(1).step_by(2);
        let command = quoted.find(|text| text.starts_with("martlet "));
        let command = command.map(|line| {
            let read = CommandForm::read(line, node);
            read.unwrap_or_else(|| Command::from(with_options(line, node)))
        });
        Self::all(Some(warning), command.as_ref())
    }

    fn new(kind: RemedyKind, sentence: &str) -> Self {
        Self {
            kind,
            sentence: sentence.to_owned(),
            method: None,
            path: None,
            body: None,
            command: None,
            configuration: None,
        }
    }

    fn of_command(sentence: &str, command: &Command) -> Self {
        let request = command.request();
        let kind = request.map_or(RemedyKind::Command, |request| request.kind);
        Self {
            method: request.map(|request| request.method.to_owned()),
            path: request.map(|request| request.path.clone()),
            body: request.and_then(|request| request.body.clone()),
            command: Some(command.to_string()),
            ..Self::new(kind, sentence)
        }
    }
}

/// A command with the options that select the node behind its words.
fn with_options(line: &str, node: &str) -> String {
    let is_letter = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let is_word = |word: &&&str| !word.starts_with('-') && word.chars().all(is_letter);
    let mut words: Vec<&str> = line.split(' ').collect();
    if !node.is_empty() {
        words.insert(words.iter().take_while(is_word).count(), node);
    }
    words.join(" ")
}

/// Keys of the configuration that a sentence names.
fn keys_in(sentence: &str) -> impl Iterator<Item = &str> {
    let is_in_key = |letter: char| letter.is_ascii_alphanumeric() || "._".contains(letter);
    let words = sentence.split(move |letter: char| !is_in_key(letter));
    let words = words.map(|word| word.trim_matches('.'));
    words.filter(|word| {
        let key = word.split_once('.');
        key.is_some_and(|(section, key)| SECTIONS.contains(&section) && !key.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::form::{self, Given};
    use super::*;

    fn command(form: CommandForm, team: &str, values: &[&str]) -> Command {
        let node = "--data-dir /d";
        form.command(Given { node, team, values })
            .expect("it can be typed")
    }

    #[test]
    fn a_command_is_the_request_that_does_the_same() {
        for (command, line, method, path, body) in [
            (
                command(form::BAN_RM, "", &["b7"]),
                "martlet ban rm --data-dir /d b7",
                "DELETE",
                "/api/v1/bans/b7",
                "",
            ),
            (
                command(form::DEVICE_TYPE, "a/b", &["-d1", "x y"]),
                "martlet device set --data-dir /d --team=a/b --type='x y' -- -d1",
                "PATCH",
                "/api/v1/devices/-d1?team=a%2Fb",
                r#"{"type":"x y"}"#,
            ),
            (
                command(form::INTEGRATION_RESUME, "", &["webhook/north/main"]),
                "martlet integration resume --data-dir /d webhook/north/main",
                "POST",
                "/api/v1/integrations/webhook/north%2Fmain/resume",
                "",
            ),
            (
                command(form::DEVICE_TWIN_SET, "", &["d1", r#"{"a":null}"#]),
                "martlet device twin --data-dir /d --set='{\"a\":null}' d1",
                "PATCH",
                "/api/v1/devices/d1/twin/desired",
                r#"{"a":null}"#,
            ),
            (
                command(form::LOCKOUT_RM_NAME, "t", &["ann"]),
                "martlet lockout rm --data-dir /d --team=t ann",
                "DELETE",
                "/api/v1/lockouts?user_name=ann&team=t",
                "",
            ),
            (
                command(form::KEY_ADD, "", &["k", "a", "b"]),
                "martlet key add --data-dir /d --scope=a --scope=b k",
                "POST",
                "/api/v1/keys",
                r#"{"name":"k","scopes":["a","b"]}"#,
            ),
        ] {
            assert_eq!(&*command, line);
            let all = Remedy::all(Some("do it"), Some(&command));
            let [one] = &*all else { panic!("{all:?}") };
            assert_eq!(one.kind, RemedyKind::Request, "{line}");
            let of = (one.method.as_deref(), one.path.as_deref());
            assert_eq!(of, (Some(method), Some(path)), "{line}");
            let found = one.body.as_ref().map(ToString::to_string);
            assert_eq!(found.unwrap_or_default(), body, "{line}");
        }
    }

    #[test]
    fn no_request_has_a_path_that_clients_of_http_change() {
        for topic in ["d/x/../../devices/pump", "a/./b", ".."] {
            let remove = command(form::RETAINED_RM, "", &[topic]);
            assert_eq!(
                &*remove,
                format!("martlet retained rm --data-dir /d {topic}")
            );
            assert_eq!(
                Remedy::all(None, Some(&remove))[0].kind,
                RemedyKind::Command
            );
        }
        let remove = command(form::RETAINED_RM, "", &["a/.../b"]);
        assert_eq!(
            Remedy::all(None, Some(&remove))[0].kind,
            RemedyKind::Request
        );
    }

    #[test]
    fn an_option_without_a_value_is_left_out() {
        let add = command(form::USER_ADD, "", &["ann", "", "ROLE"]);
        assert_eq!(&*add, "martlet user add --data-dir /d --role=ROLE ann");
        assert_eq!(Remedy::all(None, Some(&add))[0].kind, RemedyKind::Command);
    }

    #[test]
    fn what_is_no_request_is_a_key_or_is_done_elsewhere() {
        let kinds = |all: Vec<Remedy>| all.iter().map(|one| one.kind).collect::<Vec<_>>();
        let raise = "raise limits.packet_bytes and restart the node";
        let all = Remedy::all(Some(raise), None);
        assert_eq!(kinds(all), [RemedyKind::Configuration]);
        let all = Remedy::all(Some("set its clock"), None);
        assert_eq!(kinds(all), [RemedyKind::Elsewhere]);
        let resume = Remedy::of_warning("`martlet integration resume file/audit` resumes it", "");
        assert_eq!(
            resume[0].path.as_deref(),
            Some("/api/v1/integrations/file/audit/resume")
        );
        let list = Remedy::of_warning("`martlet client ls` lists them", "");
        assert_eq!(kinds(list), [RemedyKind::View]);
        for (warning, expected) in [
            (
                "`martlet client ls` lists",
                "martlet client ls --data-dir /d",
            ),
            ("`martlet logs -t` shows", "martlet logs --data-dir /d -t"),
            ("`martlet why NAME` shows", "martlet why --data-dir /d NAME"),
        ] {
            let all = Remedy::of_warning(warning, "--data-dir /d");
            assert_eq!(all[0].command.as_deref(), Some(expected));
        }
        let reload = Remedy::of_warning("run `martlet reload`", "");
        assert_eq!(kinds(reload), [RemedyKind::Command]);
        assert_eq!(Remedy::all(None, None), []);
    }
}
