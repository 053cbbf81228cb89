//! When rules for receiving are applied to subscriptions.

use martlet_permission::Actions;

/// How subscriptions are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subscribing {
    /// All subscriptions are accepted; each message is checked on delivery.
    #[default]
    AtDelivery,
    /// A SUBSCRIBE is refused unless the client may read all topics that the filter covers. Each
    /// message is still checked on delivery.
    Refuse,
}

impl Subscribing {
    /// Actions that are permitted if no line matches.
    pub(crate) fn default_actions(self) -> Actions {
        match self {
            Self::AtDelivery => Actions::SUBSCRIBE,
            Self::Refuse => Actions::NONE,
        }
    }
}
