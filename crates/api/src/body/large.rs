//! Large bodies: they are unpacked and read on threads of their own, few at once and a share of
//! them for each team, so that the threads of the API answer others meanwhile.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use martlet_broker::Share;
use martlet_control::shared_slots::SharedSlots;
use martlet_registry::Visibility;
use tracing::error;

use crate::problem::{Problem, ProblemKind};

/// Bytes of a body, unpacked, up to which it is read at once.
pub(crate) const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Large bodies that are read at once, at most: half as many as there are processors.
const SLOTS_MAX: usize = 4;
/// Time that a large body waits for its slot.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Slots of large bodies, by the team of the caller.
#[derive(Clone, Debug)]
pub(crate) struct LargeBodies(Arc<SharedSlots<Visibility>>);

impl LargeBodies {
    /// Makes the slots. One team may have this share of them.
    pub(crate) fn new(share: Share) -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self::with_slots((processors / 2).clamp(1, SLOTS_MAX), share)
    }

    fn with_slots(slots: usize, share: Share) -> Self {
        Self(Arc::new(SharedSlots::new(slots, share)))
    }

    /// Reads the bodies of callers with this visibility.
    pub(crate) fn reader(&self, caller: Visibility) -> BodyReader {
        BodyReader {
            large: Some((self.clone(), caller)),
        }
    }
}

/// Reads the bodies of one caller.
#[derive(Clone, Debug)]
pub(crate) struct BodyReader {
    /// The slots, and whose they are; none: the caller needs no slots.
    large: Option<(LargeBodies, Visibility)>,
}

impl BodyReader {
    /// Reads the bodies of an operator at `admin.sock`.
    pub(crate) fn without_slots() -> Self {
        Self { large: None }
    }

    /// Does the work of reading a body of that many bytes, or more when it is unpacked.
    ///
    /// # Errors
    /// It is large, and found no slot in time.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if bytes <= SMALL_BYTES_MAX {
            return Ok(work());
        }
        let slot = match &self.large {
            None => None,
            Some((LargeBodies(slots), caller)) => {
                let slot = slots.take(caller, WAIT_MAX).await;
                Some(slot.ok_or_else(no_slot)?)
            }
        };
        // Where the caller has gone, the slot is taken until the work is done.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        done.await.map_err(|error| {
            error!(%error, "a body could not be read");
            broken()
        })
    }
}

fn no_slot() -> Problem {
    let secs = WAIT_MAX.as_secs();
    let detail = format!(
        "the node reads other large bodies, and had no slot for this one in {secs} s: try again \
         later"
    );
    Problem::unavailable(detail)
}

fn broken() -> Problem {
    Problem::new(ProblemKind::Internal, "the body could not be read")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_team_has_its_share_of_slots_and_small_bodies_need_none() {
        let bodies = LargeBodies::with_slots(2, Share::default());
        let large = SMALL_BYTES_MAX + 1;
        let (go_on, wait) = mpsc::channel::<()>();
        let team = |id: &str| Visibility::of(Some(id));
        let one = bodies.reader(team("north"));
        let first = tokio::spawn({
            let one = one.clone();
            async move { one.read(large, move || wait.recv().is_ok()).await }
        });
        while bodies.0.used().is_empty() {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let one = one.clone();
            async move { one.read(large, || 2).await }
        });
        assert_eq!(one.read(SMALL_BYTES_MAX, || 3).await.unwrap(), 3);
        let other = bodies.reader(team("south"));
        assert_eq!(other.read(large, || 4).await.unwrap(), 4);
        assert!(!second.is_finished());
        go_on.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert!(bodies.0.used().is_empty());
    }
}
