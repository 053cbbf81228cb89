//! A client that keeps the protocol's rules (or breaks them, if its plan requires that), across
//! connections and crashes, and reports each action and observation to the observer.
//!
//! It sees only the bytes of the node. MQTT 3.1.1 and 5.0, section 4 in both.

mod inbound;
pub(crate) mod outbound;
mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};

use martlet_broker::SessionEpoch;
use martlet_codec::{
    AckKind, Connect, ConnectProperties, Disconnect, ProtocolVersion, PublishProperties, QoS,
    ReasonCode, Will, encode_pingreq,
};

use crate::agenda::{Due, SECOND};
use crate::facts::{ClientIndex, Fact, Loss, MessageIndex};
use crate::ledger::MessageRow;
use crate::network::LinkProfile;
use crate::node::LinkIndex;
use crate::people::People;
use crate::random::Random;
use crate::topics::{FilterIndex, TopicIndex};
use crate::world::Io;

pub use plan::{Plan, PublishPlan, SubscriptionPlan, Trouble, WillPlan};

/// A time that never comes.
const NEVER: u64 = u64::MAX;
/// Maximum number of messages in flight of an MQTT 3.1.1 client.
const SEND_MAXIMUM: usize = 20;

/// State of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    /// CONNECT was sent.
    Connecting,
    Online,
}

/// Due times.
#[derive(Clone, Copy, Debug)]
struct Times {
    connect: u64,
    publish: u64,
    ping: u64,
    /// Deadline of an answer.
    deadline: u64,
    trouble: u64,
    /// End of not reading.
    read: u64,
}

/// A message in flight to the node.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    packet_id: u16,
    message: MessageIndex,
    qos: QoS,
    /// Whether PUBREC was received: then PUBREL is sent until PUBCOMP.
    released: bool,
}

/// A SUBSCRIBE or UNSUBSCRIBE without an answer yet.
#[derive(Debug)]
struct Request {
    packet_id: u16,
    /// Positions in the plan.
    places: Vec<usize>,
    leaving: bool,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    index: ClientIndex,
    plan: Plan,
    random: Random,
    phase: Phase,
    link: LinkIndex,
    deaf: bool,
    /// Whether troubles and publishes are over: it only reconnects and reads.
    settling: bool,
    times: Times,
    wakes_at: u64,
    buffer: Vec<u8>,
    /// Number of bytes of its connection that it has processed.
    taken: u64,
    output: Vec<u8>,
    /// Topics of the node's Topic Aliases on this connection.
    aliases: Vec<Option<TopicIndex>>,
    /// Topics of its own aliases on this connection, from alias 1 on.
    aliases_given: Vec<TopicIndex>,
    /// Number of aliases that it may use on this connection.
    alias_maximum: usize,
    send_maximum: usize,
    last_packet_id: u16,
    /// Number of the Subscription Identifier in the last SUBSCRIBE; 0 is none.
    identifier: u32,
    outgoing: VecDeque<Outgoing>,
    requests: Vec<Request>,
    /// Whether a subscription was granted, by its position in the plan.
    granted: Vec<bool>,
    /// QoS 2 messages received and not yet released.
    receipts: BTreeSet<u16>,
    /// Receipts among them that were refused, with the message: another one, or DUP 0, is a new
    /// message.
    refused: BTreeMap<u16, Option<MessageIndex>>,
    /// Acknowledgements to send, in order, each with its earliest time.
    answers: VecDeque<(u64, AckKind, u16, ReasonCode)>,
    /// Whether its state is lost: it connects with Clean Start until one is accepted.
    forgets: bool,
    /// The session of the last CONNACK, if it was recorded.
    session: Option<SessionEpoch>,
    /// Whether the last CONNECT has no CONNACK yet.
    unanswered: bool,
    /// Session Expiry Interval of the last CONNECT, seconds.
    expiry_secs: u32,
    /// When it last received data from the node.
    heard_us: u64,
}

impl Client {
    /// A client that connects first at `first_us`.
    pub fn new(index: ClientIndex, plan: Plan, mut random: Random, first_us: u64) -> Self {
        let trouble = match plan.trouble_us {
            0 => NEVER,
            mean_us => first_us + random.around(mean_us),
        };
        let granted = vec![false; plan.subscriptions.len()];
        Self {
            index,
            plan,
            random,
            phase: Phase::Away,
            link: 0,
            deaf: false,
            settling: false,
            times: Times {
                connect: first_us,
                publish: NEVER,
                ping: NEVER,
                deadline: NEVER,
                trouble,
                read: NEVER,
            },
            wakes_at: NEVER,
            buffer: Vec::new(),
            taken: 0,
            output: Vec::new(),
            aliases: Vec::new(),
            aliases_given: Vec::new(),
            alias_maximum: 0,
            send_maximum: SEND_MAXIMUM,
            last_packet_id: 0,
            identifier: 0,
            outgoing: VecDeque::new(),
            requests: Vec::new(),
            granted,
            receipts: BTreeSet::new(),
            refused: BTreeMap::new(),
            answers: VecDeque::new(),
            forgets: false,
            session: None,
            unanswered: false,
            expiry_secs: 0,
            heard_us: 0,
        }
    }

    /// The link of its current connection.
    pub fn link(&self) -> Option<LinkIndex> {
        (self.phase != Phase::Away).then_some(self.link)
    }

    /// Whether it is not reading.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Whether it is connected and has nothing in flight.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Online
            && self.outgoing.is_empty()
            && self.requests.is_empty()
            && self.answers.is_empty()
            && self.granted.iter().all(|granted| *granted)
    }

    /// Why it is not settled, as text.
    pub fn state(&self) -> String {
        format!(
            "{}: {:?}, {} outgoing, {} requests, {} answers due, deaf: {}",
            self.plan.name,
            self.phase,
            self.outgoing.len(),
            self.requests.len(),
            self.answers.len(),
            self.deaf
        )
    }

    /// Handles a due time, unless the agenda's entry is outdated.
    pub fn wake(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        if now_us < self.wakes_at {
            return;
        }
        self.wakes_at = NEVER;
        self.work(io);
    }

    /// Starts, or continues after a change from outside.
    pub fn start(&mut self, io: &mut Io<'_>) {
        self.reschedule(io);
    }

    /// Disturbances are over: it reconnects and reads, and publishes no more.
    pub fn settle(&mut self, io: &mut Io<'_>) {
        self.settling = true;
        self.times.trouble = NEVER;
        self.times.publish = NEVER;
        self.plan.answer_us = 0;
        self.plan.network = LinkProfile::HEALED;
        for answer in &mut self.answers {
            answer.0 = 0;
        }
        self.hear(io);
        if self.phase == Phase::Away {
            self.times.connect = io.now_us() + self.random.below(SECOND);
        } else if self.phase == Phase::Online {
            self.subscribe_missing(io);
            self.flush(io);
        }
        self.reschedule(io);
    }

    /// Disconnects for good: its session must end at once.
    pub fn leave(&mut self, io: &mut Io<'_>) {
        if self.phase != Phase::Online {
            return;
        }
        let mut packet = Disconnect::new(ReasonCode::Success);
        if self.plan.expiry_secs > 0 {
            packet.session_expiry_secs = Some(0);
        }
        packet.encode(self.plan.version, &mut self.output);
        self.flush(io);
        io.fact(Fact::Lost {
            client: self.index,
            how: Loss::Goodbye,
        });
        io.network.close_up(io.agenda, self.link, true);
        self.phase = Phase::Away;
        self.times.connect = NEVER;
        self.times.ping = NEVER;
        self.times.deadline = NEVER;
    }

    /// Whether its session outlives a DISCONNECT in any case: 3.1.1 must connect clean to end it.
    pub fn needs_clean_connect(&self) -> bool {
        !self.plan.version.is_v5() && !self.plan.clean
    }

    /// Connects again to end its session.
    pub fn connect_clean(&mut self, io: &mut Io<'_>) {
        self.plan.clean = true;
        self.plan.expiry_secs = 0;
        self.plan.subscriptions.clear();
        self.granted.clear();
        self.times.connect = io.now_us();
        self.reschedule(io);
    }

    /// Handles the end of its connection by the network.
    pub fn ended(&mut self, io: &mut Io<'_>) {
        self.lose(io, Loss::Ended);
        self.reschedule(io);
    }

    fn work(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        if self.times.read <= now_us {
            self.hear(io);
        }
        if self.times.deadline <= now_us {
            if self.deaf {
                self.times.deadline = now_us + 5 * SECOND;
            } else {
                // There is no answer: treat the connection as lost.
                io.network.vanish(self.link);
                self.lose(io, Loss::Crash);
            }
        }
        if self.times.connect <= now_us && self.phase == Phase::Away {
            self.connect(io);
        }
        if self.phase == Phase::Online {
            if self.times.trouble <= now_us {
                self.get_into_trouble(io);
            }
        } else if self.times.trouble <= now_us {
            self.times.trouble = now_us + self.random.around(self.plan.trouble_us);
        }
        if self.phase == Phase::Online {
            if self.times.publish <= now_us {
                self.publish_some(io);
            }
            self.send_answers(io);
            if self.times.ping <= now_us {
                self.ping(now_us);
            }
        }
        self.flush(io);
        self.reschedule(io);
    }

    fn reschedule(&mut self, io: &mut Io<'_>) {
        let times = &self.times;
        let mut next = times.deadline.min(times.trouble).min(times.read);
        match self.phase {
            Phase::Away => next = next.min(times.connect),
            Phase::Connecting => {}
            Phase::Online => {
                let answer = self.answers.front().map_or(NEVER, |(due, ..)| *due);
                next = next.min(times.publish).min(times.ping).min(answer);
            }
        }
        if next < self.wakes_at {
            self.wakes_at = next;
            io.agenda.enter(next, Due::Client(self.index));
        }
    }

    fn connect(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        if !io.node.is_open() {
            // The node is down.
            self.times.connect = now_us + self.random.around(SECOND);
            return;
        }
        self.expire(now_us, io.observer.ledger.clock_ahead_us > 0);
        self.unanswered = true;
        let clean = self.plan.clean || self.forgets;
        let v5 = self.plan.version.is_v5();
        let expiry_secs = self.expiry_secs(clean);
        self.expiry_secs = expiry_secs;
        let will = self.plan.will;
        let message = will.map(|will| {
            io.observer.ledger.new_message(MessageRow {
                publisher: self.index,
                topic: will.topic,
                qos: will.qos,
                retain: false,
                empty: false,
                will: true,
                sent_us: now_us,
                sends: 1,
                acked_us: 0,
                refused: false,
                rotten: false,
                expires_us: NEVER,
            })
        });
        let payload = message.map_or(Vec::new(), |message| outbound::payload(message, 0));
        let address = People::address(self.index);
        let (link, shard) = io.node.connect(self.plan.network.window, address);
        let opened = io.network.open(self.index, self.plan.network, now_us);
        debug_assert_eq!(link, opened);
        io.wake_shard(shard);
        self.link = link;
        self.taken = 0;
        self.phase = Phase::Connecting;
        self.times.connect = NEVER;
        self.times.deadline = now_us + 40 * SECOND;
        let topic = will.map_or(String::new(), |will| {
            io.observer.ledger.topics.name(will.topic).to_owned()
        });
        let credentials = self.credentials(io);
        let credentials = credentials.as_ref();
        let packet = Connect {
            version: self.plan.version,
            bridge: false,
            clean_start: clean,
            keep_alive_secs: self.plan.keep_alive_secs,
            client_id: &self.plan.name,
            user_name: credentials.map(|(name, _)| name.as_str()),
            password: credentials.map(|(_, password)| password.as_bytes()),
            will: will.map(|will| Will {
                topic: &topic,
                payload: &payload,
                qos: will.qos,
                retain: false,
                delay_secs: Some(will.delay_secs).filter(|secs| v5 && *secs > 0),
                properties: PublishProperties::default(),
            }),
            properties: ConnectProperties {
                session_expiry_secs: Some(expiry_secs).filter(|secs| v5 && *secs > 0),
                receive_maximum: NonZeroU16::new(self.plan.receive_maximum).filter(|_| v5),
                maximum_packet_size: NonZeroU32::new(self.plan.maximum_packet_size).filter(|_| v5),
                topic_alias_maximum: Some(self.plan.topic_alias_maximum)
                    .filter(|maximum| v5 && *maximum > 0),
                ..ConnectProperties::default()
            },
        };
        packet.encode(&mut self.output);
        let receive_maximum = match self.plan.receive_maximum {
            maximum if v5 && maximum > 0 => maximum,
            _ => u16::MAX,
        };
        io.fact(Fact::Connecting {
            client: self.index,
            link,
            clean,
            expiry_secs,
            receive_maximum,
            will: message,
            will_delay_secs: will.map_or(0, |will| if v5 { will.delay_secs } else { 0 }),
            wide: self.plan.network.window >= 64_000,
        });
        self.flush(io);
    }

    /// User name and password, which may be wrong; `None` in runs without users.
    fn credentials(&mut self, io: &Io<'_>) -> Option<(String, String)> {
        let people = io.observer.ledger.people.as_ref()?;
        let user = People::user_of(self.index);
        let is_wrong = self.random.percent(people.wrong_percent) && !self.settling;
        let password = match is_wrong {
            true => "guessed".to_owned(),
            false => people.password(user),
        };
        Some((People::name(user), password))
    }

    /// Ends its Session State when the node's session may have ended, so that neither continues
    /// without the other [MQTT-4.1.0-1], [MQTT-3.2.2-4]. With a wall clock set forward this may be
    /// earlier: then a CONNECT without an answer may have started a new session.
    fn expire(&mut self, now_us: u64, clock_ahead: bool) {
        let ended = match self.expiry_secs {
            0 => true,
            u32::MAX => false,
            secs => {
                let ended = now_us > self.heard_us + u64::from(secs) * SECOND;
                let ended = ended || clock_ahead && self.unanswered;
                self.forgets |= ended;
                ended
            }
        };
        if ended {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.outgoing.clear();
        self.receipts.clear();
        self.refused.clear();
        self.granted.fill(false);
    }

    fn expiry_secs(&self, clean: bool) -> u32 {
        match self.plan.version {
            ProtocolVersion::V5 => self.plan.expiry_secs,
            _ if clean => 0,
            _ => u32::MAX,
        }
    }

    /// Ends the connection at this client, for any reason.
    fn lose(&mut self, io: &mut Io<'_>, how: Loss) {
        if self.phase == Phase::Away {
            return;
        }
        self.phase = Phase::Away;
        self.deaf = false;
        self.times.read = NEVER;
        self.times.ping = NEVER;
        self.times.deadline = NEVER;
        self.times.publish = NEVER;
        self.buffer.clear();
        self.output.clear();
        self.aliases.clear();
        self.aliases_given.clear();
        self.answers.clear();
        self.requests.clear();
        let away_us = match self.settling {
            true => SECOND,
            false => self.plan.away_us,
        };
        self.times.connect = io.now_us() + self.random.around(away_us);
        io.fact(Fact::Lost {
            client: self.index,
            how,
        });
    }

    fn get_into_trouble(&mut self, io: &mut Io<'_>) {
        let now_us = io.now_us();
        self.times.trouble = now_us + self.random.around(self.plan.trouble_us);
        if self.plan.troubles.is_empty() {
            return;
        }
        match self.random.pick(&self.plan.troubles) {
            Trouble::Crash => {
                io.network.close_up(io.agenda, self.link, false);
                self.lose(io, Loss::Crash);
            }
            Trouble::Vanish => {
                io.network.vanish(self.link);
                self.lose(io, Loss::Crash);
            }
            Trouble::Forget => {
                io.network.close_up(io.agenda, self.link, false);
                self.lose(io, Loss::Crash);
                self.forgets = true;
                self.forget();
            }
            Trouble::Goodbye => {
                Disconnect::new(ReasonCode::Success).encode(self.plan.version, &mut self.output);
                self.flush(io);
                io.network.close_up(io.agenda, self.link, true);
                self.lose(io, Loss::Goodbye);
            }
            Trouble::TakeOver => {
                self.lose(io, Loss::Replaced);
                self.connect(io);
            }
            Trouble::Deaf => {
                self.deaf = true;
                self.times.read = now_us + self.random.around(10 * SECOND);
                io.fact(Fact::Reading {
                    client: self.index,
                    on: false,
                });
            }
            Trouble::Violate => self.violate(io),
            Trouble::Resubscribe => self.resubscribe(io),
        }
    }

    fn hear(&mut self, io: &mut Io<'_>) {
        self.times.read = NEVER;
        if core::mem::take(&mut self.deaf) {
            self.times.deadline = io.now_us() + 40 * SECOND;
            io.fact(Fact::Reading {
                client: self.index,
                on: true,
            });
            io.agenda.enter(io.agenda.now_us(), Due::Down(self.link));
        }
    }

    fn violate(&mut self, io: &mut Io<'_>) {
        let bytes: &[u8] = match self.random.below(6) {
            // PUBLISH with QoS 3.
            0 => b"\x36\x05\x00\x01a\x00\x01",
            // PUBACK with Packet Identifier 0.
            1 => b"\x40\x02\x00\x00",
            // SUBSCRIBE with flags 0.
            2 => b"\x80\x06\x00\x01\x00\x01a\x00",
            // A wildcard in a Topic Name.
            3 => b"\x30\x03\x00\x01#",
            // A second CONNECT.
            4 => b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01x",
            // A reserved packet type.
            _ => b"\x00\x00",
        };
        self.output.extend_from_slice(bytes);
        io.fact(Fact::Violated { client: self.index });
        self.flush(io);
        // Data sent after the violation is not read by the node.
        self.times.publish = NEVER;
        self.times.ping = NEVER;
        self.times.deadline = io.now_us() + 20 * SECOND;
    }

    fn ping(&mut self, now_us: u64) {
        encode_pingreq(&mut self.output);
        let keep_alive_us = u64::from(self.plan.keep_alive_secs) * SECOND;
        self.times.ping = now_us + keep_alive_us * 8 / 10;
        if self.times.deadline == NEVER {
            self.times.deadline = now_us + 40 * SECOND;
        }
    }

    fn flush(&mut self, io: &mut Io<'_>) {
        if !self.output.is_empty() {
            io.network.send_up(io.agenda, self.link, &self.output);
            self.output.clear();
        }
    }

    /// The filter at a position of the plan.
    fn filter(&self, place: usize) -> FilterIndex {
        self.plan.subscriptions[place].filter
    }
}
