//! Actions of clients.

/// A set of actions of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(pub(crate) u8);

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Send a PUBLISH, or have a Will.
    pub const PUBLISH: Self = Self(1);
    /// Have a subscription.
    pub const SUBSCRIBE: Self = Self(2);
    /// Receive a message in any way: live, retained, queued, or by a share group.
    pub const RECEIVE: Self = Self(4);
    /// Subscribe and receive.
    pub const READ: Self = Self(6);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// Union of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set contains all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Names of the actions, in the order in which they are written.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (Self::PUBLISH, "publish"),
            (Self::SUBSCRIBE, "subscribe"),
            (Self::RECEIVE, "receive"),
        ];
        all.into_iter()
            .filter_map(move |(action, name)| self.has(action).then_some(name))
    }

    /// The action with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PUBLISH, Self::SUBSCRIBE, Self::RECEIVE]
            .into_iter()
            .find(|action| action.names().eq([name]))
    }
}
