//! Large bodies: they are unpacked and read on threads of their own, few at once and one of each
//! caller, so that the threads of the API answer others meanwhile.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use martlet_control::shared_slots::SharedSlots;
use tracing::error;

use crate::problem::{Problem, ProblemKind};

/// Bytes of a body, unpacked, up to which it is read at once.
pub(crate) const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Large bodies that are read at once, at most: half as many as there are processors.
const SLOTS_MAX: usize = 4;
/// Large bodies of one caller that are read at once, at most.
const SLOTS_OF_CALLER_MAX: usize = 1;
/// Time that a large body waits for its slot.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Slots of large bodies, by caller.
#[derive(Clone, Debug)]
pub(crate) struct LargeBodies(Arc<SharedSlots<String>>);

impl Default for LargeBodies {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self::with_slots((processors / 2).clamp(1, SLOTS_MAX))
    }
}

impl LargeBodies {
    fn with_slots(slots: usize) -> Self {
        Self(Arc::new(SharedSlots::new(slots, SLOTS_OF_CALLER_MAX)))
    }

    /// Reads the bodies of this caller.
    pub(crate) fn reader(&self, caller: &str) -> BodyReader {
        BodyReader {
            large: Some(self.clone()),
            caller: caller.to_owned(),
        }
    }
}

/// Reads the bodies of one caller.
#[derive(Clone, Debug)]
pub(crate) struct BodyReader {
    /// None: the caller needs no slots.
    large: Option<LargeBodies>,
    caller: String,
}

impl BodyReader {
    /// Reads the bodies of an operator at `admin.sock`.
    pub(crate) fn without_slots() -> Self {
        Self {
            large: None,
            caller: String::new(),
        }
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
            Some(LargeBodies(slots)) => {
                let slot = slots.take(&self.caller, WAIT_MAX).await;
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
    async fn a_caller_has_one_place_and_small_bodies_need_none() {
        let bodies = LargeBodies::with_slots(2);
        let large = SMALL_BYTES_MAX + 1;
        let (go_on, wait) = mpsc::channel::<()>();
        let one = bodies.reader("device:1");
        let first = tokio::spawn({
            let one = one.clone();
            async move { one.read(large, move || wait.recv().is_ok()).await }
        });
        while bodies.0.free() == 2 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let one = one.clone();
            async move { one.read(large, || 2).await }
        });
        assert_eq!(one.read(SMALL_BYTES_MAX, || 3).await.unwrap(), 3);
        assert_eq!(
            bodies.reader("device:2").read(large, || 4).await.unwrap(),
            4
        );
        assert!(!second.is_finished());
        go_on.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!(bodies.0.free(), 2);
    }
}
