//! No message of the topic has come to a client that is subscribed to it.

use std::time::Duration;

use martlet_codec::TopicFilter;

use super::facts::{TopicFacts, TopicSilence};
use super::near::{matches, nearest};
use crate::rfc3339;
use crate::topic_memory::{TopicMemory, TopicQuery};
use crate::why::asked::Asked;

/// Topics of the memory that are compared with the one in question.
const TOPICS_MAX: usize = 1_000;

/// Since when no message of the topic has come to the client, and the nearest topic that had one.
/// None: one has come, it is not subscribed, or that is not known. `uptime`: of the node.
pub(super) async fn gathered(
    memory: Option<&TopicMemory>,
    uptime: Duration,
    asked: &Asked,
) -> Option<TopicSilence> {
    let topic = asked.topic_name()?;
    let session = asked.session.as_ref().filter(|session| session.connected)?;
    let is_own = |filter: &&str| !filter.starts_with("$share/");
    let mut own = session
        .matching(topic)
        .into_iter()
        .map(|(filter, _)| filter);
    own.find(is_own)?;
    let tenant = asked.question.tenant;
    let is_remembered = |memory: &&TopicMemory| {
        let mut filters = memory.filters().iter();
        filters.any(|filter| matches(filter, topic))
    };
    let memory = memory.filter(is_remembered);
    let has_come = memory.is_some_and(|memory| memory.history(tenant, topic, 1).is_some());
    let since_ms = match memory {
        _ if has_come => return None,
        // Nothing at all has come to it.
        _ if session.matched == 0 => session.since_ms?,
        Some(_) => asked.now_ms.saturating_sub(uptime.as_millis() as u64),
        None => return None,
    };
    let mut others: Vec<String> = Vec::new();
    if let Some(memory) = memory {
        let first = topic.split('/').next().unwrap_or_default();
        let below = format!("{first}/#");
        if let Ok(filter) = TopicFilter::new(&below) {
            let query = TopicQuery {
                tenant,
                filter,
                words: "",
                after: None,
                limit: TOPICS_MAX,
                count: false,
            };
            let page = memory.find(&query).await;
            others.extend(page.topics.iter().map(|one| one.topic.to_string()));
        }
    }
    others.extend(asked.unmatched.iter().map(|one| one.topic.to_string()));
    let near = nearest(&others, topic);
    Some(TopicSilence {
        since_ms,
        nearest: near.map(|(nearest, _)| nearest.to_owned()),
    })
}

/// Words for it that follow a sentence.
pub(super) fn in_words(facts: &TopicFacts) -> Option<String> {
    let TopicSilence { since_ms, nearest } = facts.silence.as_ref()?;
    let near = nearest
        .as_ref()
        .map(|topic| format!("; the nearest topic that had one is {topic}"));
    Some(format!(
        "no message of that topic has come since {}{}",
        rfc3339::in_words(*since_ms),
        near.unwrap_or_default()
    ))
}
