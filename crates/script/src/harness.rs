//! A whole node in one thread: shards with their loops, shared state, mailboxes, connections as
//! byte queues, a store that answers at once or later, and a manual clock.
//!
//! It runs the same loop as the reactor (`martlet_tick`) and does not inspect packets. After every
//! call into a shard, the shard's accounts must balance. When all shards are idle, the sum over all
//! shards must balance. In this way every test on the harness checks that no message is lost
//! uncounted.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, Command, ConnectionEffect, ConnectionId, Counters, Cx, Effects,
    EventNotice, Identity, ListenerPolicy, Now, PartCall, PartEvent, PartId, Peer, Record,
    RecordNumber, Report, Rules, Run, Screened, Screening, Settings, Shard, ShardId, StoreState,
    TenantId, TransportEnd, WorkLimits,
};
use martlet_tick::local::{Parts, START, World, peer};
use martlet_tick::{Control, LocalNode};

pub use martlet_tick::local::Link;

/// Wiring of a harness.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    /// Number of shards, at least 1.
    pub shards: u16,
    /// Time until the store reports a record as durable; 0 means within the same tick.
    pub durable_delay_ms: u64,
    /// Seed of hash tables and of the sessions' shards.
    pub seed: u64,
    /// Whether turns are so short that nearly every packet ends one, and every message is fanned
    /// out.
    pub short_turns: bool,
}

impl Default for Wiring {
    fn default() -> Self {
        Self {
            shards: 1,
            durable_delay_ms: 0,
            seed: 1,
            short_turns: false,
        }
    }
}

/// Checks each call into a shard, and simulates the store.
struct Watch {
    node: LocalNode,
    durable_delay_ms: u64,
    /// Records that will be durable: the time, the shard and the number.
    durable: VecDeque<(u64, u16, RecordNumber)>,
    /// Most PUBLISH packets that one call has written, if this is recorded.
    most_sent: Option<u64>,
    /// Most work that one call has done since the last query.
    most_work: u64,
    /// Most connections that one call has requested to write to before those with messages for
    /// many, since the last query.
    most_writes: usize,
    /// Whether the accounts are not checked after each call.
    is_trusted: bool,
}

impl Parts for Watch {
    type Node = LocalNode;

    fn node(&self) -> &LocalNode {
        &self.node
    }

    fn call<T>(
        &mut self,
        shard: &mut Shard,
        effects: &mut Effects,
        now: Now,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, LocalNode>) -> T,
    ) -> T {
        let node = &self.node;
        let mut cx = Cx { now, node, effects };
        let sent = |shard: &Shard, cx: &Cx<'_, LocalNode>| shard.snapshot(cx).publishes_sent;
        let sent_before = self.most_sent.map(|_| sent(shard, &cx));
        let work_before = shard.work_done();
        let asked_before = cx.effects.connections.len();
        let result = call(shard, &mut cx);
        if let (Some(most), Some(before)) = (&mut self.most_sent, sent_before) {
            *most = (*most).max(sent(shard, &cx) - before);
        }
        self.most_work = self.most_work.max(shard.work_done() - work_before);
        let asked = cx.effects.connections[asked_before..].iter();
        let writes = asked.filter(|effect| matches!(effect, ConnectionEffect::Write(_)));
        self.most_writes = self.most_writes.max(writes.count());
        assert!(
            self.is_trusted || shard.accounts_balance(),
            "the accounts of a shard do not balance"
        );
        result
    }

    fn append(
        &mut self,
        shard: ShardId,
        _: &[Record],
        last: RecordNumber,
        now: Now,
    ) -> Option<RecordNumber> {
        if self.durable_delay_ms == 0 {
            return Some(last);
        }
        let due_ms = now.mono_ms + self.durable_delay_ms;
        self.durable.push_back((due_ms, shard.0, last));
        None
    }
}

/// A node under test.
pub struct Harness {
    world: World<Watch>,
    settings: Arc<Settings>,
    listener: Arc<ListenerPolicy>,
    opened: u64,
    /// Whether input is held back.
    is_held: bool,
}

impl Harness {
    /// Creates a node that has just started.
    pub fn new(mut settings: Settings, listener: ListenerPolicy, wiring: Wiring) -> Self {
        settings.node_seed = wiring.seed;
        if wiring.short_turns {
            settings.work = WorkLimits {
                turn: 64,
                share: 8,
                matches: 1,
            };
        }
        let node = LocalNode::new(wiring.seed, settings.limits.memory_bytes);
        let settings = Arc::new(settings);
        let shards = (0..wiring.shards).map(|id| {
            Shard::new(
                Arc::clone(&settings),
                ShardId(id),
                wiring.shards,
                wiring.seed,
            )
        });
        let watch = Watch {
            node,
            durable_delay_ms: wiring.durable_delay_ms,
            durable: VecDeque::new(),
            most_sent: None,
            most_work: 0,
            most_writes: 0,
            is_trusted: false,
        };
        Self {
            world: World::new(watch, shards.collect(), START),
            settings,
            listener: Arc::new(listener),
            opened: 0,
            is_held: false,
        }
    }

    /// The time of the node.
    pub fn now(&self) -> Now {
        self.world.now()
    }

    /// Makes queues keep in memory only what a store does not have. The harness cannot read
    /// messages back, so this is for tests in which clients with long queues are offline.
    pub fn keep_queues_in_store(&mut self) {
        for shard in 0..self.world.shard_count() {
            self.world.call(usize::from(shard), |shard, cx| {
                shard.begin_run(Run::plain(0));
                shard.restored(cx, &[]);
            });
        }
    }

    /// Connects a client; shards accept in turn.
    pub fn open(&mut self) -> Link {
        self.open_from([127, 0, 0, 1].into())
    }

    /// Connects a client from this address.
    pub fn open_from(&mut self, address: IpAddr) -> Link {
        let shard = self.opened % u64::from(self.world.shard_count());
        self.opened += 1;
        let peer = Peer {
            address: Some((address, 10_000)),
            ..peer(&self.listener, self.opened)
        };
        let link = self.world.open(shard as usize, peer);
        self.run();
        link
    }

    /// Sends bytes from the client, and runs the node until it is idle.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        self.world.send(link, bytes);
        self.run();
    }

    /// Ends the client's side of the connection.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        self.world.end(link, end);
        self.run();
    }

    /// Makes the client read or stop reading.
    pub fn set_reading(&mut self, link: Link, reading: bool) {
        self.world
            .set_room(link, if reading { usize::MAX } else { 0 });
        self.run();
    }

    /// Takes the bytes that the broker has written.
    pub fn take(&mut self, link: Link) -> Vec<u8> {
        self.world.take(link)
    }

    /// Memory of the shards' tables in bytes, as last counted.
    pub fn table_bytes(&self) -> u64 {
        let shards = self.world.drivers().iter();
        shards.map(|driver| driver.shard().bytes_of_tables()).sum()
    }

    /// The shard of the connection; `None` after its end.
    pub fn shard_of(&self, link: Link) -> Option<u16> {
        self.world.shard_of(link)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self, link: Link) -> bool {
        self.world.is_closed(link)
    }

    /// Sends a command to one shard.
    pub fn command(&mut self, shard: u16, command: Command) {
        self.control(shard, Control::Command(command));
    }

    /// Sends a part's call to the shard that owns the session of this Client Identifier.
    pub fn part_call(&mut self, client_id: &str, call: PartCall) {
        let shards = self.world.shard_count();
        let owner = martlet_broker::owner(&self.settings, TenantId(0), client_id, shards);
        self.control(owner.0, Control::Part(call));
    }

    /// Events for parts since the last call.
    pub fn take_told(&mut self) -> Vec<(PartId, PartEvent)> {
        std::iter::from_fn(|| self.world.next_told()).collect()
    }

    /// Runs one tick of each shard even without input, to settle memory with the node.
    pub fn end_tick(&mut self) {
        for shard in 0..self.world.shard_count() {
            self.world.tick(usize::from(shard));
        }
        self.run();
    }

    /// Runs one tick of one shard only.
    pub fn end_tick_of(&mut self, shard: u16) {
        self.world.tick(usize::from(shard));
        self.run();
    }

    /// Holds back messages between shards, or releases them.
    pub fn hold_mail(&mut self, hold: bool) {
        self.world.hold_mail(hold);
        self.run();
    }

    /// Notifies one shard whether another one's mailbox is full.
    pub fn set_congested(&mut self, shard: u16, on: bool) {
        self.world
            .call(usize::from(shard), |shard, cx| shard.congested(cx, on));
        self.run();
    }

    /// Notifies all shards what the store can take from now on.
    pub fn set_store_state(&mut self, state: StoreState) {
        self.set_store_state_for(state, &[]);
    }

    /// Likewise, and which tenants have their share of it.
    pub fn set_store_state_for(&mut self, state: StoreState, at_share: &[TenantId]) {
        for shard in 0..self.world.shard_count() {
            self.world
                .control(usize::from(shard), Control::StoreIs(state, at_share.into()));
        }
        self.run();
    }

    /// Sets the wall clock, which does not affect intervals.
    pub fn set_wall_clock(&mut self, wall_ms: u64) {
        let now = self.world.now();
        self.world.set_now(Now { wall_ms, ..now });
    }

    /// Events reported since the last call.
    pub fn take_events(&mut self) -> Vec<EventNotice> {
        self.world.take_events()
    }

    /// Pending authentications, each with its shard.
    pub fn take_authentications(&mut self) -> Vec<(u16, Authentication)> {
        std::iter::from_fn(|| self.world.next_asked()).collect()
    }

    /// Passes the authenticator's answer for a connection to a shard.
    pub fn authenticated(&mut self, shard: u16, id: ConnectionId, answer: Authenticated) {
        self.control(shard, Control::Authenticated(id, Box::new(answer)));
    }

    /// Messages to be screened before they are routed, each with its shard.
    pub fn take_screenings(&mut self) -> Vec<(u16, Screening)> {
        std::iter::from_fn(|| self.world.next_screening()).collect()
    }

    /// Passes the answer for the screened message of a connection to a shard.
    pub fn screened(&mut self, shard: u16, id: ConnectionId, answer: Screened) {
        self.control(shard, Control::Screened(id, Box::new(answer)));
    }

    /// Accepts all pending authentications, each with the given user name and all rights.
    /// `last_revocation` is the number of the last processed revocation.
    pub fn accept_waiting(&mut self, last_revocation: u64) {
        for (shard, asked) in self.take_authentications() {
            let identity = Identity {
                user_name: asked.user_name.clone(),
                rules: Arc::new(Rules::open()),
                ..Identity::anyone()
            };
            let answer = Authenticated::Accepted {
                identity,
                last_revocation,
                data: None,
            };
            self.authenticated(shard, asked.connection, answer);
        }
    }

    /// Reports since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        self.world.take_reports()
    }

    /// Starts to record how many PUBLISH packets one call into a shard writes.
    pub fn watch_sent(&mut self) {
        self.world.parts.most_sent = Some(0);
    }

    /// The most PUBLISH packets since then.
    pub fn most_sent(&self) -> u64 {
        self.world.parts.most_sent.unwrap_or_default()
    }

    /// Number of turns with deferred work.
    pub fn turns(&self) -> u64 {
        self.world.turns()
    }

    /// The turn in which the first byte arrived that the client has not taken.
    pub fn received_in(&self, link: Link) -> Option<u64> {
        self.world.received_in(link)
    }

    /// Disables the check of accounts after each call, because it visits each session. For tests
    /// with very many sessions.
    pub fn trust_accounts(&mut self) {
        self.world.parts.is_trusted = true;
    }

    /// Most work that one call into a shard has done since the last query.
    pub fn take_most_work(&mut self) -> u64 {
        core::mem::take(&mut self.world.parts.most_work)
    }

    /// Most connections that one call into a shard has requested to write to before those with
    /// messages for many, since the last query.
    pub fn take_most_writes(&mut self) -> usize {
        core::mem::take(&mut self.world.parts.most_writes)
    }

    /// Total work of all shards.
    pub fn work_done(&self) -> u64 {
        let shards = self.world.drivers().iter();
        shards.map(|driver| driver.shard().work_done()).sum()
    }

    /// Runs `come` as if all of its input arrived at the same time. Returns the work of the ticks
    /// in which the input arrives; later ticks do deferred work.
    pub fn at_once(&mut self, come: impl FnOnce(&mut Self)) -> u64 {
        let before = self.work_done();
        self.is_held = true;
        come(self);
        self.is_held = false;
        self.world.round();
        let work = self.work_done() - before;
        self.run();
        work
    }

    /// Number of entries in the tables of all shards, by the table's name.
    pub fn leftovers(&self) -> Vec<(&'static str, usize)> {
        let shards = self.world.drivers().iter();
        shards
            .flat_map(|driver| driver.shard().leftovers())
            .collect()
    }

    /// Sum of the counters of all shards.
    pub fn counters(&mut self) -> Counters {
        self.world.counters()
    }

    /// Advances time from one due timer to the next.
    pub fn elapse(&mut self, ms: u64) {
        let until = self.now().mono_ms + ms;
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            let now_ms = self.now().mono_ms;
            self.world.set_clock(due.max(now_ms + 1).min(until));
            self.run();
            if self.now().mono_ms == until {
                break;
            }
        }
        self.world.set_clock(until);
        self.run();
    }

    fn next_due(&self) -> Option<u64> {
        let stored = self.world.parts.durable.front().map(|(due, ..)| *due);
        self.world.due_ms().into_iter().chain(stored).min()
    }

    fn control(&mut self, shard: u16, control: Control<martlet_tick::local::Wire>) {
        self.world.control(usize::from(shard), control);
        self.run();
    }

    /// Runs until no work is left at this time.
    fn run(&mut self) {
        if self.is_held {
            return;
        }
        let now_ms = self.now().mono_ms;
        loop {
            let durable = &mut self.world.parts.durable;
            let due = durable.pop_front_if(|(due, ..)| *due <= now_ms);
            match due {
                Some((_, shard, up_to)) => self.world.durable(usize::from(shard), up_to),
                None if self.world.round() => {}
                None => break,
            }
        }
        self.assert_sums();
    }

    /// Unless messages are between shards, the sum over all shards must balance.
    fn assert_sums(&mut self) {
        if self.world.parts.is_trusted || self.world.is_mail_held() {
            return;
        }
        let sum = self.counters();
        assert!(
            sum.balanced(),
            "the accounts of the node do not balance: {sum:?}"
        );
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_answers_a_connect() {
        let settings = Settings::default();
        let mut node = Harness::new(settings, ListenerPolicy::default(), Wiring::default());
        let link = node.open();
        node.send(link, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a");
        assert_eq!(node.take(link), b"\x20\x02\x00\x00");
        assert_eq!(node.counters().connections, 1);
    }
}
