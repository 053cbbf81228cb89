//! Settings of a runner.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::PartQueueLimits;

use super::backoff::Backoff;
use crate::bridge::BroughtTopics;
use crate::order::Order;
use crate::target::Target;

/// Value of [`Settings::tenant`] for messages of all tenants. Only for internal integrations of
/// the node.
pub const ALL_TENANTS: &str = "*";

/// Prefix of Client Identifiers of integrations.
pub const CLIENT_IDS: &str = "$integration/";

/// Default of [`Settings::max_attempts`]. With the pauses between them, the attempts take some
/// minutes.
pub const MAX_ATTEMPTS: u32 = 10;

/// Time limit of a test.
pub(super) const TEST_WITHIN: Duration = Duration::from_secs(30);

/// Handling of a message that the sink refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReject {
    /// The message becomes a dead letter, and later messages continue.
    #[default]
    DeadLetter,
    /// The integration stops before that message, until it is resumed.
    Stop,
}

/// Settings of a runner.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kind of the sink, such as `file`.
    pub kind: &'static str,
    /// Name; unique among integrations of this kind: `NAME`, or `TEAM/NAME` if the name is one of
    /// a team.
    pub name: Box<str>,
    /// Team whose tenant's messages it takes; empty: the common tenant; [`ALL_TENANTS`]: all
    /// tenants.
    pub tenant: Arc<str>,
    /// User or device whose rules apply to messages of a source; `None`: no rules.
    pub publish_as: Option<Arc<str>>,
    /// Topic Filters, without `$share`.
    pub filters: Vec<Box<str>>,
    /// Topics of messages that it publishes at this node as a bridge.
    pub brings: Vec<BroughtTopics>,
    /// Topics of messages that it publishes at another broker as a bridge.
    pub sends: Vec<BroughtTopics>,
    /// Which messages it delivers in order. Of all tenants: [`Order::Publisher`] alone.
    pub order: Order,
    /// Whether QoS 0 messages are queued too.
    pub keeps_qos0: bool,
    /// Bounds of the queue.
    pub queue: PartQueueLimits,
    /// The hosts that it connects to; `None`: there are none, or they are not known.
    pub target: Option<Target>,
    /// Handling of messages that the sink refuses.
    pub on_reject: OnReject,
    /// Number of attempts per message, as counted by
    /// [`Outcome::FailedAtMessage`](crate::Outcome::FailedAtMessage), after which it counts as
    /// refused; 0: without end.
    pub max_attempts: u32,
    /// Maximum number of messages of a batch, and of messages in hand: 1 to 65,535. The node's
    /// `limits.in_flight` also applies.
    pub batch_messages: u16,
    /// Maximum interval between the beginnings of two calls of a few messages. Messages in quick
    /// succession are handed over together: waking the threads of a call costs more than a
    /// message.
    pub called_every: Duration,
    /// Maximum number of small messages that each lane hands over before they are settled, so that
    /// the next batch is ready when the sink has accepted one. 0: as many as
    /// [`Self::batch_messages`] and the node's `limits.in_flight` allow.
    pub in_hand: u16,
    /// Maximum bytes of a batch; one message may be larger.
    pub batch_bytes: usize,
    /// Time limit of one call of the sink.
    pub deliver_within: Duration,
    /// Pauses after failures.
    pub backoff: Backoff,
}

/// The name of an integration of a team among all of the node.
pub fn name_of_team(team: &str, name: &str) -> String {
    match team {
        "" => name.to_owned(),
        team => format!("{team}/{name}"),
    }
}

/// The name of an integration in its tenant: without the team.
pub fn own_name(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, own)| own)
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
            sends: Vec::new(),
            order: Order::default(),
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
            target: None,
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

    /// Whether it takes the messages of one team's tenant.
    pub fn is_of_team(&self) -> bool {
        !self.tenant.is_empty() && *self.tenant != *ALL_TENANTS
    }

    /// Client Identifier of its part, unique in its tenant. The sessions of its lanes append the
    /// number of the lane, see [`lane_name`](martlet_broker::lane_name).
    pub fn client_id(&self) -> String {
        format!("{CLIENT_IDS}{}/{}", self.kind, own_name(&self.name))
    }
}
