//! The calls of a sink, one after the other, on a separate thread: a sink that blocks delays
//! neither its runner nor other parts of the node.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::warn;

use super::attempt::{Broken, attempt};
use super::clock::{Clock, within};
use crate::caught::{PanicTold, catch_or_tell};
use crate::feed::SinkMessages;
use crate::sink::{AccessRefused, Sink};

/// Time beyond the time limit of a call after which the sink counts as blocking its thread.
const BLOCKED_AFTER: Duration = match cfg!(test) {
    true => Duration::from_millis(50),
    false => Duration::from_secs(2),
};

/// Threads that a sink may lose by panics that are not unwound, until an operator re-enables it:
/// each lost thread is parked for ever.
const LOST_MAX: u32 = 10;

/// A call of the sink.
#[derive(Debug)]
pub(super) enum Request {
    /// Deliver these messages.
    Deliver(SinkMessages),
    /// Test whether the other system can be reached.
    Test,
    /// Only read its health.
    Look,
}

/// Answer of a call.
#[derive(Debug)]
pub(super) enum CallerAnswer {
    /// A delivery has ended; the feed has the outcomes.
    Delivered,
    /// Result of a test.
    Tested(Result<(), String>),
    /// The sink's health was read.
    Looked,
}

/// The runtime of the calls.
#[derive(Debug)]
pub(super) enum CallRuntime {
    /// On a separate thread.
    Thread(OwnRuntime),
    /// On the runtime of the runner.
    Here(Handle),
    /// On the runtime that the sink provides.
    OfSink,
    /// In the task of the runner, which has no runtime.
    InTask,
}

impl CallRuntime {
    /// A thread for the sink of this name; the runner's own if no thread can be created.
    pub(super) fn for_sink(client_id: &str) -> Self {
        match OwnRuntime::start() {
            Ok(runtime) => Self::Thread(runtime),
            Err(error) => {
                warn!(integration = client_id, %error, "no thread for the sink: it shares one");
                Self::Here(Handle::current())
            }
        }
    }

    /// The runtime for calls of this sink; `None`: it is called in the task of the runner.
    fn handle(&self, sink: &impl Sink) -> Option<Handle> {
        match self {
            Self::InTask => None,
            Self::Thread(runtime) => Some(runtime.handle.clone()),
            Self::Here(handle) => Some(handle.clone()),
            Self::OfSink => Some(sink.runtime().unwrap_or_else(Handle::current)),
        }
    }
}

/// A runtime with its own thread, which ends when this is dropped. A call that blocks is
/// abandoned.
///
/// It polls for I/O only when all ready tasks are done, so that a sink with several messages in
/// flight gets their answers together.
#[derive(Debug)]
pub(super) struct OwnRuntime {
    handle: Handle,
    /// The thread ends when this is dropped.
    _runs: oneshot::Sender<()>,
}

impl OwnRuntime {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (runs, over) = oneshot::channel();
        let run = move || {
            // An error means that the sender was dropped: the end.
            let _ = runtime.block_on(over);
            runtime.shutdown_background();
        };
        std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(run)?;
        Ok(Self {
            handle,
            _runs: runs,
        })
    }
}

/// A call that has ended.
struct Called<S> {
    sink: S,
    done: Result<CallerAnswer, Broken>,
    said: SinkSaid,
}

/// Health and status of a sink.
#[derive(Clone, Debug, Default)]
pub(super) struct SinkSaid {
    /// See [`Sink::health`].
    pub(super) health: Option<String>,
    /// See [`Sink::outage`].
    pub(super) outage: Option<String>,
    /// See [`Sink::access_refused`].
    pub(super) access_refused: Option<AccessRefused>,
    /// See [`Sink::skipped`].
    pub(super) skipped: u64,
}

enum State<S> {
    Idle(S),
    /// Running, with the start time.
    Busy(JoinHandle<Called<S>>, Duration),
    /// The sink's thread has ended, or is parked after a panic.
    Lost,
}

/// Calls a sink.
pub(super) struct SinkCaller<S> {
    make: Box<dyn Fn() -> S + Send>,
    client_id: String,
    place: CallRuntime,
    clock: Arc<dyn Clock>,
    state: State<S>,
    panic: Arc<PanicTold>,
    /// Number of threads lost by panics.
    lost: u32,
    said: SinkSaid,
}

impl<S> std::fmt::Debug for SinkCaller<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SinkCaller").field(&self.place).finish()
    }
}

impl<S: Sink> SinkCaller<S> {
    /// Calls the sink returned by `make`; creates a new one after a panic lost its thread.
    pub(super) fn new(
        make: impl Fn() -> S + Send + 'static,
        client_id: String,
        place: CallRuntime,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            state: State::Idle(make()),
            make: Box::new(make),
            client_id,
            place,
            clock,
            panic: Arc::default(),
            lost: 0,
            said: SinkSaid::default(),
        }
    }

    /// A new sink in place of one whose thread is parked.
    fn made_again(&mut self) -> Result<S, Broken> {
        if self.lost >= LOST_MAX {
            return Err(Broken::GivenUp(self.lost));
        }
        if matches!(self.place, CallRuntime::Thread(_)) {
            self.place = CallRuntime::for_sink(&self.client_id);
        }
        self.panic = Arc::default();
        Ok((self.make)())
    }

    /// After a repair by an operator: re-enables a sink that panicked too often, and makes a
    /// waiting one retry.
    pub(super) fn start_anew(&mut self) {
        self.lost = 0;
        if let State::Idle(sink) = &mut self.state {
            sink.try_again();
        }
    }

    /// Health and status of the sink after the last call.
    pub(super) fn said(&self) -> &SinkSaid {
        &self.said
    }

    /// Calls the sink. Not called while an earlier call still blocks.
    pub(super) async fn call(
        &mut self,
        request: Request,
        limit: Duration,
    ) -> Result<CallerAnswer, Broken> {
        self.take_back_if_ended().await;
        let sink = match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(sink) => sink,
            State::Busy(task, since) => {
                self.state = State::Busy(task, since);
                return Err(Broken::Blocked(self.clock.now().saturating_sub(since)));
            }
            State::Lost => self.made_again()?,
        };
        let runtime = self.place.handle(&sink);
        let (clock, panic) = (Arc::clone(&self.clock), Arc::clone(&self.panic));
        let call = perform(sink, request, clock, limit, panic);
        let Some(runtime) = runtime else {
            let called = call.await;
            return self.take_back(called);
        };
        self.state = State::Busy(runtime.spawn(call), self.clock.now());
        self.returned(limit.saturating_add(BLOCKED_AFTER)).await
    }

    /// Takes the sink back after a call.
    fn take_back(&mut self, called: Called<S>) -> Result<CallerAnswer, Broken> {
        self.state = State::Idle(called.sink);
        self.said = called.said;
        called.done
    }

    /// Waits for the end of the current call, up to the limit.
    async fn returned(&mut self, limit: Duration) -> Result<CallerAnswer, Broken> {
        let State::Busy(task, since) = &mut self.state else {
            return Err(Broken::Panicked("its thread has ended".to_owned()));
        };
        let clock = Arc::clone(&self.clock);
        let called = tokio::select! {
            biased;
            text = self.panic.wait() => {
                self.state = State::Lost;
                self.lost += 1;
                return Err(Broken::Panicked(text));
            }
            called = within(&*clock, limit, task) => called,
        };
        let Some(called) = called else {
            return Err(Broken::Blocked(clock.now().saturating_sub(*since)));
        };
        match called {
            Ok(called) => self.take_back(called),
            Err(error) => {
                self.state = State::Lost;
                Err(Broken::Panicked(error.to_string()))
            }
        }
    }

    /// Waits until a blocked call has returned; for ever if none is blocked.
    pub(super) async fn unblocked(&mut self) {
        match &self.state {
            State::Busy(..) => {
                let _ = self.returned(Duration::MAX).await;
            }
            State::Idle(_) | State::Lost => std::future::pending().await,
        }
    }

    async fn take_back_if_ended(&mut self) {
        if let State::Busy(task, _) = &self.state
            && task.is_finished()
        {
            // Its messages already count as failed: they are sent again.
            let _ = self.returned(Duration::MAX).await;
        }
    }
}

async fn perform<S: Sink>(
    mut sink: S,
    request: Request,
    clock: Arc<dyn Clock>,
    limit: Duration,
    panic: Arc<PanicTold>,
) -> Called<S> {
    let done = match request {
        Request::Deliver(mut feed) => {
            let call = async { sink.deliver_from(&mut feed).await };
            let done = attempt(call, &*clock, limit, &panic).await;
            done.map(|()| CallerAnswer::Delivered)
        }
        Request::Test => {
            let call = async { sink.test().await };
            let done = attempt(call, &*clock, limit, &panic).await;
            done.map(CallerAnswer::Tested)
        }
        Request::Look => Ok(CallerAnswer::Looked),
    };
    let said = catch_or_tell(Some(&panic), || SinkSaid {
        health: sink.health(),
        outage: sink.outage(),
        access_refused: sink.access_refused(),
        skipped: sink.skipped(),
    });
    let said = said.unwrap_or_else(|text| SinkSaid {
        health: Some(format!("its health panicked: {text}")),
        ..SinkSaid::default()
    });
    Called { sink, done, said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caught::end_thread;
    use crate::outcome::Outcome;
    use crate::runner::clock::RuntimeClock;
    use crate::sink_message::SinkMessage;

    /// Sink whose panics are not unwound, as in the program.
    struct Panics;

    impl Sink for Panics {
        async fn deliver(&mut self, _: &[SinkMessage]) -> Vec<Outcome> {
            end_thread(&"at 7")
        }

        async fn test(&mut self) -> Result<(), String> {
            end_thread(&"at 7")
        }
    }

    #[tokio::test]
    async fn a_sink_that_panics_too_often_is_not_called_until_it_starts_anew() {
        let place = CallRuntime::for_sink("test");
        let clock = Arc::new(RuntimeClock::new());
        let mut caller = SinkCaller::new(|| Panics, "test".to_owned(), place, clock);
        let panicked = || Err(Broken::Panicked("at 7".to_owned()));
        for _ in 0..2 {
            for _ in 0..LOST_MAX {
                let done = caller.call(Request::Test, Duration::from_secs(60)).await;
                assert_eq!(done.map(|_| ()), panicked());
            }
            let done = caller.call(Request::Test, Duration::from_secs(60)).await;
            let broken = done.map(|_| ()).unwrap_err();
            assert_eq!(broken, Broken::GivenUp(LOST_MAX));
            assert!(broken.to_string().contains("martlet integration resume"));
            caller.start_anew();
        }
    }
}
