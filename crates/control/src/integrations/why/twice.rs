//! Two bridges that carry the same messages, so that each comes twice.

use martlet_integrate::{BrokerAddresses, BroughtTopics};

use super::facts::{Twice, name_of};
use crate::cause::{Bearing, Cause};
use crate::control::Control;
use crate::integrations::{Activity, Examined};
use crate::remedy::form;
use crate::why::{Asked, Finding, Findings};

/// Pairs of bridges that carry the same messages: those of the bridge, or of the topic, in the
/// question.
pub(super) fn found(control: &Control, asked: &Asked, all: &[Examined]) -> Vec<Twice> {
    let mut found = Vec::new();
    // A bridge that is paused carries nothing.
    let bridges = all
        .iter()
        .filter(|one| one.state.activity != Activity::Paused);
    let bridges = bridges.filter_map(|one| Some((one, one.broker.as_ref()?)));
    let bridges: Vec<(&Examined, &BrokerAddresses)> = bridges.collect();
    for (at, (one, broker)) in bridges.iter().enumerate() {
        for (other, of_other) in &bridges[at + 1..] {
            let pair = [*one, *other];
            let is_own = pair
                .iter()
                .any(|one| one.handle.client_id() == asked.client_id);
            let ways = [
                (true, shared(asked, is_own, &one.brings, &other.brings)),
                (false, shared(asked, is_own, &one.sends, &other.sends)),
            ];
            for (comes_in, topics) in ways {
                let is_same = || one.state.tenant == other.state.tenant && broker.is_same(of_other);
                let Some(topics) = topics.filter(|_| is_same()) else {
                    continue;
                };
                let bridges = pair.map(|one| name_of(&one.handle));
                found.push(Twice {
                    show: control.command(form::INTEGRATION_SHOW, &[&bridges[1]]),
                    bridges,
                    is_own,
                    comes_in,
                    topics,
                    broker: broker.to_string(),
                });
            }
        }
    }
    found
}

/// The topic that was asked about, if both carry it, or what both carry of all, with its name at
/// this node.
fn shared(
    asked: &Asked,
    is_own: bool,
    one: &[BroughtTopics],
    other: &[BroughtTopics],
) -> Option<String> {
    let Some(topic) = asked.topic_name() else {
        let mut pairs = one
            .iter()
            .flat_map(|one| other.iter().map(move |of| (one, of)));
        return pairs.find_map(|(one, of)| one.shared(of).filter(|_| is_own));
    };
    let there = |all: &[BroughtTopics]| all.iter().find_map(|topics| topics.there(topic));
    let is_same = there(one)? == there(other)?;
    is_same.then(|| topic.to_owned())
}

impl Twice {
    /// Adds the finding. Who only publishes a topic that goes out twice loses nothing.
    pub(super) fn judge(&self, asked: &Asked, findings: &mut Findings) {
        let [one, other] = &self.bridges;
        let (topics, broker) = (&self.topics, &self.broker);
        let (what, end) = match self.comes_in {
            true => (format!("bring {topics} from {broker}"), "here"),
            false => (format!("send {topics} to {broker}"), "there"),
        };
        let sentence = format!("{one} and {other} both {what}: each message comes twice {end}");
        let bearing = match (self.is_own, &asked.question.topic) {
            (true, None) => Bearing::Present,
            (true, Some(_)) => Bearing::Topic,
            (false, _) if self.comes_in && asked.is_subscribed() => Bearing::Topic,
            (false, _) => Bearing::Aside,
        };
        let finding = Finding::new(Cause::ComesTwice, sentence).remedy(format!(
            "take {topics} out of the topics of one of them, and restart the node if the \
             configuration has it; to see {other}, run"
        ));
        findings.add_as(bearing, finding.command(&self.show));
    }
}
