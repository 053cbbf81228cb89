//! The task of one sink. It attaches a durable part of the node, hands its messages to the sink in
//! batches, and settles them when the sink has them.
//!
//! * `handle`: how others read its state and tell it something
//! * `core`: what it holds and what it is told; all but the sink
//! * `clock`: its time
//! * `giving_up`: when a message at which the sink fails again and again is given up
//! * `source`: the task of a source
//! * `waiting`: clients whose messages wait for it
//! * `caller`, `attempt`, `backoff`: the thread of the sink, one call, and the pause before the
//!   next
//!
//! The position of a sink is its session in the node's store: a message leaves it when it is
//! settled, so a restart goes on where the last settled message was. A message that was handed to
//! the sink and not settled comes again, marked as repeated.

mod attempt;
mod backoff;
mod caller;
mod clock;
mod core;
mod giving_up;
mod handle;
mod source;
#[cfg(test)]
mod tests;
mod waiting;

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::PartQueueLimits;
use tokio::sync::mpsc;

pub use backoff::Backoff;
pub use clock::Clock;
pub(crate) use handle::Teller;
pub use handle::{Activity, Command, CommandError, Counts, Failure, Handle, State, ToldCommand};

use self::attempt::Broken;
use self::caller::{CallRuntime, CallerAnswer, Request, SinkCaller};
use self::clock::RuntimeClock;
use self::core::{Core, RunnerMessage};
use self::handle::Shared;
pub(crate) use self::source::SourceRunner;
use crate::bridge::BroughtTopics;
use crate::dead_letters::DeadLetter;
use crate::feed::{Feeder, Ticket};
use crate::host::Host;
use crate::sink::Sink;
use crate::sink_message::SinkMessage;

/// As [`Settings::max_attempts`], unless the configuration says otherwise. With the pauses between
/// them they take some minutes.
pub const MAX_ATTEMPTS: u32 = 10;

/// Time limit of a test.
const TEST_WITHIN: Duration = Duration::from_secs(30);

/// What happens when the sink refuses a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReject {
    /// The message becomes a dead letter, and those behind it go on.
    #[default]
    DeadLetter,
    /// The integration stops before that message, until it is resumed.
    Stop,
}

/// How a sink is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kind of the sink, such as `file`.
    pub kind: &'static str,
    /// Name, which no other integration of this kind has.
    pub name: Box<str>,
    /// Team whose tenant's messages it takes; empty is the common tenant, [`ALL_TENANTS`] all of
    /// them.
    pub tenant: Arc<str>,
    /// User or device by whose rules a source publishes; none: no rules limit it.
    pub publish_as: Option<Arc<str>>,
    /// Topic Filters, without `$share`.
    pub filters: Vec<Box<str>>,
    /// Topics of messages that it brings from elsewhere as a bridge.
    pub brings: Vec<BroughtTopics>,
    /// Whether QoS 0 messages are kept in the queue too.
    pub keeps_qos0: bool,
    /// Bounds of the queue.
    pub queue: PartQueueLimits,
    /// What happens to messages that the sink refuses.
    pub on_reject: OnReject,
    /// Attempts of one message, as
    /// [`Outcome::FailedAtMessage`](crate::Outcome::FailedAtMessage) counts them, after which it
    /// counts as refused; 0: without end.
    pub max_attempts: u32,
    /// Messages of a batch, at most, and messages in hand: 1 to 65,535. The node's
    /// `limits.in_flight` is a bound too.
    pub batch_messages: u16,
    /// Longest time between the beginnings of two calls of a few messages. Where messages follow
    /// each other closely, they are handed over together: the threads that a call wakes cost more
    /// than a message.
    pub called_every: Duration,
    /// Messages that each lane hands over before they are settled, at most, as long as they are
    /// small: the next batch is there when the sink has taken one. 0: as many as
    /// [`Self::batch_messages`] and the node's `limits.in_flight` allow.
    pub in_hand: u16,
    /// Bytes of a batch, at most; one message may be larger.
    pub batch_bytes: usize,
    /// Time limit of one call of the sink.
    pub deliver_within: Duration,
    /// Pauses after failures.
    pub backoff: Backoff,
}

impl Settings {
    /// Settings with the defaults: dead letters, ten attempts, batches of 1,000 messages and 1 MiB,
    /// 30 s.
    pub fn new(kind: &'static str, name: &str, filters: Vec<Box<str>>) -> Self {
        Self {
            kind,
            name: name.into(),
            tenant: "".into(),
            publish_as: None,
            filters,
            brings: Vec::new(),
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
            on_reject: OnReject::default(),
            max_attempts: MAX_ATTEMPTS,
            batch_messages: 1_000,
            called_every: Duration::from_millis(1),
            in_hand: 0,
            batch_bytes: 1 << 20,
            deliver_within: Duration::from_secs(30),
            backoff: Backoff::default(),
        }
    }

    /// It takes the messages of the tenant of one team.
    pub fn is_of_team(&self) -> bool {
        !self.tenant.is_empty() && *self.tenant != *ALL_TENANTS
    }

    /// Client Identifier of its part. Its sessions have this name with the number of a lane, see
    /// [`lane_name`](martlet_broker::lane_name).
    pub fn client_id(&self) -> String {
        format!("{CLIENT_IDS}{}/{}", self.kind, self.name)
    }
}

/// As [`Settings::tenant`]: messages of all tenants. For integrations of the node itself alone.
pub const ALL_TENANTS: &str = "*";

/// Client Identifiers of integrations begin with this.
pub const CLIENT_IDS: &str = "$integration/";

/// Time within which what comes while the sink is called is to be seen in the state.
const SHOWN_WITHIN: Duration = Duration::from_millis(100);

/// Time between two looks at what a sink has said that takes messages while it is called.
const LOOKS_EVERY: Duration = Duration::from_millis(5);

/// Time between two times that the node is heard while the sink is called. To be woken for each
/// message costs more than the message.
const HEARD_EVERY: Duration = Duration::from_millis(1);

/// Runs one sink.
#[derive(Debug)]
pub struct Runner<S> {
    caller: SinkCaller<S>,
    core: Core,
}

impl<S: Sink> Runner<S> {
    /// Starts a task that runs the sink that `make` makes until [`Handle::stop`], and a thread for
    /// the calls of the sink. Needs a Tokio runtime.
    pub fn start(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
    ) -> Handle {
        let place = CallRuntime::for_sink(&settings.client_id());
        Self::start_at(settings, make, host, place)
    }

    /// Starts the runner of a sink that is called on a runtime of its own ([`Sink::runtime`]).
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
        let (handle, run) = Self::make(settings, make, host, (place, clock));
        handle.with_task(tokio::spawn(run))
    }

    /// A runner without a task and a thread: its handle, and the future that is the runner. It is
    /// driven by who polls that, such as in virtual time, and calls the sink in there. The clock
    /// and the host wake it.
    pub fn in_hand(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
    ) -> (Handle, impl Future<Output = ()> + Send) {
        Self::make(settings, make, host, (CallRuntime::InTask, clock))
    }

    fn make(
        settings: Settings,
        make: impl Fn() -> S + Send + 'static,
        host: Arc<dyn Host>,
        (place, clock): (CallRuntime, Arc<dyn Clock>),
    ) -> (Handle, impl Future<Output = ()> + Send) {
        let shared = Arc::<Shared>::default();
        let (sender, told) = mpsc::unbounded_channel();
        let handle = Handle::new(&settings, Arc::clone(&shared), sender);
        let ends = EndsWith(Arc::clone(&shared));
        let client_id = settings.client_id();
        let core = Core::new(settings, (host, Arc::clone(&clock)), shared, told);
        let caller = SinkCaller::new(make, client_id, (place, clock));
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
                // What it answers is what it says of itself.
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

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        let Self { caller, core } = self;
        tokio::select! {
            biased;
            () = core.wait() => {}
            // It may be called again.
            () = caller.unblocked() => core.sink_returned(),
        }
    }

    /// Answers all who wait for a test with the result of one.
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
            // The one who asked may have given up.
            let _ = answer.send(tested.clone().map_err(CommandError::from));
        }
    }

    /// Calls the sink, and obeys commands meanwhile. A `feeder` hands over what comes during the
    /// call.
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
        let said = (feeder.outcomes(), done);
        self.core.letters_sent(letters, said).await;
    }
}

/// When something is due while the sink is called; none: nothing is.
#[derive(Debug, Default)]
struct CallTimes {
    /// The state is shown.
    show_at: Option<Duration>,
    /// What the sink has said is looked at.
    look_at: Option<Duration>,
    /// The node is heard again.
    hear_at: Option<Duration>,
}

impl CallTimes {
    fn next(&self) -> Option<Duration> {
        let all = [self.show_at, self.look_at, self.hear_at];
        all.into_iter().flatten().min()
    }

    /// Time has passed.
    fn pass(&mut self, now: Duration, show: impl FnOnce()) {
        if self.show_at.is_some_and(|at| at <= now) {
            self.show_at = None;
            show();
        }
        self.hear_at = self.hear_at.filter(|at| *at > now);
    }

    /// The node has told something.
    fn heard(&mut self, now: Duration) {
        self.show_soon(now);
        self.hear_at = Some(now + HEARD_EVERY);
    }

    /// The state has changed.
    fn show_soon(&mut self, now: Duration) {
        self.show_at.get_or_insert(now + SHOWN_WITHIN);
    }
}

/// Sets the state to ended when the task ends, however that happens.
struct EndsWith(Arc<Shared>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        {
            let mut state = self.0.lock();
            (state.activity, state.is_attached) = (Activity::Ended, false);
        }
        self.0.tell_changed();
    }
}
