//! Keys that integrations have in common, in the configuration.

use std::time::Duration;

use martlet_broker::{OnFull, PartQueueLimits};
use martlet_codec::{SubscriptionFilter, TopicFilter};
use martlet_settings::{TableKeys, table, words};

use crate::Here;
use crate::given::given;
use crate::order::Order;
use crate::runner::{ALL_TENANTS, Backoff, MAX_ATTEMPTS, OnReject, Settings, name_of_team};

/// Longest name of an integration, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest configurable pause between attempts: one day.
const RETRY_MAX_MS: u64 = 86_400_000;

words! {
    Order {
        "publisher" => Publisher,
        "user" => User,
        "topic" => Topic,
    }
}

/// Policy for a queue that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The oldest messages make room.
    DropOldest,
    /// Clients that publish wait.
    Hold,
}

words! {
    WhenFull {
        "drop-oldest" => DropOldest,
        "hold" => Hold,
    }
}

words! {
    OnReject {
        "dead-letter" => DeadLetter,
        "stop" => Stop,
    }
}

/// Keys that follow those of a kind.
pub(crate) trait CommonKeys: TableKeys {
    /// Keys that stand before those of a kind.
    type Name: TableKeys;

    /// The settings of an integration of this kind.
    ///
    /// # Errors
    /// A key is missing, or keys do not go together.
    fn settings(
        &self,
        kind: &'static str,
        name: &Self::Name,
        owner: &str,
    ) -> Result<Settings, String>;
}

table! {
    /// Name and messages of a sink.
    SinkName {
        /// Name, unique among the sinks of this kind in the configuration: at most 64 characters,
        /// letters, digits, -, _ and . only. The queue of messages belongs to the name: a renamed
        /// sink begins with an empty queue.
        name: String;
        /// Topic Filters of the messages that it forwards; $share/… is not permitted.
        filters: Vec<String>;
    }
}

table! {
    /// Name of a source.
    SourceName {
        /// Name, unique among the sources of this kind on the node: at most 64 characters, letters,
        /// digits, -, _ and . only.
        name: String;
    }
}

table! {
    /// Name of a bridge.
    BridgeName {
        /// Name, unique among the bridges of the configuration: at most 64 characters, letters,
        /// digits, -, _ and . only. The queue of messages belongs to the name: a renamed bridge
        /// begins with an empty queue.
        name: String;
    }
}

table! {
    /// Keys of all sources.
    SourceKeys {
        /// Name or id of the team to whose tenant it publishes. If the team does not exist yet, the
        /// source waits for it. Default: the common tenant.
        tenant: String;
        /// Name of a user or device of that tenant, whose rules limit the topics to which the
        /// source publishes. While no user or device of that name may log in, the source reads
        /// nothing. Default: no rules limit it.
        publish_as: String;
    }
}

table! {
    /// Keys of the queue of a sink or a bridge.
    QueueKeys {
        /// Which messages are delivered in the order in which they were published. publisher: those
        /// of one client. user: those of one user or device, over all of its connections. topic:
        /// those of one topic, whoever publishes them. With user and topic all messages of the sink
        /// go through one core, see integrations.md.
        order: Order = Order::Publisher;
        /// Maximum number of bytes of its messages in the message store. Default: a tenth of the
        /// disk space of the data directory that is free at the start or used by the message store.
        max_bytes: u64, in 1_000..=u64::MAX >> 1;
        /// Maximum time that a message waits, seconds; older messages are dropped and counted as
        /// too_old. 0: no limit.
        max_age_secs: u64 = 0, zero or from 1;
        /// Policy at max_bytes. drop-oldest: the oldest messages are dropped and counted as
        /// queue_full. hold: clients that publish to its topics wait until there is room.
        on_full: WhenFull = WhenFull::DropOldest;
        /// Handling of a message that the sink rejects. dead-letter: it becomes a dead letter,
        /// and delivery continues. stop: the sink stops before it until it is resumed.
        on_reject: OnReject = OnReject::DeadLetter;
        /// Maximum number of attempts for one message. An attempt counts if the target fails with
        /// an error of its own, such as status 500, or ends the connection without an answer. After
        /// that the message is rejected, see on_reject. 0: no limit. If a target cannot be reached
        /// or is busy, attempts are not limited.
        max_attempts: u32 = MAX_ATTEMPTS, in 0..=1_000_000;
    }
}

table! {
    /// Keys of all sinks beside those of the queue.
    OwnSinkKeys {
        /// Also queue and store QoS 0 messages, so that none is lost while the sink cannot write;
        /// publishers do not wait. false: such messages are dropped.
        keep_qos0: bool = false;
        /// Name or id of the team whose tenant's messages it forwards. If the team does not exist
        /// yet, the sink waits for it. "*": messages of all tenants. Default: the common tenant.
        tenant: String;
        /// Pause after the first failed attempt, milliseconds. It doubles with each further one,
        /// and up to half of it is random.
        retry_first_ms: u64 = Backoff::FIRST_MS, in 10..=RETRY_MAX_MS;
        /// Longest such pause, milliseconds. If it is equal to retry_first_ms, all pauses have this
        /// length. Default: 60000, or retry_first_ms if that is longer.
        retry_longest_ms: u64, in 10..=RETRY_MAX_MS;
    }
}

table! {
    /// Keys of all bridges beside those of the queue.
    OwnBridgeKeys {
        /// Also queue and store QoS 0 messages, including deletions of retained messages, while the
        /// other broker cannot be reached. false: they are dropped, which costs less.
        keep_qos0: bool = true;
        /// Name or id of the team whose tenant's messages it carries, in both directions. If the
        /// team does not exist yet, the bridge waits for it. Default: the common tenant.
        tenant: String;
    }
}

/// Keys of all sinks.
pub(crate) type SinkKeys = martlet_settings::Both<QueueKeys, OwnSinkKeys>;
/// Keys of all bridges.
pub(crate) type BridgeKeys = martlet_settings::Both<QueueKeys, OwnBridgeKeys>;

impl CommonKeys for SinkKeys {
    type Name = SinkName;

    fn settings(
        &self,
        kind: &'static str,
        name: &SinkName,
        owner: &str,
    ) -> Result<Settings, String> {
        let Self(queue, own) = self;
        let filters = name.filters.as_deref().unwrap_or_default();
        let mut settings = named(kind, &name.name, owner)?;
        settings.filters = checked_filters(filters)?;
        settings.tenant = given(&own.tenant).unwrap_or_default().into();
        settings.keeps_qos0 = own.keep_qos0;
        settings.backoff = own.backoff()?;
        queue.apply(settings)
    }
}

impl CommonKeys for BridgeKeys {
    type Name = BridgeName;

    fn settings(
        &self,
        kind: &'static str,
        name: &BridgeName,
        owner: &str,
    ) -> Result<Settings, String> {
        let Self(queue, own) = self;
        let mut settings = named(kind, &name.name, owner)?;
        settings.tenant = given(&own.tenant).unwrap_or_default().into();
        // Otherwise a retained QoS 0 message, or its deletion, would be lost while the other broker
        // cannot be reached.
        settings.keeps_qos0 = own.keep_qos0;
        queue.apply(settings)
    }
}

impl CommonKeys for SourceKeys {
    type Name = SourceName;

    fn settings(
        &self,
        kind: &'static str,
        name: &SourceName,
        owner: &str,
    ) -> Result<Settings, String> {
        let mut settings = named(kind, &name.name, owner)?;
        settings.tenant = given(&self.tenant).unwrap_or_default().into();
        settings.publish_as = match self.publish_as.as_deref() {
            Some("") => {
                return Err(
                    "`publish_as` is empty: name the user or device by whose rules messages are \
                     published, or leave it out to publish as the node"
                        .to_owned(),
                );
            }
            name => name.map(Into::into),
        };
        Ok(settings)
    }
}

impl QueueKeys {
    /// Sets what the keys say. An integration of all tenants has no queue for all shards.
    fn apply(&self, settings: Settings) -> Result<Settings, String> {
        if &*settings.tenant == ALL_TENANTS && self.order.needs_one_queue() {
            return Err(
                "`order` is user or topic, for which the node has one queue, and a queue subscribes \
                 for one tenant: set `tenant` to one team, or leave out `order`"
                    .to_owned(),
            );
        }
        Ok(Settings {
            order: self.order,
            on_reject: self.on_reject,
            max_attempts: self.max_attempts,
            queue: PartQueueLimits {
                // 0: determined at the start by the free space.
                bytes_max: self.max_bytes.unwrap_or(0),
                age_max_secs: u32::try_from(self.max_age_secs).unwrap_or(u32::MAX),
                on_full: match self.on_full {
                    WhenFull::DropOldest => OnFull::DropOldest,
                    WhenFull::Hold => OnFull::Hold,
                },
            },
            ..settings
        })
    }
}

impl OwnSinkKeys {
    fn backoff(&self) -> Result<Backoff, String> {
        let first = Duration::from_millis(self.retry_first_ms);
        let longest = self.retry_longest_ms.map(Duration::from_millis);
        if longest.is_some_and(|longest| first > longest) {
            return Err("`retry_first_ms` is more than `retry_longest_ms`".to_owned());
        }
        let longest = longest.unwrap_or(Backoff::default().longest);
        Ok(Backoff {
            first,
            longest: longest.max(first),
        })
    }
}

/// Settings of an integration of this name.
fn named(kind: &'static str, name: &Option<String>, owner: &str) -> Result<Settings, String> {
    let name = given(name).unwrap_or_default();
    check_name(name)?;
    Ok(Settings::new(kind, &name_of_team(owner, name), Vec::new()))
}

/// Checks the name of an integration: it stands in Client Identifiers, paths of the API and
/// metrics.
///
/// # Errors
/// It is none; the reason in words.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_letter)
        && !name.starts_with('-')
        && ![".", ".."].contains(&name);
    match is_name {
        true => Ok(()),
        false => Err(format!(
            "`name` is {name:?}, expected letters, digits, -, _ and ., {NAME_BYTES_MAX} at most, \
             not - first, and neither . nor .."
        )),
    }
}

fn checked_filters(filters: &[String]) -> Result<Vec<Box<str>>, String> {
    if filters.is_empty() {
        return Err("`filters` is missing, expected a list such as [\"plant/#\"]".to_owned());
    }
    for (at, filter) in filters.iter().enumerate() {
        check_filter(filter)?;
        if filters[..at].contains(filter) {
            return Err(format!("`filters` has {filter:?} twice; name it once"));
        }
    }
    Ok(filters
        .iter()
        .map(|filter| filter.as_str().into())
        .collect())
}

fn check_filter(filter: &str) -> Result<(), String> {
    if SubscriptionFilter::is_shared(filter) {
        return Err(format!(
            "`filters` has {filter:?}: a sink joins no share group; leave out $share and the group"
        ));
    }
    match TopicFilter::new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "`filters` has {filter:?}, which is not a valid Topic Filter: {error}"
        )),
    }
}
