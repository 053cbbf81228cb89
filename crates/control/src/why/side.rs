//! On which side of a topic a client is.

use super::facts::{Facts, Session};
use super::near::matches;
use crate::explain::{Explained, Outcome};
use crate::journal::Run;
use martlet_broker::EventKind;

/// As what a client is asked about, where a topic was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    /// It is to get what is published to the topic.
    Receiver,
    /// It publishes to the topic.
    Publisher,
    /// It is not known which of both.
    #[default]
    Either,
}

/// Whether a client receives messages of the topic or publishes them: by what it has done, else by
/// what its rules let it do.
pub(super) fn side(facts: &Facts) -> Side {
    if is_subscribed(facts) || facts.question.is_about_filter() {
        return Side::Receiver;
    }
    let mut runs = facts.runs.iter().rev().filter(|run| of_topic(facts, run));
    let done = runs.find_map(|run| match run.last.what {
        EventKind::PublishRefused | EventKind::RateExceeded => Some(Side::Publisher),
        EventKind::SubscribeRefused | EventKind::Dropped | EventKind::MessagesLost => {
            Some(Side::Receiver)
        }
        _ => None,
    });
    if let Some(side) = done {
        return side;
    }
    let Some(rules) = &facts.rules else {
        return Side::Either;
    };
    let is_permitted = |explained: &Explained| explained.outcome == Outcome::Permitted;
    match (is_permitted(&rules.publish), is_permitted(&rules.receive)) {
        (true, false) => Side::Publisher,
        (false, true) => Side::Receiver,
        (true, true) => Side::Either,
        (false, false)
            if rules.own_name_publish.is_some()
                && !(rules.own_name_receive.is_some() && subscribes(facts)) =>
        {
            Side::Publisher
        }
        // It has published nothing to it, which would have been refused.
        (false, false) if subscribes(facts) => Side::Receiver,
        (false, false) => match (rules.permitted.is_empty(), rules.readable.is_empty()) {
            (true, false) => Side::Receiver,
            (false, true) => Side::Publisher,
            _ => Side::Either,
        },
    }
}

/// It has subscriptions, to whatever topics.
pub(super) fn subscribes(facts: &Facts) -> bool {
    let session = facts.session.as_ref();
    session.is_some_and(|session| !session.subscriptions.is_empty())
}

/// It is subscribed to the topic that was asked about.
pub(super) fn is_subscribed(facts: &Facts) -> bool {
    let topic = facts.question.topic.as_deref();
    let session = facts.session.as_ref();
    session
        .zip(topic)
        .is_some_and(|(session, topic)| !matching(session, topic).is_empty())
}

pub(super) fn of_topic(facts: &Facts, run: &Run) -> bool {
    let (Some(topic), Some(of)) = (&facts.question.topic, &run.last.topic) else {
        return false;
    };
    topic == of || matches(of, topic)
}

pub(super) fn matching<'a>(session: &'a Session, topic: &str) -> Vec<(&'a str, u8)> {
    let own = session.subscriptions.iter();
    let own = own.filter(|(filter, _)| filter == topic || matches(filter, topic));
    own.map(|(filter, qos)| (&**filter, *qos)).collect()
}
