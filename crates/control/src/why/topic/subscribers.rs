//! Who receives the topic that was asked about, and what keeps messages from them.

use martlet_broker::{DropReason, LossTimes};

use super::arrival::{is_of_same_user, own_near_miss, with_no_local};
use super::elsewhere::subscribers_elsewhere;
use super::facts::{NearSubscriber, Subscriber, TOLD, TopicFacts};
use super::refused::refused;
use crate::cause::{Bearing, Cause};
use crate::event_kind::EventKind;
use crate::event_words;
use crate::integrations::integration_of;
use crate::text::typed_names;
use crate::why::asked::Asked;
use crate::why::events::lost_by_group;
use crate::why::found::{ACKNOWLEDGE, Found, is_unacknowledged, uncapitalized};
use crate::why::{Finding, Side};

/// Course of messages of the topic that was asked about.
pub(super) fn topic(asked: &Asked, facts: &TopicFacts, found: &mut Found) {
    let Some(topic) = &asked.question.topic else {
        return;
    };
    let session = asked.session.as_ref();
    let own = session
        .map(|session| session.matching(topic))
        .unwrap_or_default();
    if let Some(rules) = asked.rules.as_ref().filter(|_| asked.may_not) {
        return refused(asked, rules, topic, &own, found);
    }
    if let Some((filter, qos)) = own.iter().max_by_key(|(_, qos)| *qos) {
        // It does not get its own messages of the topic.
        if let Some(filter) = with_no_local(asked, topic) {
            let sentence = format!(
                "its subscription to {filter} has No Local: it does not receive messages of \
                 {topic} that it publishes itself"
            );
            found.push((Bearing::Aside, Finding::new(Cause::NoLocal, sentence)));
        }
        found.extend(odd_member(asked, facts, &own).map(|finding| (Bearing::Aside, finding)));
        if *qos == 0 {
            let sentence = format!(
                "it subscribes to {filter} with QoS 0: it receives messages of {topic} with QoS 0, \
                 whatever QoS they are published with, and none is kept while it is away"
            );
            let finding = Finding::new(Cause::QosDowngraded, sentence);
            found.push((Bearing::Aside, finding.remedy("subscribe with QoS 1 or 2")));
        }
        return;
    }
    let may_read = asked.rules.is_some() && asked.may_read();
    let is_either = asked.side == Side::Either;
    if asked.side == Side::Receiver {
        if asked.is_connected && !is_refused(asked) {
            let sentence = format!("it may read {topic}, and has no subscription that it matches");
            let remedy = format!("have the client subscribe to {topic}");
            let finding = not_subscribed(asked, topic, sentence, remedy);
            found.push((Bearing::Topic, finding));
        }
        found.extend(missed_while_away(asked, topic));
        return;
    }
    if is_either && may_read {
        found.extend(missed_while_away(asked, topic));
    }
    let absent = absent(facts, topic);
    if asked.is_connected && may_read {
        let sentence = format!("it has no subscription that {topic} matches");
        let remedy = format!("if it should receive, have it subscribe to {topic}");
        let finding = not_subscribed(asked, topic, sentence, remedy);
        let mut unmatched = asked.unmatched.iter();
        let by_others =
            unmatched.any(|one| *one.topic == **topic && !is_of_same_user(asked, facts, one));
        let bearing = match matches!(&absent, Some((Bearing::Topic, _))) {
            // For a client that subscribes to other topics it is the likelier reason.
            _ if is_either && is_near(asked, topic) => Bearing::Topic,
            // Others publish to it.
            true if is_either && (by_others || asked.subscribes()) => Bearing::Topic,
            true => Bearing::Remark,
            // Others get it.
            false => Bearing::Aside,
        };
        found.push((bearing, finding));
    }
    found.extend(absent);
    lost(asked, facts, topic, found);
}

fn is_near(asked: &Asked, topic: &str) -> bool {
    own_near_miss(asked, topic).is_some_and(|(_, near)| near.is_likely)
}

/// The client is not connected, and the session that is kept for it misses the topic, so it would
/// get nothing of it if it came again.
fn missed_while_away(asked: &Asked, topic: &str) -> Option<(Bearing, Finding)> {
    if asked.session.is_none() || asked.is_connected || !is_near(asked, topic) {
        return None;
    }
    let sentence =
        format!("it is not connected, and its session has no subscription that {topic} matches");
    let remedy = format!("have the client subscribe to {topic}");
    let finding = not_subscribed(asked, topic, sentence, remedy);
    Some((Bearing::Topic, finding))
}

/// The subscription to the topic was refused recently, or a message to what is a Topic Filter,
/// which has a finding of its own, and would be again.
fn is_refused(asked: &Asked) -> bool {
    asked.runs.iter().any(|run| {
        let what = run.last.what;
        matches!(
            what,
            EventKind::SubscribeRefused | EventKind::PublishRefused
        ) && asked.is_of_topic(run)
            && asked.is_recent(run.last.at_ms)
            && !asked.permitted_now.contains(&run.last.seq)
    })
}

/// The client has no subscription for the topic; the one that nearly matches is named.
fn not_subscribed(asked: &Asked, topic: &str, sentence: String, remedy: String) -> Finding {
    let (sentence, remedy) = match own_near_miss(asked, topic) {
        Some((filter, near)) => (
            format!(
                "{sentence}; it is subscribed to {filter}, which does not match: {}",
                near.words
            ),
            format!("{remedy}, or publish to what {filter} matches"),
        ),
        None => (sentence, remedy),
    };
    let finding = Finding::new(Cause::NotSubscribed, sentence).remedy(remedy);
    match asked.unmatched.iter().find(|one| *one.topic == *topic) {
        Some(one) => finding.with_messages(one),
        None => finding,
    }
}

/// Findings about what subscribers of the topic, and their share groups, have lost recently or do
/// not acknowledge. The topic of each lost message is not known.
fn lost(asked: &Asked, facts: &TopicFacts, topic: &str, found: &mut Found) {
    let subscribers = || facts.subscribers.iter().flatten();
    for one in subscribers().filter(|one| integration_of(&one.client_id).is_none()) {
        let whose = format!("which is subscribed to {topic}, of that topic or others");
        let lost = one.drops.iter();
        let lost = lost.filter_map(|drop| lost_by_subscriber(asked, one, &whose, drop));
        found.extend(lost.map(|finding| (Bearing::Topic, finding)));
    }
    for group in &facts.groups {
        let whose = format!(
            " for the share group {}, which is subscribed to {topic},",
            group.filter
        );
        for drop in &group.drops {
            // That no member is connected is reported elsewhere.
            if !drop.0.is_expected() && asked.is_recent(drop.2.last_ms) {
                found.push((Bearing::Topic, lost_by_group(group, drop, &whose)));
            }
        }
    }
    for one in subscribers() {
        let Some(backlog) = one.backlog else { continue };
        if !is_unacknowledged(asked.now_ms, backlog.since_ms) {
            continue;
        }
        let by = match &one.filter {
            filter if filter == topic => String::new(),
            filter => format!(" (by {filter})"),
        };
        let sentence = format!(
            "{}, which is subscribed to {topic}{by}, has not acknowledged {} of the messages that \
             were sent to it, which is its maximum at one time, and {} wait; for details, run \
             martlet why {}",
            one.client_id,
            backlog.sent,
            backlog.waiting,
            typed_names(&[&one.client_id]),
        );
        let finding = Finding::new(Cause::SlowReader, sentence).since(backlog.since_ms);
        let finding = finding.last(asked.now_ms).remedy(ACKNOWLEDGE);
        found.push((Bearing::Topic, finding));
    }
}

/// Finding about messages that a subscriber lost recently, unless that is usual.
fn lost_by_subscriber(
    asked: &Asked,
    one: &Subscriber,
    whose: &str,
    &(reason, count, at): &(DropReason, u64, LossTimes),
) -> Option<Finding> {
    let is_of_course = matches!(
        reason,
        DropReason::SessionEnded | DropReason::ConnectionLost
    );
    if is_of_course || !asked.is_recent(at.last_ms) {
        return None;
    }
    let sentence = format!(
        "{} dropped for {}, {whose}: {} ({}); for details, run martlet why {}",
        event_words::were(count, ""),
        one.client_id,
        uncapitalized(reason.meaning()),
        reason.name(),
        typed_names(&[&one.client_id]),
    );
    Some(Finding::of_drop(reason, sentence).lost(count, at))
}

/// Messages that subscribers lost and that may be those of this device. For one that never connects
/// itself, but through a gateway, this is all that is known.
pub(super) fn lost_of_device(asked: &Asked, facts: &TopicFacts, found: &mut Found) {
    for (one, is_own) in &facts.lost_by {
        let bearing = match asked.is_unseen && *is_own {
            true => Bearing::Happened,
            false => Bearing::Aside,
        };
        let whose = format!(
            "which is subscribed to {}, of this device or others",
            one.filter
        );
        let full = one.drops.iter();
        let full = full.filter(|(reason, ..)| *reason == DropReason::QueueFull);
        let lost = full.filter_map(|drop| lost_by_subscriber(asked, one, &whose, drop));
        found.extend(lost.map(|finding| (bearing, finding)));
    }
}

/// Nobody receives what it publishes, or all with QoS 0.
fn absent(facts: &TopicFacts, topic: &str) -> Option<(Bearing, Finding)> {
    let all = facts.subscribers.as_deref()?;
    if all.is_empty() {
        if facts.taken_for_all {
            return None;
        }
        let near = facts.near.iter().take(TOLD).map(NearSubscriber::in_words);
        let near: String = near.collect();
        let (elsewhere, remedy) = subscribers_elsewhere(&facts.elsewhere).unwrap_or((
            String::new(),
            "check whether the receiver is connected, and to which Topic Filter it subscribes; \
             publish with RETAIN the messages that later subscribers need",
        ));
        let sentence =
            format!("it may publish to {topic}, and nobody is subscribed to it{near}{elsewhere}");
        let finding = Finding::new(Cause::SubscriberAbsent, sentence).remedy(remedy);
        return Some((Bearing::Topic, finding));
    }
    if all.iter().all(|subscriber| !subscriber.connected) {
        let names: Vec<&str> = all.iter().map(|one| &*one.client_id).take(TOLD).collect();
        let sentence = format!(
            "it may publish to {topic}; of its subscribers ({}) none is connected",
            names.join(", ")
        );
        let finding = Finding::new(Cause::SubscriberAbsent, sentence);
        return Some((Bearing::Topic, finding));
    }
    if all.iter().all(|subscriber| subscriber.qos == 0) {
        let sentence = format!(
            "all subscribers of {topic} have QoS 0: they get every message with QoS 0, whatever \
             QoS it is published with"
        );
        let finding = Finding::new(Cause::QosDowngraded, sentence);
        let finding = finding.remedy("have them subscribe with QoS 1 or 2");
        return Some((Bearing::Aside, finding));
    }
    None
}

fn if_absent(connected: bool) -> &'static str {
    match connected {
        true => "",
        false => " (not connected)",
    }
}

impl Subscriber {
    /// The Client Identifier, and whether it is connected.
    pub(super) fn in_words(&self) -> String {
        format!("{}{}", self.client_id, if_absent(self.connected))
    }
}

impl NearSubscriber {
    /// Words for what it is subscribed to, as the end of a sentence.
    fn in_words(&self) -> String {
        format!(
            "; {}{} is subscribed to {}, which does not match: {}",
            self.client_id,
            if_absent(self.connected),
            self.filter,
            self.words
        )
    }
}

/// A member of the same share group that is of another kind than the client, as by its Client
/// Identifier: it may be one that was forgotten, and takes messages.
fn odd_member(asked: &Asked, facts: &TopicFacts, own: &[(&str, u8)]) -> Option<Finding> {
    let kind = |client_id: &str| -> String {
        let letters = client_id.chars().filter(|letter| letter.is_alphabetic());
        letters.flat_map(char::to_lowercase).collect()
    };
    let own_kind = kind(&asked.client_id);
    let is_shared =
        |filter: &str| filter.starts_with("$share/") && own.iter().any(|(of, _)| *of == filter);
    let mut others = facts.subscribers.iter().flatten();
    let other = others.find(|one| is_shared(&one.filter) && kind(&one.client_id) != own_kind)?;
    let absent = match other.connected {
        true => "",
        false => ", which is not connected,",
    };
    let sentence = format!(
        "{}{absent} is also a member of the share group {}, and receives some of its messages",
        other.client_id, other.filter
    );
    Some(Finding::advised(
        Cause::NothingWrong,
        sentence,
        "if it should receive none of them, stop that client and end its session, so that it is no \
         longer a member",
        &other.end_session,
    ))
}
