//! Messages of the topic that was asked about that were dropped for integrations.

use std::collections::BTreeMap;

use martlet_broker::{DropReason, LossTimes};

use super::Finding;
use super::facts::{Facts, Integration, NotDelivering};
use super::found::{Bearing, RECENT_MS};
use super::integration::{advised, words_of_drop};
use super::part_in_words::integration_of;
use crate::cause::Cause;
use crate::event_words;

/// The bound of the queue of an integration, as the end of a clause.
const FULL: &str = "its queue is full (max_bytes)";

/// What was dropped recently for integrations that take the topic. The topics of dropped messages
/// are not known.
pub(super) fn dropped_for_integrations(facts: &Facts, topic: &str) -> Vec<(Bearing, Finding)> {
    let mut lost: BTreeMap<(&str, &str), (DropReason, u64, LossTimes)> = BTreeMap::new();
    for subscriber in facts.subscribers.iter().flatten() {
        let Some(name) = integration_of(&subscriber.client_id) else {
            continue;
        };
        for (reason, count, at) in &subscriber.drops {
            let is_old = facts.now_ms.saturating_sub(at.last_ms) > RECENT_MS;
            // What its target refused is reported as dead letters.
            if reason.is_expected() || is_old || *reason == DropReason::RefusedByReceiver {
                continue;
            }
            // Its lanes are reported as one.
            let all = lost.entry((name, reason.name()));
            let (_, sum, of_all) = all.or_insert((*reason, 0, *at));
            *sum += count;
            of_all.first_ms = of_all.first_ms.min(at.first_ms);
            of_all.last_ms = of_all.last_ms.max(at.last_ms);
        }
    }
    let found = lost.into_iter().map(|((name, _), (reason, count, at))| {
        let mut finding = lost_by(facts, name, topic, (reason, count));
        (finding.since_ms, finding.last_ms) = (Some(at.first_ms), Some(at.last_ms));
        (Bearing::Topic, finding.of_many(count))
    });
    found.collect()
}

fn lost_by(facts: &Facts, name: &str, topic: &str, (reason, count): (DropReason, u64)) -> Finding {
    let whose = format!(" of {topic} or its other topics");
    let dropped = format!("{} dropped", event_words::were(count, &whose));
    let mut known = facts.integrations.iter();
    let known = known.find(|one| one.name == name);
    if reason == DropReason::QueueFull
        && let Some(finding) = known.and_then(|one| full(one, &dropped))
    {
        return finding;
    }
    let (why, remedy) = words_of_drop(reason);
    let sentence = format!(
        "{dropped} for the integration {name}: {why} ({}); for details, run martlet why {name}",
        reason.name()
    );
    let mut finding = Finding::new(Cause::of_drop(reason), sentence);
    finding.remedy = remedy;
    finding
}

/// It does not deliver, and its queue was full; none: it delivers.
fn full(one: &Integration, dropped: &str) -> Option<Finding> {
    let why = one.why.as_ref()?;
    let does = match why {
        NotDelivering::Paused { .. } => "is paused".to_owned(),
        NotDelivering::Stopped { why, .. } => format!("has stopped ({why})"),
        NotDelivering::Failing { error, .. } => format!("fails ({error})"),
        NotDelivering::Starting => return None,
    };
    let name = &one.name;
    let sentence = format!("the integration {name} {does}, and {FULL}: {dropped}");
    Some(advised(why, sentence))
}
