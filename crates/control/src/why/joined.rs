//! Commands and rollouts for a group, from before the device joined it: they are for the members at
//! that time.

use super::Finding;
use super::facts::Facts;
use super::found::{ENDED_RECENTLY_MS, Found, Weight, is_connected};
use crate::cause::Cause;
use crate::rfc3339;

/// What there is to find.
pub(super) fn before_joining(facts: &Facts, found: &mut Found) {
    for one in &facts.before_joining {
        let (what, group) = (&one.what, &one.group);
        let sentence = format!(
            "{what} is not for the device: it was made on {} for the members that the group {group} \
             had then, and the device joined the group on {}",
            rfc3339::in_words(one.created_ms),
            rfc3339::in_words(one.joined_ms)
        );
        let cause = match one.is_rollout {
            true => Cause::RolloutWaits,
            false => Cause::CommandWaits,
        };
        let is_recent = facts.now_ms.saturating_sub(one.joined_ms) <= ENDED_RECENTLY_MS;
        let weight = match is_recent {
            // Why it is not connected is reported first.
            true if is_connected(facts) => Weight::Trouble,
            _ => Weight::Aside,
        };
        let finding = Finding::new(cause, sentence).since(one.created_ms);
        found.push((weight, finding.with_remedy(one.worded.clone())));
    }
}
