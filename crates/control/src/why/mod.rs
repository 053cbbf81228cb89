//! Why a client does not work: one diagnosis with the remedy, from the registry, the rules, the
//! session and the latest events.
//!
//! Each part of the node explains itself (`examine`), in a module `why` of its own folder, with
//! facts that no other part names: commands, twins, rules with their alarms, rollouts, firmware,
//! telemetry, activity, the feed, integrations, the tables with their keys; who is admitted
//! (`authentication`), sessions (`operate`), and who is silent or away (`presence`). Here are what
//! happens to messages (`topic`) and how the node is (`node`).
//!
//! * `asked`: the question, and who the client is, which every part gets; `gather` reads that
//! * `inquiry`: what the parts have found, as one diagnosis; `several`: of a user with several
//!   clients
//! * `order`: which finding is the diagnosis, and which ones stand behind it, by the table of
//!   causes
//! * `events`, `found`, `nearest`, `session`, `not_for_device`: what several parts share
//! * `rights`: what changed the rights of a device

mod asked;
mod events;
mod examine;
mod found;
mod gather;
mod inquiry;
mod nearest;
mod node;
mod not_for_device;
mod order;
mod rights;
mod session;
mod several;
#[cfg(test)]
pub(crate) mod tests;
mod topic;

use martlet_broker::{DropReason, LossTimes, TenantId, UnmatchedTopic};
use martlet_codec::{SubscriptionFilter, TopicName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cause::{Bearing, Cause};
use crate::event_words;
use crate::journal::{Run, WordedRemedy, remedy_of_drop};
use crate::remedy::{Command, Remedy};
pub(crate) use asked::{Asked, Side};
pub(crate) use events::{is_of_packets, lost_by_group, was_there_then};
pub(crate) use examine::{Examine, Findings};
pub(crate) use found::{
    ACKNOWLEDGE, CLOCKS_DIFFER_MS, ENDED_RECENTLY_MS, Found, RECENT_MS, devices_in_words, first_of,
    is_unacknowledged, messages, messages_wait, times as times_in_words, uncapitalized,
};
pub(crate) use gather::Inquirer;
pub(crate) use gather::permits::OwnNameRule;
pub use inquiry::Inquiry;
pub(crate) use nearest::nearest_names;
pub(crate) use node::Node;
pub(crate) use not_for_device::NotForDevice;
pub(crate) use session::Session;
#[cfg(test)]
pub(crate) use tests::Case;
pub(crate) use topic::{
    LEVELS_MAX, Topics, is_nearly_matched, matches, near_miss, nearest_in_words, nearly_same,
    shared_meant,
};

/// Question about a client, or about something else that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// A Client Identifier, which for a device is its id, or a user name.
    pub name: String,
    /// A Topic Name, or the Topic Filter of a subscription.
    pub topic: Option<String>,
    /// Among the clients of which tenant.
    pub tenant: TenantId,
    /// The caller sees the whole node; else nothing is reported that may be of another tenant.
    pub sees_node: bool,
}

impl Question {
    /// Checks that a client could have that topic at all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let Some(topic) = &self.topic else {
            return Ok(());
        };
        let checked = match self.is_about_filter() {
            true => SubscriptionFilter::parse(topic).map(|_| ()),
            false => TopicName::new(topic).map(|_| ()),
        };
        let what = match self.is_about_filter() {
            true => "Topic Filter",
            false => "Topic Name",
        };
        checked.map_err(|why| format!("{topic:?} is not a valid {what}: {why}"))
    }

    /// Whether it names a Topic Filter with a wildcard, or a Shared Subscription: it is about
    /// subscribing.
    pub fn is_about_filter(&self) -> bool {
        let topic = self.topic.as_deref().unwrap_or_default();
        topic.contains(['+', '#']) || topic.starts_with("$share/")
    }
}

/// How a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ClientState)]
pub enum State {
    /// A Network Connection is there.
    Connected,
    /// The Network Connection was there and is not.
    Away,
    /// The client tries to connect, and is refused.
    Refused,
    /// Nothing was ever seen of it.
    NeverSeen,
    /// The name is no client's: it is that of a rule, a rollout, a command, a key, a part of the
    /// program, or of an integration that is not there.
    NoClient,
}

/// One thing that is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The cause, one of a closed list.
    pub cause: Cause,
    /// In a sentence.
    pub sentence: String,
    /// Since when, as far as known.
    #[serde(rename = "since", with = "crate::rfc3339::optional")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since_ms: Option<u64>,
    /// When it was last so, where it happened more than once.
    #[serde(rename = "last", with = "crate::rfc3339::optional")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_ms: Option<u64>,
    /// How often since then, where it is something that happens.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// Remedy: what to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// The command for that, ready for a shell on the node's machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub command: Option<Command>,
    /// Remedies for programs: requests of the API, keys of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub remedies: Vec<Remedy>,
    /// Whether it is a guess: it is not known whether it is about this client at all.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_guess: bool,
    /// The topic or Topic Filter that it is about, where causes follow from each other.
    #[serde(skip)]
    pub(crate) about: Option<String>,
}

/// Event that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// Time of the event.
    #[serde(rename = "at", with = "crate::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at_ms: u64,
    /// Sentence that says what happened.
    pub text: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diagnosis {
    /// The name that was asked about, as it is in its tenant.
    pub name: String,
    /// The number of the tenant; 0 is the common one.
    #[serde(skip_serializing_if = "is_common", default)]
    #[schema(value_type = u64)]
    pub tenant: u32,
    /// Which topic, if one was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// How it is.
    pub state: State,
    /// Something is wrong. Not if it disconnected by itself and the node would let it in again.
    pub wrong: bool,
    /// Main finding: what is wrong.
    #[serde(flatten)]
    pub finding: Finding,
    /// Other findings, as far as they matter less.
    pub also: Vec<Finding>,
    /// Events that were seen of it recently, in order of time.
    pub evidence: Vec<Evidence>,
}

fn is_common(tenant: &u32) -> bool {
    *tenant == 0
}

impl Finding {
    /// A finding without times and remedies.
    pub fn new(cause: Cause, sentence: impl Into<String>) -> Self {
        Self {
            cause,
            sentence: sentence.into(),
            since_ms: None,
            last_ms: None,
            count: None,
            remedy: None,
            command: None,
            remedies: Vec::new(),
            is_guess: false,
            about: None,
        }
    }

    /// Of this topic.
    pub(crate) fn about(mut self, topic: &str) -> Self {
        self.about = Some(topic.to_owned());
        self
    }

    /// Since this time.
    pub(crate) fn since(mut self, at_ms: u64) -> Self {
        self.since_ms = Some(at_ms);
        self
    }

    /// Sets what to do about it.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The command for the remedy.
    pub(crate) fn command<'a>(mut self, command: impl Into<Option<&'a Command>>) -> Self {
        self.command = command.into().cloned();
        self
    }

    /// Sets what to do about it, with its command.
    pub(crate) fn with_remedy(mut self, worded: WordedRemedy) -> Self {
        self.remedy = Some(worded.text).filter(|text| !text.is_empty());
        self.command = worded.command;
        self
    }

    /// A finding with what helps, and the command for it.
    pub(crate) fn advised<'a>(
        cause: Cause,
        sentence: impl Into<String>,
        remedy: &str,
        command: impl Into<Option<&'a Command>>,
    ) -> Self {
        Self::new(cause, sentence).remedy(remedy).command(command)
    }

    /// Sets what to do first; else what was to be done.
    pub(crate) fn try_first(mut self, first: &str) -> Self {
        let dot = if first.ends_with('?') { "" } else { "." };
        self.remedy = Some(match self.remedy {
            Some(other) => format!("{first}{dot} Else {other}"),
            None => first.to_owned(),
        });
        self
    }

    /// Removes the remedy: what is over needs none.
    pub(crate) fn without_remedy(mut self) -> Self {
        (self.remedy, self.command) = (None, None);
        self
    }

    /// Of messages that were dropped for this reason, with its remedy.
    pub(crate) fn of_drop(reason: DropReason, sentence: impl Into<String>) -> Self {
        let remedy = remedy_of_drop(reason);
        Self {
            remedy,
            ..Self::new(Cause::of_drop(reason), sentence)
        }
    }

    /// Of messages of a topic that had no receiver: their number, and when they came.
    pub(crate) fn with_messages(mut self, one: &UnmatchedTopic) -> Self {
        self.count = (!one.reached_all).then_some(one.count);
        (self.since_ms, self.last_ms) = (Some(one.first_ms), Some(one.last_ms));
        self
    }

    /// With its remedies for programs.
    fn with_remedies(mut self) -> Self {
        self.remedies = Remedy::all(self.remedy.as_deref(), self.command.as_ref());
        self
    }

    /// Adds what was found of another client in the same words.
    pub(crate) fn add(&mut self, other: &Self) {
        let since = [self.since_ms, other.since_ms];
        self.since_ms = since.into_iter().flatten().min();
        self.last_ms = self.last_ms.max(other.last_ms);
        let counts = [self.count, other.count];
        self.count = counts.into_iter().flatten().reduce(|one, more| one + more);
    }

    /// When it was last so.
    pub(crate) fn last(mut self, at_ms: u64) -> Self {
        self.last_ms = Some(at_ms);
        self
    }

    /// Sets the time of what happened once.
    pub(crate) fn at(self, at_ms: u64) -> Self {
        self.since(at_ms).last(at_ms)
    }

    /// Sets when and how often it happened, from these events.
    pub(crate) fn when(self, run: &Run) -> Self {
        self.since(run.since_ms)
            .last(run.last.at_ms)
            .of_many(run.count)
    }

    /// Sets the number of lost messages, and when they were lost. A time of 0 is unknown.
    pub(crate) fn lost(self, count: u64, at: LossTimes) -> Self {
        Self {
            since_ms: Some(at.first_ms).filter(|ms| *ms > 0),
            last_ms: Some(at.last_ms).filter(|ms| *ms > 0),
            ..self.of_many(count)
        }
    }

    /// Sets how often it happened.
    pub(crate) fn of_many(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Returns the finding about some events, with the remedy of the last of them.
    pub(crate) fn of_run(run: &Run, cause: Cause) -> Self {
        let last = &run.last;
        let why = last.why.as_deref().unwrap_or_else(|| cause.meaning());
        let topic = last.topic.as_deref().filter(|topic| !topic.is_empty());
        let what = event_words::of_client(last.what, topic);
        let sentence = what.map_or_else(|| why.to_owned(), |what| format!("{what}: {why}"));
        Self {
            count: Some(run.count),
            last_ms: Some(last.at_ms),
            remedy: last.remedy.clone(),
            command: last.command.clone(),
            about: last.topic.clone(),
            ..Self::new(cause, sentence).since(run.since_ms)
        }
    }
}

impl Evidence {
    fn of_run(run: &Run) -> Self {
        let last = &run.last;
        let mut text = last.what.name().to_owned();
        for part in [&last.topic, &last.why].into_iter().flatten() {
            if !part.is_empty() {
                text.push_str(&format!(", {part}"));
            }
        }
        if let Some(address) = &last.address {
            text.push_str(&format!(", from {address}"));
        }
        if run.count > 1 {
            text.push_str(&format!(" ({} times)", run.count));
        }
        Self {
            at_ms: last.at_ms,
            text,
        }
    }
}
