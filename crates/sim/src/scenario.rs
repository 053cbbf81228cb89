//! Generates a run from a seed: the number of shards and clients, their plans, the behaviour of
//! network, store and node limits, and the faults.

use std::collections::BTreeMap;
use std::time::Duration;

use martlet_broker::{EventInterest, QueueFull, Settings, WorkLimits};
use martlet_codec::{ProtocolVersion, QoS};
use martlet_lockout::Lockout;

use crate::agenda::SECOND;
use crate::check::Checks;
use crate::client::{Client, Plan, PublishPlan, SubscriptionPlan, Trouble, WillPlan};
use crate::ledger::{ClientRow, Ledger};
use crate::network::{LinkProfile, Network};
use crate::node::{Node, NodeProfile};
use crate::observer::Observer;
use crate::part::{Part, PartPlan, PartRow};
use crate::people::{Authenticator, People};
use crate::random::Random;
use crate::sink::{SimSink, SinkPlan, has_tenants};
use crate::store::{Store, StoreProfile};
use crate::topics::{Class, TopicIndex, Topics};
use crate::world::{Disturbance, Office, Outcome, Population, World};

/// Main subject of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mix of everything.
    Everything,
    /// Share groups with changing members.
    Sharing,
    /// Retained messages and new subscribers.
    Retaining,
    /// Wills with and without delay.
    Wills,
    /// Short queues and small quotas.
    Bounded,
    /// Subscriptions that begin while others publish continuously.
    Churn,
    /// New sessions while retained messages change continuously.
    Arriving,
    /// Queues of several pages, for clients that stay away while others publish.
    Backlog,
    /// Parts of the node whose sinks settle late, refuse, hang, fail and lose state.
    Parts,
    /// Integrations with their runner, whose targets and tables fail.
    Sinks,
    /// Users in several tenants who are locked out, disabled, moved and deleted, and whose
    /// permissions change.
    Rules,
    /// Many clients with little activity and no faults: for measuring speed.
    Steady,
}

impl Kind {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::Everything,
        Self::Sharing,
        Self::Retaining,
        Self::Wills,
        Self::Bounded,
        Self::Churn,
        Self::Arriving,
        Self::Backlog,
        Self::Parts,
        Self::Sinks,
        Self::Rules,
        Self::Steady,
    ];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Sharing => "sharing",
            Self::Retaining => "retaining",
            Self::Wills => "wills",
            Self::Bounded => "bounded",
            Self::Churn => "churn",
            Self::Arriving => "arriving",
            Self::Backlog => "backlog",
            Self::Parts => "parts",
            Self::Sinks => "sinks",
            Self::Rules => "rules",
            Self::Steady => "steady",
        }
    }

    /// Whether there are no faults except those of clients.
    fn is_calm(self) -> bool {
        matches!(self, Self::Churn | Self::Arriving | Self::Steady)
    }

    /// Whether every second client publishes and the others subscribe.
    fn has_publishers_apart(self) -> bool {
        matches!(self, Self::Churn | Self::Arriving | Self::Backlog)
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The kind of a seed if none is given.
    pub fn of_seed(seed: u64) -> Self {
        match Random::new(seed, "kind", 0).below(20) {
            0..=4 => Self::Everything,
            5 | 6 => Self::Parts,
            7 => Self::Backlog,
            8 | 9 => Self::Rules,
            10..=12 => Self::Sharing,
            13 | 14 => Self::Retaining,
            15 | 16 => Self::Wills,
            17 => Self::Bounded,
            18 => Self::Arriving,
            _ => Self::Churn,
        }
    }
}

/// A run that has not started.
#[derive(Debug)]
pub struct Scenario {
    kind: Kind,
    seed: u64,
    run_us: u64,
    profile: NodeProfile,
    store: StoreProfile,
    disturbance: Disturbance,
    topics: Topics,
    plans: Vec<Plan>,
    parts: Vec<PartPlan>,
    sinks: Vec<SinkPlan>,
    queued_max: usize,
    rules: Option<RulesProfile>,
}

/// How users change in a run.
#[derive(Clone, Copy, Debug)]
struct RulesProfile {
    lockout: Lockout,
    wrong_percent: u64,
    /// Mean time between changes, microseconds; 0 is none.
    change_us: u64,
    /// Maximum time of a login lookup by the authenticator, microseconds.
    look_us: u64,
}

impl RulesProfile {
    /// Users in several tenants with all permissions, who do not change.
    const STILL: Self = Self {
        lockout: Lockout {
            failures: u32::MAX,
            lasts: Duration::from_secs(1),
        },
        wrong_percent: 0,
        change_us: 0,
        look_us: 0,
    };
}

/// Clients of the kind `Steady`.
const STEADY_CLIENTS: u64 = 100;

impl Scenario {
    /// The run for a kind and a seed.
    pub fn new(kind: Kind, seed: u64) -> Self {
        let mut random = Random::new(seed, "scenario", 0);
        let steady = kind == Kind::Steady;
        let clients = if steady {
            STEADY_CLIENTS
        } else {
            random.between(3, 10)
        };
        let topics = topics(clients, steady);
        let profile = node_profile(kind, seed, &mut random);
        let mut plans: Vec<Plan> = (0..clients)
            .map(|client| {
                plan(
                    kind,
                    client,
                    &topics,
                    &mut Random::new(seed, "plan", client),
                )
            })
            .collect();
        plans.push(eye(&topics));
        let queued_max = profile.settings.limits.queued_messages as usize;
        Self {
            kind,
            seed,
            run_us: match kind {
                Kind::Steady => 3600 * SECOND,
                Kind::Churn | Kind::Arriving => 3 * SECOND / 2,
                Kind::Backlog => 60 * SECOND,
                Kind::Parts | Kind::Sinks => random.between(10, 50) * SECOND,
                // Long enough for the end of sessions that outlast restarts.
                Kind::Wills => random.between(120, 300) * SECOND,
                _ => random.between(30, 240) * SECOND,
            },
            store: store_profile(kind, seed, &mut random),
            disturbance: Disturbance {
                cut_us: match random.below(3) {
                    _ if kind.is_calm() => 0,
                    0 => 0,
                    1 => 20 * SECOND,
                    _ => 3 * SECOND,
                },
                half_open_percent: 30,
                mail_us: random.pick(&[50, 500, 5_000]),
                tick_us: random.pick(&[20, 200, 2_000]),
                crash_us: match random.below(3) {
                    _ if kind.is_calm() => 0,
                    0 => 0,
                    // Some connections must last long between two restarts.
                    _ if kind == Kind::Wills => 60 * SECOND,
                    1 => 30 * SECOND,
                    _ => 10 * SECOND,
                },
                stop_percent: random.pick(&[0, 20, 60]),
                clock_us: match random.below(2) {
                    _ if kind.is_calm() => 0,
                    0 => 0,
                    _ => 20 * SECOND,
                },
                rot_percent: match random.pick(&[0, 0, 50]) {
                    // A loss would not be reported.
                    _ if !profile.settings.events.drops || kind == Kind::Sinks => 0,
                    percent => percent,
                },
                down_us: random.pick(&[100_000, SECOND, 10 * SECOND]),
                shards: random.between(if kind.is_calm() { 2 } else { 1 }, 4) as u16,
                reshard_percent: if matches!(kind, Kind::Parts | Kind::Sinks) {
                    50
                } else {
                    20
                },
            },
            profile,
            parts: PartPlan::of_run(kind, seed, &topics),
            sinks: SinkPlan::of_run(kind, seed, &topics),
            topics,
            plans,
            queued_max,
            rules: match kind {
                Kind::Rules => Some(rules_profile(seed)),
                _ => has_tenants(kind, seed).then_some(RulesProfile::STILL),
            },
        }
    }

    /// Returns the main subject.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Runs it; `log` keeps the facts.
    pub fn run(self, log: bool) -> Outcome {
        let seed = self.seed;
        let names = self.plans.iter().map(|plan| &plan.name);
        let names = names.chain(self.parts.iter().map(|plan| &plan.name));
        let rows = names.map(|name| ClientRow {
            name: name.clone(),
            ..ClientRow::default()
        });
        let ledger = Ledger {
            topics: self.topics,
            messages: Vec::new(),
            crashes: 0,
            restarted_us: 0,
            clock_ahead_us: 0,
            clock_went_back: false,
            put_off_us: 0,
            crashed_us: 0,
            people: self
                .rules
                .map(|rules| People::new(self.plans.len(), rules.lockout, rules.wrong_percent)),
            clients: rows.collect(),
            parts: (self.plans.len()..)
                .zip(&self.parts)
                .map(|(row, plan)| PartRow::new(plan, row as u16))
                .collect(),
            sinks: self.sinks.iter().map(SinkPlan::row).collect(),
            hops: BTreeMap::new(),
        };
        let store = Store::new(self.store, Random::new(seed, "store", 0));
        let node = Node::new(&self.profile, store, Random::new(seed, "node", 0));
        let last = self.plans.len() - 1;
        let clients = self.plans.into_iter().enumerate().map(|(index, plan)| {
            let mut random = Random::new(seed, "client", index as u64);
            // The last client connects at the end of the run.
            let first_us = match self.kind {
                _ if index == last => u64::MAX,
                // All subscribe at nearly the same time.
                Kind::Churn if index % 2 == 1 => SECOND / 2 + random.below(10_000),
                Kind::Churn => random.below(SECOND / 10),
                _ => random.below(3 * SECOND),
            };
            Client::new(index as u16, plan, random, first_us)
        });
        let clients = clients.collect();
        let parts = (0..).zip(self.parts).map(|(index, plan)| {
            let random = Random::new(seed, "sink", u64::from(index));
            let publishes = Random::new(seed, "part publishes", u64::from(index));
            let receipts = Random::new(seed, "part receipts", u64::from(index));
            let client = (last + 1) as u16 + index;
            Part::new(index, client, plan, random, publishes, receipts)
        });
        let parts = parts.collect();
        let sinks = (0..).zip(self.sinks);
        let sinks = sinks.map(|(index, plan)| SimSink::new(index, plan, seed));
        let sinks = sinks.collect();
        let world = World::new(
            node,
            Network::new(Random::new(seed, "network", 0)),
            Population {
                clients,
                parts,
                sinks,
            },
            Observer::new(ledger, Checks::new(self.queued_max), log),
            self.rules.map(|rules| {
                let authenticator = Random::new(seed, "gate", 0);
                let authenticator = Authenticator::new(rules.lockout, rules.look_us, authenticator);
                Office::new(
                    authenticator,
                    rules.change_us,
                    Random::new(seed, "office", 0),
                )
            }),
            self.disturbance,
            Random::new(seed, "world", 0),
        );
        world.run(self.run_us)
    }
}

/// Plain topics in groups, some topics with retained messages for each client, some for share
/// groups, and a Will Topic for each client.
fn topics(clients: u64, steady: bool) -> Topics {
    let mut names = Vec::new();
    let mut add = |name: String, class| names.push((name, class));
    let mut filters: Vec<String> = Vec::new();
    if steady {
        for client in 0..clients {
            add(format!("t/{client}/0"), Class::Plain);
            filters.push(format!("t/{client}/#"));
        }
    } else {
        for group in 0..3 {
            for number in 0..2 {
                add(format!("t/{group}/{number}"), Class::Plain);
            }
        }
        for filter in ["t/#", "t/+/0", "t/0/#", "t/1/1", "t/2/+", "+/1/+", "#"] {
            filters.push(filter.to_owned());
        }
    }
    for client in 0..clients.min(10) {
        for number in 0..2 {
            add(format!("r/{client}/{number}"), Class::Retained);
        }
        add(format!("w/{client}"), Class::Will);
    }
    for number in 0..3 {
        add(format!("s/{number}"), Class::Shared);
    }
    for filter in [
        "r/#",
        "r/+/0",
        "r/0/1",
        "w/#",
        "$share/a/s/#",
        "$share/b/s/+",
    ] {
        filters.push(filter.to_owned());
    }
    Topics::new(names, filters)
}

fn node_profile(kind: Kind, seed: u64, random: &mut Random) -> NodeProfile {
    let mut settings = Settings {
        events: EventInterest {
            connections: false,
            drops: true,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    if kind != Kind::Steady && seed % 10 >= 7 {
        // A turn ends after a packet or two, and nearly every message is fanned out.
        settings.work = WorkLimits {
            turn: 64,
            share: 1 + seed % 16,
            matches: 1 + (seed % 4) as usize,
        };
    }
    if kind == Kind::Parts {
        // If drops are reported, messages that were sent stay in memory, so not all runs do it.
        settings.events.drops = seed.is_multiple_of(2);
    }
    let limits = &mut settings.limits;
    limits.memory_bytes = 1 << 40;
    if random.percent(30) {
        limits.in_flight = random.between(1, 20) as u16;
    }
    if random.percent(30) {
        limits.receive_maximum = random.between(20, 40) as u16;
    }
    if random.percent(20) {
        limits.output_bytes = random.between(200, 4000) as u32;
    }
    if random.percent(30) {
        limits.share_credit = random.between(1, 4) as u16;
    }
    if random.percent(20) {
        limits.route_cache_entries = random.between(1, 3) as u32;
    }
    if kind == Kind::Bounded {
        limits.queued_messages = random.between(1, 20) as u32;
        limits.in_flight = random.between(1, 4) as u16;
        settings.queue_full = random.pick(&[QueueFull::DropOldest, QueueFull::DropNewest]);
    }
    if kind == Kind::Sharing && random.percent(20) {
        // Some members have less room in their queues than others.
        limits.queued_messages = random.between(1, 5) as u32;
    }
    let steady = kind == Kind::Steady;
    let mut of_loop = Random::new(seed, "loop", 0);
    NodeProfile {
        settings,
        batch_messages: match steady {
            true => 1024,
            false => of_loop.pick(&[1, 16, 1024]),
        },
        mailbox_batches: match steady {
            true => usize::MAX,
            false => of_loop.pick(&[usize::MAX, usize::MAX, 4, 1]),
        },
        look: match steady {
            true => Duration::from_nanos(1),
            false => Duration::from_nanos(of_loop.pick(&[1, 1, 20_000, 300_000])),
        },
        interleave_percent: match kind {
            Kind::Steady => 1,
            Kind::Churn | Kind::Arriving => 50,
            _ => random.pick(&[0, 10, 40]),
        },
        check_one_in: if steady { 64 } else { 1 },
        seed,
        authenticate: kind == Kind::Rules || has_tenants(kind, seed),
    }
}

fn rules_profile(seed: u64) -> RulesProfile {
    let mut random = Random::new(seed, "rules", 0);
    RulesProfile {
        lockout: Lockout {
            failures: random.between(2, 5) as u32,
            lasts: Duration::from_secs(random.between(3, 30)),
        },
        wrong_percent: random.pick(&[0, 10, 40]),
        change_us: random.pick(&[SECOND / 5, SECOND, 5 * SECOND]),
        look_us: random.pick(&[0, 50_000, 500_000]),
    }
}

fn store_profile(kind: Kind, seed: u64, random: &mut Random) -> StoreProfile {
    let has_parts = matches!(kind, Kind::Everything | Kind::Parts | Kind::Sinks);
    let fails_for_long = has_parts && seed % 16 == 13;
    let slow = kind != Kind::Steady && random.percent(30);
    StoreProfile {
        sync_us: random.pick(&[200, 1_000, 50_000]),
        slow_one_in: if slow { 20 } else { 0 },
        slow_us: 3 * SECOND,
        fail_one_in: if slow { 30 } else { 0 },
        failing_every_us: if fails_for_long { 5 * SECOND } else { 0 },
        failing_us: 2 * SECOND,
        segment_bytes: match kind {
            Kind::Steady => 1 << 20,
            _ => random.pick(&[4 << 10, 4 << 10, 16 << 10, 64 << 10]),
        },
        tail_segments: random.pick(&[1, 4]),
        housekeep_bytes: random.pick(&[1, 4 << 10, 64 << 10]),
    }
}

/// Session Expiry Intervals, seconds, longer than the minute after a restart in which no session
/// ends.
const EXPIRY_LONG: core::ops::Range<u64> = 90..150;

/// The plan of one client.
fn plan(kind: Kind, client: u64, topics: &Topics, random: &mut Random) -> Plan {
    let version = random.pick(&[
        ProtocolVersion::V5,
        ProtocolVersion::V5,
        ProtocolVersion::V311,
    ]);
    let steady = kind == Kind::Steady;
    let expiry_secs = match random.below(10) {
        _ if kind == Kind::Backlog => u32::MAX,
        // To test messages that a restart, and then the end of a session, return to the other
        // members.
        4 | 5 if kind == Kind::Sharing => random.between(5, 20) as u32,
        4..=7 if kind == Kind::Wills => random.between(EXPIRY_LONG.start, EXPIRY_LONG.end) as u32,
        0..=2 => 0,
        3 if !steady && random.percent(50) => random.between(5, 40) as u32,
        3 if !steady => random.between(EXPIRY_LONG.start, EXPIRY_LONG.end) as u32,
        _ => u32::MAX,
    };
    let clean = expiry_secs == 0;
    // 3.1.1 has only two session lifetimes.
    let expiry_secs = match version {
        ProtocolVersion::V5 => expiry_secs,
        _ if clean => 0,
        _ => u32::MAX,
    };
    let troubles = troubles(kind, random);
    let mut subscriptions = subscriptions(kind, client, topics, random);
    // Some published messages are longer. A share group with such a member would lose them.
    let maximum_packet_size = match random.percent(10) {
        true if kind != Kind::Parts => 150,
        _ => 0,
    };
    if maximum_packet_size > 0 {
        subscriptions.retain(|subscription| !topics.is_shared(subscription.filter));
    }
    Plan {
        name: format!("c{client}"),
        version,
        clean,
        expiry_secs,
        keep_alive_secs: random.between(5, 60) as u16,
        receive_maximum: if random.percent(30) {
            random.between(1, 10) as u16
        } else {
            0
        },
        maximum_packet_size,
        topic_alias_maximum: random.pick(&[0, 0, 1, 10]),
        will: will(kind, client, topics, random),
        identifies: version.is_v5() && random.percent(60),
        subscriptions,
        publishing: publishing(kind, client, topics, random),
        answer_us: random.pick(&[0, 0, 100_000, 5 * SECOND]),
        refuse_percent: if random.percent(10) { 5 } else { 0 },
        trouble_us: match kind {
            Kind::Steady => 0,
            Kind::Arriving | Kind::Backlog if client.is_multiple_of(2) => 0,
            Kind::Arriving => random.between(5, 100) * 1_000,
            _ => random.between(3, 60) * SECOND,
        },
        troubles,
        away_us: match kind {
            _ if EXPIRY_LONG.contains(&u64::from(expiry_secs)) => 70 * SECOND,
            Kind::Wills => random.pick(&[SECOND, 20 * SECOND, 60 * SECOND]),
            Kind::Arriving => 2_000,
            Kind::Backlog => 20 * SECOND,
            _ => random.pick(&[SECOND, 5 * SECOND, 20 * SECOND]),
        },
        network: LinkProfile {
            latency_us: match kind {
                Kind::Churn | Kind::Arriving => 50,
                _ => random.pick(&[50, 1_000, 30_000, 200_000]),
            },
            jitter_us: match kind {
                Kind::Churn | Kind::Arriving => 1_000,
                _ => random.pick(&[0, 1_000, 50_000]),
            },
            split_percent: if steady {
                0
            } else {
                random.pick(&[0, 0, 20, 80])
            },
            window: random.pick(&[64, 1_000, 64_000, 64_000]),
        },
    }
}

fn troubles(kind: Kind, random: &mut Random) -> Vec<Trouble> {
    if kind == Kind::Arriving {
        return vec![Trouble::Forget];
    }
    if kind == Kind::Backlog {
        return vec![Trouble::Goodbye, Trouble::Crash, Trouble::TakeOver];
    }
    if kind.is_calm() || random.percent(20) {
        return Vec::new();
    }
    let mut all = vec![
        Trouble::Crash,
        Trouble::Vanish,
        Trouble::Goodbye,
        Trouble::TakeOver,
        Trouble::Deaf,
        Trouble::Resubscribe,
    ];
    if random.percent(30) {
        all.push(Trouble::Violate);
    }
    if random.percent(30) {
        all.push(Trouble::Forget);
    }
    match kind {
        Kind::Retaining => all.extend([Trouble::Resubscribe; 6]),
        Kind::Wills => all.extend([Trouble::Goodbye, Trouble::Crash, Trouble::TakeOver]),
        Kind::Bounded => all.extend([Trouble::Deaf, Trouble::Goodbye]),
        _ => {}
    }
    let count = random.between(1, all.len() as u64);
    (0..count).map(|_| random.pick(&all)).collect()
}

fn will(kind: Kind, client: u64, topics: &Topics, random: &mut Random) -> Option<WillPlan> {
    let percent = match kind {
        _ if kind.is_calm() => 0,
        Kind::Wills => 90,
        _ => 30,
    };
    let topic = topics.find(&format!("w/{client}"))?;
    random.percent(percent).then(|| WillPlan {
        topic,
        qos: random.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]),
        delay_secs: random.pick(&[0, 0, 3, 15]),
    })
}

fn subscriptions(
    kind: Kind,
    client: u64,
    topics: &Topics,
    random: &mut Random,
) -> Vec<SubscriptionPlan> {
    let mut filters: Vec<String> = Vec::new();
    if kind == Kind::Steady {
        filters.push(format!("t/{}/#", (client + 1) % STEADY_CLIENTS));
    } else if kind.has_publishers_apart() && client.is_multiple_of(2) {
        return Vec::new();
    } else if kind == Kind::Arriving {
        filters.push(random.pick(&["r/#", "r/+/0"]).to_owned());
    } else if kind == Kind::Churn {
        filters.push(random.pick(&["t/1/1", "t/0/#", "t/2/+"]).to_owned());
    } else {
        let plain = ["t/#", "t/+/0", "t/0/#", "t/1/1", "t/2/+", "+/1/+", "#"];
        for _ in 0..random.below(4) {
            filters.push(random.pick(&plain).to_owned());
        }
        let often = |wanted| if kind == wanted { 80 } else { 20 };
        // A message dropped by a member's full queue is lost to its group, and is not reported.
        let shares = if matches!(kind, Kind::Bounded | Kind::Parts) {
            0
        } else {
            often(Kind::Sharing)
        };
        if random.percent(often(Kind::Retaining)) {
            filters.push(random.pick(&["r/#", "r/+/0", "r/0/1"]).to_owned());
        }
        if random.percent(often(Kind::Wills)) {
            filters.push("w/#".to_owned());
        }
        if random.percent(shares) {
            // So that it gets these messages only through its group.
            filters.retain(|filter| filter != "#");
            filters.push(random.pick(&["$share/a/s/#", "$share/b/s/+"]).to_owned());
        }
    }
    filters.sort();
    filters.dedup();
    let found = filters.iter().filter_map(|filter| {
        let shared = filter.starts_with("$share/");
        let qos = match shared {
            // A member at QoS 0 makes a group lossy, so most groups have none.
            true if random.percent(5) => QoS::AtMostOnce,
            true => random.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]),
            false => random.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        };
        Some(SubscriptionPlan {
            filter: topics.find_filter(filter)?,
            qos,
            no_local: !shared && random.percent(20),
            retain_as_published: random.percent(30),
        })
    });
    found.collect()
}

fn publishing(
    kind: Kind,
    client: u64,
    topics: &Topics,
    random: &mut Random,
) -> Option<PublishPlan> {
    let mut on: Vec<TopicIndex> = Vec::new();
    if kind.has_publishers_apart() && client % 2 == 1 {
        return None;
    }
    if kind == Kind::Steady {
        on.extend(topics.find(&format!("t/{client}/0")));
    } else if kind == Kind::Arriving {
        on.extend(topics.find(&format!("r/{client}/0")));
    } else {
        let plain: Vec<TopicIndex> = topics.of_class(Class::Plain).collect();
        let count = match kind {
            Kind::Churn | Kind::Backlog => 3,
            Kind::Parts | Kind::Sinks => random.between(1, 3),
            _ => random.below(4),
        };
        for _ in 0..count {
            on.push(random.pick(&plain));
        }
        let retains = if kind == Kind::Retaining { 80 } else { 30 };
        if random.percent(retains) {
            for number in 0..2 {
                on.extend(topics.find(&format!("r/{client}/{number}")));
            }
        }
        let shares = if kind == Kind::Sharing { 80 } else { 20 };
        if random.percent(shares) {
            on.extend(topics.of_class(Class::Shared));
        }
    }
    if on.is_empty() {
        return None;
    }
    let certain = random.percent(if kind == Kind::Parts { 20 } else { 50 });
    let certain = certain || kind == Kind::Arriving;
    Some(PublishPlan {
        every_us: match kind {
            Kind::Steady => 60 * SECOND,
            Kind::Churn | Kind::Arriving => 1_000,
            Kind::Backlog => random.between(50, 500) * 1000,
            Kind::Parts | Kind::Sinks => random.between(200, 2_000) * 1000,
            _ => random.between(200, 5_000) * 1000,
        },
        burst: match kind {
            _ if kind.is_calm() => 1,
            Kind::Backlog => 15,
            _ => random.pick(&[1, 1, 3, 15]),
        },
        topics: on,
        qos: match certain {
            true => vec![QoS::AtLeastOnce, QoS::ExactlyOnce],
            false => vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce],
        },
        payload_bytes: random.pick(&[0, 20, 200, 2_000]),
        expiry_percent: random.pick(&[0, 0, 30]),
        clear_percent: random.pick(&[0, 10]),
    })
}

/// The client that connects last and reads the retained messages.
fn eye(topics: &Topics) -> Plan {
    let filter = topics
        .find_filter("r/#")
        .expect("every run has this filter");
    Plan {
        name: "eye".to_owned(),
        version: ProtocolVersion::V5,
        clean: true,
        expiry_secs: 0,
        keep_alive_secs: 60,
        receive_maximum: 0,
        maximum_packet_size: 0,
        topic_alias_maximum: 0,
        will: None,
        identifies: true,
        subscriptions: vec![SubscriptionPlan {
            filter,
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
        }],
        publishing: None,
        answer_us: 0,
        refuse_percent: 0,
        trouble_us: 0,
        troubles: Vec::new(),
        away_us: SECOND,
        network: LinkProfile {
            latency_us: 100,
            jitter_us: 0,
            split_percent: 0,
            window: 64_000,
        },
    }
}
