//! Places of trials: one of a team, so that no team takes them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Trials that run at one time.
const TRIALS_MAX: usize = 3;
/// Longest time that a trial waits until it begins.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);

/// Places of trials.
#[derive(Debug)]
pub(super) struct TrialPlaces {
    all: Arc<Semaphore>,
    /// Of each tenant that has had a trial.
    of_tenants: Mutex<HashMap<u32, Arc<Semaphore>>>,
}

/// The place of a trial that runs, for as long as it is held.
#[derive(Debug)]
pub(super) struct TrialPlace {
    _of_tenant: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for TrialPlaces {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(TRIALS_MAX)),
            of_tenants: Mutex::default(),
        }
    }
}

impl TrialPlaces {
    /// Waits for a place.
    ///
    /// # Errors
    /// There is none for a time; the reason in words.
    pub(super) async fn take(&self, tenant: u32) -> Result<TrialPlace, String> {
        let of_tenant = {
            let mut known = self
                .of_tenants
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let own = known
                .entry(tenant)
                .or_insert_with(|| Arc::new(Semaphore::new(1)));
            Arc::clone(own)
        };
        let taken = async {
            // Who waits for its own team takes no place of others. No place is ever closed.
            Some(TrialPlace {
                _of_tenant: of_tenant.acquire_owned().await.ok()?,
                _of_all: Arc::clone(&self.all).acquire_owned().await.ok()?,
            })
        };
        let taken = timeout(BEGINS_WITHIN, taken).await.ok().flatten();
        taken.ok_or_else(|| {
            format!(
                "other trials run, of which a team may have one at a time: this one has waited for \
                 {} s, try again",
                BEGINS_WITHIN.as_secs()
            )
        })
    }
}
