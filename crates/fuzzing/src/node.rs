//! A whole node in memory with clients that check what they get.
//!
//! It runs the loop that ships, in `martlet_tick::local::World`, but lets its user decide what a
//! node cannot: when the store answers, when batches and moved connections arrive, how much a
//! socket takes. After every call into a shard its accounts must balance.

use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, Command, Counters, ListenerPolicy, Node as _, Now, Record,
    RecordNumber, Report, Retained, Settings, Shard, ShardId, TransportEnd,
};
use martlet_tick::local::{Parts, START, World, peer};
use martlet_tick::{Control, LocalNode};

pub use martlet_tick::local::Link;

use crate::client::Client;

/// Rounds until a node must have come to rest: far more than any input needs.
const ROUNDS_MAX: u32 = 1_000_000;

/// Batches that a mailbox takes, which is few: what finds it full waits with its shard.
const MAILBOX_BATCHES: usize = 4;

/// State that the shards share, and a look at each call into one.
struct Watch(LocalNode);

impl Parts for Watch {
    type Node = LocalNode;

    fn node(&self) -> &LocalNode {
        &self.0
    }

    fn called(&mut self, shard: &Shard) {
        assert!(
            shard.accounts_balance(),
            "the accounts of a shard do not balance"
        );
    }

    fn append(
        &mut self,
        _: ShardId,
        _: &[Record],
        _: RecordNumber,
        _: Now,
    ) -> Option<RecordNumber> {
        None
    }
}

/// A client with its connection.
struct End {
    link: Link,
    client: Client,
    /// Bytes that the socket takes in each run; `usize::MAX` takes all.
    takes: usize,
}

/// A node under test.
pub struct Node {
    world: World<Watch>,
    /// Connections that the node has, each in the place of its link.
    ends: Vec<Option<End>>,
    listener: Arc<ListenerPolicy>,
    opened: u64,
    /// The store answers at once.
    pub store_answers: bool,
    mail_arrives: bool,
    stopping: bool,
}

impl Node {
    /// A node that has just started.
    pub fn new(mut settings: Settings, listener: ListenerPolicy, shards: u16) -> Self {
        settings.node_seed = 1;
        let settings = Arc::new(settings);
        let states =
            (0..shards).map(|id| Shard::new(Arc::clone(&settings), ShardId(id), shards, 1));
        let watch = Watch(LocalNode::new(1, 0));
        let mut world = World::new(watch, states.collect(), START);
        world.limit_mailboxes(MAILBOX_BATCHES);
        Self {
            world,
            ends: Vec::new(),
            listener: Arc::new(listener),
            opened: 0,
            store_answers: true,
            mail_arrives: true,
            stopping: false,
        }
    }

    /// Number of shards.
    pub fn shard_count(&self) -> u16 {
        self.world.shard_count()
    }

    /// A client connects to a shard. Places of connections that are over are used again. Every
    /// other connection has a layer below MQTT.
    pub fn open(&mut self, shard: u16, client: Client) -> Link {
        self.opened += 1;
        let peer = peer(&self.listener, self.opened);
        let link = match self.opened.is_multiple_of(2) {
            true => self.world.open_layered(usize::from(shard), peer),
            false => self.world.open(usize::from(shard), peer),
        };
        if self.ends.len() <= link.0 {
            self.ends.resize_with(link.0 + 1, || None);
        }
        self.ends[link.0] = Some(End {
            link,
            client,
            takes: usize::MAX,
        });
        link
    }

    /// Connections that neither side has ended.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        let links = self.ends.iter().flatten().map(|end| end.link);
        links.filter(|link| !self.world.is_closed(*link))
    }

    /// The client of a connection, unless the node has dropped that.
    pub fn client(&mut self, link: Link) -> Option<&mut Client> {
        let end = self.ends[link.0].as_mut()?;
        Some(&mut end.client)
    }

    /// The client sends bytes.
    pub fn send(&mut self, link: Link, bytes: &[u8]) {
        self.world.send(link, bytes);
    }

    /// The client's end of the connection ends.
    pub fn end(&mut self, link: Link, end: TransportEnd) {
        self.world.end(link, end);
    }

    /// Makes the socket writable, with this number of bytes for each run.
    pub fn set_takes(&mut self, link: Link, bytes: usize) {
        if let Some(end) = &mut self.ends[link.0] {
            end.takes = bytes;
            self.world.set_room(link, bytes);
        }
    }

    /// The store answers for `count` more records of a shard, as far as there are any.
    pub fn answer(&mut self, shard: u16, count: u64) {
        self.world.answer(usize::from(shard), count);
    }

    /// Tells a shard that another one's mailbox is full, or has room again.
    pub fn set_congested(&mut self, shard: u16, on: bool) {
        self.world
            .call(usize::from(shard), |shard, cx| shard.congested(cx, on));
    }

    /// The node lends memory, or has none left.
    pub fn set_lends(&mut self, on: bool) {
        self.world.parts.0.set_lends(on);
    }

    /// Some shard has been told to stop, and accepts nobody.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Tells a shard something.
    pub fn command(&mut self, shard: u16, command: Command) {
        self.stopping |= matches!(command, Command::Shutdown);
        self.world
            .control(usize::from(shard), Control::Command(command));
    }

    /// Answers the oldest question who a client is; false if there is none.
    pub fn answer_who(&mut self, answer: impl FnOnce(&Authentication) -> Authenticated) -> bool {
        let Some((shard, asked)) = self.world.next_asked() else {
            return false;
        };
        let answer = Control::Authenticated(asked.connection, Box::new(answer(&asked)));
        self.world.control(usize::from(shard), answer);
        true
    }

    /// Reports since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        self.world.take_reports()
    }

    /// Empties the retained store.
    pub fn forget_retained(&mut self) {
        self.world
            .parts
            .0
            .retained(|retained| *retained = Retained::new());
    }

    /// Batches and moved connections arrive at once, or when they are delivered.
    pub fn set_mail_arrives(&mut self, on: bool) {
        self.mail_arrives = on;
        self.world.hold_mail(!on);
        self.world.hold_moves(!on);
    }

    /// Delivers a moved connection or a batch to a shard, if there is one.
    pub fn deliver(&mut self, shard: u16) {
        if !self.mail_arrives {
            self.world.deliver(usize::from(shard));
        }
    }

    /// Works until nothing is left to be done at this time.
    pub fn run(&mut self) {
        for end in self.ends.iter().flatten() {
            if end.takes < usize::MAX && !self.world.is_closed(end.link) {
                self.world.set_room(end.link, end.takes);
            }
        }
        for shard in self.shards() {
            self.world.tick(shard);
        }
        for _ in 0..ROUNDS_MAX {
            let mut is_any = self.world.round();
            for shard in self.shards().filter(|_| self.store_answers) {
                is_any |= self.world.answer(shard, u64::MAX);
            }
            if !is_any {
                return self.receive();
            }
        }
        panic!("the node does not come to rest");
    }

    /// Clients receive what has come for them.
    fn receive(&mut self) {
        drop(self.world.take_events());
        for place in &mut self.ends {
            let Some(end) = place else {
                continue;
            };
            self.world.read(end.link, |bytes| end.client.receive(bytes));
            if self.world.is_dropped(end.link) {
                self.world.forget(end.link);
                *place = None;
            }
        }
    }

    /// Lets time pass, from one due timer to the next, at most `rounds_max` of them.
    pub fn elapse(&mut self, ms: u64, rounds_max: usize) {
        let until = self.world.now().mono_ms + ms;
        self.run();
        for _ in 0..rounds_max {
            let Some(due) = self.world.due_ms().filter(|due| *due < until) else {
                break;
            };
            let now_ms = self.world.now().mono_ms;
            self.world.set_clock(due.max(now_ms + 1));
            self.run();
        }
        self.world.set_clock(until);
        self.run();
    }

    /// Counters and gauges of all shards together.
    pub fn counters(&self) -> Counters {
        self.world.counters()
    }

    /// Nothing is left of any client: no loop has a connection, no table of any shard an entry, no
    /// memory is charged, no place is taken. Panics otherwise.
    pub fn assert_empty(&self) {
        assert!(
            self.shards()
                .all(|shard| self.world.batch_count(shard) == 0)
        );
        let drivers = self.world.drivers();
        for driver in drivers {
            assert_eq!(driver.connection_count(), 0, "connections are left");
            let leftovers = driver.shard().leftovers();
            assert!(leftovers.is_empty(), "left in a shard: {leftovers:?}");
        }
        let counters = self.counters();
        let shards = drivers.iter().map(|driver| driver.shard());
        let tables: u64 = shards.map(Shard::bytes_of_tables).sum();
        let charged = counters.memory_bytes - counters.route_cache_bytes - tables;
        assert_eq!(charged, 0, "bytes are still charged");
        let node = &self.world.parts.0;
        assert_eq!(node.connection_count(), 0, "places are still taken");
        let interest = node.interest(|interest| interest.filter_count());
        assert_eq!(interest, 0, "filters are still wanted");
        let spare = 2 * 1024 * 1024 * drivers.len();
        let lent = node.lent_bytes();
        assert!(lent <= spare, "{lent} bytes are still lent");
    }

    fn shards(&self) -> std::ops::Range<usize> {
        0..usize::from(self.world.shard_count())
    }
}
