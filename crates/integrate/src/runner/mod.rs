//! The task of one sink. It attaches a durable part of the node, hands its messages to the sink in
//! batches, and settles them when the sink has them.
//!
//! * `settings`: settings of a runner
//! * `handle`: how others read its state and send it commands
//! * `core`: its state and events; all except the sink
//! * `clock`: its time
//! * `giving_up`: when a message that fails repeatedly is refused
//! * `source`: the task of a source
//! * `unsettled_message`: a message in hand
//! * `waiting`: clients whose messages wait for it
//! * `caller`, `attempt`, `backoff`: the thread of the sink, one call, and the pause before the
//!   next
//!
//! The position of a sink is its session in the node's store: a message leaves it when it is
//! settled, so a restart continues after the last settled message. A message that was handed to
//! the sink and not settled comes again, marked as repeated.

mod attempt;
mod backoff;
mod caller;
mod clock;
mod core;
mod giving_up;
mod handle;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod unsettled_message;
mod waiting;

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

pub use backoff::Backoff;
pub use clock::Clock;
pub(crate) use handle::Teller;
pub use handle::{Activity, Command, CommandError, Counts, Failure, Handle, State, ToldCommand};
pub use settings::{
    ALL_TENANTS, CLIENT_IDS, MAX_ATTEMPTS, OnReject, Settings, name_of_team, own_name,
};

use self::attempt::Broken;
use self::caller::{CallRuntime, CallerAnswer, Request, SinkCaller};
use self::clock::RuntimeClock;
use self::core::{Core, RunnerMessage};
use self::handle::{EndsWith, Shared};
use self::settings::TEST_WITHIN;
pub(crate) use self::source::SourceRunner;
pub use self::source::is_for_good;
use crate::dead_letters::DeadLetter;
use crate::feed::{Feeder, Ticket};
use crate::host::Host;
use crate::sink::Sink;
use crate::sink_message::SinkMessage;

/// Delay within which events during a call of the sink are visible in the state.
const SHOWN_WITHIN: Duration = Duration::from_millis(100);

/// Interval of reading outcomes of a sink that takes messages during a call.
const LOOKS_EVERY: Duration = Duration::from_millis(5);

/// Interval of reading events of the node during a call of the sink. A wake-up for each message
/// would cost more than the message.
const HEARD_EVERY: Duration = Duration::from_millis(1);

/// Runs one sink.
#[derive(Debug)]
pub struct Runner<S> {
    caller: SinkCaller<S>,
    core: Core,
}

impl<S: Sink> Runner<S> {
    /// Starts a task that runs the sink returned by `make` until [`Handle::stop`], and a thread
    /// for the calls of the sink. Needs a Tokio runtime.
    pub fn start(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
    ) -> Handle {
        let place = CallRuntime::for_sink(&settings.client_id());
        Self::start_at(settings, make, host, place)
    }

    /// Starts the runner of a sink that is called on its own runtime ([`Sink::runtime`]).
    pub(crate) fn start_with_runtime(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
    ) -> Handle {
        Self::start_at(settings, make, host, CallRuntime::OfSink)
    }

    fn start_at(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
        place: CallRuntime,
    ) -> Handle {
        let clock = Arc::new(RuntimeClock::new());
        let (handle, run) = Self::make(settings, make, host, place, clock);
        handle.with_task(tokio::spawn(run))
    }

    /// A runner without a task and a thread: its handle, and the future of the runner. The caller
    /// polls the future, for example in virtual time, and the sink is called within it. The clock
    /// and the host wake it.
    pub fn in_hand(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
    ) -> (Handle, impl Future<Output = ()> + Send) {
        Self::make(settings, make, host, CallRuntime::InTask, clock)
    }

    fn make(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
        place: CallRuntime,
        clock: Arc<dyn Clock>,
    ) -> (Handle, impl Future<Output = ()> + Send) {
        let shared = Arc::<Shared>::default();
        let (sender, told) = mpsc::unbounded_channel();
        let handle = Handle::new(&settings, Arc::clone(&shared), sender);
        let ends = EndsWith(Arc::clone(&shared));
        let client_id = settings.client_id();
        let core = Core::new(settings, host, Arc::clone(&clock), shared, told);
        let caller = SinkCaller::new(make, client_id, place, clock);
        let runner = Self { caller, core };
        let run = async move {
            runner.run().await;
            drop(ends);
        };
        (handle, run)
    }

    async fn run(mut self) {
        self.core.restore().await;
        loop {
            self.core.obey_all().await;
            if self.core.is_stopping {
                return self.core.tell_of_lost();
            }
            if std::mem::take(&mut self.core.has_been_repaired) {
                self.caller.start_anew();
            }
            self.answer_tests().await;
            if std::mem::take(&mut self.core.looks_at_sink) {
                // The result is the health of the sink.
                let _ = self.call(Request::Look, None).await;
            }
            self.core.attach_if_due().await;
            self.core.take_ready();
            self.core.look_at_tenant_if_due();
            self.core.store_letters_if_due().await;
            self.core.drop_too_old();
            self.core.fill_hand();
            self.core.lend_places();
            let mut has_delivered = false;
            let places = self.core.next_places(self.core.clock.now());
            if let Some(until) = self.core.gathers_until(places.len()) {
                self.core.gather(until).await;
                continue;
            }
            if !places.is_empty() {
                self.deliver(&places).await;
                has_delivered = true;
            }
            if self.core.has_letters_to_send(self.core.clock.now()) {
                self.send_letters().await;
                has_delivered = true;
            }
            self.core.drain_if_due().await;
            self.core.show();
            if !has_delivered {
                self.wait().await;
            }
        }
    }

    /// Waits until work is due.
    async fn wait(&mut self) {
        let Self { caller, core } = self;
        tokio::select! {
            biased;
            () = core.wait() => {}
            // The sink can be called again.
            () = caller.unblocked() => core.sink_returned(),
        }
    }

    /// Answers all waiting tests with the result of one.
    async fn answer_tests(&mut self) {
        let answers = std::mem::take(&mut self.core.tests);
        if answers.is_empty() {
            return;
        }
        let tested = match self.call(Request::Test, None).await {
            Ok(CallerAnswer::Tested(tested)) => tested,
            Ok(CallerAnswer::Delivered | CallerAnswer::Looked) => {
                Err("the sink was not tested".to_owned())
            }
            Err(broken) => Err(broken.to_string()),
        };
        for answer in answers {
            // The requester may have stopped waiting.
            let _ = answer.send(tested.clone().map_err(CommandError::from));
        }
    }

    /// Calls the sink, and processes commands during the call. A `feeder` passes on messages that
    /// arrive during the call.
    async fn call(
        &mut self,
        request: Request,
        feeder: Option<&Feeder>,
    ) -> Result<CallerAnswer, Broken> {
        let Self { caller, core } = self;
        let within = match &request {
            Request::Deliver(_) => core.settings.deliver_within,
            Request::Test | Request::Look => core.settings.deliver_within.min(TEST_WITHIN),
        };
        core.show();
        let clock = Arc::clone(&core.clock);
        let mut times = CallTimes::default();
        let done = {
            let mut call = pin!(caller.call(request, within));
            loop {
                let wake = async {
                    match times.next() {
                        Some(at) => clock.sleep_until(at).await,
                        None => pending().await,
                    }
                };
                let said = async {
                    match feeder {
                        Some(feeder) => feeder.told().await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    done = &mut call => break done,
                    () = wake => times.pass(clock.now(), || core.show()),
                    () = said => {}
                    heard = core.hear(times.hear_at.is_none()) => match heard {
                        RunnerMessage::Operator(told) => core.obey(told).await,
                        RunnerMessage::Node(told) => {
                            core.take_while_called(told);
                            times.heard(clock.now());
                        }
                    },
                }
                if let Some(feeder) = feeder {
                    if core.feed(feeder) {
                        times.show_soon(clock.now());
                    }
                    times.look_at = feeder.takes_more().then(|| clock.now() + LOOKS_EVERY);
                }
            }
        };
        core.sink_said(caller.said());
        done
    }

    async fn deliver(&mut self, places: &[usize]) {
        let (feeder, feed) = self.core.begin_call(places);
        let done = self.call(Request::Deliver(feed), Some(&feeder)).await;
        self.core.end_call(&feeder, done.map(drop));
        self.core.store_letters_if_due().await;
        self.core.save_stop().await;
    }

    /// Sends dead letters again.
    async fn send_letters(&mut self) {
        let Some(letters) = self.core.load_letters().await else {
            return;
        };
        let batch = letters.iter().map(DeadLetter::message);
        let batch: Vec<SinkMessage> = batch.map(|one| self.core.with_team(one)).collect();
        if batch.is_empty() {
            return;
        }
        let (feeder, feed) = Feeder::new(batch.len());
        feeder.push((0..).map(Ticket).zip(batch));
        feeder.close();
        let done = self.call(Request::Deliver(feed), None).await.map(drop);
        let outcomes = feeder.outcomes();
        self.core.letters_sent(letters, outcomes, done).await;
    }
}

/// Timers during a call of the sink; `None`: not set.
#[derive(Debug, Default)]
struct CallTimes {
    /// When to publish the state.
    show_at: Option<Duration>,
    /// When to read the outcomes of the sink.
    look_at: Option<Duration>,
    /// When to read events of the node again.
    hear_at: Option<Duration>,
}

impl CallTimes {
    fn next(&self) -> Option<Duration> {
        let all = [self.show_at, self.look_at, self.hear_at];
        all.into_iter().flatten().min()
    }

    /// Handles expired timers.
    fn pass(&mut self, now: Duration, show: impl FnOnce()) {
        if self.show_at.is_some_and(|at| at <= now) {
            self.show_at = None;
            show();
        }
        self.hear_at = self.hear_at.filter(|at| *at > now);
    }

    /// Handles an event of the node.
    fn heard(&mut self, now: Duration) {
        self.show_soon(now);
        self.hear_at = Some(now + HEARD_EVERY);
    }

    /// Schedules the publication of a changed state.
    fn show_soon(&mut self, now: Duration) {
        self.show_at.get_or_insert(now + SHOWN_WITHIN);
    }
}
