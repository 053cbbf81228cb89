//! The key of an alarm.

/// Identifies an alarm while it is active.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlarmKey {
    /// Tenant.
    pub tenant: u32,
    /// Name: that of its rule, or of a condition monitored by the node.
    pub name: String,
    /// Subject: the id of a device, a topic or a part of the node.
    pub subject: String,
}
