//! What becomes of messages of the topic that was asked about.

use martlet_codec::{SubscriptionFilter, TopicName};

use super::Finding;
use super::facts::{Facts, Meant, Session, TopicRules};
use super::judge::{Found, Weight};
use crate::cause::Cause;
use crate::explain::{Explained, Outcome};
use crate::journal::Run;

/// What the rules say of the topic that is told: whoever is subscribed to it is asked about as a
/// receiver.
fn decisive<'a>(facts: &Facts, rules: &'a TopicRules) -> &'a Explained {
    match is_subscribed(facts) {
        true => &rules.receive,
        false => &rules.publish,
    }
}

/// It is subscribed to the topic that was asked about.
pub(super) fn is_subscribed(facts: &Facts) -> bool {
    let topic = facts.question.topic.as_deref();
    let session = facts.session.as_ref();
    session
        .zip(topic)
        .is_some_and(|(session, topic)| !matching(session, topic).is_empty())
}

/// It was refused for what the rules say of the topic now, and that is told.
pub(super) fn is_by_rules(facts: &Facts, run: &Run) -> bool {
    let is_publish = run.last.what == "publish refused";
    run.cause == Some(Cause::NotPermitted)
        && of_topic(facts, run)
        && is_publish != is_subscribed(facts)
        && facts
            .rules
            .as_ref()
            .is_some_and(|rules| decisive(facts, rules).outcome == Outcome::Refused)
}

/// With since when and how often that was so.
fn refused_before(facts: &Facts, mut finding: Finding) -> Finding {
    let mut runs = facts.runs.iter().rev();
    if let Some(run) = runs.find(|run| is_by_rules(facts, run)) {
        (finding.since_ms, finding.count) = (Some(run.since_ms), Some(run.count));
        finding.last_ms = Some(run.last.at_ms);
    }
    finding
}

pub(super) fn of_topic(facts: &Facts, run: &Run) -> bool {
    let (Some(topic), Some(of)) = (&facts.question.topic, &run.last.topic) else {
        return false;
    };
    topic == of || matches(of, topic)
}

/// A topic was asked about, and this happened to another one.
pub(super) fn of_another_topic(facts: &Facts, run: &Run) -> bool {
    let of = run.last.topic.as_deref().unwrap_or_default();
    facts.question.topic.is_some() && !of.is_empty() && !of_topic(facts, run)
}

fn matches(filter: &str, topic: &str) -> bool {
    let (Ok(filter), Ok(topic)) = (SubscriptionFilter::parse(filter), TopicName::new(topic)) else {
        return false;
    };
    filter.filter.matches(topic)
}

/// What becomes of messages of the topic that was asked about.
pub(super) fn topic(facts: &Facts, found: &mut Found) {
    let Some(topic) = &facts.question.topic else {
        return;
    };
    let session = facts.session.as_ref();
    let own = session
        .map(|session| matching(session, topic))
        .unwrap_or_default();
    // Who is subscribed to it is asked about as a receiver.
    let receives = !own.is_empty();
    if let Some(rules) = &facts.rules {
        let explained = decisive(facts, rules);
        if explained.outcome == Outcome::Refused {
            let finding = match &rules.meant {
                Some(meant) if !receives => wrong_topic(meant, topic),
                _ => not_permitted(receives, topic, &explained.why, rules),
            };
            return found.push((Weight::Topic, refused_before(facts, finding)));
        }
    }
    if receives {
        if let Some((filter, 0)) = own.iter().max_by_key(|(_, qos)| *qos) {
            let sentence = format!(
                "it subscribes to {filter} with QoS 0: messages of {topic} come to it with QoS 0, \
                 whatever QoS they are published with, and none is kept while it is away"
            );
            let finding = Finding::new(Cause::QosDowngraded, sentence);
            found.push((Weight::Topic, finding.mend("subscribe with QoS 1 or 2")));
        }
        return;
    }
    match facts.subscribers.as_deref() {
        Some([]) => {
            let sentence = format!("it may publish to {topic}, and nobody is subscribed to it");
            let finding = Finding::new(Cause::SubscriberAbsent, sentence).mend(
                "look whether the receiver is connected, and to which Topic Filter it subscribes; \
                 publish with retain what later subscribers are to get",
            );
            found.push((Weight::Topic, finding));
        }
        Some(all) if all.iter().all(|subscriber| !subscriber.connected) => {
            let names: Vec<&str> = all.iter().map(|one| &*one.client_id).take(3).collect();
            let sentence = format!(
                "it may publish to {topic}; of its subscribers ({}) none is connected",
                names.join(", ")
            );
            found.push((
                Weight::Topic,
                Finding::new(Cause::SubscriberAbsent, sentence),
            ));
        }
        Some(all) if all.iter().all(|subscriber| subscriber.qos == 0) => {
            let sentence = format!(
                "all subscribers of {topic} have QoS 0: they get every message with QoS 0, \
                 whatever QoS it is published with"
            );
            let finding = Finding::new(Cause::QosDowngraded, sentence);
            found.push((
                Weight::Remark,
                finding.mend("have them subscribe with QoS 1 or 2"),
            ));
        }
        Some(_) | None => {}
    }
    if let Some(rules) = &facts.rules
        && session.is_some_and(|session| session.connected)
        && rules.receive.outcome == Outcome::Permitted
    {
        let sentence = format!("it has no subscription that {topic} matches");
        found.push((Weight::Remark, Finding::new(Cause::NotSubscribed, sentence)));
    }
}

fn matching<'a>(session: &'a Session, topic: &str) -> Vec<(&'a str, u8)> {
    let own = session.subscriptions.iter();
    let own = own.filter(|(filter, _)| matches(filter, topic));
    own.map(|(filter, qos)| (&**filter, *qos)).collect()
}

fn wrong_topic(meant: &Meant, topic: &str) -> Finding {
    let Meant {
        place,
        filter,
        instead,
    } = meant;
    Finding::new(
        Cause::WrongTopic,
        format!(
            "it may not publish to {topic}: {place} permits {filter}, with its own name instead of \
             {instead:?}"
        ),
    )
    .mend(format!(
        "have the client publish to a topic that {filter} matches"
    ))
}

fn not_permitted(receives: bool, topic: &str, why: &str, rules: &TopicRules) -> Finding {
    let (verb, mend) = match receives {
        true => ("receive", &rules.mend_receive),
        false => ("publish to", &rules.mend_publish),
    };
    let allowed = match &*rules.permitted {
        all if !receives && !all.is_empty() => format!("; it may publish to {}", all.join(", ")),
        _ => String::new(),
    };
    let finding = Finding::new(
        Cause::NotPermitted,
        format!("it may not {verb} {topic}: {why}{allowed}"),
    );
    let mut finding = finding.mend(format!(
        "{}; or have the client use another topic",
        mend.text
    ));
    finding.command.clone_from(&mend.command);
    finding
}
