//! Messages that did not come to a client that is subscribed, or nearly so: those that were
//! published before it subscribed, those of a topic that its subscription misses, and those whose
//! publish was refused.

use martlet_broker::UnmatchedTopic;

use super::facts::{SUBSCRIPTIONS_MAX, TOLD, TopicFacts, Unreadable};
use super::near::{NearMiss, matches, nearest, nearly_same};
use crate::cause::{Bearing, Cause};
use crate::commands;
use crate::event_kind::EventKind;
use crate::integrations::part_in_words;
use crate::journal::Run;
use crate::rfc3339;
use crate::why::asked::Asked;
use crate::why::found::{CLOCKS_DIFFER_MS, Found};
use crate::why::session::Session;
use crate::why::{Finding, Side};

/// Findings about messages for the client.
pub(super) fn arrivals(asked: &Asked, facts: &TopicFacts, found: &mut Found) {
    if asked.side != Side::Publisher {
        refused_publishes(asked, facts, found);
    }
    match &asked.question.topic {
        Some(topic) => {
            let mut unmatched = asked.unmatched.iter();
            let published = unmatched.find(|one| *one.topic == **topic);
            let missed = published.filter(|one| asked.may_read() && !one.is_forbidden);
            let missed = missed.and_then(|one| missed_of_topic(asked, facts, one));
            let missed = missed.or_else(|| nearly_published(asked, facts, topic));
            found.extend(missed.map(|finding| (Bearing::Topic, finding)));
        }
        None => {
            let latest = asked.unmatched.iter().rev();
            let missed = latest.filter(|one| !asked.published(one) && !is_kept(asked, one));
            let missed = missed.filter_map(|one| missed_by(asked, facts, one));
            found.extend(
                missed
                    .take(TOLD)
                    .map(|finding| (Bearing::Happened, finding)),
            );
        }
    }
}

/// Tells whether what was published is kept in the tables, and is published again once the client
/// subscribes: its state reports that.
fn is_kept(asked: &Asked, one: &UnmatchedTopic) -> bool {
    let mut kept = asked.kept.iter();
    !one.is_forbidden
        && kept.any(|(topic, part)| {
            *topic == *one.topic && part.is_none_or(|part| one.client_id.as_deref() == Some(part))
        })
}

/// Messages to nearly the topic that was asked about, which is likely meant: the latest of them.
fn nearly_published(asked: &Asked, facts: &TopicFacts, topic: &str) -> Option<Finding> {
    let mut latest = asked.unmatched.iter().rev();
    let is_got =
        |one: &UnmatchedTopic| own_filters(asked).any(|filter| matches(filter, &one.topic));
    let (one, words) = latest.find_map(|one| {
        let words = nearly_same(topic, &one.topic).filter(|_| !is_got(one))?;
        Some((one, words))
    })?;
    let is_own = is_of_same_user(asked, facts, one);
    if !is_own && asked.side == Side::Publisher {
        return None;
    }
    let (published, reached) = (published(one), reached(one));
    let sentence = format!("{published} {reached}, and {topic} is likely meant: {words}");
    let cause = match is_own {
        true => Cause::SubscriberAbsent,
        false => Cause::NotSubscribed,
    };
    let other = &one.topic;
    let remedy = format!("publish to {topic}, or have the receiver subscribe to {other}");
    Some(of_messages(one, cause, sentence, remedy))
}

/// The Topic Filters that the client is subscribed to, with `$share/…`.
pub(super) fn own_filters(asked: &Asked) -> impl Iterator<Item = &str> {
    let all = asked.session.iter();
    let all = all.flat_map(|session| &session.subscriptions);
    all.map(|(filter, _)| &**filter).take(SUBSCRIPTIONS_MAX)
}

/// How the client's subscriptions miss a topic: the likeliest of them, and its Topic Filter.
pub(super) fn own_near_miss<'a>(asked: &'a Asked, topic: &str) -> Option<(&'a str, NearMiss)> {
    nearest(own_filters(asked), topic)
}

/// Messages that the client missed, though it is subscribed to the topic now, or nearly.
fn missed_by(asked: &Asked, facts: &TopicFacts, one: &UnmatchedTopic) -> Option<Finding> {
    let topic = &*one.topic;
    let is_named = asked.is_named_in(topic);
    if own_filters(asked).any(|filter| matches(filter, topic)) {
        // A subscription to all topics does not mean each of them.
        let is_meant = is_named || own_filters(asked).any(|filter| filter == topic);
        let mut unreadable = facts.unreadable.iter();
        if !is_meant {
            return None;
        }
        return match unreadable.find(|other| other.topic == topic) {
            Some(unreadable) => Some(not_readable(one, unreadable)),
            // It may read it by now.
            None if one.is_forbidden => None,
            None => missed_of_topic(asked, facts, one),
        };
    }
    // The topic is not meant for a client that may not read it, or whose user publishes to it.
    let may_read = !facts.unreadable.iter().any(|other| other.topic == topic);
    let is_meant = is_named && may_read && !is_of_same_user(asked, facts, one);
    match own_near_miss(asked, topic) {
        Some((filter, near)) if near.is_likely || is_meant => {
            Some(nearly_subscribed(one, filter, &near, may_read))
        }
        Some(_) => None,
        None if is_meant && own_filters(asked).next().is_none() => Some(not_subscribed(one)),
        None => None,
    }
}

/// The client, or another one of its user, published those messages last.
pub(super) fn is_of_same_user(asked: &Asked, facts: &TopicFacts, one: &UnmatchedTopic) -> bool {
    let mut own = facts.own_publishers.iter();
    asked.published(one) || own.any(|client_id| one.client_id.as_deref() == Some(client_id))
}

/// Why messages of a topic without receivers did not come to the client, which is subscribed to it
/// now.
fn missed_of_topic(asked: &Asked, facts: &TopicFacts, one: &UnmatchedTopic) -> Option<Finding> {
    let topic = &*one.topic;
    let filter = own_filters(asked).find(|filter| matches(filter, topic))?;
    // A command was published again when the device subscribed. Subscribers to all topics may have
    // got the message.
    if is_command(one) || one.reached_all && matches!(filter, "#" | "+/#") {
        return None;
    }
    match with_no_local(asked, topic) {
        Some(filter) if asked.published(one) => Some(no_local(one, filter)),
        _ => Some(ended_before(asked, facts, one).unwrap_or_else(|| {
            let finding = before_it_subscribed(asked, facts, one, filter);
            with_session_end(asked, one, finding)
        })),
    }
}

/// When connections of the client ended, as far as that is known.
fn ends(asked: &Asked) -> impl Iterator<Item = u64> {
    let is_end = |run: &&Run| run.last.what == EventKind::Disconnected;
    asked.runs.iter().filter(is_end).map(|run| run.last.at_ms)
}

/// Adds that the client was connected before, and its session ended with that connection.
fn with_session_end(asked: &Asked, one: &UnmatchedTopic, mut finding: Finding) -> Finding {
    let went_ms = ends(asked).filter(|at_ms| *at_ms <= one.last_ms).max();
    let session = asked.session.as_ref();
    let ends_so = session.is_some_and(|session| session.session_expiry_secs == 0);
    if let Some(went_ms) = went_ms.filter(|_| ends_so) {
        finding.sentence.push_str(&format!(
            "; it was connected until {}, and its session ended with that connection: its Session \
             Expiry Interval is 0 (before MQTT 5: Clean Session 1)",
            rfc3339::in_words(went_ms)
        ));
    }
    finding
}

/// The client's subscription to a topic, if all that it has have No Local.
pub(super) fn with_no_local<'a>(asked: &'a Asked, topic: &str) -> Option<&'a str> {
    let session = asked.session.as_ref()?;
    let mut own = own_filters(asked).filter(|filter| matches(filter, topic));
    let first = own.next()?;
    let has_no_local = |filter: &str| session.no_local.iter().any(|of| of == filter);
    (has_no_local(first) && own.all(has_no_local)).then_some(first)
}

fn no_local(one: &UnmatchedTopic, filter: &str) -> Finding {
    let (published, were) = (published(one), were(one));
    let sentence = format!(
        "{published} {were} not sent to it: it published them itself, and its subscription to \
         {filter} has No Local"
    );
    let remedy = format!(
        "have the client subscribe to {filter} without No Local if it should receive its own \
         messages"
    );
    of_messages(one, Cause::NoLocal, sentence, remedy)
}

/// Commands are published by a part of the node.
fn is_command(one: &UnmatchedTopic) -> bool {
    one.client_id.as_deref() == Some(commands::PART)
}

/// Words for the publishers of the messages of a topic, and their number.
pub(super) fn published(one: &UnmatchedTopic) -> String {
    let what = match is_command(one) {
        true => "command",
        false => "message",
    };
    let count = match one.count {
        // Not each was counted.
        _ if one.reached_all => format!("{what}s"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let topic = &one.topic;
    match one.client_id.as_ref().filter(|_| !is_command(one)) {
        Some(client_id) => format!("{count} that {client_id} published to {topic}"),
        None => format!("{count} to {topic}"),
    }
}

/// The session that the client had would have kept them, and had ended by its Session Expiry
/// Interval.
fn ended_before(asked: &Asked, facts: &TopicFacts, one: &UnmatchedTopic) -> Option<Finding> {
    let session = keeping_session(asked)?;
    let went_ms = ends(asked).filter(|at_ms| *at_ms < one.last_ms).max()?;
    let ended_ms = went_ms.saturating_add(u64::from(session.session_expiry_secs) * 1_000);
    let came_ms = session.since_ms?.saturating_add(CLOCKS_DIFFER_MS);
    let came_later = session.connected && came_ms > one.last_ms;
    if !came_later || ended_ms > one.last_ms.saturating_add(CLOCKS_DIFFER_MS) {
        return None;
    }
    let (published, were) = (published(one), were(one));
    let secs = session.session_expiry_secs;
    let (most, longer) = match is_expiry_bounded(facts, session) {
        true => (
            " (limits.session_expiry_max_secs, the most that the node grants)",
            "raise limits.session_expiry_max_secs and restart the node",
        ),
        false => ("", "have the client set a longer Session Expiry Interval"),
    };
    let sentence = format!(
        "{published} arrived after its session had ended, and {were} not retained: its session \
         ends {secs} s after its connection{most}"
    );
    let remedy = format!(
        "publish again; {longer}, or have the client connect more often; publish with RETAIN the \
         messages that later subscribers need"
    );
    Some(of_messages(one, Cause::SessionEnded, sentence, remedy))
}

/// The session of the client, if it outlives its connections.
fn keeping_session(asked: &Asked) -> Option<&Session> {
    let session = asked.session.as_ref()?;
    (session.session_expiry_secs > 0 && !session.clean_start).then_some(session)
}

/// The session has the longest Session Expiry Interval that the node grants.
fn is_expiry_bounded(facts: &TopicFacts, session: &Session) -> bool {
    let max = facts.session_expiry_max_secs;
    max < u32::MAX && session.session_expiry_secs == max
}

/// Words for the receivers of the messages of a topic.
fn reached(one: &UnmatchedTopic) -> &'static str {
    match one.reached_all {
        true => "reached only clients that are subscribed to all topics",
        false => "reached nobody",
    }
}

fn before_it_subscribed(
    asked: &Asked,
    facts: &TopicFacts,
    one: &UnmatchedTopic,
    filter: &str,
) -> Finding {
    let (published, were) = (published(one), were(one));
    let others = match one.reached_all {
        true => "only clients that are subscribed to all topics got them",
        false => "nobody was subscribed then, so nobody gets them",
    };
    let sentence = format!(
        "{published} arrived before it subscribed to {filter}, and {were} not retained: {others}"
    );
    let again = "publish again; publish with RETAIN the messages that later subscribers need";
    let bounded = keeping_session(asked).filter(|session| is_expiry_bounded(facts, session));
    let remedy = match bounded {
        Some(session) => format!(
            "{again}; its session ends {} s after its connection: if it is away for longer, raise \
             limits.session_expiry_max_secs",
            session.session_expiry_secs
        ),
        None => format!(
            "{again}, or have the client keep its session (Clean Start 0, Session Expiry Interval) \
             and its subscription with QoS 1"
        ),
    };
    of_messages(one, Cause::NotRetained, sentence, remedy)
}

fn not_readable(one: &UnmatchedTopic, unreadable: &Unreadable) -> Finding {
    let (published, were) = (published(one), were(one));
    let Unreadable { topic, why, worded } = unreadable;
    let sentence = format!(
        "{published} {were} not sent to it: it is subscribed, and may not read {topic}: {why}"
    );
    Finding::new(Cause::NotPermitted, sentence)
        .with_remedy(worded.clone())
        .with_messages(one)
}

/// A finding about these messages.
fn of_messages(
    one: &UnmatchedTopic,
    cause: Cause,
    sentence: String,
    remedy: impl Into<String>,
) -> Finding {
    let finding = Finding::new(cause, sentence).remedy(remedy);
    finding.with_messages(one)
}

fn were(one: &UnmatchedTopic) -> &'static str {
    match one.count {
        1 if !one.reached_all => "was",
        _ => "were",
    }
}

/// `may_read`: the rules permit it to read the topic.
fn nearly_subscribed(
    one: &UnmatchedTopic,
    filter: &str,
    near: &NearMiss,
    may_read: bool,
) -> Finding {
    let (published, words, topic) = (published(one), &near.words, &one.topic);
    let reached = reached(one);
    let sentence = format!(
        "it is subscribed to {filter}, and {published} {reached}, since that filter does not \
         match: {words}"
    );
    let remedy = match may_read {
        true => {
            format!("have the client subscribe to {topic}, or publish to what {filter} matches")
        }
        false => format!("publish to what {filter} matches: it may not read {topic}"),
    };
    of_messages(one, Cause::NotSubscribed, sentence, remedy)
}

fn not_subscribed(one: &UnmatchedTopic) -> Finding {
    let (published, topic, reached) = (published(one), &one.topic, reached(one));
    let sentence = format!("it has no subscription, and {published} {reached}");
    let remedy = format!("have the client subscribe to {topic}");
    of_messages(one, Cause::NotSubscribed, sentence, remedy)
}

/// Publishes of other clients that would have come to this one.
fn refused_publishes(asked: &Asked, facts: &TopicFacts, found: &mut Found) {
    for entry in facts.refused_publishes.iter().rev().take(TOLD) {
        let topic = entry.topic.as_deref().unwrap_or_default();
        let Some((bearing, meant)) = is_meant_by(asked, topic) else {
            continue;
        };
        // What was refused of the user that was asked about is reported as that.
        let is_own = entry.client_id == asked.client_id
            || entry.user_name.as_deref() == Some(&asked.question.name);
        if is_own {
            continue;
        }
        let publisher = match &*entry.client_id {
            "" => "a client".to_owned(),
            client_id => part_in_words(client_id).unwrap_or_else(|| client_id.to_owned()),
        };
        let why = entry.why.as_deref().unwrap_or_default();
        let sentence = match entry.what {
            EventKind::RateExceeded => {
                format!("messages that {publisher} published to {topic} were dropped: {why}{meant}")
            }
            _ => format!("{publisher} published to {topic}, and was refused: {why}{meant}"),
        };
        let cause = entry.cause.unwrap_or(Cause::Other);
        let mut finding = Finding::new(cause, sentence).since(entry.at_ms);
        let bearing = match facts.permitted_now.contains(&entry.seq) {
            true => {
                finding.sentence.push_str("; the rules permit it now");
                Bearing::Over
            }
            false => {
                finding.remedy.clone_from(&entry.remedy);
                finding.command.clone_from(&entry.command);
                bearing
            }
        };
        found.push((bearing, finding));
    }
}

/// Whether messages of a topic are likely meant for the client: what their refusal weighs, and the
/// words for a topic that is nearly the one in the question.
fn is_meant_by(asked: &Asked, topic: &str) -> Option<(Bearing, String)> {
    if let Some(asked) = &asked.question.topic {
        if asked == topic {
            return Some((Bearing::Topic, String::new()));
        }
        let words = nearly_same(asked, topic)?;
        return Some((
            Bearing::Topic,
            format!("; {asked} is likely meant: {words}"),
        ));
    }
    let is_named = asked.is_named_in(topic);
    let is_meant = own_filters(asked).any(|filter| filter == topic)
        || is_named && own_filters(asked).any(|filter| matches(filter, topic));
    if is_meant {
        return Some((Bearing::Happened, String::new()));
    }
    // Another client, such as a gateway, publishes for a device that never connects itself.
    let was_there = asked.session.is_some() || asked.presence.is_some() || !asked.runs.is_empty();
    match is_named {
        true if !was_there => Some((Bearing::Happened, String::new())),
        true => Some((Bearing::Aside, String::new())),
        false => None,
    }
}
