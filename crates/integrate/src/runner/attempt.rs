//! One call of a sink: its time is limited, and its panic is an error.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It did not return in time.
    Late(Duration),
    /// It panicked.
    Panicked(String),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Late(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::Panicked(text) => write!(f, "the sink panicked: {text}"),
        }
    }
}

/// Runs a call of a sink.
pub(super) async fn attempt<T>(
    call: impl Future<Output = T>,
    within: Duration,
) -> Result<T, Broken> {
    let guarded = async {
        let mut call = pin!(call);
        std::future::poll_fn(move |context| {
            let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                Err(panic) => Poll::Ready(Err(Broken::Panicked(text_of(&*panic)))),
            }
        })
        .await
    };
    match tokio::time::timeout(within, guarded).await {
        Ok(done) => done,
        Err(_) => Err(Broken::Late(within)),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
