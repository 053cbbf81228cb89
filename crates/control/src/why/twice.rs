//! Subscriptions of one user that bring each message more than once: a client gets a message once
//! for all of its subscriptions without `$share/`, and once more for each share group.

use super::facts::{Facts, Session};
use super::side::matching;

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
                false => core::mem::replace(&mut has_own, true),
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
