//! Messages that wait for an integration.

use martlet_broker::{DropReason, Limit, LossTimes, UnmatchedTopic};
use martlet_integrate::{AccessRefused, CLIENT_IDS, bridge};

use super::Finding;
use super::arrival::is_published_by_itself;
use super::facts::{Facts, Integration, NotDelivering, Session};
use super::found::{Bearing, Found, RECENT_MS, first_of, uncapitalized};
use super::near::{is_nearly_matched, nearest_in_words};
use super::side::{Side, side};
use crate::cause::Cause;
use crate::event_words;
use crate::journal::{remedy_of_drop, remedy_of_limit};

/// Names of the integrations of rules begin with this.
const RULES: &str = "rules/";

/// Filters of an integration that are named, at most.
const FILTERS_TOLD: usize = 5;

/// The HTTP status for a known caller without the right.
const FORBIDDEN: u16 = 403;

/// It was asked about an integration.
pub(super) fn is_one(facts: &Facts) -> bool {
    facts.integrations.iter().any(|one| one.is_own)
}

/// What there is to find of integrations.
pub(super) fn integrations(facts: &Facts, found: &mut Found) {
    for one in &facts.integrations {
        found.extend(missed_by(facts, one));
        let bearing = match (one.is_own, one.has_messages) {
            // The message in the question never comes to it.
            (true, _) if wrong_direction(facts, one).is_some() => Bearing::Aside,
            (true, _) if misses_topic(facts, one) => Bearing::Aside,
            (true, _) => Bearing::Topic,
            // It is asked where messages of the topic are.
            (false, true) if one.takes_topic => Bearing::Topic,
            (false, true) if facts.question.topic.is_none() => Bearing::Happened,
            (false, true) => Bearing::Aside,
            // What is published becomes a dead letter.
            (false, false) if one.takes_topic && is_lost(facts, one) => Bearing::Topic,
            // Its publishers wait.
            (false, false) if one.takes_topic && one.holds => Bearing::Topic,
            (false, false) if one.takes_topic => Bearing::Aside,
            (false, false) if one.holds && facts.question.topic.is_none() => Bearing::Aside,
            (false, false) => {
                let topic = facts.question.topic.as_deref().unwrap_or_default();
                // The filters of the rules' integration are those of the rules.
                let is_near =
                    !one.name.starts_with(RULES) && is_nearly_matched(&one.filters, topic);
                if is_near && misses_topic(facts, one) {
                    found.push((Bearing::Aside, not_taken(facts, one)));
                }
                continue;
            }
        };
        found.extend(finding(one).map(|finding| (bearing, finding)));
        match wrong_direction(facts, one) {
            Some(finding) => found.push((Bearing::Topic, finding)),
            None if one.is_own && misses_topic(facts, one) && brought(facts, one).is_none() => {
                found.push((Bearing::Topic, not_taken(facts, one)));
            }
            None => {}
        }
        let of_letters = match one.is_own {
            true => Bearing::Happened,
            false if one.takes_topic && is_lost(facts, one) => Bearing::Topic,
            false => Bearing::Aside,
        };
        found.extend(letters_finding(one).map(|finding| (of_letters, finding)));
        found.extend(queue_finding(one).map(|finding| (bearing, finding)));
        found.extend(health_finding(one).map(|finding| (bearing, finding)));
        found.extend(slow_finding(facts.now_ms, one).map(|finding| (bearing, finding)));
        if let (true, Some(session)) = (one.is_own, &facts.session) {
            lost(facts.now_ms, one, session, found);
        }
    }
}

/// A Topic Name was asked about, and none of its filters matches it. One without filters takes its
/// messages from elsewhere.
fn misses_topic(facts: &Facts, one: &Integration) -> bool {
    let question = &facts.question;
    let is_name = question.topic.is_some() && !question.is_about_filter();
    is_name && !one.takes_topic && !one.filters.is_empty()
}

/// A bridge that was asked about carries messages of the topic in the other direction than they go.
fn wrong_direction(facts: &Facts, one: &Integration) -> Option<Finding> {
    let question = &facts.question;
    let topic = question.topic.as_deref()?;
    if !one.is_own || question.is_about_filter() {
        return None;
    }
    let name = &one.name;
    let there = one.brings.iter().find_map(|topics| topics.there(topic));
    let waits_here = || {
        let mut subscribers = facts.subscribers.iter().flatten();
        subscribers.any(|other| !other.client_id.starts_with(CLIENT_IDS))
    };
    let (sentence, direction) = match (one.takes_topic, there) {
        // Somebody here waits for what it brings.
        (false, Some(_)) if waits_here() => return None,
        (false, Some(there)) => (
            format!(
                "the integration {name} brings messages of {topic} from {} (direction in), and \
                 sends none there",
                other_topic(topic, &there)
            ),
            "out",
        ),
        // There are subscribers here, and no publishers.
        (true, None) if is_bridge(name) && one.delivered == 0 && waits_here() => (
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
    Some(finding.command(&one.show_command))
}

/// The topic at the other broker, in words.
fn other_topic(here: &str, there: &str) -> String {
    match here == there {
        true => "the other broker".to_owned(),
        false => format!("the topic {there} of the other broker"),
    }
}

/// What an integration brings of the topic that was asked about, which may be its name at the other
/// broker, in words.
fn brought(facts: &Facts, one: &Integration) -> Option<String> {
    let question = &facts.question;
    let topic = question.topic.as_deref()?;
    if question.is_about_filter() {
        return None;
    }
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

/// The bridge that brings the topic that was asked about, and has brought nothing yet: as the end
/// of a sentence about a subscriber.
pub(super) fn nothing_brought(facts: &Facts) -> String {
    let mut idle = facts.integrations.iter().filter(|one| one.brought == 0);
    let words = idle.find_map(|one| brought(facts, one));
    words.map_or_else(String::new, |words| format!("; {words}"))
}

fn is_bridge(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(kind, _)| kind == bridge::KIND.name)
}

/// No filter of it matches the topic that was asked about.
fn not_taken(facts: &Facts, one: &Integration) -> Finding {
    let topic = facts.question.topic.as_deref().unwrap_or_default();
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
    finding.command(&one.show_command)
}

/// What was dropped for an integration that was asked about, as its session counts it. What its
/// target refused is reported as dead letters.
fn lost(now_ms: u64, one: &Integration, session: &Session, found: &mut Found) {
    let whose = format!(" for the integration {}", one.name);
    let drops = session.drops.iter().zip(&session.dropped_at);
    let drops = drops.filter(|((reason, count), _)| {
        *count > 0 && *reason != DropReason::RefusedByReceiver && !reason.is_expected()
    });
    for ((reason, count), at) in drops {
        let (why, remedy) = words_of_drop(*reason);
        let sentence = event_words::dropped(*count, &whose, &why, *reason);
        let losses = (*count, *at);
        let mut finding = lost_finding(Cause::of_drop(*reason), losses, sentence);
        finding.remedy = remedy;
        found.push((bearing_of_loss(now_ms, *at), finding));
    }
    if session.expired > 0 {
        let sentence = event_words::expired(session.expired, &whose);
        let losses = (session.expired, session.expired_at);
        let finding = lost_finding(Cause::Expired, losses, sentence)
            .remedy("publish with a longer Message Expiry Interval");
        found.push((bearing_of_loss(now_ms, session.expired_at), finding));
    }
}

/// Why messages were dropped for an integration, within a sentence, and what to do about it.
pub(super) fn words_of_drop(reason: DropReason) -> (String, Option<String>) {
    match reason {
        DropReason::QueueFull => (
            Limit::PartQueue.words().to_owned(),
            remedy_of_limit(Limit::PartQueue).map(|worded| worded.text),
        ),
        reason => (uncapitalized(reason.meaning()), remedy_of_drop(reason)),
    }
}

fn bearing_of_loss(now_ms: u64, at: LossTimes) -> Bearing {
    match now_ms.saturating_sub(at.last_ms) <= RECENT_MS {
        true => Bearing::Happened,
        false => Bearing::Over,
    }
}

fn lost_finding(cause: Cause, (count, at): (u64, LossTimes), sentence: String) -> Finding {
    let mut finding = Finding::new(cause, sentence).of_many(count);
    finding.since_ms = Some(at.first_ms).filter(|ms| *ms > 0);
    finding.last_ms = Some(at.last_ms).filter(|ms| *ms > 0);
    finding
}

/// An integration that was asked about and delivers, in words.
pub(super) fn is_well(facts: &Facts) -> Option<Finding> {
    let one = facts.integrations.iter().find(|one| one.is_own)?;
    let (name, delivered) = (&one.name, one.delivered);
    let waiting = match one.waiting {
        None | Some(0) => "none waits".to_owned(),
        Some(1) => format!("1 waits{}", for_secs(facts.now_ms, one)),
        Some(count) => format!("{count} wait{}", oldest(facts.now_ms, one)),
    };
    let messages = if delivered == 1 {
        "message"
    } else {
        "messages"
    };
    let refused = match one.refused {
        0 => String::new(),
        count => format!(", {count} refused"),
    };
    // The topic is one of those that the bridge brings in, not one that it delivers.
    if let Some(words) = brought(facts, one).filter(|_| !one.takes_topic) {
        return Some(Finding::new(Cause::NothingWrong, words));
    }
    let sentence = format!(
        "the integration {name} delivers: {delivered} {messages} since the start{refused}, \
         {waiting}"
    );
    Some(Finding::new(Cause::NothingWrong, sentence))
}

/// Age of the oldest message that waits for an integration from which on it falls behind.
const SLOW_MS: u64 = 10_000;

/// An integration whose oldest message came then falls behind.
pub(super) fn is_slow(now_ms: u64, oldest_ms: u64) -> bool {
    now_ms.saturating_sub(oldest_ms) >= SLOW_MS
}

/// It delivers, and messages wait for long.
fn slow_finding(now_ms: u64, one: &Integration) -> Option<Finding> {
    let oldest_ms = one.oldest_ms.filter(|ms| is_slow(now_ms, *ms))?;
    if one.why.is_some() || one.queue.is_some() {
        return None;
    }
    let (name, delivered) = (&one.name, one.delivered);
    let waiting = match one.waiting? {
        0 => return None,
        1 => format!("1 message waits{}", for_secs(now_ms, one)),
        count => format!("{count} messages wait{}", oldest(now_ms, one)),
    };
    let sentence = format!(
        "the integration {name} falls behind: {waiting}; its target has accepted {delivered} since \
         the start"
    );
    let finding = Finding::new(Cause::IntegrationFailing, sentence)
        .since(oldest_ms)
        .remedy("find out why the target is slow; to test whether it answers, run");
    Some(finding.command(&one.command))
}

/// For how long the only message that waits has done so, as the end of a clause.
fn for_secs(now_ms: u64, one: &Integration) -> String {
    let age = one.oldest_ms.map(|ms| now_ms.saturating_sub(ms) / 1_000);
    age.map_or_else(String::new, |secs| format!(" for {secs} s"))
}

/// The same of the oldest one.
fn oldest(now_ms: u64, one: &Integration) -> String {
    match for_secs(now_ms, one) {
        secs if secs.is_empty() => secs,
        secs => format!(", the oldest{secs}"),
    }
}

/// Messages of a client without receivers.
pub(super) fn published_in_vain(facts: &Facts) -> impl DoubleEndedIterator<Item = &UnmatchedTopic> {
    let unmatched = facts.unmatched.iter();
    unmatched.filter(|one| is_published_by_itself(facts, one))
}

/// Messages of the client without receivers that an integration nearly takes: those of the topic
/// that is nearly the one in the question, if there is one.
fn missed_by(facts: &Facts, one: &Integration) -> Option<(Bearing, Finding)> {
    if one.is_own {
        return None;
    }
    let expected = facts.question.topic.as_deref();
    let is_meant = |topic: &str| match expected {
        Some(expected) => one.takes_topic && is_nearly_matched([expected], topic),
        None => true,
    };
    let mut latest = published_in_vain(facts).rev();
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
        .command(&one.show_command);
    let bearing = match expected {
        Some(_) => Bearing::Topic,
        None => Bearing::Happened,
    };
    Some((bearing, finding.with_messages(missed)))
}

/// Why the integration that hands messages to the rules of a tenant does not; none: it does.
pub(super) fn of_rules(one: &Integration) -> Option<Finding> {
    finding(&with_topic(one))
}

/// An integration, as one that was asked about.
fn with_topic(one: &Integration) -> Integration {
    Integration {
        is_own: true,
        ..one.clone()
    }
}

/// The target refuses messages, and the client in the question does not receive the topic.
fn is_lost(facts: &Facts, one: &Integration) -> bool {
    let is_refused = one.access_refused.is_some() || one.refused > 0 && one.dead_letters > 0;
    is_refused && side(facts) != Side::Receiver
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
            one.send_again_command
        ))
        .command(&one.letters_command)
}

/// The target has refused messages.
fn letters_finding(one: &Integration) -> Option<Finding> {
    if let Some(refused) = one.access_refused {
        return Some(access_finding(one, refused));
    }
    let name = &one.name;
    let sentence = match one.dead_letters {
        0 => return None,
        1 => format!("the target of the integration {name} refused 1 message: it is a dead letter"),
        count => {
            format!(
                "the target of the integration {name} refused {count} messages: they are dead letters"
            )
        }
    };
    let reason = match (&*one.letter_reason, one.dead_letters) {
        ("", _) => String::new(),
        (reason, 1) => format!("; its reason: {reason}"),
        (reason, _) => format!("; the reason of one of them: {reason}"),
    };
    let finding = Finding::new(Cause::IntegrationFailing, sentence + &reason)
        .of_many(one.dead_letters)
        .remedy("look at their reasons, correct the target, and send them again or drop them");
    Some(finding.command(&one.letters_command))
}

/// The queue is full, or near its bound.
fn queue_finding(one: &Integration) -> Option<Finding> {
    let (name, queue) = (&one.name, one.queue.as_ref()?);
    let sentence = format!("the integration {name} falls behind: {queue}");
    let finding = Finding::new(Cause::IntegrationFailing, sentence).remedy(
        "see why the target of the integration is down or slow, or raise `max_bytes` of the \
         integration and restart the node; to test whether it reaches its target, run",
    );
    Some(finding.command(&one.command))
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
    Some(finding.command(&one.command))
}

fn finding(one: &Integration) -> Option<Finding> {
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
    let sentence = match why {
        // None waits.
        NotDelivering::Failing { error, .. } if is_bare => format!("{what} fails: {error}"),
        NotDelivering::Stopped { why, .. } if is_bare => format!("{what} has stopped: {why}"),
        NotDelivering::Paused { .. } if is_bare => format!("{what} is paused"),
        NotDelivering::Starting if is_bare => format!("{what} is starting"),
        NotDelivering::Failing { error, .. } => format!("{what}: {error}{}", too_old(one)),
        NotDelivering::Stopped { why, .. } => format!("{what}, which has stopped: {why}"),
        NotDelivering::Paused { .. } => format!("{what}, which is paused"),
        NotDelivering::Starting => format!("{what}, which is starting"),
    };
    let finding = advised(why, sentence);
    Some(match why {
        NotDelivering::Failing {
            since_ms, attempts, ..
        } => finding.since(*since_ms).of_many(u64::from(*attempts)),
        _ => finding,
    })
}

/// A finding about an integration that does not deliver, with what to do about that.
pub(super) fn advised(why: &NotDelivering, sentence: String) -> Finding {
    let (cause, remedy, command) = match why {
        NotDelivering::Failing {
            remedy, command, ..
        } => (Cause::IntegrationFailing, Some(*remedy), command.as_ref()),
        NotDelivering::Stopped { command, .. } => (
            Cause::IntegrationFailing,
            Some("correct the message or the target, then resume the integration"),
            Some(command),
        ),
        NotDelivering::Paused { command } => (
            Cause::IntegrationPaused,
            Some("resume the integration"),
            Some(command),
        ),
        NotDelivering::Starting => (Cause::IntegrationFailing, None, None),
    };
    let mut finding = Finding::new(cause, sentence);
    finding.remedy = remedy.map(str::to_owned);
    finding.command = command.cloned();
    finding
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

/// What is wrong with the webhooks of a rule that was asked about.
pub(super) fn of_webhook(one: &Integration) -> Vec<Finding> {
    let named = with_topic(one);
    let all = [
        finding(&named),
        queue_finding(&named),
        letters_finding(&named),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE_FULL: DropReason = DropReason::QueueFull;

    fn session(drops: &[(DropReason, u64)], at: &[(u64, u64)]) -> Session {
        let at = at.iter();
        let at = at.map(|(first_ms, last_ms)| LossTimes {
            first_ms: *first_ms,
            last_ms: *last_ms,
        });
        Session {
            connected: true,
            drops: drops.to_vec(),
            dropped_at: at.collect(),
            ..Session::default()
        }
    }

    #[test]
    fn losses_are_told_with_their_times() {
        let facts = Facts {
            now_ms: 1_000,
            session: Some(session(
                &[(QUEUE_FULL, 7), (DropReason::TooOld, 1)],
                &[(400, 900), (600, 600)],
            )),
            integrations: vec![Integration {
                name: "file/audit".to_owned(),
                is_own: true,
                ..Integration::default()
            }],
            ..Facts::default()
        };
        let mut found = Vec::new();
        integrations(&facts, &mut found);
        let full = found.iter().find(|(_, one)| one.cause == Cause::QueueFull);
        let (bearing, full) = full.unwrap();
        assert_eq!(*bearing, Bearing::Happened);
        assert_eq!((full.since_ms, full.last_ms), (Some(400), Some(900)));
        assert!(
            full.sentence
                .starts_with("7 messages for the integration file/audit were dropped: "),
            "{full:?}"
        );
    }

    #[test]
    fn what_the_target_refused_is_told_as_dead_letters_alone() {
        let refused = [(DropReason::RefusedByReceiver, 3)];
        let facts = Facts {
            session: Some(session(&refused, &[(500, 900)])),
            integrations: vec![Integration {
                is_own: true,
                ..Integration::default()
            }],
            ..Facts::default()
        };
        let mut found = Vec::new();
        integrations(&facts, &mut found);
        assert_eq!(found, []);
    }
}
