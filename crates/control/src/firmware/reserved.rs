//! Bytes that uploads under way may still bring, by team.

use std::sync::{Arc, Mutex};

use martlet_broker::Uses;

use crate::lock::lock;

/// Bytes of uploads under way, by the id of the team; empty: of no team.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservations(Arc<Mutex<Uses<String>>>);

/// Bytes of one upload, until it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    all: Reservations,
    team: String,
    bytes: usize,
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
        let team = team.to_owned();
        is_room_for(all.of(&team) as u64, all.beside(&team) as u64)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        all.add(&team, bytes);
        Ok(Reserved {
            all: self.clone(),
            team,
            bytes,
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        lock(&self.all.0).give_back(&self.team, self.bytes);
    }
}
