//! `martlet integration`: the integrations of a running node, and their dead letters.

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martlet_api::page::{Items, Page};
use martlet_api::{
    DeadLetterView, DroppedLetters, IntegrationTested, IntegrationView, SendingAgain,
    WholeDeadLetterView,
};
use martlet_control::text::printable;
use martlet_integrate::counted;
use serde_json::json;

use crate::cmd::admin::{AdminOptions, ask, ask_with, finish_as};
use crate::cmd::columns::{columns, cut};
use crate::cmd::listing;
use crate::cmd::node_options::{TeamOption, for_node, json_for_node};
use crate::cmd::query::encoded;

/// Additional time limit of a command or a test, which waits for a delivery.
const LONGER: Duration = Duration::from_secs(60);
/// Most dead letters in one request or page.
const IDS_MAX: usize = 1_000;
/// Characters of a topic shown in a table.
const TOPIC_SHOWN: usize = 40;

/// Arguments of `martlet integration`.
#[derive(Args, Debug)]
pub(crate) struct IntegrationCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the integrations with their states
    ///
    /// SINCE is the time at which an integration failed or was paused. DELIVERED counts from the
    /// start of the node.
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Show the state of an integration, its counters and its last error
    ///
    /// Counters begin at zero at each start of the node. The numbers of waiting messages and stored
    /// dead letters are current values.
    Show(OneOptions),
    /// Pause an integration until it is resumed. It stays paused after a restart
    Pause(OneOptions),
    /// Resume an integration that is paused or has stopped
    Resume(OneOptions),
    /// Resume an integration that has stopped at a message; the message becomes a dead letter if it
    /// is rejected again
    Skip(OneOptions),
    /// Deliver the messages that wait now, then pause the integration
    Drain(OneOptions),
    /// Test whether the target of an integration can be reached; no message is delivered
    ///
    /// Exit code 0: it can be reached. 1: it cannot, or the node does not answer.
    Test(OneOptions),
    /// List, show, send and drop messages that an integration has rejected
    #[command(subcommand)]
    DeadLetter(DeadLetterAction),
}

#[derive(Subcommand, Debug)]
enum DeadLetterAction {
    /// List dead letters, the oldest first
    ///
    /// Long topics are truncated; show and --json print them in full.
    #[command(alias = "list")]
    Ls(LettersOptions),
    /// Show a dead letter with its payload
    Show(LetterOptions),
    /// Send dead letters again; those that are accepted are removed
    ///
    /// The command does not wait for the target. If the node restarts, the remaining dead letters
    /// are sent after the restart.
    Send(ChosenOptions),
    /// Drop dead letters
    Rm(ChosenOptions),
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
}

#[derive(Args, Debug)]
struct OneOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Kind and name of the integration, such as file/audit
    #[arg(value_name = "KIND/NAME")]
    integration: IntegrationName,
}

#[derive(Args, Debug)]
struct LettersOptions {
    #[command(flatten)]
    one: OneOptions,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

#[derive(Args, Debug)]
struct LetterOptions {
    #[command(flatten)]
    one: OneOptions,
    /// Number of the dead letter
    #[arg(value_name = "ID")]
    id: u64,
}

#[derive(Args, Debug)]
struct ChosenOptions {
    #[command(flatten)]
    one: OneOptions,
    /// Numbers of the dead letters
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<u64>,
    /// All dead letters of the integration
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// Kind and name of an integration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IntegrationName {
    kind: String,
    name: String,
}

impl FromStr for IntegrationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Accepts the node's name of its session too.
        let own = text.strip_prefix("$integration/").unwrap_or(text);
        match own.split_once('/') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(Self {
                kind: kind.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(
                "expected kind and name, such as file/audit: martlet integration ls lists them"
                    .to_owned(),
            ),
        }
    }
}

impl std::fmt::Display for IntegrationName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl OneOptions {
    /// The path of the integration, followed by `rest`, with the query.
    fn path(&self, rest: &str) -> String {
        let IntegrationName { kind, name } = &self.integration;
        let (kind, name) = (encoded(kind), encoded(name));
        format!("/api/v1/integrations/{kind}/{name}{rest}")
    }

    fn target(&self, rest: &str) -> String {
        format!("{}{}", self.path(rest), self.of.query())
    }

    /// Returns the path with the query, with another parameter before the team's.
    fn target_with(&self, rest: &str, parameter: &str) -> String {
        let team = self.of.filter();
        let team = team.map_or_else(String::new, |(name, team)| {
            format!("&{name}={}", encoded(team))
        });
        format!("{}?{parameter}{team}", self.path(rest))
    }

    fn is_json(&self) -> bool {
        self.admin.json
    }
}

/// Runs `martlet integration`.
pub(crate) fn run(command: &IntegrationCommand) -> ExitCode {
    match &command.action {
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Show(options) => finish_as(options.is_json(), show(options)),
        Action::Pause(options) => finish_as(options.is_json(), act(options, "pause")),
        Action::Resume(options) => finish_as(options.is_json(), act(options, "resume")),
        Action::Skip(options) => finish_as(options.is_json(), act(options, "skip")),
        Action::Drain(options) => finish_as(options.is_json(), act(options, "drain")),
        Action::Test(options) => test(options),
        Action::DeadLetter(action) => match action {
            DeadLetterAction::Ls(options) => finish_as(options.one.is_json(), letters(options)),
            DeadLetterAction::Show(options) => finish_as(options.one.is_json(), letter(options)),
            DeadLetterAction::Send(options) => finish_as(options.one.is_json(), send(options)),
            DeadLetterAction::Rm(options) => finish_as(options.one.is_json(), remove(options)),
        },
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let target = format!("/api/v1/integrations{}", options.of.query());
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(json_for_node(&body).into_owned());
    }
    let all: Items<IntegrationView> = serde_json::from_str(&body).context("reading the answer")?;
    Ok(table(&all.items))
}

fn table(all: &[IntegrationView]) -> String {
    let rows = all.iter().map(|one| {
        let count = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
        let failure = one.failure.as_ref();
        let failing = failure.and_then(|failure| failure.since.as_deref());
        let since = one.paused_since.as_deref().or(failing);
        [
            format!("{}/{}", one.kind, one.full_name),
            one.state.clone(),
            count(one.lag),
            one.delivered.to_string(),
            count(one.dead_letters_stored),
            since.map_or_else(String::new, to_seconds),
        ]
    });
    let headers = [
        "INTEGRATION",
        "STATE",
        ">WAITING",
        ">DELIVERED",
        ">DEAD-LETTERS",
        "SINCE",
    ];
    columns(headers, rows, "There are no integrations.")
}

/// Converts a time to RFC 3339 without fractions of a second.
fn to_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

fn show(options: &OneOptions) -> anyhow::Result<String> {
    let target = options.target("");
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.is_json() {
        return Ok(json_for_node(&body).into_owned());
    }
    let one: IntegrationView = serde_json::from_str(&body).context("reading the answer")?;
    Ok(one_text(&one))
}

fn one_text(one: &IntegrationView) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        text.push_str(&format!("{what:<13}{}\n", printable(&value)));
    };
    line("integration", format!("{}/{}", one.kind, one.full_name));
    line(
        "state",
        match &one.paused_since {
            Some(since) => format!("{} since {}", one.state, to_seconds(since)),
            None => one.state.clone(),
        },
    );
    if let Some(why) = &one.stopped_because {
        line("stopped", for_node(why).into_owned());
    }
    if let Some(failure) = &one.failure {
        let since = failure.since.as_deref().map(to_seconds).unwrap_or_default();
        let attempts = counted(u64::from(failure.attempts), "attempt");
        line("failing", format!("since {since}, {attempts}"));
        line("error", for_node(&failure.error).into_owned());
    } else if let Some(last) = &one.last_error {
        let at = last.at.as_deref().map(to_seconds).unwrap_or_default();
        line("last error", format!("{at} {}", for_node(&last.error)));
    }
    if let Some(warning) = &one.warning {
        line("warning", for_node(warning).into_owned());
    }
    if let Some(cause) = &one.secret_trouble {
        line("cause", for_node(cause).into_owned());
    }
    if !one.secrets.is_empty() {
        line("secrets", one.secrets.join(" "));
    }
    if let Some(team) = &one.team {
        line("team", team.clone());
    }
    line("filters", one.filters.join(" "));
    line("order", one.order.clone());
    let lag = one
        .lag
        .map_or_else(|| "unknown".to_owned(), |lag| counted(lag, "message"));
    line(
        "waiting",
        format!("{lag}, {} of them being sent", one.in_hand),
    );
    if let Some(oldest) = &one.oldest_received_at {
        line("oldest", to_seconds(oldest));
    }
    let repeated = match one.repeated {
        0 => String::new(),
        count => format!(", {count} of them perhaps twice"),
    };
    line("delivered", format!("{}{repeated}", one.delivered));
    if one.skipped > 0 {
        line(
            "skipped",
            format!("{} messages that came from its target", one.skipped),
        );
    }
    if one.kind == "bridge" {
        let (incoming, dropped) = (one.incoming, one.incoming_dropped);
        line(
            "incoming",
            format!("{incoming} from there, {dropped} dropped"),
        );
    }
    if let Some(at) = &one.delivered_at {
        line("last", to_seconds(at));
    }
    line(
        "refused",
        format!(
            "{}, {}",
            one.refused,
            counted(one.failed_attempts, "failed attempt")
        ),
    );
    let stored = one.dead_letters_stored;
    let stored = stored.map_or_else(|| "unknown".to_owned(), |stored| stored.to_string());
    line(
        "dead letters",
        format!("{stored} stored, {} to be sent again", one.sending_again),
    );
    text
}

fn act(options: &OneOptions, action: &str) -> anyhow::Result<String> {
    let data_dir = options.admin.node.data_dir()?;
    let before = match (action, options.is_json()) {
        ("resume", false) => Some(ask(&data_dir, "GET", &options.target(""))?),
        _ => None,
    };
    let target = options.target(&format!("/{action}"));
    ask_with(&data_dir, "POST", &target, "{}", LONGER)?;
    if options.is_json() {
        let body = ask(&data_dir, "GET", &options.target(""))?;
        return Ok(json_for_node(&body).into_owned());
    }
    let name = &options.integration;
    Ok(match action {
        "pause" => format!("{name} is paused: messages wait until it is resumed"),
        "resume" => {
            let before: IntegrationView =
                serde_json::from_str(&before.unwrap_or_default()).context("reading the answer")?;
            format!("{name} {}", resumed(&before))
        }
        "skip" => format!("{name} is resumed; a message that fails again becomes a dead letter"),
        _ => format!("{name} delivers the messages that wait now, then pauses"),
    })
}

/// Describes the effect of resuming an integration that was in this state, as a predicate.
fn resumed(before: &IntegrationView) -> String {
    let waiting = match before.lag {
        Some(0) => "no message waits".to_owned(),
        Some(lag) => format!("{} waited", counted(lag, "message")),
        None => "the number of waiting messages is unknown".to_owned(),
    };
    match before.state.as_str() {
        "paused" | "draining" => format!("is resumed; {waiting}"),
        "stopped" => format!("is resumed; {waiting}, the one at which it stopped is tried first"),
        "retrying" => format!("was not paused; its target is tried again at once, {waiting}"),
        state => format!("was not paused, it is {state}; {waiting}"),
    }
}

fn test(options: &OneOptions) -> ExitCode {
    let mut is_ok = true;
    let outcome = tested(options).and_then(|body| {
        let found: IntegrationTested = serde_json::from_str(&body).context("reading the answer")?;
        is_ok = found.ok;
        let name = &options.integration;
        match (options.is_json(), found.error) {
            (true, _) => Ok(json_for_node(&body).into_owned()),
            (false, None) => Ok(format!("{name} can reach its target; no message was sent")),
            (false, Some(why)) => anyhow::bail!("{name} cannot reach its target: {why}"),
        }
    });
    match finish_as(options.is_json(), outcome) {
        _ if !is_ok => ExitCode::FAILURE,
        code => code,
    }
}

fn tested(options: &OneOptions) -> anyhow::Result<String> {
    let data_dir = options.admin.node.data_dir()?;
    let target = options.target("/test");
    ask_with(&data_dir, "POST", &target, "{}", LONGER)
}

fn letters(options: &LettersOptions) -> anyhow::Result<String> {
    let one = &options.one;
    let data_dir = one.admin.node.data_dir()?;
    let (all, has_more) = letters_of(&data_dir, one, options.limit)?;
    if one.is_json() {
        let all = all.iter().map(serde_json::to_value);
        let all: Vec<serde_json::Value> = all.collect::<Result<_, _>>()?;
        return Ok(listing::items(all));
    }
    let rows = all.iter().map(|letter| {
        [
            letter.id.to_string(),
            letter
                .refused_at
                .as_deref()
                .map(to_seconds)
                .unwrap_or_default(),
            letter.payload_bytes.to_string(),
            cut(&letter.topic, TOPIC_SHOWN),
            letter.reason.clone(),
        ]
    });
    let headers = [">ID", "REFUSED", ">BYTES", "TOPIC", "REASON"];
    let mut text = columns(headers, rows, "There are no dead letters.");
    if has_more {
        text.push_str("There are more (--limit N shows more)\n");
    }
    Ok(text)
}

/// The oldest dead letters, at most `limit`, and whether there are more.
fn letters_of(
    data_dir: &Path,
    one: &OneOptions,
    limit: usize,
) -> anyhow::Result<(Vec<DeadLetterView>, bool)> {
    let mut all: Vec<DeadLetterView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let wanted = (limit - all.len()).clamp(1, IDS_MAX);
        let after = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let target = one.target_with("/dead-letters", &format!("limit={wanted}{after}"));
        let page: Page<DeadLetterView> =
            serde_json::from_str(&ask(data_dir, "GET", &target)?).context("reading the answer")?;
        all.extend(page.items);
        cursor = page.next;
        if cursor.is_none() || all.len() >= limit {
            let has_more = cursor.is_some() || all.len() > limit;
            all.truncate(limit);
            return Ok((all, has_more));
        }
    }
}

fn letter(options: &LetterOptions) -> anyhow::Result<String> {
    let one = &options.one;
    let target = one.target(&format!("/dead-letters/{}", options.id));
    let body = ask(&one.admin.node.data_dir()?, "GET", &target)?;
    if one.is_json() {
        return Ok(body);
    }
    let found: WholeDeadLetterView = serde_json::from_str(&body).context("reading the answer")?;
    Ok(letter_text(&found))
}

fn letter_text(found: &WholeDeadLetterView) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: &str| {
        text.push_str(&format!("{what:<13}{}\n", printable(value)));
    };
    let letter = &found.letter;
    let time = |time: &Option<String>| time.as_deref().map(to_seconds).unwrap_or_default();
    line("id", &letter.id.to_string());
    line("reason", &letter.reason);
    let refusals = counted(u64::from(letter.refusals), "refusal");
    line(
        "refused",
        &format!("{}, {refusals}", time(&letter.refused_at)),
    );
    line("message", &letter.message_id);
    line("topic", &letter.topic);
    let retain = if letter.retain { ", retained" } else { "" };
    line("qos", &format!("{}{retain}", letter.qos));
    line("received", &time(&letter.received_at));
    for (what, value) in [
        ("client", &found.client_id),
        ("user", &found.user),
        ("device", &found.device),
    ] {
        if let Some(value) = value {
            line(what, value);
        }
    }
    let (bytes, encoding) = (letter.payload_bytes, &found.payload_encoding);
    line("payload", &format!("{bytes} bytes, {encoding}:"));
    text.push_str(&printable(&found.payload));
    text.push('\n');
    text
}

fn send(options: &ChosenOptions) -> anyhow::Result<String> {
    let one = &options.one;
    let data_dir = one.admin.node.data_dir()?;
    let target = one.target("/dead-letters/send-again");
    let bodies = match options.all {
        true => vec![json!({ "all": true })],
        false => {
            let parts = options.ids.chunks(IDS_MAX);
            parts.map(|ids| json!({ "ids": ids })).collect()
        }
    };
    let mut done = SendingAgain {
        sending: 0,
        has_more: false,
    };
    for body in bodies {
        let body = body.to_string();
        let answer = ask_with(&data_dir, "POST", &target, &body, LONGER)?;
        let part: SendingAgain = serde_json::from_str(&answer).context("reading the answer")?;
        done.sending += part.sending;
        done.has_more |= part.has_more;
    }
    if one.is_json() {
        return Ok(serde_json::to_string(&done)?);
    }
    let mut text = match done.sending {
        0 => "There are no dead letters.".to_owned(),
        count => format!("{} to be sent again", counted(count, "dead letter")),
    };
    if done.has_more {
        text.push_str("\nThere are more: send them when these are sent");
    }
    Ok(text)
}

fn remove(options: &ChosenOptions) -> anyhow::Result<String> {
    let one = &options.one;
    let data_dir = one.admin.node.data_dir()?;
    let dropped = match options.all {
        true => {
            let target = one.target_with("/dead-letters", "all=true");
            let answer = ask(&data_dir, "DELETE", &target)?;
            let answer: DroppedLetters =
                serde_json::from_str(&answer).context("reading the answer")?;
            answer.dropped
        }
        false => {
            for id in &options.ids {
                ask(
                    &data_dir,
                    "DELETE",
                    &one.target(&format!("/dead-letters/{id}")),
                )?;
            }
            options.ids.len() as u64
        }
    };
    if one.is_json() {
        return Ok(serde_json::to_string(&DroppedLetters { dropped })?);
    }
    Ok(format!("Dropped {}", counted(dropped, "dead letter")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integration_is_named_by_kind_and_name() {
        let named = |text: &str| text.parse::<IntegrationName>();
        let audit = IntegrationName {
            kind: "file".to_owned(),
            name: "audit".to_owned(),
        };
        assert_eq!(named("file/audit"), Ok(audit.clone()));
        assert_eq!(named("$integration/file/audit"), Ok(audit));
        for text in ["audit", "file/", "/audit", ""] {
            assert!(named(text).unwrap_err().contains("such as file/audit"));
        }
    }

    #[test]
    fn times_in_tables_have_seconds() {
        assert_eq!(
            to_seconds("2026-03-01T12:00:00.123Z"),
            "2026-03-01T12:00:00Z"
        );
        assert_eq!(to_seconds("2026-03-01T12:00:00Z"), "2026-03-01T12:00:00Z");
    }
}
