//! Maintenance of a bucket besides publishing: when the sink starts, adds retained messages from
//! before it existed; deletes expired ones.
//!
//! Compares the bucket with the retained messages of the node, in its own task and over its own
//! connection. The sink writes to the bucket at the same time, so a key is changed only if it is
//! unchanged since it was read. Messages retained after the start of the comparison are in the
//! queue of the sink.

use std::collections::HashMap;
use std::future::IntoFuture as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use futures_util::StreamExt as _;
use martlet_broker::{RetainedInfo, RetainedQuery, TenantId};
use martlet_codec::{TopicFilter, TopicName};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::connection::NatsConnection;
use super::next_expiry::NextExpiry;
use super::raw::RawMessage;
use super::settings::NatsSettings;
use super::{bucket, headers, open};
use crate::host::Host;
use crate::input_memory::{InputMemory, InputShare};
use crate::runner::Activity;
use crate::secret::{SecretValues, SecretsReceiver};
use crate::words::error_words;

/// Interval of checks whether a comparison is due.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Pause after a comparison that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// After a comparison, the next one waits for this multiple of its duration, so that a large
/// bucket is not read all the time because a few of its messages expire.
const PAUSE_FACTOR: u32 = 20;
/// Retained messages per read.
const PAGE: usize = 500;
/// Time limit for the next key of a bucket.
const KEY_WITHIN: Duration = Duration::from_secs(10);
/// Inactive time after which the server removes an abandoned consumer.
const CONSUMER_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Header: the server changes a key only if its last revision is this one; 0 means none.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// The task of a sink with a bucket.
pub(super) struct Mirror {
    pub(super) settings: Arc<NatsSettings>,
    /// Name of the bucket.
    pub(super) bucket: Box<str>,
    pub(super) host: Arc<dyn Host>,
    pub(super) secrets: SecretsReceiver,
    /// Name of the team, or empty.
    pub(super) tenant: Arc<str>,
    pub(super) filters: Vec<Box<str>>,
    pub(super) expiry: Weak<NextExpiry>,
}

/// Keys that JetStream sends per batch.
const KEYS_PER_BATCH: usize = 200;
/// Maximum number of connections of a comparison, as entries can end a connection. After that,
/// entries are read one by one.
const CUT_MAX: usize = 10;

/// Bytes that a key takes besides its subject and its message.
const KEY_BYTES: usize = 128;
/// Step in which bytes of keys are counted.
const COUNTED_BYTES: usize = 64 << 10;

/// The keys of the bucket that were read.
struct Keys {
    /// Memory for the keys. It does not stop the reading of other connections: a comparison needs
    /// all keys.
    memory: InputShare,
    /// Bytes of the keys, and how many of them are counted.
    bytes: usize,
    counted: usize,
    /// Keys, by subject.
    entries: HashMap<String, BucketKey>,
    /// Number of the last message that was read.
    last: u64,
    /// Entries whose headers the client cannot read: how many, and the subject of the last one.
    unreadable: (usize, String),
}

impl Keys {
    /// No keys yet.
    fn new(memory: Arc<InputMemory>) -> Self {
        Self {
            memory: InputShare::new(memory),
            bytes: 0,
            counted: 0,
            entries: HashMap::new(),
            last: 0,
            unreadable: (0, String::new()),
        }
    }

    /// Adds a key.
    ///
    /// # Errors
    /// The node has no memory for it.
    fn add(&mut self, subject: String, entry: BucketKey) -> Result<(), String> {
        let own = entry.own.as_ref().map_or(0, String::len);
        self.bytes += KEY_BYTES + subject.len() + own;
        self.entries.insert(subject, entry);
        if self.bytes < self.counted + COUNTED_BYTES {
            return Ok(());
        }
        self.counted = self.bytes;
        self.memory.set(0, self.bytes);
        match self.memory.is_lent() {
            true => Ok(()),
            false => Err(format!(
                "the node has no memory for the {} keys of the bucket that it has read so far",
                self.entries.len()
            )),
        }
    }
}

/// A key of the bucket.
struct BucketKey {
    revision: u64,
    /// The message of the key, if this sink of this node has written it.
    own: Option<String>,
    is_deleted: bool,
}

/// Changes made by a comparison.
#[derive(Default)]
struct Changes {
    added: usize,
    deleted: usize,
}

impl Mirror {
    /// Starts the task. `activity` is the state of the sink: nothing is changed while it is
    /// paused.
    pub(super) fn start(self, activity: impl Fn() -> Activity + Send + 'static) {
        tokio::spawn(self.run(activity));
    }

    async fn run(mut self, activity: impl Fn() -> Activity) {
        let (mut is_due, mut not_before) = (true, Instant::now());
        let mut told = String::new();
        while let Some(expiry) = self.expiry.upgrade() {
            is_due |= expiry.take_if_passed();
            let now = Instant::now();
            if is_due && now >= not_before && activity() == Activity::Running {
                let compared = self.compare(&expiry).await;
                let sink = &*self.settings.name;
                match compared {
                    Ok(changes) => {
                        let Changes { added, deleted } = changes;
                        if added + deleted > 0 {
                            info!(sink, added, deleted, "the bucket has the retained messages");
                        }
                        (is_due, told) = (false, String::new());
                        not_before = Instant::now() + now.elapsed() * PAUSE_FACTOR;
                    }
                    Err(why) => {
                        if told != why {
                            warn!(
                                sink,
                                why, "cannot compare the bucket with the retained messages"
                            );
                        }
                        (told, not_before) = (why, Instant::now() + AGAIN_AFTER);
                    }
                }
            }
            drop(expiry);
            sleep(LOOKS_EVERY).await;
        }
    }

    /// Makes the bucket equal to the retained messages.
    async fn compare(&mut self, expiry: &NextExpiry) -> Result<Changes, String> {
        let secrets = self.secrets.borrow_and_update().clone()?;
        let mut connection = open(&self.settings, &secrets).await?;
        let tenant = self.host.tenant(&self.tenant);
        let tenant = tenant.ok_or("its team has no tenant")?;
        let changes = async {
            let mut keys = self.keys(&mut connection, &secrets).await?;
            let entries = &mut keys.entries;
            let added = self.add(&connection, tenant, entries, expiry).await?;
            let entries = std::mem::take(&mut keys.entries);
            let deleted = self.delete(&connection, tenant, entries).await?;
            Ok(Changes { added, deleted })
        };
        changes.await.map_err(|why: String| connection.masked(&why))
    }

    /// All keys of the bucket, by subject. The client library closes the connection at an entry
    /// whose headers it cannot read: such entries are searched for and left unchanged.
    async fn keys(
        &self,
        connection: &mut NatsConnection,
        secrets: &SecretValues,
    ) -> Result<Keys, String> {
        let mut keys = Keys::new(self.host.input_memory());
        for cut in 0.. {
            let Err(why) = self.read_on(connection, &mut keys).await else {
                break;
            };
            if !connection.is_lost() {
                return Err(why);
            }
            *connection = open(&self.settings, secrets).await?;
            let reads_all = cut >= CUT_MAX;
            if self.read_raw(connection, &mut keys, reads_all).await? {
                break;
            }
        }
        let (entries, subject) = &keys.unreadable;
        if *entries > 0 {
            let (sink, entries) = (&*self.settings.name, *entries);
            warn!(
                sink,
                entries, subject, "the node cannot read the headers of entries of the bucket"
            );
        }
        Ok(keys)
    }

    /// Reads the keys after the last one that was read.
    async fn read_on(&self, connection: &NatsConnection, keys: &mut Keys) -> Result<(), String> {
        let stream = connection
            .jetstream
            .get_stream(bucket::stream(&self.bucket))
            .await;
        let stream = stream.map_err(|error| unread(&error))?;
        let config = Config {
            deliver_policy: match keys.last {
                0 => DeliverPolicy::LastPerSubject,
                last => DeliverPolicy::ByStartSequence {
                    start_sequence: last + 1,
                },
            },
            filter_subject: bucket::subjects(&self.bucket),
            ack_policy: AckPolicy::None,
            headers_only: true,
            inactive_threshold: CONSUMER_FORGOTTEN_AFTER,
            ..Config::default()
        };
        let consumer = stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| unread(&error))?;
        if consumer.cached_info().num_pending == 0 {
            return Ok(());
        }
        let batch = consumer.stream().max_messages_per_batch(KEYS_PER_BATCH);
        let batch = batch.max_bytes_per_batch(connection.batch_bytes());
        let messages = batch.messages().await;
        let mut messages = messages.map_err(|error| unread(&error))?;
        loop {
            let next = tokio::select! {
                biased;
                next = timeout(KEY_WITHIN, messages.next()) => next.ok().flatten(),
                () = connection.lost() => None,
            };
            let Some(message) = next else {
                return Err("the bucket cannot be read: its next key does not come".to_owned());
            };
            let message = message.map_err(|error| unread(&error))?;
            let info = message.info().map_err(|error| {
                format!("the bucket cannot be read: a key has no revision: {error}")
            })?;
            let (revision, is_last) = (info.stream_sequence, info.pending == 0);
            let none = HeaderMap::new();
            let headers = message.headers.as_ref().unwrap_or(&none);
            let subject = message.subject.to_string();
            self.add_key(keys, subject, revision, Some(headers))?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Reads the keys after the last one that was read, one by one through the JetStream API: up
    /// to the first whose headers the client cannot read, or all. Returns whether there are no
    /// more.
    async fn read_raw(
        &self,
        connection: &NatsConnection,
        keys: &mut Keys,
        reads_all: bool,
    ) -> Result<bool, String> {
        let (stream, filter) = (bucket::stream(&self.bucket), bucket::subjects(&self.bucket));
        loop {
            let next = RawMessage::next(connection, &stream, keys.last + 1, &filter).await;
            let Some(message) = next.map_err(|why| format!("the bucket cannot be read: {why}"))?
            else {
                return Ok(true);
            };
            let headers = message.headers();
            let is_unreadable = headers.is_none();
            if is_unreadable {
                keys.unreadable = (keys.unreadable.0 + 1, message.subject.clone());
            }
            self.add_key(keys, message.subject, message.sequence, headers.as_ref())?;
            if is_unreadable && !reads_all {
                return Ok(false);
            }
        }
    }

    /// Adds a key with its revision and its headers; `None`: they cannot be read.
    fn add_key(
        &self,
        keys: &mut Keys,
        subject: String,
        revision: u64,
        headers: Option<&HeaderMap>,
    ) -> Result<(), String> {
        let (sink, node) = (&self.settings.name, self.host.node());
        let entry = BucketKey {
            revision,
            own: headers.and_then(|headers| headers::own_id(headers, sink, node)),
            is_deleted: headers.is_some_and(|one| one.get(bucket::OPERATION).is_some()),
        };
        keys.last = keys.last.max(revision);
        keys.add(subject, entry)
    }

    /// Adds the retained messages that the bucket lacks. Removes all retained ones from `keys`.
    /// Returns how many were added.
    async fn add(
        &self,
        connection: &NatsConnection,
        tenant: TenantId,
        keys: &mut HashMap<String, BucketKey>,
        expiry: &NextExpiry,
    ) -> Result<usize, String> {
        let mut added = 0;
        for filter in &self.filters {
            let mut query = query(tenant, filter, PAGE, usize::MAX);
            loop {
                let page = self.host.retained(&query).await;
                let page = page.ok_or("the node does not return its retained messages")?;
                let mut sent = Vec::new();
                for info in &page.messages {
                    if let Some(secs) = info.expires_in_secs {
                        expiry.note(secs);
                    }
                    // A topic that is too long for a key is refused when it is published.
                    let Ok(subject) = bucket::subject(&self.bucket, &info.topic) else {
                        continue;
                    };
                    let revision = match keys.remove(&subject) {
                        Some(entry) if entry.is_deleted => entry.revision,
                        Some(BucketKey { own: None, .. }) => continue,
                        Some(entry) if entry.own.as_deref() == Some(&*id_of(info)) => continue,
                        Some(entry) => entry.revision,
                        None => 0,
                    };
                    let mut headers =
                        headers::of_retained(info, &id_of(info), &self.settings, self.host.node());
                    headers.insert(EXPECTED, revision.to_string());
                    let message = PublishMessage::build()
                        .headers(headers)
                        .payload(info.payload.to_vec().into());
                    sent.push(send(connection, subject, message).await?);
                }
                added += acknowledged(sent).await?;
                match page.messages.last().filter(|_| page.more) {
                    Some(last) => query.after = Some(last.topic.clone()),
                    None => break,
                }
            }
        }
        Ok(added)
    }

    /// Deletes keys that this sink has written and whose message is no longer retained. Returns
    /// how many were deleted.
    async fn delete(
        &self,
        connection: &NatsConnection,
        tenant: TenantId,
        keys: HashMap<String, BucketKey>,
    ) -> Result<usize, String> {
        let mut sent = Vec::new();
        let own = keys.into_iter();
        for (subject, entry) in own.filter(|(_, one)| one.own.is_some() && !one.is_deleted) {
            let Some(topic) = bucket::topic(&self.bucket, &subject) else {
                continue;
            };
            if !self.takes(&topic) {
                continue;
            }
            let query = query(tenant, &topic, 1, 0);
            let page = self.host.retained(&query).await;
            let page = page.ok_or("the node does not return its retained messages")?;
            if !page.messages.is_empty() {
                continue;
            }
            let mut headers = HeaderMap::new();
            headers.insert(bucket::OPERATION, bucket::REMOVED);
            headers.insert(EXPECTED, entry.revision.to_string());
            let message = PublishMessage::build().headers(headers);
            sent.push(send(connection, subject, message).await?);
        }
        acknowledged(sent).await
    }

    fn takes(&self, topic: &str) -> bool {
        let Ok(topic) = TopicName::new(topic) else {
            return false;
        };
        let mut filters = self.filters.iter();
        filters.any(|filter| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)))
    }
}

fn unread(error: &dyn std::error::Error) -> String {
    format!("the bucket cannot be read: {}", error_words(error))
}

fn query(tenant: TenantId, filter: &str, limit: usize, bytes_max: usize) -> RetainedQuery {
    RetainedQuery {
        tenant,
        filter: filter.into(),
        limit,
        payload_bytes_max: bytes_max,
        ..RetainedQuery::default()
    }
}

/// As [`SinkMessage::unique_id`](crate::SinkMessage::unique_id).
fn id_of(info: &RetainedInfo) -> String {
    format!("{}_{}", info.id.0, info.received_wall_ms)
}

async fn send(
    connection: &NatsConnection,
    subject: String,
    message: PublishMessage,
) -> Result<PublishAckFuture, String> {
    let sent = connection.jetstream.send_publish(subject, message).await;
    sent.map_err(|error| format!("the bucket cannot be written: {}", error_words(&error)))
}

/// Waits for acknowledgements. Returns how many keys were changed; a key that was changed by
/// others in the meantime stays as it is.
async fn acknowledged(sent: Vec<PublishAckFuture>) -> Result<usize, String> {
    let mut changed = 0;
    for one in sent {
        match one.into_future().await {
            Ok(_) => changed += 1,
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
            Err(error) => {
                return Err(format!(
                    "the bucket cannot be written: {}",
                    error_words(&error)
                ));
            }
        }
    }
    Ok(changed)
}
