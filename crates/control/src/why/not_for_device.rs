//! Commands and rollouts for a group that are not for one of its devices: it joined the group
//! later, or was not active then.

use super::Finding;
use super::facts::Facts;
use super::found::{Bearing, ENDED_RECENTLY_MS, Found, is_connected};
use crate::cause::Cause;
use crate::rfc3339;

/// What there is to find.
pub(super) fn not_for_device(facts: &Facts, found: &mut Found) {
    for one in &facts.not_for_device {
        let (what, group) = (&one.what, &one.group);
        let made = rfc3339::in_words(one.created_ms);
        let sentence = match one.joined_ms {
            Some(joined_ms) => format!(
                "{what} is not for the device: it was made on {made} for the members that the \
                 group {group} had then, and the device joined the group on {}",
                rfc3339::in_words(joined_ms)
            ),
            None => format!(
                "{what}, made on {made} for the group {group}, was not sent to the device: its \
                 status was maintenance or inactive then, or it had too many open commands"
            ),
        };
        let cause = match one.is_rollout {
            true => Cause::RolloutWaits,
            false => Cause::CommandWaits,
        };
        let since_ms = one.joined_ms.unwrap_or(one.created_ms);
        let is_recent = facts.now_ms.saturating_sub(since_ms) <= ENDED_RECENTLY_MS;
        let bearing = match is_recent {
            // Why it is not connected is reported first.
            true if is_connected(facts) => Bearing::Happened,
            _ => Bearing::Aside,
        };
        let finding = Finding::new(cause, sentence).since(one.created_ms);
        found.push((bearing, finding.with_remedy(one.worded.clone())));
    }
}
