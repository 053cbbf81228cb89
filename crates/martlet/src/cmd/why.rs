//! `martlet why`: one diagnosis of a client's problem, with its remedy.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use martlet_api::odd_name;
use martlet_control::cause::Cause;
use martlet_control::text::printable;
use martlet_control::why::{Diagnosis, Finding, State};

use crate::cmd::admin::{AdminOptions, ask};
use crate::cmd::errors::error_text;
use crate::cmd::node_options::{for_node, json_for_node};
use crate::cmd::print::{errln, out};
use crate::cmd::query::encoded;

/// Arguments of `martlet why`.
#[derive(Args, Debug)]
pub(crate) struct WhyOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Client Identifier, device or user name; ID@TEAM for a device of a team with its own tenant.
    /// The IP address of a client that was refused before it sent its Client Identifier. The name
    /// of a rule about messages, or the id of a rollout or command
    #[arg(value_name = "DEVICE|CLIENT")]
    name: String,
    /// Topic Name: why do messages that are published to it not arrive? Topic Filter: why is the
    /// client not subscribed?
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// Only clients in the tenant of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

/// Prefix of integrations' names in a diagnosis.
const INTEGRATIONS: &str = "$integration/";

/// Most further findings that are printed.
const ALSO_MAX: usize = 8;

/// Exit code of wrong arguments.
const USAGE: u8 = 2;

/// Exit code if there is a problem.
const WRONG: u8 = 3;

/// Runs the command.
pub(crate) fn run(options: &WhyOptions) -> ExitCode {
    if let Some(why) = odd_name(&options.name) {
        errln!("martlet: the name {:?}: {why}", options.name);
        return ExitCode::from(USAGE);
    }
    match show(options) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(WRONG),
        Err(error) => {
            let error = error_text(&error);
            errln!("martlet: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}

/// Prints the diagnosis. Returns whether there is a problem.
fn show(options: &WhyOptions) -> anyhow::Result<bool> {
    let mut path = format!("/api/v1/why?name={}", encoded(&options.name));
    if let Some(topic) = &options.topic {
        path.push_str(&format!("&topic={}", encoded(topic)));
    }
    if let Some(team) = &options.team {
        path.push_str(&format!("&team={}", encoded(team)));
    }
    let body = ask(&options.admin.node.data_dir()?, "GET", &path)?;
    let diagnosis: Diagnosis = serde_json::from_str(&body)?;
    let out = std::io::stdout();
    let text = match options.admin.json {
        true => format!("{}\n", json_for_node(&body)),
        false => {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            text(&diagnosis, &Zoned::now(), !no_colour && out.is_terminal())
        }
    };
    out!("{text}");
    Ok(diagnosis.wrong)
}

/// The diagnosis, its remedy, further findings, and the evidence.
fn text(diagnosis: &Diagnosis, now: &Zoned, colours: bool) -> String {
    let (on, off) = match (colours, diagnosis.wrong) {
        (true, false) => ("\x1b[32m", "\x1b[0m"),
        (true, true) => ("\x1b[31m", "\x1b[0m"),
        (false, _) => ("", ""),
    };
    let state = match diagnosis.state {
        State::Connected => "connected",
        State::Away => "away",
        State::Refused => "refused",
        State::NeverSeen => "never seen",
        State::NoClient => "",
    };
    // The time belongs to the finding, which may differ from the state.
    let time = since(&diagnosis.finding, now);
    let (of_state, of_finding) = match is_of_state(diagnosis) {
        true => (time, String::new()),
        false => (String::new(), format!(" ({})", in_brackets(&time))),
    };
    let sentence = printable(&for_node(&diagnosis.finding.sentence));
    let integration = diagnosis.name.strip_prefix(INTEGRATIONS);
    let name = printable(integration.unwrap_or(&diagnosis.name));
    // An integration's session is always connected, even while its target is down.
    let has_state = integration.is_none() && diagnosis.state != State::NoClient;
    let mut text = match has_state {
        true => format!("{name}: {on}{state}{off}{of_state}: {sentence}{of_finding}\n"),
        false if names(&sentence, &name) => format!("{on}{sentence}{off}{of_finding}\n"),
        false => format!("{name}: {on}{sentence}{off}{of_finding}\n"),
    };
    remedy(&mut text, &diagnosis.finding);
    for finding in diagnosis.also.iter().take(ALSO_MAX) {
        text.push_str(&format!(
            "  also{}: {}\n",
            since(finding, now),
            printable(&for_node(&finding.sentence))
        ));
        remedy(&mut text, finding);
    }
    match diagnosis.also.len().saturating_sub(ALSO_MAX) {
        0 => {}
        more => text.push_str(&format!("  and {more} more: --json shows all\n")),
    }
    if !diagnosis.evidence.is_empty() {
        text.push_str("  seen:\n");
    }
    for evidence in &diagnosis.evidence {
        let at = clock(evidence.at_ms, now);
        text.push_str(&format!("    {at}  {}\n", printable(&evidence.text)));
    }
    text
}

/// Whether a sentence names its subject before its first colon.
fn names(sentence: &str, subject: &str) -> bool {
    let clause = sentence.split(": ").next().unwrap_or_default();
    let mut found = clause.match_indices(subject);
    let is_in_name = |letter: char| letter.is_alphanumeric() || "-_./@".contains(letter);
    found.any(|(at, _)| {
        let after = &clause[at + subject.len()..];
        !clause[..at].ends_with(is_in_name) && !after.starts_with(is_in_name)
    })
}

/// Whether the state has existed since the time of the finding.
fn is_of_state(diagnosis: &Diagnosis) -> bool {
    let finding = &diagnosis.finding;
    finding.since_ms.is_none()
        || match diagnosis.state {
            State::Connected => finding.cause == Cause::NothingWrong,
            State::Away => finding.cause == Cause::Away,
            State::Refused => finding.count.is_some() && finding.cause.is_of_admission(),
            State::NeverSeen | State::NoClient => false,
        }
}

fn since(finding: &Finding, now: &Zoned) -> String {
    let Some(since_ms) = finding.since_ms else {
        return String::new();
    };
    let since = clock(since_ms, now);
    let last = finding.last_ms.map(|last_ms| clock(last_ms, now));
    let last = last.filter(|last| *last != since);
    let last = last.map_or_else(String::new, |last| format!(", last {last}"));
    match finding.count {
        Some(count) if count > 1 => format!(" since {since} ({count} times{last})"),
        _ => format!(" since {since}"),
    }
}

/// A time in brackets, placed after what it belongs to.
fn in_brackets(time: &str) -> String {
    let time = time.trim_start().replace(" (", "; ");
    time.trim_end_matches(')').to_owned()
}

fn remedy(text: &mut String, finding: &Finding) {
    if let Some(remedy) = &finding.remedy {
        text.push_str(&format!("  remedy: {}\n", printable(&for_node(remedy))));
    }
    if let Some(command) = &finding.command {
        // It is safe to print, and can be pasted.
        text.push_str(&format!("    {command}\n"));
    }
}

/// `09:14:03` for today; with the date for other days.
fn clock(at_ms: u64, now: &Zoned) -> String {
    let millis = i64::try_from(at_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = at.to_zoned(TimeZone::system());
    match at.date() == now.date() {
        true => at.strftime("%H:%M:%S").to_string(),
        false => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A diagnosis with only this finding.
    fn diagnosis(name: &str, state: State, finding: Finding) -> Diagnosis {
        Diagnosis {
            name: name.to_owned(),
            tenant: 0,
            topic: None,
            state,
            wrong: true,
            finding,
            also: Vec::new(),
            evidence: Vec::new(),
        }
    }

    #[test]
    fn a_diagnosis_is_one_line_and_its_remedy_can_be_pasted() {
        let sentence = "wrong password, according to \u{1b}x";
        let mut finding = Finding::new(Cause::WrongPassword, sentence);
        finding.count = Some(2);
        finding.remedy = Some("set it again".to_owned());
        finding.command = Some("martlet user passwd ann".to_owned().into());
        let diagnosis = diagnosis("ann", State::Refused, finding);
        assert_eq!(
            text(&diagnosis, &Zoned::now(), false),
            "ann: refused: wrong password, according to \\u{1b}x\n  remedy: set it again\n    \
             martlet user passwd ann\n"
        );
    }

    #[test]
    fn an_integration_is_called_by_its_name_and_not_connected() {
        let sentence = "1 message waits for the integration webhook/crm: no route";
        let mut finding = Finding::new(Cause::IntegrationFailing, sentence);
        finding.since_ms = Some(0);
        let diagnosis = diagnosis("$integration/webhook/crm", State::Connected, finding);
        let printed = text(&diagnosis, &Zoned::now(), false);
        // The sentence names it.
        let head = "1 message waits for the integration webhook/crm: no route (since 19";
        assert!(printed.starts_with(head), "{printed}");
    }

    #[test]
    fn a_subject_is_printed_once() {
        for (sentence, subject, expected) in [
            ("the command open (c1) to y4 failed: x", "c1", true),
            ("the rollout c1 of pump 2.0 is running", "c1", true),
            ("line-1 is an API key", "line-1", true),
            ("the rule hot-2 is on", "hot", false),
            (
                "1 message waits: webhook/crm is paused",
                "webhook/crm",
                false,
            ),
            ("", "x", false),
        ] {
            assert_eq!(names(sentence, subject), expected, "{sentence}");
        }
    }

    #[test]
    fn a_long_list_of_further_findings_is_cut() {
        let finding = |number: usize| Finding::new(Cause::Other, format!("finding {number}"));
        let mut diagnosis = diagnosis("ann", State::Connected, finding(0));
        let also = |diagnosis: &Diagnosis| {
            let printed = text(diagnosis, &Zoned::now(), false);
            let also = printed.lines().filter(|line| line.starts_with("  also"));
            (also.count(), printed)
        };
        diagnosis.also = (1..=8).map(finding).collect();
        let (count, printed) = also(&diagnosis);
        assert!(count == 8 && !printed.contains("more:"), "{printed}");
        diagnosis.also = (1..=20).map(finding).collect();
        let (count, printed) = also(&diagnosis);
        assert_eq!(count, 8);
        assert!(
            printed.ends_with("  also: finding 8\n  and 12 more: --json shows all\n"),
            "{printed}"
        );
    }

    #[test]
    fn the_time_of_a_refusal_is_not_that_of_the_connection() {
        let sentence = "publish refused, t: no rule permits it";
        let mut finding = Finding::new(Cause::NotPermitted, sentence);
        (finding.since_ms, finding.count) = (Some(0), Some(3));
        let mut diagnosis = diagnosis("d1", State::Connected, finding);
        let printed = text(&diagnosis, &Zoned::now(), false);
        assert!(
            printed.starts_with("d1: connected: publish refused"),
            "{printed}"
        );
        assert!(
            printed.contains("permits it (since 19") && printed.contains("; 3 times)"),
            "{printed}"
        );
        // A finding other than the refusal has its own time.
        diagnosis.state = State::Refused;
        let printed = text(&diagnosis, &Zoned::now(), false);
        assert!(
            printed.starts_with("d1: refused: publish refused"),
            "{printed}"
        );
        diagnosis.finding.cause = Cause::WrongPassword;
        diagnosis.finding.last_ms = Some(86_400_000);
        let printed = text(&diagnosis, &Zoned::now(), false);
        assert!(printed.starts_with("d1: refused since 19"), "{printed}");
        assert!(printed.contains(" (3 times, last 1970-01-0"), "{printed}");
    }
}
