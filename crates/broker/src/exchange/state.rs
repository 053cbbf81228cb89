//! How far an exchange has come.

use std::sync::Arc;

use crate::authentication::ExchangeState;
use crate::timer::TimerKey;

/// The exchange of a connection whose CONNECT named a method.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) method: Arc<str>,
    pub(crate) turn: ExchangeTurn,
    /// The deadline of a re-authentication.
    pub(crate) deadline: Option<TimerKey>,
}

#[derive(Debug)]
pub(crate) enum ExchangeTurn {
    /// The client is known; it may begin anew.
    Over,
    /// The authenticator has been asked.
    Keeper,
    /// An answer of the client is expected.
    Client(ExchangeState),
}

impl Exchange {
    /// The authenticator has been asked.
    pub(crate) fn requested(method: Arc<str>) -> Self {
        Self {
            method,
            turn: ExchangeTurn::Keeper,
            deadline: None,
        }
    }

    /// The exchange of an accepted client.
    pub(crate) fn over(method: Arc<str>) -> Self {
        Self {
            method,
            turn: ExchangeTurn::Over,
            deadline: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_may_prove_anew_who_it_is_is_small() {
        assert!(size_of::<Exchange>() <= 48);
    }
}
