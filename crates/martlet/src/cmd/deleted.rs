//! Objects that were deleted and can be restored: until when their names stay reserved, and what to
//! do before.

use jiff::{Span, Timestamp};
use martlet_control::text::typed_names;

use crate::cmd::node_options::NodeOptions;

/// Time for which a node keeps what was deleted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeletedKept {
    /// Days; 0: for ever.
    days: u32,
}

impl DeletedKept {
    /// The time in the configuration of a node.
    pub(crate) fn of(node: &NodeOptions) -> anyhow::Result<Self> {
        let days = node.load()?.settings().registry.deleted_keep_days;
        Ok(Self { days })
    }

    /// When an object that was deleted then is removed permanently; `None`: never.
    pub(crate) fn until(self, deleted_ms: i64) -> Option<Timestamp> {
        let deleted = Timestamp::from_millisecond(deleted_ms).ok()?;
        let hours = i64::from(self.days)
            .checked_mul(24)
            .filter(|hours| *hours > 0)?;
        deleted.checked_add(Span::new().try_hours(hours).ok()?).ok()
    }

    /// The day of [`Self::until`]; empty: never.
    pub(crate) fn day(self, deleted_ms: i64) -> String {
        let until = self.until(deleted_ms);
        until.map_or_else(String::new, |until| until.strftime("%Y-%m-%d").to_string())
    }

    /// Lines about an object of a node that was deleted now. `noun` is that of its commands, and
    /// `team` is the option that they need to find it, if any, with a blank behind it.
    pub(crate) fn note(self, node: &NodeOptions, noun: &str, name: &str, team: &str) -> String {
        let until = match self.day(Timestamp::now().as_millisecond()) {
            day if day.is_empty() => String::new(),
            day => format!(" until {day} (registry.deleted_keep_days)"),
        };
        let (name, node) = (typed_names(&[name]), node.in_command());
        format!(
            "The name stays reserved{until}.\nTo restore it: martlet {noun} restore \
             {node}{team}{name}\nTo free the name now: martlet {noun} rm --purge \
             {node}{team}{name}\n"
        )
    }
}
