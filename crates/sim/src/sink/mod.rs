//! Integrations: the production runner with dead letters, a target with all kinds of failures, and
//! tables that survive the node. The runner is polled here, after each event of the node and at
//! due times; nothing else runs it.

mod host;
mod target;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Once};
use std::task::{Context, Waker};
use std::time::Duration;

use martlet_broker::{
    Answer, ClientQuery, Command as BrokerCommand, DropReason, MessageId, PartCall, PartEvent,
    PartId, PartOutcome, PartQueueLimits, Report, Search, TenantId,
};
use martlet_integrate::{
    ALL_TENANTS, Activity, Backoff, Command, Handle, Host, OnReject, Runner, Settings, State,
    ToldCommand,
};

use crate::agenda::{Due, SECOND};
use crate::client::outbound::message_of;
use crate::facts::{Fact, MessageIndex, SinkIndex};
use crate::ledger::SinkRow;
use crate::people::TENANTS;
use crate::random::Random;
use crate::scenario::Kind;
use crate::topics::{FilterIndex, TopicIndex, Topics};
use crate::world::Io;

use self::host::Shared;
use self::target::Target;

/// A time that never comes.
const NEVER: u64 = u64::MAX;
/// Bit that marks attachments of integrations.
const ATTACHMENT: u64 = 1 << 63;
/// Bits below this one are the number of the attachment, bits above it the integration.
const SINK_SHIFT: u32 = 32;
/// Time limit for a shard to process a call of a runner, microseconds.
const TAKEN_WITHIN_US: u64 = SECOND / 4;
/// Maximum latency of a call to its shard, microseconds.
const CALL_US: u64 = 2_000;

/// The integration of an attachment; `None`: it belongs to another part.
pub fn sink_of(attachment: PartId) -> Option<SinkIndex> {
    let is_its = attachment.0 & ATTACHMENT != 0;
    is_its.then_some((attachment.0 >> SINK_SHIFT) as SinkIndex)
}

fn attachment_of(sink: SinkIndex, number: u64) -> PartId {
    PartId(ATTACHMENT | u64::from(sink) << SINK_SHIFT | number)
}

/// Tenants whose messages an integration takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkTenant {
    /// One tenant, by its team; the common tenant has none.
    One(TenantId),
    /// All tenants.
    All,
}

/// Whether the clients of a run with integrations are in several tenants.
pub fn has_tenants(kind: Kind, seed: u64) -> bool {
    kind == Kind::Sinks && Random::new(seed, "sink tenants", 0).percent(50)
}

/// Plan of an integration.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// Name, without the kind.
    pub name: String,
    /// Filters of the sink.
    pub filters: Vec<FilterIndex>,
    /// The tenants whose messages it takes.
    pub tenant: SinkTenant,
    /// Whether it stops at a refused message.
    pub stops: bool,
    /// Maximum waiting time of a message, seconds; 0: unlimited.
    pub age_max_secs: u32,
    /// Maximum number of messages of a batch.
    pub batch_messages: u16,
    /// Maximum time of its target for a batch, microseconds.
    pub deliver_us: u64,
    /// Percentage of messages with a failure.
    pub trouble_percent: u64,
    /// Whether some messages make it panic each time.
    pub has_poison: bool,
    /// Maximum time of an answer of the tables, microseconds.
    pub answer_us: u64,
    /// Percentage of table operations that fail.
    pub tables_fail_percent: u64,
    /// Mean time between commands of operators, microseconds.
    pub command_us: u64,
    /// Whether it takes messages that arrive during a delivery, and answers each at once.
    pub streams: bool,
}

impl SinkPlan {
    /// The integrations of a run.
    pub fn of_run(kind: Kind, seed: u64, topics: &Topics) -> Vec<Self> {
        if kind != Kind::Sinks {
            return Vec::new();
        }
        let count = Random::new(seed, "sinks", 0).between(1, 3);
        let plans = (0..count).map(|sink| {
            let random = &mut Random::new(seed, "sink plan", sink);
            let all = ["t/#", "t/+/0", "t/0/#", "#"];
            let filters = (0..random.between(1, 2)).map(|_| topics.find_filter(random.pick(&all)));
            let mut filters: Vec<FilterIndex> = filters.flatten().collect();
            filters.sort_unstable();
            filters.dedup();
            Self {
                name: sink.to_string(),
                filters,
                tenant: match random.percent(50) {
                    true => SinkTenant::All,
                    false if has_tenants(kind, seed) => {
                        SinkTenant::One(TenantId(sink as u32 % TENANTS))
                    }
                    false => SinkTenant::One(TenantId(0)),
                },
                stops: random.percent(20),
                batch_messages: random.pick(&[1, 8, 100]),
                deliver_us: random.pick(&[0, 1_000, 100_000]),
                trouble_percent: random.pick(&[0, 2, 10, 30]),
                has_poison: random.percent(40),
                answer_us: random.pick(&[0, 1_000, 100_000]),
                tables_fail_percent: random.pick(&[0, 0, 10, 30]),
                command_us: random.pick(&[0, 3 * SECOND, 10 * SECOND]),
                age_max_secs: random.pick(&[0, 0, 0, 20]),
                streams: random.percent(50),
            }
        });
        plans.collect()
    }

    /// Client Identifier of its part.
    pub fn client_id(&self) -> String {
        Settings::new(KIND, &self.name, Vec::new()).client_id()
    }

    /// Returns the row in the ledger.
    pub fn row(&self) -> SinkRow {
        SinkRow {
            name: self.client_id(),
            filters: self.filters.clone(),
            tenant: self.tenant,
        }
    }

    fn settings(&self, topics: &Topics) -> Settings {
        let filters = self.filters.iter().map(|filter| topics.filter(*filter));
        let mut settings = Settings::new(KIND, &self.name, filters.map(Into::into).collect());
        settings.tenant = match self.tenant {
            SinkTenant::All => ALL_TENANTS.into(),
            SinkTenant::One(tenant) => team_of(tenant).unwrap_or_default().into(),
        };
        if self.stops {
            settings.on_reject = OnReject::Stop;
        }
        settings.queue = PartQueueLimits {
            bytes_max: 1 << 30,
            age_max_secs: self.age_max_secs,
            ..PartQueueLimits::default()
        };
        settings.batch_messages = self.batch_messages;
        settings.deliver_within = Duration::from_secs(2);
        settings.backoff = Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(3),
        };
        settings
    }
}

/// The team of a tenant; the common one has none.
fn team_of(tenant: TenantId) -> Option<String> {
    (tenant != TenantId(0)).then(|| format!("team{}", tenant.0))
}

/// Kind of the integrations.
const KIND: &str = "sim";

/// Something that happened at an integration.
#[derive(Clone, Copy, Debug)]
pub enum SinkFact {
    /// The sink was attached.
    Attached,
    /// The target has accepted a message, even if the runner gets no answer.
    Took {
        /// Id in the broker.
        id: MessageId,
        /// The message; none for an empty payload.
        message: Option<MessageIndex>,
        /// Whether it is marked as repeated.
        repeated: bool,
        /// Tenant according to the message.
        tenant: TenantId,
    },
    /// The target has confirmed a message.
    Answered(MessageId),
    /// The node stops cleanly, and the runner had ended well before.
    Stopped,
    /// The target has rejected a message, even if the runner gets no answer.
    Rejected(MessageId),
    /// The tables have stored a dead letter.
    Stored {
        /// Id of its message in the broker.
        id: MessageId,
        /// The message; none for an empty payload.
        message: Option<MessageIndex>,
    },
    /// The sink has settled a message.
    Settled {
        /// Id in the broker.
        id: MessageId,
        /// The outcome.
        outcome: PartOutcome,
    },
    /// The broker dropped a message for it, and reported that.
    Dropped {
        /// Topic; `None` if only the store knew it.
        topic: Option<TopicIndex>,
        /// The reason.
        reason: DropReason,
    },
    /// A drain was requested: deliver waiting messages, then pause.
    DrainAsked,
    /// The drain is complete.
    Drained,
    /// At the end of the run: the tables have a dead letter of this message.
    Left(Option<MessageIndex>),
}

/// A runner that is polled.
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An integration.
pub struct SimSink {
    index: SinkIndex,
    plan: SinkPlan,
    shared: Shared,
    random: Random,
    runner: Option<Handle>,
    /// `None` after it has ended.
    run: Option<Running>,
    /// When it ended after a stop.
    ended_us: Option<u64>,
    /// Whether it ended well before the node stopped.
    ended_well: bool,
    is_attached: bool,
    settling: bool,
    has_left: bool,
    drain: Option<Drain>,
    command_at: u64,
    wakes_at: u64,
}

/// A drain that was not interrupted.
#[derive(Debug)]
enum Drain {
    /// The runner may not have processed it, or earlier commands, yet.
    Requested(ToldCommand),
    UnderWay,
}

impl SimSink {
    /// An integration that starts with the node.
    pub fn new(index: SinkIndex, plan: SinkPlan, seed: u64) -> Self {
        silence_panics();
        let outside = Random::new(seed, "sink outside", u64::from(index));
        Self {
            index,
            shared: Shared::new(index, plan.clone(), outside),
            plan,
            random: Random::new(seed, "sink commands", u64::from(index)),
            runner: None,
            run: None,
            ended_us: None,
            ended_well: false,
            is_attached: false,
            settling: false,
            has_left: false,
            drain: None,
            command_at: NEVER,
            wakes_at: NEVER,
        }
    }

    /// The node has been started with this number of shards.
    pub fn node_started(&mut self, io: &mut Io<'_>, shards: u16) {
        if self.has_left {
            return;
        }
        self.shared.lock().shards = shards;
        self.set_time(io);
        let settings = self.plan.settings(&io.observer.ledger.topics);
        let shared = self.shared.clone();
        let host: Arc<dyn Host> = Arc::new(self.shared.clone());
        let clock = Arc::new(self.shared.clone());
        let (handle, run) = Runner::in_hand(settings, move || Target(shared.clone()), host, clock);
        self.runner = Some(handle);
        self.run = Some(Box::pin(run));
        if self.plan.command_us > 0 && !self.settling {
            self.command_at = io.now_us() + self.random.around(self.plan.command_us);
        }
        self.go_on(io);
    }

    /// The node is about to stop: the current delivery is finished and settled.
    pub fn stop(&mut self, io: &mut Io<'_>) {
        self.command_at = NEVER;
        if let Some(handle) = &self.runner {
            let mut stop = pin!(handle.stop(Duration::ZERO));
            // The command is sent at once; the runner ends when it is polled.
            let _ = stop.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        self.go_on(io);
    }

    /// From now on the node closes connections, and detaches its lanes.
    pub fn node_stops(&mut self, io: &Io<'_>) {
        let ended_us = self.ended_us;
        self.ended_well = ended_us.is_some_and(|at_us| at_us + TAKEN_WITHIN_US < io.now_us());
    }

    /// The node has ended, and the runner with it. `in_order`: after a clean stop.
    pub fn node_ended(&mut self, io: &mut Io<'_>, in_order: bool) {
        self.ended_us = None;
        if core::mem::take(&mut self.ended_well) && in_order {
            self.fact(io, SinkFact::Stopped);
        }
        self.forget_runner();
    }

    fn forget_runner(&mut self) {
        (self.runner, self.run) = (None, None);
        self.drain = None;
        self.is_attached = false;
        self.shared.forget_node();
    }

    /// Handles an event of the node.
    pub fn take_event(&mut self, io: &mut Io<'_>, id: PartId, event: PartEvent) {
        self.shared.tell(id, event);
        self.go_on(io);
    }

    /// Handles a shard's answer about the sessions of its lanes.
    pub fn reported(&mut self, io: &mut Io<'_>, report: Report) {
        if let Answer::Clients(page) = report.answer {
            self.shared.answer(report.request, page);
            self.go_on(io);
        }
    }

    /// Handles a due time, unless the agenda's entry is outdated.
    pub fn wake(&mut self, io: &mut Io<'_>) {
        if io.now_us() < self.wakes_at {
            return;
        }
        self.wakes_at = NEVER;
        if self.command_at <= io.now_us() {
            self.command_at = io.now_us() + self.random.around(self.plan.command_us);
            self.command();
            if self.drain.is_some() {
                self.fact(io, SinkFact::DrainAsked);
            }
        }
        self.go_on(io);
    }

    /// Disturbances are over: it delivers everything, and retries its dead letters.
    pub fn settle(&mut self, io: &mut Io<'_>) {
        self.settling = true;
        self.drain = None;
        self.command_at = NEVER;
        self.shared.lock().is_well = true;
        self.resume();
        self.go_on(io);
    }

    /// Whether it is attached and idle.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        let is_idle = state.in_hand == 0 && state.sending_again == 0 && state.failure.is_none();
        self.has_left || state.is_attached && is_idle
    }

    /// Returns the state, for the log.
    pub fn describe(&self) -> String {
        format!("{}: {:?}", self.plan.client_id(), self.state())
    }

    fn state(&self) -> State {
        let runner = self.runner.as_ref();
        runner.map_or_else(State::default, Handle::state)
    }

    /// Final check: the counters of the runner must equal those of its target.
    pub fn check(&mut self, io: &mut Io<'_>) {
        let (taken, counts) = (self.shared.lock().taken, self.state().counts);
        if counts.delivered != taken {
            let what = format!("{}: {taken} taken, {counts:?}", self.plan.client_id());
            io.observer.complain("counters of integrations", what);
        }
        let letters = self.shared.lock().letters.clone();
        for letter in letters.values() {
            self.fact(io, SinkFact::Left(message_of(&letter.payload)));
        }
    }

    /// Ends it, with its sessions.
    pub fn leave(&mut self, io: &mut Io<'_>) {
        self.has_left = true;
        for (client_id, id) in self.shared.attached() {
            let end = PartCall::End(id);
            let shard = io.node.part_call(&client_id, end);
            io.wake_shard(shard);
        }
        self.forget_runner();
    }

    fn command(&mut self) {
        let Some(handle) = &self.runner else {
            return;
        };
        self.drain = None;
        match self.random.below(5) {
            0 => drop(handle.tell(Command::Pause)),
            1 => drop(handle.tell(Command::Skip)),
            2 => {
                self.drain = Some(Drain::Requested(handle.tell(Command::Drain)));
            }
            _ => self.resume(),
        }
    }

    /// Resumes after a pause or a stop, with the dead letters first.
    fn resume(&self) {
        if let Some(handle) = &self.runner {
            let letters = self.shared.lock().letters.keys().copied().collect();
            handle.tell(Command::SendAgain(letters));
            handle.tell(Command::Resume);
        }
    }

    fn set_time(&self, io: &Io<'_>) {
        let mut outside = self.shared.lock();
        outside.now_us = io.now_us();
        outside.wall_ms = io.node.wall_ms();
    }

    /// Polls the runner until it waits.
    fn go_on(&mut self, io: &mut Io<'_>) {
        self.set_time(io);
        self.shared.lock().wakes_us = self.command_at;
        if let Some(run) = &mut self.run {
            let mut context = Context::from_waker(Waker::noop());
            if run.as_mut().poll(&mut context).is_ready() {
                (self.run, self.ended_us) = (None, Some(io.now_us()));
            }
        }
        let facts = core::mem::take(&mut self.shared.lock().facts);
        for what in facts {
            self.fact(io, what);
        }
        self.see_drain(io);
        self.ask(io);
        let calls = core::mem::take(&mut self.shared.lock().calls);
        for (client_id, call) in calls {
            if io.node.is_up() {
                let shard = io.node.part_call(&client_id, call);
                let at_us = io.now_us() + self.random.below(CALL_US);
                io.agenda.enter(at_us, Due::Tick(shard as u16));
            }
        }
        let is_attached = self.state().is_attached;
        if is_attached && !core::mem::replace(&mut self.is_attached, is_attached) {
            self.fact(io, SinkFact::Attached);
        }
        let next = self.shared.lock().wakes_us;
        if next < self.wakes_at {
            self.wakes_at = next;
            io.agenda.enter(next, Due::Sink(self.index));
        }
    }

    /// Passes the runner's questions about its sessions to the shards.
    fn ask(&self, io: &mut Io<'_>) {
        let questions = core::mem::take(&mut self.shared.lock().questions);
        for request in questions {
            let query = ClientQuery {
                search: Some(Search {
                    text: self.plan.client_id().into(),
                    anywhere: false,
                }),
                limit: usize::from(u16::MAX),
                ..ClientQuery::default()
            };
            for shard in 0..io.node.shard_count() {
                let query = Box::new(query.clone());
                let command = BrokerCommand::Clients { request, query };
                io.node.command(shard, command);
                io.wake_shard(shard);
            }
        }
    }

    /// Reports the end of a drain.
    fn see_drain(&mut self, io: &mut Io<'_>) {
        let activity = self.state().activity;
        if let Some(Drain::Requested(drain)) = &mut self.drain
            && drain.is_over()
        {
            self.drain = Some(Drain::UnderWay);
        }
        self.drain = match (self.drain.take(), activity) {
            (Some(Drain::UnderWay), Activity::Paused) => {
                // If the clock was set back, it is undefined what the drain had to deliver.
                if !io.node.has_clock_gone_back() {
                    self.fact(io, SinkFact::Drained);
                }
                None
            }
            (drain, _) => drain,
        };
    }

    fn fact(&self, io: &mut Io<'_>, what: SinkFact) {
        let sink = self.index;
        io.fact(Fact::Sink { sink, what });
    }
}

/// Panics of sinks are expected in a run: suppresses their output.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !martlet_integrate::is_caught() {
                hook(info);
            }
        }));
    });
}
