//! How a sink is run.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::PartQueueLimits;

use super::backoff::Backoff;
use crate::bridge::BroughtTopics;

/// As [`Settings::tenant`]: messages of all tenants. For integrations of the node itself alone.
pub const ALL_TENANTS: &str = "*";

/// Client Identifiers of integrations begin with this.
pub const CLIENT_IDS: &str = "$integration/";

/// As [`Settings::max_attempts`], unless the configuration says otherwise. With the pauses between
/// them they take some minutes.
pub const MAX_ATTEMPTS: u32 = 10;

/// Time limit of a test.
pub(super) const TEST_WITHIN: Duration = Duration::from_secs(30);

/// What happens when the sink refuses a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReject {
    /// The message becomes a dead letter, and those behind it go on.
    #[default]
    DeadLetter,
    /// The integration stops before that message, until it is resumed.
    Stop,
}

/// How a sink is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kind of the sink, such as `file`.
    pub kind: &'static str,
    /// Name, which no other integration of this kind has.
    pub name: Box<str>,
    /// Team whose tenant's messages it takes; empty is the common tenant, [`ALL_TENANTS`] all of
    /// them.
    pub tenant: Arc<str>,
    /// User or device by whose rules a source publishes; none: no rules limit it.
    pub publish_as: Option<Arc<str>>,
    /// Topic Filters, without `$share`.
    pub filters: Vec<Box<str>>,
    /// Topics of messages that it brings from elsewhere as a bridge.
    pub brings: Vec<BroughtTopics>,
    /// Whether QoS 0 messages are kept in the queue too.
    pub keeps_qos0: bool,
    /// Bounds of the queue.
    pub queue: PartQueueLimits,
    /// What happens to messages that the sink refuses.
    pub on_reject: OnReject,
    /// Attempts of one message, as
    /// [`Outcome::FailedAtMessage`](crate::Outcome::FailedAtMessage) counts them, after which it
    /// counts as refused; 0: without end.
    pub max_attempts: u32,
    /// Messages of a batch, at most, and messages in hand: 1 to 65,535. The node's
    /// `limits.in_flight` is a bound too.
    pub batch_messages: u16,
    /// Longest time between the beginnings of two calls of a few messages. Where messages follow
    /// each other closely, they are handed over together: the threads that a call wakes cost more
    /// than a message.
    pub called_every: Duration,
    /// Messages that each lane hands over before they are settled, at most, as long as they are
    /// small: the next batch is there when the sink has taken one. 0: as many as
    /// [`Self::batch_messages`] and the node's `limits.in_flight` allow.
    pub in_hand: u16,
    /// Bytes of a batch, at most; one message may be larger.
    pub batch_bytes: usize,
    /// Time limit of one call of the sink.
    pub deliver_within: Duration,
    /// Pauses after failures.
    pub backoff: Backoff,
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
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
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

    /// It takes the messages of the tenant of one team.
    pub fn is_of_team(&self) -> bool {
        !self.tenant.is_empty() && *self.tenant != *ALL_TENANTS
    }

    /// Client Identifier of its part. Its sessions have this name with the number of a lane, see
    /// [`lane_name`](martlet_broker::lane_name).
    pub fn client_id(&self) -> String {
        format!("{CLIENT_IDS}{}/{}", self.kind, self.name)
    }
}
