//! Messages that the node would publish itself, and does not by its configuration.

use super::Finding;
use super::facts::Facts;
use super::found::{Bearing, Found};
use crate::cause::Cause;
use crate::feed::PublishedKinds;

const STATISTICS: &str = "$SYS/";
const EVENTS: &str = "$events/";

/// The topic that was asked about, or what the client is subscribed to, is of the node's own, and
/// the node publishes nothing there.
pub(super) fn own_topics(facts: &Facts, found: &mut Found) {
    if let Some(topic) = &facts.question.topic {
        let off = switched_off(facts, topic);
        found.extend(off.map(|finding| (Bearing::Topic, finding)));
        return;
    }
    let all = facts.session.iter();
    let filters = all.flat_map(|session| &session.subscriptions);
    let off = filters.filter_map(|(filter, _)| switched_off(facts, filter));
    found.extend(off.map(|finding| (Bearing::Happened, finding)));
}

/// The finding for a Topic Name or Topic Filter.
fn switched_off(facts: &Facts, filter: &str) -> Option<Finding> {
    let own = &facts.own_topics;
    if filter.starts_with(STATISTICS) && !own.publishes_statistics {
        let sentence = format!(
            "the node does not publish messages of {filter}: statistics are switched off \
             (mqtt.sys_interval_secs = 0)"
        );
        let remedy = "set mqtt.sys_interval_secs to the seconds between two of them, such as 10, \
                      and restart the node";
        return Some(Finding::new(Cause::NotPublished, sentence).remedy(remedy));
    }
    if let Some(kind) = filter.strip_prefix(EVENTS) {
        return event_off(facts, filter, kind);
    }
    if !own.publishes_presence && is_presence(&own.presence, filter) {
        let sentence = format!(
            "the node does not publish messages of {filter}: presence is switched off \
             (presence.publish = false)"
        );
        let remedy = "set presence.publish = true and restart the node";
        return Some(Finding::new(Cause::NotPublished, sentence).remedy(remedy));
    }
    None
}

/// Events of a kind, or of all kinds where a wildcard stands for it, are not published.
fn event_off(facts: &Facts, filter: &str, kind: &str) -> Option<Finding> {
    let published = &facts.own_topics.events;
    let is_wild = matches!(kind, "+" | "#");
    let is_kind = PublishedKinds::publishable().any(|one| one == kind);
    if !is_wild && !is_kind || is_wild && !published.is_empty() || published.contains(&kind) {
        return None;
    }
    let sentence = match &**published {
        [] => format!("the node does not publish messages of {filter}: events.publish is empty"),
        all => format!(
            "the node does not publish messages of {filter}: events.publish has only {}",
            all.join(", ")
        ),
    };
    let expected = match is_wild {
        true => "the kinds of events that are wanted, such as connected,disconnected".to_owned(),
        false => {
            let mut all = published.clone();
            all.push(kind);
            format!("{:?}", all.join(","))
        }
    };
    let finding = Finding::new(Cause::NotPublished, sentence);
    Some(finding.remedy(format!(
        "set events.publish = {expected}, and restart the node"
    )))
}

/// A filter is about topics of presence: each of its levels is that of the pattern, or one that
/// differs from client to client.
fn is_presence(pattern: &str, filter: &str) -> bool {
    let mut levels = pattern.split('/');
    let mut literal = false;
    for level in filter.split('/') {
        if level == "#" {
            return literal;
        }
        match levels.next() {
            Some(own) if own.contains('{') || level == "+" => {}
            Some(own) if own == level => literal = true,
            _ => return false,
        }
    }
    literal && levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_presence_is_known() {
        let pattern = "iotflow/devices/{client_id}/status/{state}";
        for (filter, expected) in [
            ("iotflow/devices/+/status/#", true),
            ("iotflow/devices/d1/status/online", true),
            ("iotflow/#", true),
            ("#", false),
            ("+/+/+/+/+", false),
            ("iotflow/devices/d1/telemetry", false),
            ("iotflow/devices/d1/status", false),
            ("d/d1/status", false),
        ] {
            assert_eq!(is_presence(pattern, filter), expected, "{filter}");
        }
    }
}
