//! Commands to a device that have failed, or that wait for it.

use martlet_registry::CommandState;

use super::facts::{CommandFacts, DeviceCommand, NamedCommand};
use crate::cause::{Bearing, Cause};
use crate::commands::PART;
use crate::remedy::Command as CommandLine;
use crate::rfc3339;
use crate::why::{
    Asked, CLOCKS_DIFFER_MS, ENDED_RECENTLY_MS, Finding, Findings, devices_in_words, matches,
    nearest_in_words, uncapitalized,
};

/// Time that a device has to acknowledge a message, or to answer a command, before that is
/// reported.
const ANSWERS_WITHIN_MS: u64 = 30_000;

/// Time from a command to its delivery from which on it was late.
const LATE_MS: u64 = 10_000;

/// Reason why a command is not carried out. Those of one kind are reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    /// The device is not connected.
    Absent,
    /// The device is not subscribed.
    NotSubscribed,
    /// The device is subscribed with QoS 0.
    Qos0,
    /// The device has not acknowledged the message.
    NotAcknowledged,
    /// The device has not answered.
    NoAnswer,
    /// The answer of the device is not understood.
    NotUnderstood,
    /// The device carries the command out.
    AtWork,
    /// The device has acknowledged the command, and is not connected since.
    LeftAtWork,
    /// The device has acknowledged the command, and has not ended it in the time of the command.
    Overdue,
}

/// Adds findings about the commands of a device, and about the one in the question.
pub(super) fn judge(facts: &CommandFacts, asked: &Asked, findings: &mut Findings) {
    let mut stuck: Vec<(Stuck, &DeviceCommand, u64)> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for command in &facts.commands {
        findings.keeps(&command.topic, Some(PART));
    }
    let in_question = |one: &&DeviceCommand| asked.concerns_one_of([&one.topic, &one.answers]);
    for command in facts.commands.iter().filter(in_question) {
        let is_latest = !names.contains(&&*command.name);
        names.push(&command.name);
        match stuck_at(asked.now_ms, command) {
            Some(kind) => match stuck.iter_mut().find(|(known, ..)| *known == kind) {
                Some((_, _, more)) => *more += 1,
                None => stuck.push((kind, command, 0)),
            },
            // The latest command of a name shows its state.
            None if is_latest => ended(asked, command, findings),
            None => {}
        }
    }
    for (kind, command, more) in stuck {
        let elsewhere = answered_elsewhere(asked, command).filter(|_| kind == Stuck::NoAnswer);
        let bearing = match elsewhere {
            Some(_) => Bearing::Present,
            None => bearing(asked, kind, command),
        };
        findings.add_as(bearing, of_stuck(command, kind, more, elsewhere));
    }
    for one in &facts.not_for_device {
        one.judge(Cause::CommandWaits, asked, findings);
    }
    if let Some(named) = &facts.named {
        findings.add_named(of_named(asked.now_ms, named));
    }
}

/// A command that was asked about by its id.
fn of_named(now_ms: u64, named: &NamedCommand) -> Finding {
    match named {
        NamedCommand::One(command) => match stuck_at(now_ms, command) {
            Some(Stuck::AtWork) => Finding::new(Cause::NothingWrong, at_work(command)),
            Some(kind) => of_stuck(command, kind, 0, None),
            None => of_ended(command).unwrap_or_else(|| {
                let what = of_device(command);
                let late = late(command).map_or_else(String::new, |late| format!("; it {late}"));
                let result = result_text(&command.result);
                let sentence = format!("{what} has succeeded{result}{late}");
                Finding::new(Cause::NothingWrong, sentence)
            }),
        },
        NamedCommand::Many {
            id,
            name,
            states,
            show,
        } => of_many(id, name, states, show),
    }
}

fn of_many(
    id: &str,
    name: &str,
    states: &[(CommandState, u64)],
    show: &Option<CommandLine>,
) -> Finding {
    let devices: u64 = states.iter().map(|(_, count)| count).sum();
    let words: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {}", state.word()))
        .collect();
    let is_any = |wanted: fn(CommandState) -> bool| states.iter().any(|(state, _)| wanted(*state));
    let sentence = format!(
        "the command {name} ({id}) was sent to {}: {}",
        devices_in_words(devices),
        words.join(", ")
    );
    let cause = if is_any(|state| state.is_final() && state != CommandState::Succeeded) {
        Cause::CommandFailed
    } else if is_any(|state| !state.is_final() && state != CommandState::Acknowledged) {
        Cause::CommandWaits
    } else {
        return Finding::new(Cause::NothingWrong, sentence);
    };
    Finding::new(cause, sentence)
        .remedy(
            "ask about each device that has not succeeded (martlet why DEVICE); to list the \
             devices, run",
        )
        .command(show)
}

/// Returns what keeps a command from being carried out; none: it has ended.
fn stuck_at(now_ms: u64, command: &DeviceCommand) -> Option<Stuck> {
    if command.state.is_final() {
        return None;
    }
    // The tables have what a device last answered.
    let is_nameless = command
        .misread
        .as_ref()
        .is_some_and(|misread| misread.at_ms >= command.sent_ms.max(command.created_ms));
    let is_misread = !command.result.is_empty() && command.acknowledged_ms == 0;
    Some(match command.state {
        CommandState::Acknowledged if left_at_work(command).is_some() => Stuck::LeftAtWork,
        CommandState::Acknowledged if now_ms > command.expires_ms => Stuck::Overdue,
        CommandState::Acknowledged => Stuck::AtWork,
        _ if is_misread || is_nameless => Stuck::NotUnderstood,
        CommandState::Delivered => Stuck::NoAnswer,
        _ => {
            let reach = &command.reach;
            let own = reach.subscriptions.iter();
            let own = own.filter(|(filter, _)| matches(filter, &command.topic));
            match own.map(|(_, qos)| *qos).max() {
                _ if !reach.is_connected => Stuck::Absent,
                None => Stuck::NotSubscribed,
                Some(0) => Stuck::Qos0,
                // It was published a moment ago, or is published in a moment.
                Some(_) => Stuck::NotAcknowledged,
            }
        }
    })
}

/// Since when the device of a command is not connected, if it acknowledged it before.
fn left_at_work(command: &DeviceCommand) -> Option<u64> {
    let gone_ms = command
        .reach
        .gone_ms
        .filter(|_| !command.reach.is_connected);
    // A device that answers by HTTP is not connected.
    gone_ms.filter(|gone_ms| command.acknowledged_ms <= gone_ms + CLOCKS_DIFFER_MS)
}

/// The topic of its own that a device has published to since it has the command, without a
/// receiver: its answer may be there.
fn answered_elsewhere<'a>(asked: &'a Asked, command: &DeviceCommand) -> Option<&'a str> {
    let since_ms = command.delivered_ms.saturating_sub(CLOCKS_DIFFER_MS);
    let mut latest = asked.published_in_vain().rev();
    let found = latest.find(|one| one.last_ms >= since_ms && asked.is_named_in(&one.topic));
    found.map(|one| &*one.topic)
}

/// How much it weighs that a command is stuck.
fn bearing(asked: &Asked, kind: Stuck, command: &DeviceCommand) -> Bearing {
    let since_ms = command.delivered_ms.max(command.sent_ms);
    let since_ms = since_ms.max(command.created_ms);
    let is_late = asked.now_ms.saturating_sub(since_ms) >= ANSWERS_WITHIN_MS;
    match kind {
        // Why it is not connected is reported first.
        Stuck::Absent | Stuck::AtWork => Bearing::Aside,
        Stuck::LeftAtWork | Stuck::Overdue if command.is_of_rollout => Bearing::Aside,
        // It is reported before that the device has left by itself.
        Stuck::LeftAtWork => Bearing::Ended,
        Stuck::NotUnderstood => Bearing::Present,
        _ if !asked.is_connected => Bearing::Remark,
        Stuck::NotSubscribed | Stuck::Qos0 | Stuck::Overdue => Bearing::Present,
        Stuck::NotAcknowledged | Stuck::NoAnswer if is_late => Bearing::Present,
        Stuck::NotAcknowledged | Stuck::NoAnswer => Bearing::Aside,
    }
}

fn what(command: &DeviceCommand) -> String {
    format!("the command {} ({})", command.name, command.id)
}

fn of_device(command: &DeviceCommand) -> String {
    format!("{} to {}", what(command), command.device)
}

fn result_text(result: &str) -> String {
    match result {
        "" => String::new(),
        result_text => format!(": {}", uncapitalized(result_text)),
    }
}

fn at_work(command: &DeviceCommand) -> String {
    let progress = command.progress.map(|percent| format!(" ({percent} %)"));
    let since = rfc3339::in_words(command.acknowledged_ms);
    format!(
        "{} is being carried out since {since}{}{}",
        of_device(command),
        progress.unwrap_or_default(),
        result_text(&command.result)
    )
}

/// A command that has not ended. `more`: others that are stuck for the same reason. `elsewhere`: a
/// topic on which the device may have answered.
// Table: what is reported of each way to be stuck.
fn of_stuck(command: &DeviceCommand, kind: Stuck, more: u64, elsewhere: Option<&str>) -> Finding {
    let (topic, answers) = (&command.topic, &command.answers);
    let own = command.reach.subscriptions.iter().map(|(filter, _)| filter);
    let (why, remedy) = match kind {
        Stuck::Absent => {
            let why = match command.reach.gone_ms {
                Some(ms) => {
                    let since = rfc3339::in_words(ms);
                    format!("the device has not been connected since {since}")
                }
                None => {
                    "no client with the device's id as Client Identifier is connected".to_owned()
                }
            };
            let shows = command.why.as_deref().unwrap_or_default();
            let remedy = format!("have the device connect ({shows} shows why it does not)");
            (why, remedy)
        }
        Stuck::NotSubscribed => {
            let near = nearest_in_words(own, topic);
            (
                format!("the device is connected and not subscribed to {topic}{near}"),
                format!("have the device subscribe to {topic} with QoS 1"),
            )
        }
        Stuck::Qos0 => (
            format!(
                "the device is subscribed to {topic} with QoS 0, so it is not known whether it has \
                 the command"
            ),
            format!("have the device subscribe to {topic} with QoS 1, or answer on {answers}"),
        ),
        Stuck::NotAcknowledged if command.sent_ms == 0 => (
            "it is being published".to_owned(),
            "wait a moment".to_owned(),
        ),
        Stuck::NotAcknowledged => {
            let sent = rfc3339::in_words(command.sent_ms);
            (
                format!("it was sent on {sent}, and the device has not acknowledged the message"),
                "see why the program of the device sends no PUBACK".to_owned(),
            )
        }
        Stuck::NoAnswer => {
            let received = rfc3339::in_words(command.delivered_ms);
            let elsewhere = elsewhere.map_or_else(String::new, |topic| {
                format!(" on {answers}; it has published to {topic} since, which reached nobody")
            });
            (
                format!("the device received it on {received}, and has not answered{elsewhere}"),
                answering(command, "have the device answer"),
            )
        }
        Stuck::NotUnderstood => (
            misread(command),
            answering(command, "correct what the device answers"),
        ),
        Stuck::AtWork => (String::new(), "wait".to_owned()),
        Stuck::LeftAtWork | Stuck::Overdue => (
            acknowledged_only(command),
            answering(command, "have the device connect and answer"),
        ),
    };
    let (what, is_alone) = (of_device(command), more == 0);
    let what = match more {
        0 => what,
        1 => format!("{what} and 1 other"),
        _ => format!("{what} and others"),
    };
    let has_not_ended = matches!(kind, Stuck::LeftAtWork | Stuck::Overdue);
    let sentence = match (kind, is_alone) {
        (Stuck::AtWork, _) => at_work(command),
        (Stuck::NotUnderstood, _) => format!("{} has not ended: {why}", of_device(command)),
        (_, true) if has_not_ended => format!("{what} has not ended: {why}"),
        (_, false) if has_not_ended => format!("{what} have not ended: {why}"),
        (_, true) => format!("{what} waits: {why}"),
        (_, false) => format!("{what} wait: {why}"),
    };
    let cause = match kind {
        Stuck::NotUnderstood => Cause::CommandFailed,
        _ => Cause::CommandWaits,
    };
    let finding = Finding::new(cause, sentence).since(command.created_ms);
    // What was refused is the cause, and is reported first.
    let finding = match kind {
        Stuck::NotSubscribed => finding.about(topic),
        Stuck::NoAnswer => finding.about(answers),
        _ => finding,
    };
    match has_not_ended {
        true => finding
            .remedy(format!("{remedy}; or cancel the command"))
            .command(&command.cancel),
        false => finding
            .remedy(format!("{remedy}; to see the command, run"))
            .command(&command.show),
    }
}

/// The device has acknowledged a command, and nothing more.
fn acknowledged_only(command: &DeviceCommand) -> String {
    let at = rfc3339::in_words(command.acknowledged_ms);
    let progress = command.progress.map(|percent| format!(" ({percent} %)"));
    let progress = progress.unwrap_or_default();
    let since = match left_at_work(command) {
        Some(gone_ms) => format!("been away since {}", rfc3339::in_words(gone_ms)),
        None => "not reported its end".to_owned(),
    };
    format!(
        "the device acknowledged it on {at}{progress}, and has {since}; an acknowledged command \
         does not expire"
    )
}

/// Describes what is wrong with the answer of a device.
fn misread(command: &DeviceCommand) -> String {
    match &command.misread {
        Some(misread) if command.result.is_empty() => format!(
            "the device answered on {}, and the answer is for no command: {}",
            command.answers, misread.why
        ),
        _ => command.result.clone(),
    }
}

/// How a device answers.
fn answering(command: &DeviceCommand, what: &str) -> String {
    let (answers, id) = (&command.answers, &command.id);
    format!("{what}: on {answers} {{\"command_id\": \"{id}\", \"status\": \"succeeded\"}}")
}

/// A command that has ended recently, and was not carried out.
fn ended(asked: &Asked, command: &DeviceCommand, findings: &mut Findings) {
    // Somebody wanted it so.
    let is_wanted = command.state == CommandState::Cancelled;
    if let Some(late) = late(command) {
        let sentence = format!("{} {late}, and was carried out then", of_device(command));
        let finding = Finding::new(Cause::CommandWaits, sentence).at(command.delivered_ms);
        let remedy = "send commands that must not come late with a shorter time (martlet command \
                      send --expires=SECONDS): after it, they are not delivered";
        findings.add_as(Bearing::Aside, finding.remedy(remedy));
    }
    let Some(finding) = of_ended(command).filter(|_| !is_wanted) else {
        return;
    };
    match asked.now_ms.saturating_sub(command.finished_ms) <= ENDED_RECENTLY_MS {
        true => findings.add(finding),
        false => findings.add_as(Bearing::Over, finding.without_remedy()),
    }
}

/// Words for a command that its device received long after it was sent, and has carried out.
fn late(command: &DeviceCommand) -> Option<String> {
    let waited_ms = command.delivered_ms.saturating_sub(command.created_ms);
    // A rollout has its own times.
    let is_late =
        command.state == CommandState::Succeeded && waited_ms >= LATE_MS && !command.is_of_rollout;
    is_late.then(|| {
        format!(
            "waited in the queue for {}, until the device received it on {}",
            rough_time(waited_ms / 1_000),
            rfc3339::in_words(command.delivered_ms)
        )
    })
}

/// Seconds in words, to two digits or so.
fn rough_time(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}

/// A command that has ended without success.
fn of_ended(command: &DeviceCommand) -> Option<Finding> {
    let what = of_device(command);
    let (sentence, remedy) = match command.state {
        CommandState::Failed if command.acknowledged_ms > 0 => {
            let result = match &*command.result {
                "" => "without saying why".to_owned(),
                result_text => format!("with the result: {result_text}"),
            };
            (
                format!("{what} failed: the device reported a failure {result}"),
                "fix the error that the device reported; to send the command again, run",
            )
        }
        CommandState::Failed => (
            format!(
                "{what} failed: the device refused the message{}",
                result_text(&command.result)
            ),
            "see why the device refuses the message; to send the command again, run",
        ),
        CommandState::Expired => (
            format!(
                "{what} expired on {}: {}",
                rfc3339::in_words(command.finished_ms),
                expired_for(command)
            ),
            "have the device connected, subscribed with QoS 1 and answering in time, or give \
             commands more time (--expires); to send the command again, run",
        ),
        CommandState::Cancelled => {
            let sentence = format!("{what} was cancelled{}", result_text(&command.result));
            let finding = Finding::new(Cause::CommandFailed, sentence).since(command.finished_ms);
            let remedy = "send another one (martlet command send); to see the command, run";
            return Some(finding.remedy(remedy).command(&command.show));
        }
        _ => return None,
    };
    let finding = Finding::new(Cause::CommandFailed, sentence).since(command.finished_ms);
    Some(finding.remedy(remedy).command(&command.retry))
}

/// Why the device had not acknowledged a command when its time was over.
fn expired_for(command: &DeviceCommand) -> String {
    let (topic, reach) = (&command.topic, &command.reach);
    if !command.result.is_empty() {
        return command.result.clone();
    }
    if command.delivered_ms > 0 {
        return "the device received it, but did not acknowledge the command".to_owned();
    }
    if command.sent_ms > 0 {
        return "it was sent, and the device did not acknowledge the message".to_owned();
    }
    let is_subscribed = reach
        .subscriptions
        .iter()
        .any(|(filter, _)| matches(filter, topic));
    match (reach.is_connected, is_subscribed) {
        (false, _) => format!(
            "it was never sent, because the device was not connected and subscribed to {topic}; it \
             is not connected now"
        ),
        (true, false) => format!(
            "it was never sent, because the device was not subscribed to {topic}, and is not now"
        ),
        (true, true) => format!(
            "it was never sent, because the device was not connected and subscribed to {topic} then"
        ),
    }
}
