//! A whole node in one thread: shards with their loops, what they share, the mailboxes between
//! them, connections as byte queues, a store that answers at once or later, and a clock that tests
//! move.
//!
//! It runs the loop that the reactor runs (`martlet_tick`); it knows no packets. After every call
//! into a shard the shard's accounts must balance, and whenever all shards are idle the sum over
//! all of them: that is how every test that runs on it checks that no message is lost uncounted.

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

/// How a harness is wired.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    /// Number of shards, from 1.
    pub shards: u16,
    /// Time until the store answers that a record is durable; 0 is within the same tick.
    pub durable_delay_ms: u64,
    /// Seed of hash tables and of where sessions live.
    pub seed: u64,
    /// Turns are so short that nearly every packet ends one, and every message is fanned out.
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

/// What the harness looks at in each call into a shard, and its store.
struct Watch {
    node: LocalNode,
    durable_delay_ms: u64,
    /// Records that become durable: when, and of which shard.
    durable: VecDeque<(u64, u16, RecordNumber)>,
    /// The most PUBLISH packets that one call has written, while that is watched.
    most_sent: Option<u64>,
    /// The most work that one call has done since this was last asked for.
    most_work: u64,
    /// The most connections that one call has asked to be written to before those that wait for
    /// messages for many, since this was last asked for.
    most_writes: usize,
    /// The accounts are not checked after each call.
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
    /// What comes is not worked off yet.
    is_held: bool,
}

impl Harness {
    /// A node that has just started.
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

    /// From now on queues keep in memory only what a store does not have. There is none that could
    /// be asked: for tests in which clients that are owed much are away.
    pub fn keep_queues_in_store(&mut self) {
        for shard in 0..self.world.shard_count() {
            self.world.call(usize::from(shard), |shard, cx| {
                shard.begin_run(Run::plain(0));
                shard.restored(cx, &[]);
            });
        }
    }

    /// A client connects; shards take turns in accepting.
    pub fn open(&mut self) -> Link {
        self.open_from([127, 0, 0, 1].into())
    }

    /// The same from this address.
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

    /// The client sends bytes, and the node works until it is idle.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        self.world.send(link, bytes);
        self.run();
    }

    /// The client's end of the connection ends.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        self.world.end(link, end);
        self.run();
    }

    /// The client reads or stops reading.
    pub fn set_reading(&mut self, link: Link, reading: bool) {
        self.world
            .set_room(link, if reading { usize::MAX } else { 0 });
        self.run();
    }

    /// Takes what the broker has written.
    pub fn take(&mut self, link: Link) -> Vec<u8> {
        self.world.take(link)
    }

    /// Bytes of memory of the shards' tables, as they were counted last.
    pub fn table_bytes(&self) -> u64 {
        let shards = self.world.drivers().iter();
        shards.map(|driver| driver.shard().bytes_of_tables()).sum()
    }

    /// The shard where the connection is; none once it has ended.
    pub fn shard_of(&self, link: Link) -> Option<u16> {
        self.world.shard_of(link)
    }

    /// The connection has ended.
    pub fn is_closed(&self, link: Link) -> bool {
        self.world.is_closed(link)
    }

    /// Tells one shard something.
    pub fn command(&mut self, shard: u16, command: Command) {
        self.control(shard, Control::Command(command));
    }

    /// A part tells its shard something: the one that owns the session of this Client Identifier.
    pub fn part_call(&mut self, client_id: &str, call: PartCall) {
        let shards = self.world.shard_count();
        let owner = martlet_broker::owner(&self.settings, TenantId(0), client_id, shards);
        self.control(owner.0, Control::Part(call));
    }

    /// What parts were told since the last call.
    pub fn take_told(&mut self) -> Vec<(PartId, PartEvent)> {
        std::iter::from_fn(|| self.world.next_told()).collect()
    }

    /// One tick of each shard, though nothing waits: memory is settled with the node.
    pub fn end_tick(&mut self) {
        for shard in 0..self.world.shard_count() {
            self.world.tick(usize::from(shard));
        }
        self.run();
    }

    /// The same for one shard alone: the others have nothing to do.
    pub fn end_tick_of(&mut self, shard: u16) {
        self.world.tick(usize::from(shard));
        self.run();
    }

    /// Keeps what shards tell each other from arriving, or lets it arrive.
    pub fn hold_mail(&mut self, hold: bool) {
        self.world.hold_mail(hold);
        self.run();
    }

    /// Tells one shard that another one's mailbox is full, or has room again.
    pub fn set_congested(&mut self, shard: u16, on: bool) {
        self.world
            .call(usize::from(shard), |shard, cx| shard.congested(cx, on));
        self.run();
    }

    /// Tells all shards what the store can take from now on.
    pub fn set_store_state(&mut self, state: StoreState) {
        for shard in 0..self.world.shard_count() {
            self.world
                .control(usize::from(shard), Control::StoreIs(state));
        }
        self.run();
    }

    /// Sets the wall clock, which has no influence on intervals.
    pub fn set_wall_clock(&mut self, wall_ms: u64) {
        let now = self.world.now();
        self.world.set_now(Now { wall_ms, ..now });
    }

    /// Events that have been reported since the last call.
    pub fn take_events(&mut self) -> Vec<EventNotice> {
        self.world.take_events()
    }

    /// Clients who wait to be known, each with its shard.
    pub fn take_authentications(&mut self) -> Vec<(u16, Authentication)> {
        std::iter::from_fn(|| self.world.next_asked()).collect()
    }

    /// Tells a shard who the client of a connection is.
    pub fn authenticated(&mut self, shard: u16, id: ConnectionId, answer: Authenticated) {
        self.control(shard, Control::Authenticated(id, Box::new(answer)));
    }

    /// Messages that are looked at before they are routed, each with its shard.
    pub fn take_screenings(&mut self) -> Vec<(u16, Screening)> {
        std::iter::from_fn(|| self.world.next_screening()).collect()
    }

    /// Gives a shard the answer for the screened message of a connection.
    pub fn screened(&mut self, shard: u16, id: ConnectionId, answer: Screened) {
        self.control(shard, Control::Screened(id, Box::new(answer)));
    }

    /// Accepts all clients that wait to be authenticated, each as the user that it names, with all
    /// rights; `last_revocation` is the number of the last revocation that was known.
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

    /// From now on it is counted how many PUBLISH packets a call into a shard writes.
    pub fn watch_sent(&mut self) {
        self.world.parts.most_sent = Some(0);
    }

    /// The most of them since then.
    pub fn most_sent(&self) -> u64 {
        self.world.parts.most_sent.unwrap_or_default()
    }

    /// Turns in which shards have gone on with deferred work.
    pub fn turns(&self) -> u64 {
        self.world.turns()
    }

    /// The turn in which the first byte came that the client has not taken.
    pub fn received_in(&self, link: Link) -> Option<u64> {
        self.world.received_in(link)
    }

    /// From now on the accounts of shards are not checked after each call, which looks at each
    /// session: for tests with very many of them.
    pub fn trust_accounts(&mut self) {
        self.world.parts.is_trusted = true;
    }

    /// The most work that one call into a shard has done since the last time this was asked for.
    pub fn take_most_work(&mut self) -> u64 {
        core::mem::take(&mut self.world.parts.most_work)
    }

    /// The most connections that one call into a shard has asked to be written to before those that
    /// wait for messages for many, since the last time this was asked for.
    pub fn take_most_writes(&mut self) -> usize {
        core::mem::take(&mut self.world.parts.most_writes)
    }

    /// Work of all shards so far.
    pub fn work_done(&self) -> u64 {
        let shards = self.world.drivers().iter();
        shards.map(|driver| driver.shard().work_done()).sum()
    }

    /// Does what `come` does as if all of it came at the same time. Answers how much work the ticks
    /// do in which it comes; what is deferred then is done by later ones.
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

    /// Entries in the tables of all shards, by the table's name.
    pub fn leftovers(&self) -> Vec<(&'static str, usize)> {
        let shards = self.world.drivers().iter();
        shards
            .flat_map(|driver| driver.shard().leftovers())
            .collect()
    }

    /// Counters of all shards together.
    pub fn counters(&mut self) -> Counters {
        self.world.counters()
    }

    /// Lets time pass, from one due timer to the next.
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

    /// Works until nothing is left to be done at this time.
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

    /// Unless something is between shards, the sum over all must balance.
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
