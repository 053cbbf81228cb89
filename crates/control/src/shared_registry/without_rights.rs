//! Users that logged in to the API with the right password and have no rights there, in memory.
//! Clients get the answer to a wrong password; `why` reports the reason.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::lock::lock;
use crate::wall_clock::now_ms;

/// Most users that are remembered.
const USERS_MAX: usize = 256;

/// Each with the time of the last attempt, milliseconds since the Unix epoch; the latest last.
#[derive(Debug, Default)]
pub(super) struct WithoutRights(Mutex<VecDeque<(String, u64)>>);

impl WithoutRights {
    /// The user was refused.
    pub(super) fn add(&self, user: &str) {
        let mut all = lock(&self.0);
        all.retain(|(known, _)| known != user);
        while all.len() >= USERS_MAX {
            all.pop_front();
        }
        all.push_back((user.to_owned(), now_ms()));
    }

    /// When the user was refused last; none: it was not.
    pub(super) fn of(&self, user: &str) -> Option<u64> {
        let all = lock(&self.0);
        let found = all.iter().find(|(known, _)| known == user);
        found.map(|(_, at_ms)| *at_ms)
    }
}
