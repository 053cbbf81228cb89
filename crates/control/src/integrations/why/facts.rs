//! Facts about integrations.

use martlet_broker::{DropReason, LossTimes};
use martlet_integrate::{AccessRefused, BroughtTopics, Handle};

use crate::remedy::Command;

/// Facts about integrations. Times are milliseconds since the Unix epoch, and counts those since
/// the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntegrationFacts {
    /// Integrations of the tenant that do not deliver or have lost messages, and that which was
    /// asked about.
    pub(super) all: Vec<Integration>,
    /// A client, not an integration, is subscribed to the topic that was asked about.
    pub(super) is_awaited: bool,
    /// Bridges that carry the same messages, of the topic that was asked about or of one that was
    /// asked about.
    pub(super) twice: Vec<Twice>,
}

/// Two bridges that carry the same messages between this node and another broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Twice {
    /// Kinds and names of both.
    pub(super) bridges: [String; 2],
    /// Whether one of them was asked about.
    pub(super) is_own: bool,
    /// Whether they bring the messages to this node.
    pub(super) comes_in: bool,
    /// The topic, or the Topic Filter of those that both carry, with its name at this node.
    pub(super) topics: String,
    /// Host and port of the other broker.
    pub(super) broker: String,
    /// The command that shows one of the bridges.
    pub(super) show: Option<Command>,
}

/// Dead letters of the client that was asked about, or with its name in their topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnLetters {
    pub(super) count: u64,
    /// When the last of them was refused, and why.
    pub(super) last_ms: u64,
    pub(super) reason: String,
}

/// An integration, as far as messages wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Integration {
    /// Kind and name, such as `file/audit`.
    pub(super) name: String,
    /// Whether it was asked about.
    pub(super) is_own: bool,
    /// Whether it takes messages of the topic that was asked about.
    pub(super) takes_topic: bool,
    pub(super) filters: Vec<Box<str>>,
    /// Topics of messages that it brings from elsewhere, as a bridge, and how many came.
    pub(super) brings: Vec<BroughtTopics>,
    pub(super) brought: u64,
    /// Whether it has messages of the client that was asked about in hand.
    pub(super) has_messages: bool,
    /// Messages that wait for it; none if unknown.
    pub(super) waiting: Option<u64>,
    /// Why it does not deliver; none if it delivers.
    pub(super) why: Option<NotDelivering>,
    /// Notice for operators although it delivers, in words.
    pub(super) health: Option<String>,
    /// State of its queue if that is full or near its bound, in words.
    pub(super) queue: Option<String>,
    /// Clients that publish for it wait, because its queue is full.
    pub(super) holds: bool,
    /// Refusal of the credentials of the integration by its target.
    pub(super) access_refused: Option<AccessRefused>,
    pub(super) refused: u64,
    pub(super) delivered: u64,
    /// Stored dead letters, and why its target has refused one of them; they are counted if it was
    /// asked about, or its target has refused messages.
    pub(super) dead_letters: u64,
    pub(super) letter_reason: String,
    /// Dead letters of the client that was asked about without a topic.
    pub(super) own_letters: Option<OwnLetters>,
    /// How long a message may wait, seconds; 0: for ever.
    pub(super) age_max_secs: u32,
    /// When the oldest message came that it has not delivered.
    pub(super) oldest_ms: Option<u64>,
    /// Messages that were dropped for its lanes together, by reason, if it takes the topic.
    pub(super) drops: Vec<(DropReason, u64, LossTimes)>,
    pub(super) lines: Lines,
}

/// Command lines about an integration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) show: Option<Command>,
    pub(super) test: Option<Command>,
    pub(super) letters: Option<Command>,
    pub(super) send_again: Option<Command>,
    pub(super) rules: Option<Command>,
}

/// Why an integration does not deliver, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotDelivering {
    pub(super) state: Halt,
    /// The error, or why it has stopped; empty: there is no more to say.
    pub(super) why: String,
    /// Since when it fails, and how often it has tried.
    pub(super) tries: Option<(u64, u32)>,
    pub(super) remedy: &'static str,
    pub(super) command: Option<Command>,
}

/// How an integration is that does not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The integration fails, and tries again.
    Fails,
    /// The integration has stopped by itself; the command resumes it.
    Stopped,
    /// An operator has paused it; the command resumes it.
    Paused,
    /// The integration is not attached to the node yet.
    Starts,
}

impl Halt {
    /// Words that follow its name.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Fails => "fails",
            Self::Stopped => "has stopped",
            Self::Paused => "is paused",
            Self::Starts => "is starting",
        }
    }
}

/// Facts about what there is instead of an integration.
#[derive(Clone, Debug, Default)]
pub(crate) struct InsteadOfMissing {
    /// Kind and name of those that the caller sees, those with a similar name first.
    pub(super) there: Vec<String>,
    /// How many of these have a similar name.
    pub(super) near: usize,
    /// Several have the name that was asked about, with different kinds.
    pub(super) is_bare: bool,
    pub(super) has_configuration: bool,
    pub(super) is_restored: bool,
    /// The command that lists those that there are.
    pub(super) list: Option<Command>,
}

/// Kind and name of an integration, such as `file/audit`.
pub(super) fn name_of(handle: &Handle) -> String {
    format!("{}/{}", handle.kind(), handle.name())
}
