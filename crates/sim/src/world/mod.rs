//! The world: one loop over all due events, in virtual time. Nothing runs outside it.

mod crash;
mod io;
mod parts;
mod people;

use std::collections::VecDeque;

use martlet_broker::{Event, EventNotice, Guest, PartId, Report, TransportEnd};
use martlet_tick::Batch;

use crate::agenda::{Agenda, Due, SECOND};
use crate::client::Client;
use crate::facts::{ClientIndex, Fact};
use crate::network::{Arrival, LinkProfile, Network};
use crate::node::{LinkIndex, Node, NodeRequest};
use crate::observer::Observer;
use crate::part::Part;
use crate::random::Random;
use crate::sink::{SimSink, sink_of};

pub use io::Io;
pub use people::Office;

/// Disturbances of a run, and how the node is driven.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    /// Mean time between cuts of a link, microseconds; 0 is none.
    pub cut_us: u64,
    /// Percentage of cuts that are reported to neither side.
    pub half_open_percent: u64,
    /// Maximum time of a batch to another shard, microseconds.
    pub mail_us: u64,
    /// Maximum wake-up time of a shard, microseconds.
    pub tick_us: u64,
    /// Mean time between crashes of the node, microseconds; 0 is none.
    pub crash_us: u64,
    /// Percentage of these in which the node is stopped cleanly instead.
    pub stop_percent: u64,
    /// Mean time between steps of the wall clock, microseconds; 0 is none.
    pub clock_us: u64,
    /// Percentage of crashes with a flipped bit on the disk.
    pub rot_percent: u64,
    /// Average downtime after a crash, microseconds.
    pub down_us: u64,
    /// Number of shards at the beginning.
    pub shards: u16,
    /// Percentage of restarts at which the number of shards changes.
    pub reshard_percent: u64,
}

/// A run.
pub struct World {
    agenda: Agenda,
    node: Node,
    network: Network,
    clients: Vec<Client>,
    parts: Vec<Part>,
    sinks: Vec<SimSink>,
    observer: Observer,
    /// The office that changes users, if clients have users.
    office: Option<Office>,
    disturbance: Disturbance,
    random: Random,
    /// Batches in transit, per pair of shards, with their arrival times.
    mail: Vec<VecDeque<(u64, Batch)>>,
    /// Connections in transit between shards.
    moves: VecDeque<(u64, usize, LinkIndex, Box<Guest>)>,
    /// Time of the next tick of each shard.
    ticks: Vec<u64>,
    sync_at: Option<u64>,
    /// Session reports of shards.
    reports: Vec<Report>,
    /// Number of session reports requested.
    probes: u64,
    /// Time of the next crash; `u64::MAX` is never.
    crash_at: u64,
    /// Whether the node is stopping.
    stopping: bool,
    /// Whether its integrations are stopping, before the node.
    sinks_stop: bool,
    settled: bool,
}

/// Result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Virtual time that passed, microseconds.
    pub virtual_us: u64,
    /// Number of processed events.
    pub events: u64,
    /// Messages that were published.
    pub messages: usize,
    /// Facts and findings.
    pub observer: Observer,
}

/// All that use the node of a world.
pub struct Population {
    /// Clients.
    pub clients: Vec<Client>,
    /// Parts.
    pub parts: Vec<Part>,
    /// Sinks.
    pub sinks: Vec<SimSink>,
}

/// Time limit for settling, after which a client counts as stuck, microseconds.
const SETTLE_US: u64 = 900 * SECOND;

/// Percentage of cases in which a client does not close its side after the node has closed a
/// connection.
const HANGING_PERCENT: u64 = 10;
/// Percentage of failed syncs with a crash of the node soon after.
const CRASH_AT_FAILURE_PERCENT: u64 = 20;

impl World {
    /// A world before its first event.
    pub fn new(
        node: Node,
        network: Network,
        population: Population,
        observer: Observer,
        office: Option<Office>,
        disturbance: Disturbance,
        random: Random,
    ) -> Self {
        let Population {
            clients,
            parts,
            sinks,
        } = population;
        Self {
            agenda: Agenda::default(),
            node,
            network,
            clients,
            parts,
            sinks,
            observer,
            office,
            disturbance,
            random,
            mail: Vec::new(),
            moves: VecDeque::new(),
            ticks: Vec::new(),
            sync_at: None,
            reports: Vec::new(),
            probes: 0,
            crash_at: u64::MAX,
            stopping: false,
            sinks_stop: false,
            settled: false,
        }
    }

    /// Runs for `run_us` with all disturbances, then lets all clients reconnect, and runs the
    /// final checks.
    pub fn run(mut self, run_us: u64) -> Outcome {
        self.begin_changes();
        self.start(self.disturbance.shards);
        self.with_clients(|client, io| client.start(io));
        self.with_parts(|part, io| part.start(io));
        if self.disturbance.crash_us > 0 {
            self.plan_crash(0);
        }
        if self.disturbance.cut_us > 0 {
            let first = self.random.around(self.disturbance.cut_us);
            self.agenda.enter(first, Due::Trouble);
        }
        if self.disturbance.clock_us > 0 {
            let first = self.random.around(self.disturbance.clock_us);
            self.agenda.enter(first, Due::Clock);
        }
        self.agenda.enter(SECOND, Due::Probe);
        self.pass(run_us);
        if self.is_sound() {
            self.settle();
        }
        if self.is_sound() {
            self.observer.checks.settled(
                self.agenda.now_us(),
                &self.observer.ledger,
                &mut self.observer.findings,
            );
        }
        if self.is_sound() {
            self.take_down();
        }
        Outcome {
            virtual_us: self.agenda.now_us(),
            events: self.agenda.done(),
            messages: self.observer.ledger.messages.len(),
            observer: self.observer,
        }
    }

    /// Starts the node with the contents of its store.
    fn start(&mut self, shards: u16) {
        let count = usize::from(shards);
        match self.node.start(shards) {
            Ok(report) => self
                .observer
                .note(|| format!("  {shards} shards, {report:?}")),
            Err(error) => return self.observer.complain("recovery", error),
        }
        self.mail = (0..count * count).map(|_| VecDeque::new()).collect();
        self.moves.clear();
        self.ticks = vec![u64::MAX; count];
        self.sync_at = None;
        self.reports.clear();
        self.people_restarted();
        self.with_parts(|part, _| part.node_started(shards));
        self.with_sinks(|sink, io| sink.node_started(io, shards));
        for shard in 0..count {
            self.wake_shard(shard, 0);
        }
    }

    /// Advances by that much time, or less if a check finds a violation.
    fn pass(&mut self, us: u64) {
        let until_us = self.agenda.now_us() + us;
        while let Some(due) = self.agenda.next(until_us) {
            let now_us = self.agenda.now_us();
            self.node.set_now(now_us);
            self.observer.set_now(now_us);
            self.work_off(due);
            if let Some(problem) = self.node.take_problem() {
                self.observer.complain("accounts of the node", problem);
            }
            if !self.is_sound() {
                return;
            }
        }
        self.node.set_now(self.agenda.now_us());
        self.observer.set_now(self.agenda.now_us());
    }

    fn work_off(&mut self, due: Due) {
        match due {
            Due::Tick(shard) => {
                let shard = usize::from(shard);
                if shard >= self.node.shard_count() {
                    return;
                }
                let planned = self.ticks[shard] <= self.agenda.now_us();
                if planned || self.node.next_tick(shard) == Some(0) {
                    self.ticks[shard] = u64::MAX;
                    self.node.tick(shard);
                    self.after_node();
                    self.plan_ticks();
                }
            }
            Due::Up(link) => self.arrive_up(link),
            Due::Down(link) => self.arrive_down(link),
            Due::Client(client) => {
                self.with_client(client, |client, io| client.wake(io));
            }
            Due::Part(part) => self.with_part(part, |part, io| part.wake(io)),
            Due::Sink(sink) => self.with_sink(sink, |sink, io| sink.wake(io)),
            Due::Sync => self.sync(),
            Due::Mail(from, to) => self.arrive_mail(usize::from(from), usize::from(to)),
            Due::Move => {
                let now_us = self.agenda.now_us();
                if let Some((_, to, link, guest)) =
                    self.moves.pop_front_if(|(at_us, ..)| *at_us <= now_us)
                {
                    self.node.adopt(to, link, guest);
                    self.wake_shard(to, 0);
                }
            }
            Due::Trouble => self.cut_one(),
            Due::Crash => self.crash(),
            Due::Stop => self.stop(),
            Due::Clock => self.step_clock(),
            Due::Change => self.change_people(),
            Due::Authenticator => self.run_authenticator(),
            Due::Restart => self.restart(),
            Due::Probe => self.probe(),
        }
    }

    fn with_client<T>(
        &mut self,
        client: ClientIndex,
        call: impl FnOnce(&mut Client, &mut Io<'_>) -> T,
    ) -> T {
        let mut io = Io {
            agenda: &mut self.agenda,
            network: &mut self.network,
            node: &self.node,
            observer: &mut self.observer,
        };
        call(&mut self.clients[usize::from(client)], &mut io)
    }

    fn with_clients(&mut self, mut call: impl FnMut(&mut Client, &mut Io<'_>)) {
        for client in 0..self.clients.len() as ClientIndex {
            self.with_client(client, &mut call);
        }
    }

    /// Bytes of a client reach the node.
    fn arrive_up(&mut self, link: LinkIndex) {
        while let Some(arrival) = self.network.take_up(link, self.agenda.now_us()) {
            match arrival {
                Arrival::Bytes(bytes, _) => {
                    if let Some(shard) = self.node.arrive(link, &bytes) {
                        self.wake_shard_soon(shard);
                    }
                }
                Arrival::End(end) => {
                    let client = self.network.client(link);
                    // Data for a connection that the node has closed is lost.
                    let orderly = end == TransportEnd::EndOfStream && !self.node.is_closed(link);
                    self.observer.fact(&Fact::EndSeen {
                        client,
                        link,
                        orderly,
                    });
                    if let Some(shard) = self.node.ended(link, end) {
                        self.wake_shard_soon(shard);
                    }
                }
            }
        }
    }

    /// Bytes of the node reach a client; a deaf client does not read them.
    fn arrive_down(&mut self, link: LinkIndex) {
        let client = self.network.client(link);
        loop {
            let present = self.clients[usize::from(client)].link() == Some(link);
            if present && self.clients[usize::from(client)].is_deaf() {
                return;
            }
            let Some(arrival) = self.network.take_down(link, self.agenda.now_us()) else {
                return;
            };
            match arrival {
                Arrival::Bytes(bytes, durable) => {
                    self.give_room(link, bytes.len());
                    if present {
                        self.with_client(client, |client, io| client.receive(io, &bytes, durable));
                    }
                }
                Arrival::End(_) => {
                    if present {
                        self.with_client(client, |client, io| client.ended(io));
                    }
                    if !self.random.percent(HANGING_PERCENT) {
                        self.network.close_up(&mut self.agenda, link, true);
                    }
                }
            }
        }
    }

    fn give_room(&mut self, link: LinkIndex, bytes: usize) {
        if let Some(shard) = self.node.give_room(link, bytes) {
            self.wake_shard_soon(shard);
        }
    }

    fn sync(&mut self) {
        let due = self.node.store.borrow().due();
        if due.is_none_or(|due| due > self.agenda.now_us()) {
            return;
        }
        self.sync_at = None;
        let notice = self.node.store.borrow_mut().synced(self.agenda.now_us());
        let failed = self.node.store.borrow_mut().take_failed();
        if failed && self.disturbance.crash_us > 0 && self.random.percent(CRASH_AT_FAILURE_PERCENT)
        {
            // The cause of the failed sync may also crash the node.
            self.crash_at = self.agenda.now_us() + self.random.below(2 * SECOND / 10);
            self.agenda.enter(self.crash_at, Due::Crash);
        }
        if !notice.is_empty() {
            self.observer.checks.synced(self.agenda.now_us());
        }
        for (shard, number) in notice {
            self.node.durable(shard, number);
            self.wake_shard_soon(shard);
        }
        self.plan_sync();
    }

    fn plan_sync(&mut self) {
        let due = self.node.store.borrow().due();
        if let Some(due) = due.filter(|due| self.sync_at != Some(*due)) {
            self.sync_at = Some(due);
            self.agenda.enter(due, Due::Sync);
        }
    }

    fn arrive_mail(&mut self, from: usize, to: usize) {
        let shards = self.node.shard_count();
        // A batch in transit at a crash is lost.
        let queue = self.mail.get_mut(from * shards + to);
        if let Some((_, batch)) =
            queue.and_then(|queue| queue.pop_front_if(|(at_us, _)| *at_us <= self.agenda.now_us()))
        {
            self.node.mail(to, batch);
            self.wake_shard_soon(to);
        }
    }

    fn wake_shard_soon(&mut self, shard: usize) {
        let delay_us = self.random.below(self.disturbance.tick_us + 1);
        self.wake_shard(shard, self.agenda.now_us() + delay_us);
    }

    fn wake_shard(&mut self, shard: usize, at_us: u64) {
        if self.ticks.get(shard).is_some_and(|tick| at_us < *tick) {
            self.ticks[shard] = at_us;
            self.agenda.enter(at_us, Due::Tick(shard as u16));
        }
    }

    /// Schedules the next tick of each shard.
    fn plan_ticks(&mut self) {
        for shard in 0..self.node.shard_count() {
            match self.node.next_tick(shard) {
                // Postponed work is done in the next turn of the loop, a little later.
                Some(0) => self.wake_shard(shard, self.agenda.now_us() + 20),
                Some(at_us) => self.wake_shard(shard, at_us.max(self.agenda.now_us() + 20)),
                None => {}
            }
        }
        self.plan_sync();
    }

    /// Executes the requests of the node, in order.
    fn after_node(&mut self) {
        let now_us = self.agenda.now_us();
        let shards = self.node.shard_count();
        while let Some(request) = self.node.next_request() {
            match request {
                NodeRequest::Mail(to, batch) => {
                    let from = usize::from(batch.from.0);
                    let queue = &mut self.mail[from * shards + to];
                    let delay_us = self.random.below(self.disturbance.mail_us + 1);
                    let last = queue.back().map_or(0, |(at, _)| *at);
                    let at_us = last.max(now_us + delay_us);
                    queue.push_back((at_us, batch));
                    self.agenda.enter(at_us, Due::Mail(from as u16, to as u16));
                }
                NodeRequest::Move(to, link, guest) => {
                    let last = self.moves.back().map_or(0, |(at, ..)| *at);
                    let at_us = last.max(now_us + self.random.below(self.disturbance.mail_us + 1));
                    self.moves.push_back((at_us, to, link, guest));
                    self.agenda.enter(at_us, Due::Move);
                }
                NodeRequest::Wrote(link, bytes, durable) => {
                    self.network
                        .send_down(&mut self.agenda, link, &bytes, durable);
                }
                NodeRequest::Finished(link) => self.network.finish_down(&mut self.agenda, link),
                NodeRequest::Dropped(link) => self.network.drop_down(&mut self.agenda, link),
                NodeRequest::Recorded(lsn, record) => {
                    self.observer.recorded(lsn, &record);
                }
                NodeRequest::Event(notice) => self.notice(&notice),
                NodeRequest::Who(shard, request) => self.request_authentication(shard, &request),
                NodeRequest::Part(attachment, event, durable) => {
                    self.notify_part(attachment, durable, event);
                }
            }
        }
        for report in self.node.take_reports() {
            match sink_of(PartId(report.request)) {
                Some(sink) => self.with_sink(sink, |sink, io| sink.reported(io, report)),
                None => self.reported(report),
            }
        }
    }

    /// Handles an event notice of the node.
    fn notice(&mut self, notice: &EventNotice) {
        let Event::Dropped { topic, reason, .. } = &notice.event else {
            return;
        };
        let client_id = &notice.head.client_id;
        let ledger = &self.observer.ledger;
        let client = ledger
            .clients
            .iter()
            .position(|row| *row.name == **client_id);
        let is_part = client.is_some_and(|client| ledger.is_part(client as ClientIndex));
        let client = client.filter(|_| !is_part);
        let group = ledger.topics.find_filter(client_id);
        let topic = ledger.topics.find(topic);
        let reason = *reason;
        if let Some(client) = client {
            let client = client as ClientIndex;
            self.observer.fact(&Fact::Dropped {
                client,
                topic,
                reason,
            });
        } else if let Some(group) = group {
            self.observer.fact(&Fact::DroppedByGroup {
                group,
                topic,
                reason,
            });
        } else {
            self.part_lost(client_id, topic, reason);
        }
    }

    fn cut_one(&mut self) {
        if self.settled {
            return;
        }
        let next = self.random.around(self.disturbance.cut_us);
        self.agenda.enter(self.agenda.now_us() + next, Due::Trouble);
        let client = self.random.below(self.clients.len() as u64) as ClientIndex;
        let Some(link) = self.clients[usize::from(client)].link() else {
            return;
        };
        if self.clients[usize::from(client)].troubles().is_empty() {
            return;
        }
        let half_open = self.random.percent(self.disturbance.half_open_percent);
        self.network.cut(&mut self.agenda, link, half_open);
        self.observer.fact(&Fact::Cut { client, half_open });
    }

    /// Checks the node's session reports.
    fn probe(&mut self) {
        let next = self.agenda.now_us() + self.random.between(SECOND, 20 * SECOND);
        self.agenda.enter(next, Due::Probe);
        if !self.node.is_up() {
            return;
        }
        self.probes += 1;
        for shard in 0..self.node.shard_count() {
            let command = martlet_broker::Command::Clients {
                request: self.probes,
                query: Box::new(martlet_broker::ClientQuery {
                    limit: usize::MAX,
                    ..martlet_broker::ClientQuery::default()
                }),
            };
            self.node.command(shard, command);
            self.node.tick(shard);
        }
        self.after_node();
        let reports = core::mem::take(&mut self.reports);
        let (now_us, probe) = (self.agenda.now_us(), self.probes);
        self.observer.reported(now_us, probe, &reports);
        self.plan_ticks();
    }

    /// All clients reconnect, read and answer, until nothing is in flight.
    fn settle(&mut self) {
        self.settled = true;
        self.observer.fact(&Fact::Healed);
        self.node.store.borrow_mut().heal();
        if self.stopping {
            (self.settled, self.sinks_stop) = (false, false);
            self.stop();
            self.settled = true;
        }
        if !self.node.is_up() {
            self.observer.fact(&Fact::Restarted);
            self.start(self.disturbance.shards);
        }
        if self.office.is_some() {
            self.open_to_all();
            self.pass(SECOND);
        }
        for client in 0..self.eye() {
            self.with_client(client, |client, io| client.settle(io));
            if let Some(link) = self.clients[usize::from(client)].link() {
                self.network.heal(link);
                self.give_room(link, LinkProfile::HEALED.window);
            }
        }
        self.with_parts(|part, io| part.settle(io));
        self.with_sinks(|sink, io| sink.settle(io));
        let begun_us = self.agenda.now_us();
        let mut quiet = 0;
        while quiet < 3 {
            self.pass(5 * SECOND);
            if !self.is_sound() {
                return;
            }
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            if self.agenda.now_us() - begun_us > SETTLE_US {
                let present = &self.clients[..usize::from(self.eye())];
                let stuck = present.iter().filter(|client| !client.is_settled());
                let mut stuck: Vec<String> = stuck.map(Client::state).collect();
                let parts = self.parts.iter().filter(|part| !part.is_settled());
                stuck.extend(parts.map(Part::state));
                let sinks = self.sinks.iter().filter(|sink| !sink.is_settled());
                stuck.extend(sinks.map(SimSink::describe));
                let held = self.node.counters().held;
                let what = format!("{held} messages held; {stuck:?}");
                return self.observer.complain("all come to rest", what);
            }
        }
        // Waits for delayed work, such as Wills with a delay; then a new client reads the retained
        // messages.
        self.pass(120 * SECOND);
        self.with_client(self.eye(), |client, io| client.settle(io));
        self.pass(20 * SECOND);
        self.with_sinks(|sink, io| sink.check(io));
    }

    /// The client that connects last and reads the retained messages.
    fn eye(&self) -> ClientIndex {
        (self.clients.len() - 1) as ClientIndex
    }

    fn is_quiet(&self) -> bool {
        let counters = self.node.counters();
        let present = &self.clients[..usize::from(self.eye())];
        present.iter().all(Client::is_settled)
            && self.parts.iter().all(Part::is_settled)
            && self.sinks.iter().all(SimSink::is_settled)
            && self.node.is_quiet()
            && counters.held == 0
    }

    /// Ends all sessions for good; nothing of them may remain.
    fn take_down(&mut self) {
        let sum = self.node.counters();
        if !sum.balanced() {
            let what = format!("matched {} of {sum:?}", sum.matched);
            return self.observer.complain("accounts of the node", what);
        }
        let owed = self.node.store.borrow().retained_owed();
        if owed > 0 {
            let what = format!("{owed} subscriptions are still owed retained messages");
            return self.observer.complain("memory back to baseline", what);
        }
        self.with_clients(|client, io| client.leave(io));
        self.with_parts(|part, io| part.leave(io));
        self.with_sinks(|sink, io| sink.leave(io));
        self.pass(60 * SECOND);
        self.with_clients(|client, io| {
            if client.needs_clean_connect() {
                client.connect_clean(io);
            }
        });
        self.pass(60 * SECOND);
        self.with_clients(|client, io| client.leave(io));
        self.end_all_sessions();
        self.pass(300 * SECOND);
        if !self.is_sound() {
            return;
        }
        let mut left = self.node.stored_leftovers();
        self.node.forget_retained();
        for shard in 0..self.node.shard_count() {
            self.node.tick(shard);
        }
        left.extend(self.node.leftovers());
        if !left.is_empty() {
            let what = left.join(", ");
            self.observer.complain("memory back to baseline", what);
        }
    }
}
