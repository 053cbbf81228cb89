//! When it is decided whether a client may receive what it subscribes to.

use martlet_permission::Actions;

/// How subscriptions are permitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subscribing {
    /// Everybody to everything: each message is looked at when it is delivered.
    #[default]
    AtDelivery,
    /// The node refuses a SUBSCRIBE at once unless the client may read all that the filter covers.
    /// Each message is looked at all the same.
    Refuse,
}

impl Subscribing {
    /// What may be done where no line decides.
    pub(crate) fn default_actions(self) -> Actions {
        match self {
            Self::AtDelivery => Actions::SUBSCRIBE,
            Self::Refuse => Actions::NONE,
        }
    }
}
