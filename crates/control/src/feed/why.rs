//! Messages that the node would publish itself, and does not by its configuration.

use super::PublishedKinds;
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError, OwnTopics};
use crate::why::{Asked, Examine, Finding, Findings};

/// Messages that the node publishes itself, with those that its parts publish.
#[derive(Debug)]
pub(crate) struct PublishedTopics(pub(crate) OwnTopics);

const STATISTICS: &str = "$SYS/";
const EVENTS: &str = "$events/";

impl Examine for PublishedTopics {
    type Facts = OwnTopics;

    async fn gather(&self, _control: &Control, _asked: &Asked) -> Result<OwnTopics, ControlError> {
        Ok(self.0.clone())
    }

    /// The topic that was asked about, or what the client is subscribed to, is of the node's own,
    /// and the node publishes nothing there.
    fn judge(own: &OwnTopics, asked: &Asked, findings: &mut Findings) {
        // Where anonymous clients are accepted, any name would have the rules of those.
        let is_client = !asked.client_id.starts_with('$') && !asked.is_unknown();
        if !is_client {
            return;
        }
        let filters = match &asked.question.topic {
            Some(topic) => std::slice::from_ref(topic),
            None => &*asked.filters,
        };
        let bearing = match asked.question.topic {
            Some(_) => Bearing::Topic,
            None => Bearing::Present,
        };
        for finding in filters
            .iter()
            .filter_map(|filter| switched_off(own, filter))
        {
            findings.add_as(bearing, finding);
        }
    }
}

/// The finding for a Topic Name or Topic Filter.
fn switched_off(own: &OwnTopics, filter: &str) -> Option<Finding> {
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
        return event_off(own, filter, kind);
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
fn event_off(own: &OwnTopics, filter: &str, kind: &str) -> Option<Finding> {
    let published = &own.events;
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
