//! Commands and rollouts for a group that are not for one of its devices: it joined the group
//! later, or was not active then.

use super::asked::Asked;
use super::examine::Findings;
use super::found::ENDED_RECENTLY_MS;
use super::{Bearing, Finding};
use crate::cause::Cause;
use crate::journal::WordedRemedy;
use crate::rfc3339;

/// A command or rollout for the devices of a group that is not for one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NotForDevice {
    /// Name in words.
    pub(crate) what: String,
    /// Name of the group.
    pub(crate) group: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub(crate) created_ms: u64,
    /// When the device joined the group, likewise, which was later; none: it was a member, and not
    /// active or full of commands.
    pub(crate) joined_ms: Option<u64>,
    /// Remedy.
    pub(crate) worded: WordedRemedy,
}

impl NotForDevice {
    /// Reports it, for this cause.
    pub(crate) fn judge(&self, cause: Cause, asked: &Asked, findings: &mut Findings) {
        let (what, group) = (&self.what, &self.group);
        let made = rfc3339::in_words(self.created_ms);
        let sentence = match self.joined_ms {
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
        let since_ms = self.joined_ms.unwrap_or(self.created_ms);
        let is_recent = asked.now_ms.saturating_sub(since_ms) <= ENDED_RECENTLY_MS;
        let bearing = match is_recent {
            // Why it is not connected is reported first.
            true if asked.is_connected => Bearing::Present,
            _ => Bearing::Aside,
        };
        let finding = Finding::new(cause, sentence).since(self.created_ms);
        findings.add_as(bearing, finding.with_remedy(self.worded.clone()));
    }
}
