//! Actions on the topic that the rules forbid a client.

use crate::event_kind::EventKind;

use crate::cause::{Bearing, Cause};
use crate::explain::Outcome;
use crate::journal::Run;
use crate::why::asked::Asked;
use crate::why::found::Found;
use crate::why::gather::permits::{OwnNameRule, TopicRules};
use crate::why::{Finding, Side};

impl Asked {
    /// Whether it was refused by the present rules of the topic, which are reported.
    pub(crate) fn is_by_rules(&self, run: &Run) -> bool {
        let is_publish = run.last.what == EventKind::PublishRefused;
        run.cause == Some(Cause::NotPermitted)
            && self.is_of_topic(run)
            && is_publish != (self.side == Side::Receiver)
            && self.may_not
    }
}

/// The rules do not permit what the client does with the topic, or would do.
pub(super) fn refused(
    asked: &Asked,
    rules: &TopicRules,
    topic: &str,
    own: &[(&str, u8)],
    found: &mut Found,
) {
    let side = asked.side;
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
    // With since when and how often that was so.
    let mut runs = asked.runs.iter().rev();
    let finding = match runs.find(|run| asked.is_by_rules(run)) {
        Some(run) => finding.when(run),
        None => finding,
    };
    found.push((Bearing::Topic, finding));
    // Perhaps it does not concern this side; it is reported all the same.
    match side {
        Side::Receiver
            if own.is_empty() && may_not_publish && !asked.question.is_about_filter() =>
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

/// `does` is what the client does with the topic: `publish to` or `read`.
fn wrong_topic(does: &str, own_name: &OwnNameRule, topic: &str) -> Finding {
    let (filter, permitted) = (&own_name.filter, own_name.permits());
    let sentence = format!("it may not {does} {topic}: {permitted}");
    let finding = Finding::new(Cause::WrongTopic, sentence);
    finding.remedy(format!(
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
