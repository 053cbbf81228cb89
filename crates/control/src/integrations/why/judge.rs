//! Findings about integrations.

use martlet_broker::{DropReason, Limit};
use martlet_integrate::{AccessRefused, bridge};

use super::facts::{
    Halt, InsteadOfMissing, Integration, IntegrationFacts, NotDelivering, OwnLetters,
};
use crate::cause::{Bearing, Cause};
use crate::event_words;
use crate::journal::{WordedRemedy, remedy_of_drop, remedy_of_limit};
use crate::remedy::Command;
use crate::why::{
    Asked, Finding, Findings, Side, first_of, is_nearly_matched, messages, messages_wait,
    nearest_in_words, uncapitalized,
};

/// Names of the integrations of rules begin with this.
const RULES: &str = "rules/";

/// Filters of an integration, and integrations, that are named, at most.
const FILTERS_TOLD: usize = 5;
const NAMED: usize = 8;

/// The HTTP status for a known caller without the right.
const FORBIDDEN: u16 = 403;

/// Adds findings about integrations.
pub(super) fn judge(facts: &IntegrationFacts, asked: &Asked, findings: &mut Findings) {
    for one in &facts.all {
        examine(facts, one, asked, findings);
        dropped(one, asked, findings);
    }
    for one in &facts.twice {
        one.judge(asked, findings);
    }
    let own = facts.all.iter().find(|one| one.is_own);
    findings.well = own.map(|one| is_well(one, asked));
    let mut idle = facts.all.iter().filter(|one| one.brought == 0);
    findings.nothing_came = idle.find_map(|one| brought(one, asked));
}

fn examine(facts: &IntegrationFacts, one: &Integration, asked: &Asked, findings: &mut Findings) {
    if let Some((bearing, finding)) = missed_by(one, asked) {
        findings.add_as(bearing, finding);
    }
    if let Some(letters) = &one.own_letters {
        let bearing = match asked.is_recent(letters.last_ms) {
            true => Bearing::Happened,
            false => Bearing::Aside,
        };
        findings.add_as(bearing, own_letters_finding(one, letters));
    }
    let has_topic = asked.question.topic.is_some();
    let wrong_direction = wrong_direction(facts, one, asked);
    let bearing = match (one.is_own, one.has_messages) {
        // The message in the question never comes to it.
        (true, _) if wrong_direction.is_some() || misses_topic(one, asked) => Bearing::Aside,
        (true, _) => Bearing::Topic,
        // It is asked where messages of the topic are.
        (false, true) if one.takes_topic => Bearing::Topic,
        (false, true) if !has_topic => Bearing::Happened,
        (false, true) => Bearing::Aside,
        // What is published becomes a dead letter, or its publishers wait.
        (false, false) if one.takes_topic && (is_lost(one, asked) || one.holds) => Bearing::Topic,
        (false, false) if one.takes_topic || one.holds && !has_topic => Bearing::Aside,
        (false, false) => {
            let topic = asked.question.topic.as_deref().unwrap_or_default();
            // The filters of the rules' integration are those of the rules.
            let is_near = !is_of_rules(&one.name) && is_nearly_matched(&one.filters, topic);
            if is_near && misses_topic(one, asked) {
                findings.add_as(Bearing::Aside, not_taken(one, asked));
            }
            return;
        }
    };
    let mut add = |bearing, finding: Option<Finding>| {
        if let Some(finding) = finding {
            findings.add_as(bearing, finding);
        }
    };
    add(bearing, not_delivered(one));
    let is_missed = one.is_own && misses_topic(one, asked) && brought(one, asked).is_none();
    let not_taken = is_missed.then(|| not_taken(one, asked));
    add(Bearing::Topic, wrong_direction.or(not_taken));
    let of_letters = match one.is_own {
        true => Bearing::Happened,
        false if one.takes_topic && is_lost(one, asked) => Bearing::Topic,
        false => Bearing::Aside,
    };
    add(
        of_letters,
        letters_finding(one).filter(|_| one.own_letters.is_none()),
    );
    add(bearing, queue_finding(one));
    add(bearing, health_finding(one));
    add(bearing, slow_finding(asked.now_ms, one));
    if one.is_own {
        lost(one, asked, findings);
    }
}

/// No integration has that name; the finding lists those that exist.
pub(super) fn missing(instead: &InsteadOfMissing, asked: &Asked) -> Finding {
    let (near, there) = (instead.near, instead.there.len());
    if instead.is_bare {
        let sentence = format!(
            "{} is the name of {there} integrations: {}",
            asked.question.name,
            first_of(&instead.there, NAMED)
        );
        let remedy = "ask about one of them, with its kind; to list them, run";
        return Finding::advised(Cause::NobodyKnown, sentence, remedy, &instead.list);
    }
    let all = match near {
        0 => first_of(&instead.there, NAMED),
        near => instead.there[..near.min(NAMED)].join(", "),
    };
    let mut sentence = format!("this node has no integration {}", asked.question.name);
    sentence.push_str(&match (near, there) {
        (_, 0) => ", and no other one".to_owned(),
        (0, _) => format!("; it has {all}"),
        _ => format!("; {all} may be meant"),
    });
    let restored = "; it was restored from a backup, which does not contain the configuration file";
    sentence.push_str(match instead.is_restored {
        true => restored,
        false => "",
    });
    sentence.push_str(match (instead.has_configuration, instead.is_restored) {
        (false, true) => ", and was started without one",
        (false, false) => "; it was started without a configuration file",
        (true, _) => "",
    });
    let remedy = match near {
        0 => {
            "add it to the configuration file, and start the node with that file (martlet serve -c \
             FILE), or add it through the API if it is a bridge or webhook; to list them, run"
        }
        _ => "use the correct name; to list them, run",
    };
    Finding::advised(Cause::NobodyKnown, sentence, remedy, &instead.list)
}

/// Adds what was dropped recently for an integration that takes the topic. The topics of dropped
/// messages are not known. What its target refused is reported as dead letters.
fn dropped(one: &Integration, asked: &Asked, findings: &mut Findings) {
    let topic = asked.question.topic.as_deref().unwrap_or_default();
    for (reason, count, at) in &one.drops {
        let is_told = !reason.is_expected() && *reason != DropReason::RefusedByReceiver;
        if !is_told || !asked.is_recent(at.last_ms) {
            continue;
        }
        let whose = format!(" of {topic} or its other topics");
        let dropped = format!("{} dropped", event_words::were(*count, &whose));
        let is_full = *reason == DropReason::QueueFull;
        let finding = full(one, &dropped).filter(|_| is_full);
        let finding = finding.unwrap_or_else(|| {
            let ((why, remedy), name) = (words_of_drop(*reason), &one.name);
            let sentence = format!(
                "{dropped} for the integration {name}: {why} ({}); for details, run martlet why \
                 {name}",
                reason.name()
            );
            let finding = Finding::new(Cause::of_drop(*reason), sentence);
            match is_full && is_of_rules(name) {
                true => {
                    let (remedy, command) = relief(one);
                    finding.remedy(remedy).command(command)
                }
                false => Finding { remedy, ..finding },
            }
        });
        findings.add_as(Bearing::Topic, finding.lost(*count, *at));
    }
}

/// Returns the finding that it does not deliver, and its queue was full; none: it delivers.
fn full(one: &Integration, dropped: &str) -> Option<Finding> {
    let why = one.why.as_ref().filter(|why| why.state != Halt::Starts)?;
    let (name, does) = (&one.name, why.state.words());
    let reason = match &*why.why {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let limit = match is_of_rules(name) {
        true => "",
        false => " (max_bytes)",
    };
    let sentence =
        format!("the integration {name} {does}{reason}, and its queue is full{limit}: {dropped}");
    Some(advised(why, sentence))
}

/// A Topic Name was asked about, and none of its filters matches it. One without filters takes its
/// messages from elsewhere.
fn misses_topic(one: &Integration, asked: &Asked) -> bool {
    asked.topic_name().is_some() && !one.takes_topic && !one.filters.is_empty()
}

/// A bridge that was asked about carries messages of the topic in the other direction than they go.
fn wrong_direction(facts: &IntegrationFacts, one: &Integration, asked: &Asked) -> Option<Finding> {
    let topic = asked.topic_name().filter(|_| one.is_own)?;
    let name = &one.name;
    let there = one.brings.iter().find_map(|topics| topics.there(topic));
    let (sentence, direction) = match (one.takes_topic, there) {
        // Somebody here waits for what it brings.
        (false, Some(_)) if facts.is_awaited => return None,
        (false, Some(there)) => (
            format!(
                "the integration {name} brings messages of {topic} from {} (direction in), and \
                 sends none there",
                other_topic(topic, &there)
            ),
            "out",
        ),
        // There are subscribers here, and no publishers.
        (true, None) if is_bridge(name) && one.delivered == 0 && facts.is_awaited => (
            format!(
                "the integration {name} sends messages of {topic} to the other broker (direction \
                 out), and brings none from there"
            ),
            "in",
        ),
        _ => return None,
    };
    let remedy = format!(
        "if they should go the other way, set direction = \"{direction}\" or \"both\" for that topic \
         of the bridge, and restart the node if the configuration has it; to see the bridge, run"
    );
    let finding = Finding::new(Cause::NotSubscribed, sentence).remedy(remedy);
    Some(finding.command(&one.lines.show))
}

/// The topic at the other broker, in words.
fn other_topic(here: &str, there: &str) -> String {
    match here == there {
        true => "the other broker".to_owned(),
        false => format!("the topic {there} of the other broker"),
    }
}

/// Returns what an integration brings of the topic that was asked about, which may be its name at
/// the other broker, in words.
fn brought(one: &Integration, asked: &Asked) -> Option<String> {
    let topic = asked.topic_name()?;
    let of_here = one.brings.iter().find_map(|topics| topics.there(topic));
    let of_here = of_here.map(|there| format!("{topic} from {}", other_topic(topic, &there)));
    let of_there = || {
        let here = one.brings.iter().find_map(|topics| topics.here(topic))?;
        Some(format!("{topic} of the other broker as {here}"))
    };
    let what = of_here.or_else(of_there)?;
    let have = match one.brought {
        1 => "1 message has".to_owned(),
        count => format!("{count} messages have"),
    };
    let name = &one.name;
    Some(format!(
        "the integration {name} brings {what}; {have} been received through it since the start"
    ))
}

fn is_bridge(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(kind, _)| kind == bridge::NAME)
}

/// No filter of it matches the topic that was asked about.
fn not_taken(one: &Integration, asked: &Asked) -> Finding {
    let topic = asked.question.topic.as_deref().unwrap_or_default();
    let name = &one.name;
    let what = match one.filters.len() {
        1 => "its filter is",
        _ => "its filters are",
    };
    let near = nearest_in_words(&one.filters, topic);
    let sentence = format!(
        "the integration {name} does not forward messages of {topic}: {what} {}{near}",
        first_of(&one.filters, FILTERS_TOLD)
    );
    let finding = Finding::new(Cause::NotSubscribed, sentence).remedy(
        "publish to a topic that its filters match, or add the topic to the filters of the \
         integration, and restart the node if the configuration has it",
    );
    finding.command(&one.lines.show)
}

/// Adds what was dropped for an integration that was asked about, as its session counts it. What
/// its target refused is reported as dead letters.
fn lost(one: &Integration, asked: &Asked, findings: &mut Findings) {
    let Some(session) = &asked.session else {
        return;
    };
    let whose = format!(" for the integration {}", one.name);
    for (reason, count, at) in session.losses() {
        if reason == DropReason::RefusedByReceiver || reason.is_expected() {
            continue;
        }
        let (why, remedy) = words_of_drop(reason);
        let sentence = event_words::dropped(count, &whose, &why, reason);
        let finding = Finding {
            remedy,
            ..Finding::new(Cause::of_drop(reason), sentence)
        };
        findings.add_as(asked.bearing_of_loss(at), finding.lost(count, at));
    }
    if session.expired > 0 {
        let sentence = event_words::expired(session.expired, &whose);
        let finding = Finding::new(Cause::Expired, sentence)
            .remedy("publish with a longer Message Expiry Interval")
            .lost(session.expired, session.expired_at);
        findings.add_as(asked.bearing_of_loss(session.expired_at), finding);
    }
}

/// Why messages were dropped for an integration, within a sentence, and what to do about it.
fn words_of_drop(reason: DropReason) -> (String, Option<String>) {
    match reason {
        DropReason::QueueFull => (
            Limit::PartQueue.words().to_owned(),
            Some(remedy_of_limit(Limit::PartQueue)),
        ),
        reason => (uncapitalized(reason.meaning()), remedy_of_drop(reason)),
    }
}

/// An integration that was asked about and delivers, in words.
fn is_well(one: &Integration, asked: &Asked) -> Finding {
    // The topic is one of those that the bridge brings in, not one that it delivers.
    if let Some(words) = brought(one, asked).filter(|_| !one.takes_topic) {
        return Finding::new(Cause::NothingWrong, words);
    }
    let (name, delivered) = (&one.name, messages(one.delivered));
    let waiting = match one.waiting {
        None | Some(0) => "none waits".to_owned(),
        Some(1) => format!("1 waits{}", for_secs(asked.now_ms, one)),
        Some(count) => format!("{count} wait{}", oldest(asked.now_ms, one)),
    };
    let refused = match one.refused {
        0 => String::new(),
        count => format!(", {count} refused"),
    };
    let sentence =
        format!("the integration {name} delivers: {delivered} since the start{refused}, {waiting}");
    Finding::new(Cause::NothingWrong, sentence)
}

/// Age of the oldest message that waits for an integration from which on it falls behind.
const SLOW_MS: u64 = 10_000;

/// An integration whose oldest message came then falls behind.
pub(super) fn is_slow(now_ms: u64, oldest_ms: u64) -> bool {
    now_ms.saturating_sub(oldest_ms) >= SLOW_MS
}

/// Returns the finding that it delivers, and messages wait for long.
fn slow_finding(now_ms: u64, one: &Integration) -> Option<Finding> {
    let oldest_ms = one.oldest_ms.filter(|ms| is_slow(now_ms, *ms))?;
    if one.why.is_some() || one.queue.is_some() {
        return None;
    }
    let (name, delivered) = (&one.name, one.delivered);
    let waiting = match one.waiting? {
        0 => return None,
        1 => format!("1 message waits{}", for_secs(now_ms, one)),
        count => messages_wait(count as usize) + &oldest(now_ms, one),
    };
    let (what, remedy, command) = match is_of_rules(name) {
        true => {
            let remedy = "see which rule is slow, and give it fewer topics; to list the rules, run";
            ("they have handled", remedy, &one.lines.rules)
        }
        false => {
            let remedy = "find out why the target is slow; to test whether it answers, run";
            ("its target has accepted", remedy, &one.lines.test)
        }
    };
    let sentence = format!(
        "the integration {name} falls behind: {waiting}; {what} {delivered} since the start"
    );
    let finding = Finding::new(Cause::IntegrationFailing, sentence);
    Some(finding.since(oldest_ms).remedy(remedy).command(command))
}

/// For how long the only message that waits has done so, as the end of a clause.
fn for_secs(now_ms: u64, one: &Integration) -> String {
    let age = one.oldest_ms.map(|ms| now_ms.saturating_sub(ms) / 1_000);
    age.map_or_else(String::new, |secs| format!(" for {secs} s"))
}

/// Returns for how long the oldest message has waited, as the end of a clause.
fn oldest(now_ms: u64, one: &Integration) -> String {
    match for_secs(now_ms, one) {
        secs if secs.is_empty() => secs,
        secs => format!(", the oldest{secs}"),
    }
}

/// Messages of the client without receivers that an integration nearly takes: those of the topic
/// that is nearly the one in the question, if there is one.
fn missed_by(one: &Integration, asked: &Asked) -> Option<(Bearing, Finding)> {
    if one.is_own {
        return None;
    }
    let expected = asked.question.topic.as_deref();
    let is_meant = |topic: &str| match expected {
        Some(expected) => one.takes_topic && is_nearly_matched([expected], topic),
        None => true,
    };
    let mut latest = asked.published_in_vain().rev();
    let missed = latest
        .find(|missed| is_meant(&missed.topic) && is_nearly_matched(&one.filters, &missed.topic))?;
    let (name, topic) = (&one.name, &missed.topic);
    let near = nearest_in_words(&one.filters, topic);
    let sentence = format!(
        "it published to {topic}, which no client received: the integration {name} does not \
         forward that topic{near}"
    );
    let finding = Finding::new(Cause::SubscriberAbsent, sentence)
        .remedy("have the client publish to a topic that the filters of the integration match")
        .command(&one.lines.show);
    let bearing = match expected {
        Some(_) => Bearing::Topic,
        None => Bearing::Happened,
    };
    Some((bearing, finding.with_messages(missed)))
}

/// The target refuses messages, and the client in the question does not receive the topic.
fn is_lost(one: &Integration, asked: &Asked) -> bool {
    let is_refused = one.access_refused.is_some() || one.refused > 0 && one.dead_letters > 0;
    is_refused && asked.side != Side::Receiver
}

/// The target refuses the credentials of the integration.
fn access_finding(one: &Integration, refused: AccessRefused) -> Finding {
    let name = &one.name;
    let status = refused.status;
    let what = match status {
        FORBIDDEN => "does not permit requests with these credentials",
        _ => "refused the credentials",
    };
    let letters = match one.dead_letters {
        0 => String::new(),
        1 => "; 1 message is a dead letter".to_owned(),
        count => format!("; {count} messages are dead letters"),
    };
    let sentence = format!("the target of the integration {name} {what} (HTTP {status}){letters}");
    let finding = Finding::new(Cause::IntegrationFailing, sentence).since(refused.since_ms);
    let finding = match one.dead_letters {
        0 => finding,
        count => finding.of_many(count),
    };
    finding
        .remedy(format!(
            "give the integration credentials that its target accepts (its url, headers, \
             signing_key or secrets), then send the dead letters again ({}); to list them, run",
            one.lines.send_again.as_deref().unwrap_or_default()
        ))
        .command(&one.lines.letters)
}

/// The target has refused messages.
fn letters_finding(one: &Integration) -> Option<Finding> {
    if let Some(refused) = one.access_refused {
        return Some(access_finding(one, refused));
    }
    let count = one.dead_letters;
    (count > 0).then(|| of_letters(one, "", count, &one.letter_reason))
}

/// The target has refused messages of the client that was asked about.
fn own_letters_finding(one: &Integration, letters: &OwnLetters) -> Finding {
    if let Some(refused) = one.access_refused {
        return access_finding(one, refused);
    }
    let OwnLetters {
        count,
        last_ms,
        reason,
    } = letters;
    of_letters(one, " from it or about it", *count, reason).last(*last_ms)
}

/// Finding about this number of dead letters; `whose` follows their number.
fn of_letters(one: &Integration, whose: &str, count: u64, reason: &str) -> Finding {
    let are = match count {
        1 => "it is a dead letter",
        _ => "they are dead letters",
    };
    let reason = match (reason, count) {
        ("", _) => String::new(),
        (reason, 1) => format!("; its reason: {reason}"),
        (reason, _) => format!("; the reason of one of them: {reason}"),
    };
    let sentence = format!(
        "the target of the integration {} refused {}{whose}: {are}{reason}",
        one.name,
        messages(count)
    );
    Finding::new(Cause::IntegrationFailing, sentence)
        .of_many(count)
        .remedy("look at their reasons, correct the target, and send them again or drop them")
        .command(&one.lines.letters)
}

/// The queue is full, or near its bound.
fn queue_finding(one: &Integration) -> Option<Finding> {
    let (name, queue) = (&one.name, one.queue.as_ref()?);
    let sentence = format!("the integration {name} falls behind: {queue}");
    let (remedy, command) = relief(one);
    let finding = Finding::new(Cause::IntegrationFailing, sentence).remedy(remedy);
    Some(finding.command(command))
}

/// Remedy that makes room in the queue of an integration, and the command that ends it.
fn relief(one: &Integration) -> (&'static str, &Option<Command>) {
    match one.name.split('/').next() {
        Some("rules") => (
            "see which rule fails or is slow, and give costly rules fewer topics; or free space on \
             the disk and restart the node: the queue may have a tenth of the space that is free \
             at the start; to list the rules, run",
            &one.lines.rules,
        ),
        Some("telemetry" | "log") => (
            "see why the storage is away or slow; or free space on the disk and restart the node: \
             the queue may have a tenth of the space that is free at the start; to see its state, \
             run",
            &one.lines.show,
        ),
        _ => (
            "see why the target of the integration is down or slow, or raise `max_bytes` of the \
             integration and restart the node; to test whether it reaches its target, run",
            &one.lines.test,
        ),
    }
}

/// Whether it is the integration of the rules of a tenant.
fn is_of_rules(name: &str) -> bool {
    name.starts_with(RULES)
}

/// Something is wrong although it delivers, such as messages of a source that were refused.
fn health_finding(one: &Integration) -> Option<Finding> {
    let health = one
        .health
        .as_ref()
        .filter(|_| one.is_own && one.why.is_none())?;
    let sentence = format!("the integration {} delivers, but: {health}", one.name);
    let finding = Finding::new(Cause::IntegrationFailing, sentence)
        .remedy("correct the messages, the settings of the integration or its target");
    Some(finding.command(&one.lines.test))
}

/// Why an integration does not deliver; none: it does.
pub(super) fn not_delivered(one: &Integration) -> Option<Finding> {
    let name = &one.name;
    let is_bare = one.is_own && one.waiting == Some(0);
    let what = match (one.is_own, one.has_messages, one.waiting) {
        (true, _, Some(0)) => format!("the integration {name}"),
        (true, _, Some(1)) => format!("1 message waits for the integration {name}"),
        (true, _, Some(count)) => format!("{count} messages wait for the integration {name}"),
        (true, _, None) => format!("the messages wait for the integration {name}"),
        (false, true, _) => format!("its messages wait for the integration {name}"),
        (false, false, _) if one.takes_topic => {
            format!("messages of that topic wait for the integration {name}")
        }
        (false, false, _) => format!("messages wait for the integration {name}"),
    };
    let why = one.why.as_ref()?;
    let does = why.state.words();
    let reason = match &*why.why {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let sentence = match why.state {
        // None waits.
        _ if is_bare => format!("{what} {does}{reason}"),
        Halt::Fails => format!("{what}{reason}{}", too_old(one)),
        _ => format!("{what}, which {does}{reason}"),
    };
    let finding = advised(why, sentence);
    Some(match why.tries {
        Some((since_ms, attempts)) => finding.since(since_ms).of_many(attempts.into()),
        None => finding,
    })
}

/// A finding about an integration that does not deliver, with what to do about that.
fn advised(why: &NotDelivering, sentence: String) -> Finding {
    let cause = match why.state {
        Halt::Paused => Cause::IntegrationPaused,
        _ => Cause::IntegrationFailing,
    };
    let worded = WordedRemedy::new(why.remedy, why.command.clone());
    Finding::new(cause, sentence).with_remedy(worded)
}

/// Messages that wait for too long are dropped, and not delivered later: as the end of a sentence.
fn too_old(one: &Integration) -> String {
    match one.age_max_secs {
        0 => String::new(),
        secs => {
            format!("; messages that wait for longer than {secs} s are dropped (max_age_secs)")
        }
    }
}

/// Returns what is wrong with a webhook of a rule that was asked about.
pub(super) fn of_webhook(one: &Integration) -> Vec<Finding> {
    let all = [not_delivered(one), queue_finding(one), letters_finding(one)];
    all.into_iter().flatten().collect()
}
