//! What a client wants to do.

/// What a client wants to do, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(pub(crate) u8);

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Send a PUBLISH, or have a Will.
    pub const PUBLISH: Self = Self(1);
    /// Have a subscription.
    pub const SUBSCRIBE: Self = Self(2);
    /// Get a message, by whatever way: live, retained, queued, by a share group.
    pub const RECEIVE: Self = Self(4);
    /// Subscribe and get what comes.
    pub const READ: Self = Self(6);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of `other` is in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// In the order in which they are written.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (Self::PUBLISH, "publish"),
            (Self::SUBSCRIBE, "subscribe"),
            (Self::RECEIVE, "receive"),
        ];
        all.into_iter()
            .filter_map(move |(action, name)| self.has(action).then_some(name))
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PUBLISH, Self::SUBSCRIBE, Self::RECEIVE]
            .into_iter()
            .find(|action| action.names().eq([name]))
    }
}
