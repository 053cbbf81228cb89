//! The NATS source: a durable consumer of JetStream whose messages are published. A message is
//! acknowledged to NATS when a PUBACK would be sent for it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::message::Info;
use async_nats::{Message, Subject};
use futures_util::StreamExt as _;
use martlet_broker::NewMessage;

use super::connection::NatsConnection;
use super::headers::VIA;
use super::raw::RawMessage;
use super::source_settings::NatsSourceSettings;
use super::ttl::remaining_secs;
use crate::host::Host;
use crate::secret::{SecretValues, SecretsReceiver};
use crate::source::{MessageSource, SourceAnswer, SourceMessage, What};
use crate::via;
use crate::words::error_words;

/// Delay after which JetStream redelivers a message that the node did not accept.
const LATER: Duration = Duration::from_secs(2);
/// Idle heartbeat: JetStream sends one within twice this time if no message comes.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Maximum number of waiting status messages of JetStream about batches.
const BESIDE_BATCHES: usize = 64;
/// Maximum number of acknowledgements that are kept while there is no connection. The other
/// messages come again.
const UNSENT_MAX: usize = 100_000;

/// Maximum number of messages that are examined when one may have ended the connection.
const LOOKED_AT_MAX: usize = 10_000;
const UNREADABLE: &str = "the node cannot read its headers";
const LOST: &str = "the connection to NATS was lost";

/// A source that consumes from JetStream.
pub(super) struct NatsSource {
    settings: Arc<NatsSourceSettings>,
    host: Arc<dyn Host>,
    secrets: SecretsReceiver,
    open: Option<OpenSource>,
    /// Unanswered messages.
    in_hand: HashMap<u64, InHand>,
    /// Their stream sequence numbers: a redelivery in the meantime is skipped.
    sequences: HashSet<u64>,
    /// Answers that wait for a connection.
    unsent: Vec<(Subject, &'static [u8])>,
    next_number: u64,
    waiting: Option<u64>,
    /// Whether the connection was lost and unreadable headers may be the cause.
    looks: bool,
    /// Messages with such headers that the runner has not taken.
    unreadable: VecDeque<SourceMessage>,
    /// Numbers of such messages that the runner has.
    ended: BTreeSet<u64>,
    /// Why the search for such messages failed.
    unlooked: Option<String>,
}

struct OpenSource {
    connection: NatsConnection,
    messages: Option<Stream>,
}

struct InHand {
    reply: Subject,
    sequence: u64,
}

impl NatsSource {
    pub(super) fn new(
        settings: Arc<NatsSourceSettings>,
        host: Arc<dyn Host>,
        secrets: SecretsReceiver,
    ) -> Self {
        Self {
            settings,
            host,
            secrets,
            open: None,
            in_hand: HashMap::new(),
            sequences: HashSet::new(),
            unsent: Vec::new(),
            next_number: 0,
            waiting: None,
            looks: false,
            unreadable: VecDeque::new(),
            ended: BTreeSet::new(),
            unlooked: None,
        }
    }

    /// Connects. The capacity allows two batches with their status messages.
    async fn connect(&self, secrets: &SecretValues) -> Result<NatsConnection, String> {
        let capacity = 2 * self.settings.in_hand + BESIDE_BATCHES;
        NatsConnection::open(&self.settings.server, secrets, capacity).await
    }

    /// The connection with the stream of messages; opened if there is none.
    async fn open(&mut self) -> Result<&mut OpenSource, String> {
        let is_new = self.secrets.has_changed().unwrap_or(false);
        if self
            .open
            .as_ref()
            .is_some_and(|open| is_new || open.connection.is_lost())
        {
            self.looks |= !is_new;
            self.open = None;
        }
        if self.open.is_none() {
            let secrets = self.secrets.borrow_and_update().clone()?;
            let connection = self.connect(&secrets).await;
            // If the server was unreachable, no message was the cause.
            self.looks &= connection.is_ok();
            let connection = connection?;
            self.open = Some(OpenSource {
                connection,
                messages: None,
            });
        }
        let open = self.open.as_mut().ok_or("there is no connection")?;
        if open.messages.is_none() {
            // Send the pending answers, so that these messages are not redelivered.
            for (reply, answer) in std::mem::take(&mut self.unsent) {
                let sent = open.connection.client.publish(reply, answer.into()).await;
                sent.map_err(|error| open.connection.masked(&error_words(&error)))?;
            }
            let consumer = consumer(&open.connection, &self.settings).await;
            let consumer = consumer.map_err(|why| open.connection.masked(&why))?;
            self.waiting = Some(consumer.cached_info().num_pending);
            if self.looks {
                let info = consumer.cached_info();
                let floor = info.ack_floor.stream_sequence;
                let delivered = info.delivered.stream_sequence;
                self.ended = self.ended.split_off(&floor);
                let known = |at: u64| self.sequences.contains(&at) || self.ended.contains(&at);
                let (connection, settings) = (&open.connection, &self.settings);
                let found = unreadable(connection, settings, floor, delivered, known).await;
                self.looks = false;
                self.unlooked = match found {
                    Ok(found) => {
                        for message in found {
                            let sequence = message.sequence;
                            self.ended.insert(sequence);
                            self.sequences.insert(sequence);
                            let (stream, durable) = (&self.settings.stream, &self.settings.durable);
                            let reply = format!("$JS.ACK.{stream}.{durable}.1.{sequence}.1.0.0");
                            let reply = reply.into();
                            let number = self.next_number;
                            self.next_number += 1;
                            self.in_hand.insert(number, InHand { reply, sequence });
                            self.unreadable.push_back(SourceMessage {
                                number,
                                place: format!("{stream} {sequence} {:?}", message.subject),
                                received_ms: message.received_ms().unwrap_or_default(),
                                repeated: true,
                                what: What::Refuse(UNREADABLE.to_owned()),
                            });
                        }
                        None
                    }
                    Err(why) => Some(format!(
                        "{LOST}; one of the messages {} to {} of {:?} may have headers that the \
                         node cannot read, remove it; it cannot be looked for: {why}",
                        floor + 1,
                        delivered,
                        self.settings.stream
                    )),
                };
                if !self.unreadable.is_empty() {
                    // They are ended before JetStream redelivers them.
                    return Ok(open);
                }
            }
            let stream = consumer.stream();
            let stream = stream
                .max_messages_per_batch(self.settings.in_hand)
                .max_bytes_per_batch(open.connection.batch_bytes())
                .heartbeat(HEARTBEAT);
            let messages = stream.messages().await;
            let messages =
                messages.map_err(|error| open.connection.masked(&error_words(&error)))?;
            open.messages = Some(messages);
        }
        Ok(open)
    }

    /// A message for the runner; `None` if it is in hand already.
    fn taken(&mut self, message: &Message) -> Result<Option<SourceMessage>, String> {
        let info = async_nats::jetstream::Message {
            message: message.clone(),
            context: match &self.open {
                Some(open) => open.connection.jetstream.clone(),
                None => return Ok(None),
            },
        };
        let info = info.info();
        let info =
            info.map_err(|error| format!("a message does not come from JetStream: {error}"))?;
        self.waiting = Some(info.pending);
        let reply = message
            .reply
            .clone()
            .ok_or("a message has no reply subject")?;
        if !self.sequences.insert(info.stream_sequence) {
            return Ok(None);
        }
        let number = self.next_number;
        self.next_number += 1;
        let sequence = info.stream_sequence;
        self.in_hand.insert(number, InHand { reply, sequence });
        let received_ms = u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000);
        let received_ms = received_ms.unwrap_or_default();
        Ok(Some(SourceMessage {
            number,
            place: format!("{} {sequence} {:?}", info.stream, message.subject.as_str()),
            received_ms,
            repeated: info.delivered > 1,
            what: self.what(message, &info, received_ms),
        }))
    }

    fn what(&self, message: &Message, info: &Info<'_>, received_ms: u64) -> What {
        let none = HeaderMap::new();
        let headers = message.headers.as_ref().unwrap_or(&none);
        let header = |name: &str| headers.get(name).map(|value| value.as_str());
        let passed: Vec<&str> = via::nodes(header(VIA).unwrap_or_default()).collect();
        if passed.contains(&self.host.node()) {
            return What::Nothing;
        }
        let topic = self
            .settings
            .topic
            .topic(&message.subject, header("Mqtt-Topic"));
        let topic = match topic {
            Ok(topic) => topic,
            Err(why) => return What::Refuse(why),
        };
        if !self.settings.may_publish(&topic) {
            return What::Refuse(format!("`allow` does not permit the topic {topic:?}"));
        }
        let age = self.host.now_ms().saturating_sub(received_ms);
        let expiry = match header("Nats-TTL").map(|ttl| remaining_secs(ttl, age)) {
            None => None,
            Some(Ok(Some(0))) => return What::Nothing,
            Some(Ok(left)) => left,
            Some(Err(why)) => return What::Refuse(format!("{why} in {:?}", info.stream)),
        };
        let user_properties = passed.iter();
        let user_properties = user_properties.map(|node| (via::PROPERTY.into(), (*node).into()));
        let message = NewMessage {
            topic: topic.into(),
            payload: message.payload.as_ref().into(),
            qos: self.settings.qos,
            retain: self.settings.retain,
            payload_is_utf8: None,
            message_expiry_secs: expiry,
            content_type: header("Content-Type").map(Into::into),
            response_topic: None,
            correlation_data: None,
            user_properties: user_properties.collect(),
            hops: u8::try_from(passed.len()).unwrap_or(u8::MAX),
        };
        What::Publish(Box::new(message))
    }
}

impl MessageSource for NatsSource {
    async fn next(&mut self) -> Result<SourceMessage, String> {
        loop {
            if let Some(message) = self.unreadable.pop_front() {
                return Ok(message);
            }
            let open = self.open().await?;
            let Some(messages) = &mut open.messages else {
                if self.unreadable.is_empty() {
                    return Err("there is no consumer".to_owned());
                }
                continue;
            };
            let message = tokio::select! {
                biased;
                message = messages.next() => message,
                () = open.connection.lost() => None,
            };
            match message {
                Some(Ok(message)) => {
                    if let Some(message) = self.taken(&message.message)? {
                        return Ok(message);
                    }
                }
                Some(Err(error)) => {
                    let why = open.connection.masked(&error_words(&error));
                    self.looks |= open.connection.is_lost();
                    self.open = None;
                    return Err(format!("NATS is connected and the consumer fails: {why}"));
                }
                None => {
                    (self.open, self.looks) = (None, true);
                    return Err(self.unlooked.clone().unwrap_or_else(|| LOST.to_owned()));
                }
            }
        }
    }

    async fn answer(&mut self, number: u64, answer: SourceAnswer) {
        let Some(InHand { reply, sequence }) = self.in_hand.remove(&number) else {
            return;
        };
        self.sequences.remove(&sequence);
        let text: &'static [u8] = match answer {
            SourceAnswer::Done => b"+ACK",
            SourceAnswer::Refused => b"+TERM",
            SourceAnswer::Later => LATER_TEXT,
        };
        if let Some(open) = self.open.as_ref().filter(|open| !open.connection.is_lost()) {
            let sent = open.connection.client.publish(reply.clone(), text.into());
            if sent.await.is_ok() {
                return;
            }
        }
        if self.unsent.len() < UNSENT_MAX {
            self.unsent.push((reply, text));
        }
    }

    fn rest(&mut self) {
        // Messages that the server has sent and that were not taken are redelivered.
        if let Some(open) = &mut self.open {
            open.messages = None;
        }
    }

    async fn test(&mut self) -> Result<(), String> {
        let secrets = self.secrets.borrow().clone()?;
        let connection = self.connect(&secrets).await?;
        let consumer = consumer(&connection, &self.settings).await;
        consumer.map(drop).map_err(|why| connection.masked(&why))
    }

    fn waiting(&self) -> Option<u64> {
        self.waiting
    }
}

/// Messages with headers that the client cannot read, among those that JetStream has delivered and
/// that are not acknowledged: after the first of these numbers, up to the second.
///
/// # Errors
/// JetStream does not answer; the reason.
async fn unreadable(
    connection: &NatsConnection,
    settings: &NatsSourceSettings,
    floor: u64,
    delivered: u64,
    known: impl Fn(u64) -> bool,
) -> Result<Vec<RawMessage>, String> {
    let filter = settings.filter_subject.as_deref().unwrap_or_default();
    let (mut found, mut next) = (Vec::new(), floor + 1);
    for _ in 0..LOOKED_AT_MAX {
        if next > delivered {
            break;
        }
        let message = RawMessage::next(connection, &settings.stream, next, filter).await?;
        let Some(message) = message.filter(|one| one.sequence <= delivered) else {
            break;
        };
        next = message.sequence + 1;
        if !message.is_readable() && !known(message.sequence) {
            found.push(message);
        }
    }
    Ok(found)
}

/// The consumer, created if it does not exist.
async fn consumer(
    connection: &NatsConnection,
    settings: &NatsSourceSettings,
) -> Result<Consumer<Config>, String> {
    let stream = connection.jetstream.get_stream(&*settings.stream).await;
    let stream = stream.map_err(|error| {
        let name = &settings.stream;
        format!(
            "the stream {name:?} cannot be read; is it there? {}",
            error_words(&error)
        )
    })?;
    let filter = settings.filter_subject.as_deref().unwrap_or_default();
    let config = Config {
        durable_name: Some(settings.durable.to_string()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        filter_subject: filter.to_owned(),
        deliver_policy: match settings.only_new {
            true => DeliverPolicy::New,
            false => DeliverPolicy::All,
        },
        max_ack_pending: i64::try_from(settings.in_hand).unwrap_or(i64::MAX),
        ..Config::default()
    };
    let durable = &*settings.durable;
    let found = stream.get_or_create_consumer(durable, config).await;
    let consumer = found.map_err(|error| {
        format!(
            "the consumer {durable:?} cannot be used: {}",
            error_words(&error)
        )
    })?;
    let found = &consumer.cached_info().config;
    if found.filter_subject != filter || found.ack_policy != AckPolicy::Explicit {
        return Err(format!(
            "the consumer {durable:?} exists with the filter {:?} and another policy than \
             configured: remove it, or set another `durable`",
            found.filter_subject
        ));
    }
    Ok(consumer)
}

/// `-NAK` with [`LATER`].
const LATER_TEXT: &[u8] = b"-NAK {\"delay\": 2000000000}";
const _: () = assert!(LATER.as_nanos() == 2_000_000_000);
