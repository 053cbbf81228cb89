//! Rights of a client to the topic, where nothing of it is wrong.

use super::facts::{Subscriber, TopicFacts};
use crate::why::asked::Asked;
use crate::why::found::first_of;
use crate::why::session::Session;

/// Other members of a share group that are named, at most.
const MEMBERS_NAMED: usize = 4;

/// Rights of a client to the topic, where nothing of it is wrong.
pub(super) fn is_well(asked: &Asked, facts: &TopicFacts, topic: &str) -> String {
    let session = asked.session.as_ref();
    if let Some(twice) = session.and_then(|session| comes_twice(session, topic)) {
        return twice;
    }
    let own = session
        .map(|session| session.matching(topic))
        .unwrap_or_default();
    if let Some((filter, qos)) = own.iter().max_by_key(|(_, qos)| *qos) {
        let subscribers = facts.subscribers.iter().flatten();
        let members: Vec<_> = subscribers.filter(|one| one.filter == *filter).collect();
        if filter.starts_with("$share/") && members.len() > 1 {
            return format!(
                "it is subscribed to {topic} (by {filter} with QoS {qos}) and may read it; each \
                 message goes to one of the {} members of that share group{}",
                members.len(),
                others_in_words(asked, &members)
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
        Some([]) | None => format!("it may use {topic}"),
        Some(all) => {
            let count = all.len();
            format!("it may publish to {topic}, to which {count} clients are subscribed")
        }
    }
}

/// The other members of a share group, those that are connected first.
fn others_in_words(asked: &Asked, members: &[&Subscriber]) -> String {
    let mut others: Vec<_> = members
        .iter()
        .filter(|one| one.client_id != asked.client_id)
        .collect();
    others.sort_by_key(|one| !one.connected);
    let words: Vec<String> = others.iter().map(|one| one.in_words()).collect();
    match words.is_empty() {
        true => String::new(),
        false => format!("; the others are {}", first_of(&words, MEMBERS_NAMED)),
    }
}

/// A subscription, and the client that has it.
struct Copy<'a> {
    filter: &'a str,
    client_id: &'a str,
}

/// Subscriptions that match the topic and bring a message of its own each time.
fn copies<'a>(sessions: &[&'a Session], topic: &str) -> Vec<Copy<'a>> {
    let mut found: Vec<Copy<'a>> = Vec::new();
    for session in sessions {
        let client_id = &*session.client_id;
        let mut has_own = false;
        for (filter, _) in session.matching(topic) {
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
fn comes_twice(session: &Session, topic: &str) -> Option<String> {
    let copies = copies(&[session], topic);
    let (count, times) = times(&copies)?;
    let filters: Vec<&str> = copies.iter().map(|copy| copy.filter).collect();
    Some(format!(
        "{count} of its subscriptions match {topic} ({}): it receives each message {times}, unless \
         another member of a share group receives it",
        filters.join(", ")
    ))
}

/// Words for clients of a user that all are well: they get messages of the topic more than once.
pub(in crate::why) fn comes_twice_to_several(clients: &[&Asked], topic: &str) -> Option<String> {
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
