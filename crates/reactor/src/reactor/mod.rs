//! One reactor: waits, runs one tick of its shard's loop (`martlet_tick`), and rests if other
//! clients benefit.
//!
//! `outside.rs` is the environment of the loop. `entrance.rs` has the settings of a listener's
//! connections. `write.rs` is one write to a socket. No code here inspects packets.

mod entrance;
mod outside;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use martlet_broker::{Effects, Report, Settings, Shard, ShardId};
use martlet_tick::Driver;

use crate::authenticate::Authenticator;
use crate::clock::Clock;
use crate::contention::{Contention, REST, time_run};
use crate::descriptors::Descriptors;
use crate::events::EventSender;
use crate::layers::Layers;
use crate::listeners::Listeners;
use crate::mailbox::{Mailbox, Mailboxes};
use crate::node::SharedNode;
use crate::part::Outlets;
use crate::poll::{Listener, Poller, Stream, Wakeup};
use crate::stats::{Counters, SocketCount};
use crate::store::{Durable, Store};
use crate::sys::Entropy;

pub(crate) use entrance::Entrance;
use outside::Outside;

/// Everything that all reactors of a node are created from.
pub(crate) struct Common {
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: Arc<SharedNode>,
    pub(crate) clock: Clock,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) entrances: Arc<[Entrance]>,
    pub(crate) sockets: Arc<SocketCount>,
    pub(crate) sockets_max: usize,
    pub(crate) events: EventSender,
    pub(crate) reports: Sender<Report>,
    pub(crate) batch_messages: usize,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) refused_name: fn() -> Option<String>,
}

/// One reactor with its shard.
pub(crate) struct Reactor {
    driver: Driver<Stream>,
    outside: Outside,
    wakeup: Arc<Wakeup>,
    contention: Contention,
}

impl martlet_tick::Stream for Stream {
    type Layers = Layers;
}

impl Reactor {
    /// Creates the reactor of `shard` with its poller, wakeup and mailbox.
    pub(crate) fn new(
        shard: ShardId,
        common: &Common,
        poller: Poller,
        wakeup: Arc<Wakeup>,
        mailbox: Mailbox,
        store: &mut dyn Store,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let mut entropy = Entropy::open()?;
        let seed = u64::from_ne_bytes(entropy.take()?);
        let mailboxes = Arc::clone(&common.mailboxes);
        let count = mailboxes.shard_count();
        let state = Shard::new(Arc::clone(&common.settings), shard, count, seed);
        let now = common.clock.now();
        let policies = common.entrances.iter();
        let policies = policies.map(|entrance| Arc::clone(&entrance.policy));
        let outside = Outside {
            shard,
            settings: Arc::clone(&common.settings),
            node: Arc::clone(&common.node),
            clock: common.clock,
            poller,
            mailbox,
            writer: store.writer(shard, Durable::new(shard, Arc::clone(&mailboxes))),
            mailboxes,
            authenticator: Arc::clone(&common.authenticator),
            refused_name: common.refused_name,
            listeners: None,
            dealt: 0,
            policies: policies.collect(),
            entrances: Arc::clone(&common.entrances),
            entropy,
            events: common.events.clone(),
            reports: common.reports.clone(),
            counters,
            socket_count: Arc::clone(&common.sockets),
            sockets_max: common.sockets_max,
            outlets: Outlets::default(),
        };
        Ok(Self {
            driver: Driver::new(state, shard, count, common.batch_messages, now),
            outside,
            wakeup,
            contention: Contention::default(),
        })
    }

    /// Makes this reactor accept connections for all shards: at once if `is_open`, otherwise after
    /// [`Control::AcceptConnections`](crate::mailbox::Control::AcceptConnections).
    pub(crate) fn open_listeners(
        &mut self,
        listeners: Vec<(Listener, u32)>,
        descriptors: Descriptors,
        is_open: bool,
    ) -> io::Result<()> {
        if !listeners.is_empty() {
            let sockets = Arc::clone(&self.outside.socket_count);
            let listeners = Listeners::new(
                &self.outside.poller,
                listeners,
                descriptors,
                sockets,
                is_open,
            )?;
            self.outside.listeners = Some(listeners);
        }
        Ok(())
    }

    /// Sets the clock after the start. Restoring has set the time of records.
    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.outside.clock = clock;
        self.driver.set_now(clock.now());
    }

    /// Lends the shard and its effects for restoring.
    pub(crate) fn lend_shard(&mut self) -> (&mut Shard, &mut Effects) {
        self.driver.lend()
    }

    /// Runs ticks until the reactor is stopped.
    pub(crate) fn run(mut self) {
        while !self.driver.is_stopped() {
            self.tick();
        }
        let left = self.driver.connection_count();
        (0..left).for_each(|_| self.outside.socket_count.lower());
    }

    fn tick(&mut self) {
        let timeout = self.timeout();
        self.outside
            .poller
            .wait(timeout)
            .expect("waiting fails only for a poller that is not one");
        self.wakeup.is_awake();
        self.outside.counters.ticks.add(1);
        let at = self.outside.clock.moment();
        let now = self.outside.clock.at(at);
        self.driver.tick(&mut self.outside, at, now);
        self.rest_if_crowded();
    }

    /// Rests for a moment if there is work for thousands of clients and the cores are busy. So the
    /// system does not suspend this thread while other clients wait for it (`contention.rs`).
    fn rest_if_crowded(&mut self) {
        if !self.driver.serves_crowd() {
            self.contention.forget_last();
            return;
        }
        if !self.contention.should_rest(Instant::now(), time_run()) || !self.driver.may_rest() {
            return;
        }
        // Not a wait for notices: sockets that the kernel has written from bring some notices all
        // the time.
        std::thread::sleep(REST);
        self.contention.rested(Instant::now(), time_run());
    }

    /// Longest time until the next tick without notices; `None` means no limit.
    fn timeout(&self) -> Option<Duration> {
        let due_ms = self.driver.due_ms();
        if due_ms == Some(0) {
            return Some(Duration::ZERO);
        }
        let listeners_ms = self.outside.listeners.as_ref().and_then(Listeners::due_ms);
        let due_ms = due_ms.into_iter().chain(listeners_ms).min();
        let now_ms = self.driver.now().mono_ms;
        let timeout = due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms)));
        if timeout == Some(Duration::ZERO) {
            return timeout;
        }
        self.wakeup.falls_asleep();
        // Items sent before `falls_asleep` caused no wakeup.
        if self.outside.mailbox.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        }
    }
}
