//! Bytes that uploads under way may still bring, by team.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// Bytes of uploads under way, by the id of the team; empty: of no team.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservations(Arc<Mutex<HashMap<String, u64>>>);

/// Bytes of one upload, until it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    all: Reservations,
    team: String,
    bytes: u64,
}

impl Reservations {
    /// Reserves bytes for an upload of a team if `is_room_for` says so, which gets the bytes that
    /// are reserved: of that team, and of the others.
    ///
    /// # Errors
    /// The error of `is_room_for`.
    pub(super) fn take<E>(
        &self,
        team: &str,
        bytes: u64,
        is_room_for: impl FnOnce(u64, u64) -> Result<(), E>,
    ) -> Result<Reserved, E> {
        let mut all = lock(&self.0);
        let own = all.get(team).copied().unwrap_or_default();
        let others = all.values().sum::<u64>() - own;
        is_room_for(own, others)?;
        all.insert(team.to_owned(), own.saturating_add(bytes));
        Ok(Reserved {
            all: self.clone(),
            team: team.to_owned(),
            bytes,
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut all = lock(&self.all.0);
        if let Some(own) = all.get_mut(&self.team) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                all.remove(&self.team);
            }
        }
    }
}
