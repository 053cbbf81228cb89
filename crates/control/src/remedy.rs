//! What is to be done about a problem, for programs: the request of the API that does it, the key
//! of the configuration that is to be changed, or that it is not the node that can do something.

mod commands;
mod line;
mod requests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use line::Line;
use requests::{CHANGES, Request, VIEWS};

use crate::text;

/// What kind of remedy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FaultRemedyKind)]
pub enum RemedyKind {
    /// A request that removes the problem.
    Request,
    /// A request that shows more, or tests whether the problem is over.
    View,
    /// A command of the program that is no single request.
    Command,
    /// A key of the configuration has to be changed.
    Configuration,
    /// It has to be done elsewhere, such as at the client: the node can do nothing.
    Elsewhere,
}

/// What is to be done about a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FaultRemedy)]
pub struct Remedy {
    /// What kind of remedy it is.
    pub kind: RemedyKind,
    /// What to do, in words.
    pub sentence: String,
    /// Method of the request.
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
const SECTIONS: [&str; 12] = [
    "auth",
    "events",
    "feed",
    "http",
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
    pub fn all(sentence: Option<&str>, command: Option<&str>) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let text = sentence.unwrap_or_default();
        found.extend(command.map(|command| Self::by_command(text, command)));
        for key in keys_in(text) {
            let is_known = found
                .iter()
                .any(|one| one.configuration.as_deref() == Some(key));
            if !is_known {
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

    /// Those of a warning, which has commands between grave accents.
    pub(crate) fn of_warning(warning: &str) -> Vec<Self> {
        let mut quoted = warning.split('`').skip(1).step_by(2);
        Self::all(
            Some(warning),
            quoted.find(|text| text.starts_with("martlet ")),
        )
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

    fn by_command(sentence: &str, command: &str) -> Self {
        let line = Line::parse(command);
        let request = |all: &[Request]| all.iter().find_map(|one| filled(one, line.as_ref()?));
        let change = request(CHANGES).map(|request| (RemedyKind::Request, request));
        let found = change.or_else(|| Some((RemedyKind::View, request(VIEWS)?)));
        let command = Some(command.to_owned());
        match found {
            None => Self {
                command,
                ..Self::new(RemedyKind::Command, sentence)
            },
            Some((kind, (method, path, body))) => Self {
                method: Some(method.to_owned()),
                path: Some(path),
                body,
                command,
                ..Self::new(kind, sentence)
            },
        }
    }
}

/// Method, path and body of a request.
type Filled = (&'static str, String, Option<serde_json::Value>);

/// The request with what the command line gives; none: it is that of another command.
fn filled(request: &Request, line: &Line) -> Option<Filled> {
    let words = line.behind(request.command)?;
    let mut path = with_values(request.path, |name| path_value(name, words, line))?;
    if let Some(team) = line.value("--team").filter(|_| request.body != "{=--set}") {
        let begin = if path.contains('?') { '&' } else { '?' };
        path.push_str(&format!("{begin}team={}", text::in_path(team)));
    }
    let body = match request.body {
        "" => None,
        body => {
            let text = with_values(body, |name| in_body(name, words, line))?;
            Some(serde_json::from_str(&text).ok()?)
        }
    };
    Some((request.method, path, body))
}

/// A template with its placeholders replaced; none: one has no value. Braces of JSON are no
/// placeholders.
fn with_values(template: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, behind)) = rest.split_once('{') {
        text.push_str(before);
        let name = behind.split_once('}').map(|(name, _)| name);
        let is_name = |name: &&str| !name.is_empty() && !name.contains([' ', '"', '{']);
        match name.filter(is_name) {
            Some(name) => {
                text.push_str(&value(name)?);
                rest = &behind[name.len() + 1..];
            }
            None => {
                text.push('{');
                rest = behind;
            }
        }
    }
    Some(text + rest)
}

/// `{0}` is a word, `{/0}` one whose slashes stay, `{:0}` the kind and name of an integration, whose
/// name may have a slash, and `{@0}` an IP address.
fn path_value(name: &str, words: &[String], line: &Line) -> Option<String> {
    let word = |number: &str| words.get(number.parse::<usize>().ok()?);
    if let Some(number) = name.strip_prefix('/') {
        let segments = word(number)?.split('/').map(text::in_path);
        return Some(segments.collect::<Vec<_>>().join("/"));
    }
    if let Some(number) = name.strip_prefix(':') {
        let (kind, name) = word(number)?.split_once('/')?;
        return Some(format!("{}/{}", text::in_path(kind), text::in_path(name)));
    }
    if let Some(number) = name.strip_prefix('@') {
        return Some(word(number)?.parse::<IpAddr>().ok()?.to_string());
    }
    let value = match name.starts_with("--") {
        true => line.value(name)?,
        false => word(name)?,
    };
    Some(text::in_path(value))
}

/// `{0}` and `{--type}` are texts of JSON, `{*--scope}` several, and `{=--set}` is JSON itself.
fn in_body(name: &str, words: &[String], line: &Line) -> Option<String> {
    let json = |text: &str| serde_json::to_string(text).ok();
    if let Some(option) = name.strip_prefix('*') {
        let all: Option<Vec<String>> = line.values(option).map(json).collect();
        return Some(all?.join(", "));
    }
    if let Some(option) = name.strip_prefix('=') {
        return line.value(option).map(str::to_owned);
    }
    match name.starts_with("--") {
        true => json(line.value(name)?),
        false => json(words.get(name.parse::<usize>().ok()?)?),
    }
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
    use super::*;

    #[test]
    fn a_command_is_the_request_that_does_the_same() {
        for (command, method, path, body) in [
            ("martlet ban rm b7", "DELETE", "/api/v1/bans/b7", ""),
            (
                "martlet device set --data-dir /d --team=a/b --type='x y' d1",
                "PATCH",
                "/api/v1/devices/d1?team=a%2Fb",
                r#"{"type":"x y"}"#,
            ),
            (
                "martlet integration resume file/audit",
                "POST",
                "/api/v1/integrations/file/audit/resume",
                "",
            ),
            (
                "martlet integration resume webhook/north/main",
                "POST",
                "/api/v1/integrations/webhook/north%2Fmain/resume",
                "",
            ),
            (
                "martlet device twin --set '{\"a\":null}' d1",
                "PATCH",
                "/api/v1/devices/d1/twin/desired",
                r#"{"a":null}"#,
            ),
            (
                "martlet lockout rm ann",
                "DELETE",
                "/api/v1/lockouts?user_name=ann",
                "",
            ),
            (
                "martlet lockout rm 192.0.2.7",
                "DELETE",
                "/api/v1/lockouts?address=192.0.2.7",
                "",
            ),
            (
                "martlet key add --scope=a --scope=b k",
                "POST",
                "/api/v1/keys",
                r#"{"name":"k","scopes":["a","b"]}"#,
            ),
        ] {
            let all = Remedy::all(Some("do it"), Some(command));
            let [one] = &*all else { panic!("{all:?}") };
            assert_eq!(one.kind, RemedyKind::Request, "{command}");
            let of = (one.method.as_deref(), one.path.as_deref());
            assert_eq!(of, (Some(method), Some(path)), "{command}");
            let found = one.body.as_ref().map(ToString::to_string);
            assert_eq!(found.unwrap_or_default(), body, "{command}");
        }
    }

    #[test]
    fn what_is_no_request_is_a_key_or_is_done_elsewhere() {
        let kinds = |sentence, command| {
            let all = Remedy::all(Some(sentence), command);
            all.iter().map(|one| one.kind).collect::<Vec<_>>()
        };
        let raise = "raise limits.packet_bytes and restart the node";
        assert_eq!(kinds(raise, None), [RemedyKind::Configuration]);
        assert_eq!(kinds("set its clock", None), [RemedyKind::Elsewhere]);
        let reload = Some("martlet reload");
        assert_eq!(kinds("reload it", reload), [RemedyKind::Command]);
        let show = Some("martlet rule show hot");
        assert_eq!(kinds("see it", show), [RemedyKind::View]);
        assert_eq!(Remedy::all(None, None), []);
    }
}
