//! What happens to messages of the topic that was asked about.

use martlet_broker::{DropReason, EventKind};

use super::Finding;
use super::arrival::{is_of_same_user, near_subscribers, own_near_miss, with_no_local};
use super::elsewhere::subscribers_elsewhere;
use super::facts::{Backlog, Facts, OwnNameRule, Session, Subscriber, TopicRules};
use super::found::{
    ACKNOWLEDGE, Bearing, Found, RECENT_MS, first_of, is_recent, is_unacknowledged, uncapitalized,
};
use super::side::{Side, matching, of_topic, side, subscribes};
use crate::cause::Cause;
use crate::event_words;
use crate::explain::{Explained, Outcome};
use crate::integrations::{integration_of, part_in_words};
use crate::journal::{Run, remedy_of_drop, remedy_of_limit};
use crate::text::typed_names;

/// Other members of a share group that are named, at most.
const MEMBERS_NAMED: usize = 4;

/// The decision of the rules about the topic, if it is reported.
fn decisive<'a>(facts: &Facts, rules: &'a TopicRules) -> &'a Explained {
    match side(facts) {
        Side::Receiver => &rules.receive,
        Side::Publisher | Side::Either => &rules.publish,
    }
}

/// The rules forbid what it does with the topic.
pub(super) fn may_not_at_all(facts: &Facts) -> bool {
    let rules = facts.rules.as_ref();
    rules.is_some_and(|rules| decisive(facts, rules).outcome == Outcome::Refused)
}

/// It was refused by the present rules of the topic, which are reported.
pub(super) fn is_by_rules(facts: &Facts, run: &Run) -> bool {
    let is_publish = run.last.what == EventKind::PublishRefused;
    run.cause == Some(Cause::NotPermitted)
        && of_topic(facts, run)
        && is_publish != (side(facts) == Side::Receiver)
        && may_not_at_all(facts)
}

/// With since when and how often that was so.
fn refused_before(facts: &Facts, finding: Finding) -> Finding {
    let mut runs = facts.runs.iter().rev();
    match runs.find(|run| is_by_rules(facts, run)) {
        Some(run) => finding.when(run),
        None => finding,
    }
}

/// A topic was asked about, and this happened to another one.
pub(super) fn of_another_topic(facts: &Facts, run: &Run) -> bool {
    let of = run.last.topic.as_deref().unwrap_or_default();
    facts.question.topic.is_some() && !of.is_empty() && !of_topic(facts, run)
}

/// What happens to messages of the topic that was asked about.
pub(super) fn topic(facts: &Facts, found: &mut Found) {
    let Some(topic) = &facts.question.topic else {
        return;
    };
    let session = facts.session.as_ref();
    let own = session
        .map(|session| matching(session, topic))
        .unwrap_or_default();
    let side = side(facts);
    if let Some(rules) = &facts.rules
        && decisive(facts, rules).outcome == Outcome::Refused
    {
        return refused(facts, rules, topic, &own, found);
    }
    if !own.is_empty() {
        no_local(facts, topic, found);
        found.extend(odd_member(facts, &own).map(|finding| (Bearing::Aside, finding)));
        return downgraded(topic, &own, found);
    }
    let is_connected = session.is_some_and(|session| session.connected);
    if side == Side::Receiver {
        if is_connected && !is_subscribe_refused(facts) {
            let sentence = format!("it may read {topic}, and has no subscription that it matches");
            let remedy = format!("have the client subscribe to {topic}");
            let finding = not_subscribed(facts, topic, sentence, remedy);
            found.push((Bearing::Topic, finding));
        }
        found.extend(missed_while_away(facts, topic));
        return;
    }
    if side == Side::Either && may_read(facts) {
        found.extend(missed_while_away(facts, topic));
    }
    let absent = subscribers(facts, topic);
    let is_absent = matches!(&absent, Some((Bearing::Topic, _)));
    if is_connected && may_read(facts) {
        let sentence = format!("it has no subscription that {topic} matches");
        let remedy = format!("if it should receive, have it subscribe to {topic}");
        let finding = not_subscribed(facts, topic, sentence, remedy);
        let is_near = own_near_miss(facts, topic).is_some_and(|(_, near)| near.is_likely);
        let mut unmatched = facts.unmatched.iter();
        let by_others = unmatched.any(|one| *one.topic == **topic && !is_of_same_user(facts, one));
        let bearing = match is_absent {
            // Others publish to it.
            true if side == Side::Either && by_others => Bearing::Topic,
            // For a client that subscribes to other topics it is the likelier reason.
            _ if side == Side::Either && is_near => Bearing::Topic,
            true if side == Side::Either && subscribes(facts) => Bearing::Topic,
            true => Bearing::Remark,
            // Others get it.
            false => Bearing::Aside,
        };
        found.push((bearing, finding));
    }
    found.extend(absent);
    found.extend(lost_by_subscribers(facts, topic));
    found.extend(lost_by_groups(facts, topic));
    found.extend(not_acknowledged(facts, topic));
}

/// The rules are known, and permit reading the topic.
fn may_read(facts: &Facts) -> bool {
    let rules = facts.rules.as_ref();
    rules.is_some_and(|rules| rules.receive.outcome == Outcome::Permitted)
}

/// It is not connected, and the session that is kept for it misses the topic, so it would get
/// nothing of it if it came again.
fn missed_while_away(facts: &Facts, topic: &str) -> Option<(Bearing, Finding)> {
    let is_away = facts
        .session
        .as_ref()
        .is_some_and(|session| !session.connected);
    let is_near = || own_near_miss(facts, topic).is_some_and(|(_, near)| near.is_likely);
    if !is_away || !is_near() {
        return None;
    }
    let sentence =
        format!("it is not connected, and its session has no subscription that {topic} matches");
    let remedy = format!("have the client subscribe to {topic}");
    Some((
        Bearing::Topic,
        not_subscribed(facts, topic, sentence, remedy),
    ))
}

/// Its subscription to the topic was refused recently, which has a finding of its own, and would be
/// again.
fn is_subscribe_refused(facts: &Facts) -> bool {
    let mut runs = facts.runs.iter();
    runs.any(|run| {
        run.last.what == EventKind::SubscribeRefused
            && of_topic(facts, run)
            && is_recent(facts, run)
            && !facts.permitted_now.contains(&run.last.seq)
    })
}

/// It has no subscription for the topic; the one that nearly matches is named.
fn not_subscribed(facts: &Facts, topic: &str, sentence: String, remedy: String) -> Finding {
    let mut unmatched = facts.unmatched.iter();
    let published = unmatched.find(|one| *one.topic == *topic);
    let finding = match own_near_miss(facts, topic) {
        Some((filter, near)) => {
            let words = near.words;
            let sentence =
                format!("{sentence}; it is subscribed to {filter}, which does not match: {words}");
            let remedy = format!("{remedy}, or publish to what {filter} matches");
            Finding::new(Cause::NotSubscribed, sentence).remedy(remedy)
        }
        None => Finding::new(Cause::NotSubscribed, sentence).remedy(remedy),
    };
    match published {
        Some(one) => finding.with_messages(one),
        None => finding,
    }
}

/// The same of share groups: what no member got. That none is connected is reported elsewhere.
fn lost_by_groups(facts: &Facts, topic: &str) -> Vec<(Bearing, Finding)> {
    let mut found = Vec::new();
    for group in &facts.subscriber_groups {
        for (reason, count, at) in &group.drops {
            let is_old = facts.now_ms.saturating_sub(at.last_ms) > RECENT_MS;
            if reason.is_expected() || is_old {
                continue;
            }
            let limit = group
                .queue_full
                .filter(|_| *reason == DropReason::QueueFull);
            let why = match limit {
                Some(limit) => limit.words(),
                None => uncapitalized(reason.meaning()),
            };
            let whose = format!(
                " for the share group {}, which is subscribed to {topic},",
                group.filter
            );
            let sentence = event_words::dropped(*count, &whose, &why, *reason);
            let mut finding = Finding::new(Cause::of_drop(*reason), sentence).lost(*count, *at);
            let worded = limit.and_then(|limit| remedy_of_limit(limit.limit));
            let worded = worded.map(|worded| worded.text);
            finding.remedy = worded.or_else(|| remedy_of_drop(*reason));
            found.push((Bearing::Topic, finding));
        }
    }
    found
}

/// Subscribers of the topic that do not acknowledge, so that messages wait.
fn not_acknowledged(facts: &Facts, topic: &str) -> Vec<(Bearing, Finding)> {
    let mut found = Vec::new();
    for subscriber in facts.subscribers.iter().flatten() {
        let Some(backlog) = subscriber.backlog else {
            continue;
        };
        if !is_unacknowledged(facts.now_ms, backlog.since_ms) {
            continue;
        }
        let Subscriber {
            client_id, filter, ..
        } = subscriber;
        let by = match filter == topic {
            true => String::new(),
            false => format!(" (by {filter})"),
        };
        let Backlog { sent, waiting, .. } = backlog;
        let sentence = format!(
            "{client_id}, which is subscribed to {topic}{by}, has not acknowledged {sent} of the \
             messages that were sent to it, which is its maximum at one time, and {waiting} wait; \
             for details, run martlet why {}",
            typed_names(&[client_id]),
        );
        let finding = Finding::new(Cause::SlowReader, sentence).since(backlog.since_ms);
        let finding = finding.last(facts.now_ms).remedy(ACKNOWLEDGE);
        found.push((Bearing::Topic, finding));
    }
    found
}

/// Recent losses of the subscribers of the topic. The topic of each lost message is not known.
fn lost_by_subscribers(facts: &Facts, topic: &str) -> Vec<(Bearing, Finding)> {
    let mut found = Vec::new();
    for subscriber in facts.subscribers.iter().flatten() {
        let client_id = &subscriber.client_id;
        if integration_of(client_id).is_some() {
            continue;
        }
        for (reason, count, at) in &subscriber.drops {
            let is_of_course = matches!(
                reason,
                DropReason::SessionEnded | DropReason::ConnectionLost
            );
            if is_of_course || facts.now_ms.saturating_sub(at.last_ms) > RECENT_MS {
                continue;
            }
            let sentence = format!(
                "{} dropped for {client_id}, which is subscribed to {topic}, of that topic or \
                 others: {} ({}); for details, run martlet why {}",
                event_words::were(*count, ""),
                uncapitalized(reason.meaning()),
                reason.name(),
                typed_names(&[client_id]),
            );
            let mut finding = Finding::new(Cause::of_drop(*reason), sentence).lost(*count, *at);
            finding.remedy = remedy_of_drop(*reason);
            found.push((Bearing::Topic, finding));
        }
    }
    found
}

/// The rules do not permit what the client does with the topic, or would do.
fn refused(facts: &Facts, rules: &TopicRules, topic: &str, own: &[(&str, u8)], found: &mut Found) {
    let side = side(facts);
    let may_not_read = rules.receive.outcome == Outcome::Refused;
    let may_not_publish = rules.publish.outcome == Outcome::Refused;
    let finding = match (side, &rules.own_name_publish) {
        (Side::Publisher | Side::Either, Some(own_name)) => {
            wrong_topic("publish to", own_name, topic)
        }
        (Side::Receiver, _) => match &rules.own_name_receive {
            Some(own_name) if own.is_empty() => wrong_topic("read", own_name, topic),
            _ => may_not(Side::Receiver, topic, own, rules),
        },
        (Side::Either, _) if may_not_read => may_not(Side::Either, topic, own, rules),
        _ => may_not(Side::Publisher, topic, own, rules),
    };
    found.push((Bearing::Topic, refused_before(facts, finding)));
    // Perhaps it does not concern this side; it is reported all the same.
    match side {
        Side::Receiver
            if own.is_empty() && may_not_publish && !facts.question.is_about_filter() =>
        {
            let mut other = may_not(Side::Publisher, topic, own, rules);
            other.sentence = format!("nor may it publish to {topic}: {}", rules.publish.why);
            found.push((Bearing::Remark, other));
        }
        Side::Either if may_not_read && rules.own_name_publish.is_none() => {
            let mut other = may_not(Side::Receiver, topic, own, rules);
            other.sentence = format!("if it should receive: it may not read {topic}");
            found.push((Bearing::Remark, other));
        }
        _ => {}
    }
}

/// It does not get its own messages of the topic.
fn no_local(facts: &Facts, topic: &str, found: &mut Found) {
    let is_reported = |(_, finding): &(Bearing, Finding)| finding.cause == Cause::NoLocal;
    if let Some(filter) = with_no_local(facts, topic)
        && !found.iter().any(is_reported)
    {
        let sentence = format!(
            "its subscription to {filter} has No Local: it does not receive messages of {topic} \
             that it publishes itself"
        );
        found.push((Bearing::Aside, Finding::new(Cause::NoLocal, sentence)));
    }
}

/// It receives messages of the topic with QoS 0.
fn downgraded(topic: &str, own: &[(&str, u8)], found: &mut Found) {
    if let Some((filter, 0)) = own.iter().max_by_key(|(_, qos)| *qos) {
        let sentence = format!(
            "it subscribes to {filter} with QoS 0: it receives messages of {topic} with QoS 0, \
             whatever QoS they are published with, and none is kept while it is away"
        );
        let finding = Finding::new(Cause::QosDowngraded, sentence);
        found.push((Bearing::Aside, finding.remedy("subscribe with QoS 1 or 2")));
    }
}

/// The finding about the receivers of what it publishes.
fn subscribers(facts: &Facts, topic: &str) -> Option<(Bearing, Finding)> {
    let all = facts.subscribers.as_deref()?;
    if all.is_empty() && facts.taken_for_all {
        return None;
    }
    if all.is_empty() {
        let near = near_subscribers(&facts.near);
        let near = near.map_or_else(String::new, |near| format!("; {near}"));
        let elsewhere = subscribers_elsewhere(facts);
        let words = elsewhere.as_ref().map(|(words, _)| format!("; {words}"));
        let words = words.unwrap_or_default();
        let sentence =
            format!("it may publish to {topic}, and nobody is subscribed to it{near}{words}");
        let remedy = elsewhere.map_or(
            "check whether the receiver is connected, and to which Topic Filter it subscribes; \
             publish with RETAIN the messages that later subscribers need",
            |(_, remedy)| remedy,
        );
        let finding = Finding::new(Cause::SubscriberAbsent, sentence).remedy(remedy);
        return Some((Bearing::Topic, finding));
    }
    if all.iter().all(|subscriber| !subscriber.connected) {
        let names: Vec<&str> = all.iter().map(|one| &*one.client_id).take(3).collect();
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

/// What a client may do with the topic, where nothing of it is wrong.
pub(super) fn is_well(facts: &Facts, topic: &str) -> String {
    let session = facts.session.as_ref();
    let own = session
        .map(|session| matching(session, topic))
        .unwrap_or_default();
    if let Some(twice) = session.and_then(|session| comes_twice(session, topic)) {
        return twice;
    }
    if let Some((filter, qos)) = own.iter().max_by_key(|(_, qos)| *qos) {
        let subscribers = facts.subscribers.iter().flatten();
        let members: Vec<_> = subscribers.filter(|one| one.filter == *filter).collect();
        if filter.starts_with("$share/") && members.len() > 1 {
            return format!(
                "it is subscribed to {topic} (by {filter} with QoS {qos}) and may read it; each \
                 message goes to one of the {} members of that share group{}",
                members.len(),
                others_in_words(facts, &members)
            );
        }
        return match *filter == topic {
            true => format!("it is subscribed to {topic} with QoS {qos} and may read it"),
            false => {
                format!("it is subscribed to {topic} (by {filter} with QoS {qos}) and may read it")
            }
        };
    }
    match facts.subscribers.as_deref() {
        Some([one]) => {
            let client_id = &one.client_id;
            format!("it may publish to {topic}, to which 1 client is subscribed ({client_id})")
        }
        Some(all) if !all.is_empty() => {
            let count = all.len();
            format!("it may publish to {topic}, to which {count} clients are subscribed")
        }
        _ => format!("it may use {topic}"),
    }
}

/// A member of the same share group that is of another kind than the client, as by its Client
/// Identifier: it may be one that was forgotten, and takes messages.
fn odd_member(facts: &Facts, own: &[(&str, u8)]) -> Option<Finding> {
    let kind = |client_id: &str| -> String {
        let letters = client_id.chars().filter(|letter| letter.is_alphabetic());
        letters.flat_map(char::to_lowercase).collect()
    };
    let own_kind = kind(&facts.client_id);
    let is_shared =
        |filter: &str| filter.starts_with("$share/") && own.iter().any(|(of, _)| *of == filter);
    let mut others = facts.subscribers.iter().flatten();
    let other = others.find(|one| is_shared(&one.filter) && kind(&one.client_id) != own_kind)?;
    let Subscriber {
        client_id, filter, ..
    } = other;
    let absent = match other.connected {
        true => "",
        false => ", which is not connected,",
    };
    let sentence = format!(
        "{client_id}{absent} is also a member of the share group {filter}, and receives some of \
         its messages"
    );
    let finding = Finding::new(Cause::NothingWrong, sentence).remedy(
        "if it should receive none of them, stop that client and end its session, so that it is no \
         longer a member",
    );
    Some(finding.command(&other.end_session))
}

/// The other members of a share group, those that are connected first.
fn others_in_words(facts: &Facts, members: &[&Subscriber]) -> String {
    let mut others: Vec<_> = members
        .iter()
        .filter(|one| one.client_id != facts.client_id)
        .collect();
    others.sort_by_key(|one| !one.connected);
    let words = others.iter().map(|one| {
        let absent = match one.connected {
            true => "",
            false => " (not connected)",
        };
        format!("{}{absent}", one.client_id)
    });
    let words: Vec<String> = words.collect();
    match words.is_empty() {
        true => String::new(),
        false => format!("; the others are {}", first_of(&words, MEMBERS_NAMED)),
    }
}

/// `does` is what the client does with the topic: `publish to` or `read`.
fn wrong_topic(does: &str, own_name: &OwnNameRule, topic: &str) -> Finding {
    let (filter, permitted) = (&own_name.filter, permits(own_name));
    Finding::new(
        Cause::WrongTopic,
        format!("it may not {does} {topic}: {permitted}"),
    )
    .remedy(format!(
        "have the client {does} a topic that {filter} matches"
    ))
}

/// The rules forbid the topic, and what would permit it.
fn may_not(side: Side, topic: &str, own: &[(&str, u8)], rules: &TopicRules) -> Finding {
    let (explained, remedy, allowed) = match side {
        Side::Receiver => (&rules.receive, &rules.remedy_receive, &rules.readable),
        Side::Publisher | Side::Either => (&rules.publish, &rules.remedy_publish, &rules.permitted),
    };
    let why = &explained.why;
    let allowed = match (side, &**allowed) {
        (_, []) => String::new(),
        (Side::Receiver, all) => format!("; it may read {}", all.join(", ")),
        (_, all) => format!("; it may publish to {}", all.join(", ")),
    };
    let sentence = match (side, own) {
        (Side::Receiver, [(filter, _), ..]) if *filter != topic => {
            format!("it is subscribed to {filter}, and may not read {topic}: {why}{allowed}")
        }
        (Side::Receiver, [_, ..]) => {
            format!("it is subscribed to {topic}, and may not read it: {why}{allowed}")
        }
        (Side::Receiver, []) => {
            format!("it may not read {topic}, and is not subscribed to it: {why}{allowed}")
        }
        (Side::Publisher, _) => format!("it may not publish to {topic}: {why}{allowed}"),
        (Side::Either, _) => {
            format!("it may neither publish to {topic} nor read it: {why}{allowed}")
        }
    };
    let begin = match side {
        Side::Either => "if it should publish: ",
        Side::Receiver | Side::Publisher => "",
    };
    let text = format!(
        "{begin}{}; or have the client use another topic",
        remedy.text
    );
    Finding::advised(Cause::NotPermitted, sentence, &text, &remedy.command)
}

/// A level that takes the place of a wildcard of a Topic Filter.
pub(super) const ANY_LEVEL: &str = "_";

/// What the rule permits.
pub(super) fn permits(own_name: &OwnNameRule) -> String {
    let OwnNameRule {
        rule,
        filter,
        other_name,
    } = own_name;
    match &**other_name {
        ANY_LEVEL => format!("{rule} permits {filter}, which has its own name"),
        _ => format!("{rule} permits {filter}, with its own name instead of {other_name:?}"),
    }
}

/// A subscription, and the client that has it.
struct Copy<'a> {
    filter: &'a str,
    client_id: &'a str,
}

/// What matches the topic and brings a message of its own each time.
fn copies<'a>(sessions: &[&'a Session], topic: &str) -> Vec<Copy<'a>> {
    let mut found: Vec<Copy<'a>> = Vec::new();
    for session in sessions {
        let client_id = &*session.client_id;
        let mut has_own = false;
        for (filter, _) in matching(session, topic) {
            let is_reported = match filter.starts_with("$share/") {
                // A message goes to one member of a group.
                true => found.iter().any(|copy| copy.filter == filter),
                false => std::mem::replace(&mut has_own, true),
            };
            if !is_reported {
                found.push(Copy { filter, client_id });
            }
        }
    }
    found
}

/// Words for a client that is well: it gets messages of the topic more than once.
pub(super) fn comes_twice(session: &Session, topic: &str) -> Option<String> {
    let copies = copies(&[session], topic);
    let (count, times) = times(&copies)?;
    let filters: Vec<&str> = copies.iter().map(|copy| copy.filter).collect();
    Some(format!(
        "{count} of its subscriptions match {topic} ({}): it receives each message {times}, unless \
         another member of a share group receives it",
        filters.join(", ")
    ))
}

/// The same of several clients of a user.
pub(super) fn comes_twice_to_several(clients: &[&Facts], topic: &str) -> Option<String> {
    let sessions = clients.iter().filter_map(|client| client.session.as_ref());
    let copies = copies(&sessions.collect::<Vec<&Session>>(), topic);
    let (count, times) = times(&copies)?;
    let all = copies.iter();
    let all = all.map(|copy| format!("{} of {}", copy.filter, copy.client_id));
    Some(format!(
        "{count} of their subscriptions match {topic} ({}): they receive each message {times}",
        all.collect::<Vec<String>>().join(", ")
    ))
}

/// How many they are, and how often a message comes.
fn times(copies: &[Copy<'_>]) -> Option<(usize, String)> {
    match copies.len() {
        0 | 1 => None,
        2 => Some((2, "twice".to_owned())),
        count => Some((count, format!("{count} times"))),
    }
}

/// What there is to find: of each part and topic the last refusal.
pub(super) fn publish_as_refused(facts: &Facts, found: &mut Found) {
    let runs = facts.runs_of_parts.iter().rev();
    let refused = runs.filter(|run| {
        let is_publish = run.last.what == EventKind::PublishRefused;
        is_publish && is_recent(facts, run)
    });
    for run in refused {
        let is_over = facts.permitted_now.contains(&run.last.seq);
        let bearing = match &facts.question.topic {
            _ if is_over => Bearing::Over,
            Some(_) if of_topic(facts, run) => Bearing::Topic,
            Some(_) => Bearing::Aside,
            None => Bearing::Happened,
        };
        found.push((bearing, of_publish_as(facts, run, is_over)));
    }
}

fn of_publish_as(facts: &Facts, run: &Run, is_over: bool) -> Finding {
    let (part, cause) = (&run.last.client_id, run.cause.unwrap_or(Cause::Other));
    let name = &facts.question.name;
    let who = part_in_words(part).unwrap_or_else(|| part.clone());
    let topic = run.last.topic.as_deref().unwrap_or_default();
    let why = run.last.why.as_deref().unwrap_or_else(|| cause.meaning());
    let mut sentence = format!(
        "{who} publishes as {name} (publish_as), and its publish to {topic} was refused: {why}"
    );
    let mut rules = facts.own_name_rules.iter();
    if is_over {
        sentence.push_str("; the rules permit it now");
    } else if let Some((_, rule)) = rules.find(|(seq, _)| *seq == run.last.seq) {
        let OwnNameRule { rule, filter, .. } = rule;
        sentence.push_str(&format!(
            "; {rule} permits {filter}: %c is replaced by the Client Identifier of the publisher, \
             which is {part}"
        ));
    }
    let finding = Finding::new(cause, sentence).when(run);
    if is_over {
        return finding;
    }
    let permit = run.last.remedy.as_deref().unwrap_or_default();
    let or = match permit.is_empty() {
        true => String::new(),
        false => format!("; or {permit}"),
    };
    match &run.last.command {
        // The command is what permits it.
        Some(command) => finding.remedy(permit).command(command),
        None => finding.remedy(format!(
            "have {who} publish as a user whose rules permit it{or}"
        )),
    }
}
