//! Limits that were reached, with their values.

use martlet_permission::{Limit, ReachedLimit, Refusal, RefusalCause};

use crate::limits::ListenerPolicy;
use crate::shard::Shard;

impl Shard {
    /// A limit with its value, for a client of this listener.
    pub(crate) fn reached(&self, limit: Limit, listener: Option<&ListenerPolicy>) -> ReachedLimit {
        let limits = &self.settings.limits;
        let of_node = || {
            let key = limit.option().strip_prefix("limits.");
            key.and_then(|key| limits.get(key)).unwrap_or(0)
        };
        let value = match (limit, listener) {
            (Limit::ListenerConnections, Some(listener)) => listener.connections_max.into(),
            (Limit::MaximumQos, Some(listener)) => listener.maximum_qos as u64,
            (Limit::ConnectTimeout, Some(listener)) if listener.connect_timeout_secs > 0 => {
                listener.connect_timeout_secs.into()
            }
            (Limit::TeamConnections, _) => limits.connections.into(),
            (Limit::TeamSessions, _) => limits.sessions.into(),
            (Limit::TeamRetained, _) => limits.retained_messages.into(),
            (Limit::TeamRetainedBytes, _) => limits.retained_bytes,
            (Limit::TeamWills, _) => self.wills_bytes_max(),
            (Limit::TeamSubscriptions, _) => self.memory.subscriptions_max as u64,
            _ => of_node(),
        };
        ReachedLimit { limit, value }
    }

    /// The refusal of a client of this connection for this cause: of a limit with its value there.
    pub(crate) fn refusal(&self, index: u32, cause: RefusalCause) -> Refusal {
        let Some(limit) = cause.limit() else {
            return cause.into();
        };
        let connection = self.connections.look_at(index);
        let listener = connection.map(|connection| &**connection.listener());
        self.reached(limit, listener).refusal()
    }

    /// Bytes of all Wills on this shard, at most.
    pub(crate) fn wills_bytes_max(&self) -> u64 {
        self.settings.limits.wills_bytes / u64::from(self.shard_count.max(1))
    }
}
