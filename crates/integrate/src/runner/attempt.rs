//! One call of a sink, with a time limit; a panic becomes an error.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::clock::{Clock, within};
use crate::caught::{PanicTold, catch_or_tell};

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The call did not return in time.
    Late(Duration),
    /// The call panicked.
    Panicked(String),
    /// The sink panicked too often and is no longer called; the number of panics.
    GivenUp(u32),
    /// The call blocks its thread and cannot be cancelled; with the time since the call began.
    Blocked(Duration),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Late(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::Panicked(text) => write!(f, "the sink panicked: {text}"),
            Self::GivenUp(panics) => write!(
                f,
                "the sink panicked {panics} times, and is not called until the integration is \
                 resumed (martlet integration resume) or the node reloads"
            ),
            Self::Blocked(time) => write!(
                f,
                "the sink blocks its thread, for {} s now, and cannot be called",
                time.as_secs()
            ),
        }
    }
}

/// Runs a call of a sink with a time limit. A panic that is not unwound is reported to `told`.
pub(super) async fn attempt<T>(
    call: impl Future<Output = T>,
    clock: &dyn Clock,
    limit: Duration,
    panic: &Arc<PanicTold>,
) -> Result<T, Broken> {
    let guarded = async {
        let mut call = pin!(call);
        std::future::poll_fn(move |context| {
            match catch_or_tell(Some(panic), || call.as_mut().poll(context)) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                Err(text) => Poll::Ready(Err(Broken::Panicked(text))),
            }
        })
        .await
    };
    match within(clock, limit, guarded).await {
        Some(done) => done,
        None => Err(Broken::Late(limit)),
    }
}
