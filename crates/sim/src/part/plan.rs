//! The plan of a part: its subscriptions, the settling of its sink, and its troubles.

use std::sync::Arc;

use martlet_broker::{Actions, Identity, OnFull, PartQueueLimits, Rule, Rules};
use martlet_codec::RetainHandling;

use crate::agenda::SECOND;
use crate::random::Random;
use crate::scenario::Kind;
use crate::topics::{Class, FilterIndex, TopicIndex, Topics};

/// A part's plan for a run.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// Client Identifier.
    pub name: String,
    /// Whether it is attached once per shard, by lanes.
    pub is_lanes: bool,
    /// Whether its session outlasts its attachments.
    pub durable: bool,
    /// Whether it keeps QoS 0 messages.
    pub keeps_qos0: bool,
    /// Percentage of attachments with a variation: fewer filters, or the opposite setting for QoS
    /// 0.
    pub fickle_percent: u64,
    /// Filters of the part.
    pub filters: Vec<FilterIndex>,
    /// Whether it gets retained messages.
    pub retain_handling: RetainHandling,
    /// Maximum number of unsettled deliveries: 1 to this number.
    pub credit_max: u64,
    /// Maximum time of its sink until it settles, microseconds.
    pub settle_us: u64,
    /// Deliveries within this time are settled together, microseconds.
    pub batch_us: u64,
    /// Percentage of deliveries that are refused.
    pub refuse_percent: u64,
    /// Percentage of deliveries that are postponed.
    pub later_percent: u64,
    /// Maximum time for which they are postponed, milliseconds.
    pub later_ms: u64,
    /// Percentage of answers that are sent twice.
    pub twice_percent: u64,
    /// Mean time between troubles, microseconds; 0 is none.
    pub trouble_us: u64,
    /// The kinds of trouble.
    pub troubles: Vec<PartTrouble>,
    /// Average time away or hanging, microseconds.
    pub away_us: u64,
    /// Bounds of its queue; each attachment uses one of these.
    pub queues: Vec<PartQueueLimits>,
    /// Whether its session ends for good when disturbances are over.
    pub quits: bool,
    /// Publishes of the part.
    pub publishing: Option<PartPublishing>,
}

/// The publishes of a part.
#[derive(Clone, Debug)]
pub struct PartPublishing {
    /// Mean time between messages not caused by others, microseconds.
    pub every_us: u64,
    /// Percentage of deliveries that cause another message, one hop further.
    pub passes_on_percent: u64,
    /// The topics.
    pub topics: Vec<TopicIndex>,
    /// Topics that the rules of its principal forbid. Without any it has no principal.
    pub forbidden: Vec<TopicIndex>,
    /// Maximum bytes of the payload besides the number.
    pub payload_bytes: u64,
    /// Maximum number of messages.
    pub messages_max: u32,
    /// Percentage of messages with a request for receipts.
    pub receipts_percent: u64,
}

impl PartPublishing {
    /// The principal for its publishes: it has all permissions except publishing to some topics.
    pub fn principal(&self, topics: &Topics) -> Option<Identity> {
        if self.forbidden.is_empty() {
            return None;
        }
        let rules = self.forbidden.iter().map(|topic| Rule {
            actions: Actions::PUBLISH,
            allows: false,
            filter: topics.name(*topic).into(),
            source: "the run".into(),
        });
        let rules = Rules::compile(rules.collect(), Actions::ALL);
        Some(Identity {
            rules: Arc::new(rules.expect("topics of the run are valid")),
            ..Identity::anyone()
        })
    }
}

/// A failure of the sink of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartTrouble {
    /// The sink settles nothing for a while, so that its credit is used up.
    Hang,
    /// The sink fails: the part is detached, loses its deliveries, and is attached again later.
    Fail,
    /// The part is attached again without being detached, and loses its deliveries; answers for
    /// the old attachment arrive too late.
    TakeOver,
    /// The credit changes.
    Credit,
    /// The session is ended; a new one begins later.
    End,
}

impl PartPlan {
    /// The parts of a run of this kind and seed. They use separate random numbers, so that those
    /// of clients do not change.
    pub fn of_run(kind: Kind, seed: u64, topics: &Topics) -> Vec<Self> {
        let mut random = Random::new(seed, "parts", 0);
        let count = match kind {
            // The first is durable, the second is not.
            Kind::Parts => random.between(2, 4),
            Kind::Everything if random.percent(30) => random.between(1, 2),
            _ => 0,
        };
        let plans = (0..count).map(|part| {
            let mut random = Random::new(seed, "part", part);
            let mut plan = Self::of_part(part, topics, &mut random);
            plan.bound(kind, seed, part);
            plan.let_publish(topics, &mut Random::new(seed, "part publishing", part));
            plan.divide(&mut Random::new(seed, "part lanes", part));
            plan
        });
        plans.collect()
    }

    fn of_part(part: u64, topics: &Topics, random: &mut Random) -> Self {
        let durable = match part {
            0 => true,
            1 => false,
            _ => random.percent(70),
        };
        let all = ["t/#", "t/+/0", "t/0/#", "t/2/+", "+/1/+", "#", "r/#", "w/#"];
        let mut filters = Vec::new();
        for _ in 0..random.between(1, 3) {
            filters.extend(topics.find_filter(random.pick(&all)));
        }
        filters.sort_unstable();
        filters.dedup();
        let mut troubles = Vec::new();
        for _ in 0..random.between(1, 5) {
            troubles.push(random.pick(&[
                PartTrouble::Hang,
                PartTrouble::Fail,
                PartTrouble::Fail,
                PartTrouble::TakeOver,
                PartTrouble::Credit,
                PartTrouble::End,
            ]));
        }
        Self {
            name: format!("$part/{part}"),
            is_lanes: false,
            durable,
            keeps_qos0: random.percent(60),
            fickle_percent: random.pick(&[0, 0, 0, 30]),
            filters,
            retain_handling: random.pick(&[
                RetainHandling::DoNotSend,
                RetainHandling::SendAtSubscribe,
                RetainHandling::SendIfNew,
            ]),
            credit_max: random.pick(&[1, 4, 20, 100]),
            settle_us: random.pick(&[0, 1_000, 200_000, 2 * SECOND]),
            batch_us: random.pick(&[0, 10_000, SECOND]),
            refuse_percent: random.pick(&[0, 0, 5]),
            later_percent: random.pick(&[0, 0, 5, 20]),
            later_ms: random.pick(&[10, 5_000]),
            twice_percent: random.pick(&[0, 0, 10]),
            trouble_us: random.pick(&[0, 3 * SECOND, 15 * SECOND]),
            troubles,
            away_us: random.pick(&[SECOND / 10, 3 * SECOND, 15 * SECOND]),
            queues: vec![PartQueueLimits::default()],
            quits: false,
            publishing: None,
        }
    }

    /// Sets bounds of its queue, with separate ones in half of the runs.
    fn bound(&mut self, kind: Kind, seed: u64, part: u64) {
        let mut random = Random::new(seed, "part bounds", part);
        if random.percent(50) {
            return;
        }
        // A loss would not be reported in the others.
        let tells_drops = kind != Kind::Parts || seed.is_multiple_of(2);
        let of_queue = random.pick(&[OnFull::Hold, OnFull::Hold, OnFull::DropOldest]);
        let ages = tells_drops && random.percent(40);
        let count = random.pick(&[1, 1, 2]);
        self.queues.clear();
        for _ in 0..count {
            let on_full = match random.percent(80) {
                true => of_queue,
                false => random.pick(&[OnFull::Hold, OnFull::DropOldest]),
            };
            let on_full = if tells_drops { on_full } else { OnFull::Hold };
            self.queues.push(PartQueueLimits {
                bytes_max: random.between(6, 40) * 1_000,
                age_max_secs: if ages {
                    random.between(1, 10) as u32
                } else {
                    0
                },
                on_full,
            });
        }
        self.quits = random.percent(20);
        // To fill its queue.
        if random.percent(60) {
            self.troubles.push(PartTrouble::Hang);
            self.trouble_us = random.pick(&[3 * SECOND, 8 * SECOND]);
            self.away_us = random.pick(&[3 * SECOND, 15 * SECOND]);
            self.credit_max = self.credit_max.min(20);
        }
    }

    /// Makes some parts use lanes, with bounds of the queue like those of integrations.
    fn divide(&mut self, random: &mut Random) {
        if !self.durable || !random.percent(40) {
            return;
        }
        self.is_lanes = true;
        self.retain_handling = RetainHandling::DoNotSend;
        self.publishing = None;
        for queue in &mut self.queues {
            if queue.bytes_max == 0 {
                queue.bytes_max = 1 << 30;
            }
        }
    }

    fn let_publish(&mut self, topics: &Topics, random: &mut Random) {
        if random.percent(50) {
            return;
        }
        let plain: Vec<TopicIndex> = topics.of_class(Class::Plain).collect();
        let count = random.between(1, 3);
        let mut publishing = PartPublishing {
            every_us: random.pick(&[SECOND / 2, 3 * SECOND, 20 * SECOND]),
            passes_on_percent: random.pick(&[0, 30, 100]),
            topics: (0..count).map(|_| random.pick(&plain)).collect(),
            forbidden: Vec::new(),
            payload_bytes: random.pick(&[0, 200, 2_000]),
            messages_max: 150,
            // Drawn last, so that the other values do not change.
            receipts_percent: random.pick(&[0, 50, 100, 100]),
        };
        if random.percent(40) {
            let mut topics = publishing.topics.clone();
            topics.retain(|_| random.percent(50));
            publishing.forbidden = topics;
        }
        self.publishing = Some(publishing);
    }
}
