//! The NATS sink: each message is published to JetStream, and is delivered when JetStream has
//! acknowledged it.

mod connection;
mod credentials;
mod settings;
mod stream;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{Error as JetStreamError, ErrorCode};
use futures_util::FutureExt as _;
use martlet_codec::PublishProperties;

use crate::kept::Kept;
use crate::secret::SecretsReceiver;
use crate::sink::{Outcome, Sink, SinkMessage, sent_at_once};
use crate::words::error_words;
use connection::Connection;

pub use settings::{Credentials, KIND, NatsSettings, NewStream};

/// A sink that publishes to JetStream.
#[derive(Debug)]
pub struct NatsSink {
    settings: Arc<NatsSettings>,
    /// One over which every message so far was answered. After a failure a new one is made: what
    /// the old one still holds cannot come behind newer messages then.
    connection: Kept<Connection>,
}

impl NatsSink {
    /// A sink with these settings, which uses these secrets.
    pub fn new(settings: Arc<NatsSettings>, secrets: SecretsReceiver) -> Self {
        Self {
            settings,
            connection: Kept::new(secrets),
        }
    }

    async fn connect(&mut self) -> Result<Connection, String> {
        self.connection.discard_if(Connection::is_lost);
        let settings = &self.settings;
        let open = |secrets: Arc<_>| async move { Connection::open(settings, &secrets).await };
        self.connection.take(open).await
    }

    /// Sends a message without waiting for its acknowledgement.
    async fn send(&self, to: &Connection, message: &SinkMessage) -> Result<Sent, Outcome> {
        let subject = self.settings.subject.subject(message, message.team());
        let subject = subject.map_err(Outcome::Refused)?;
        let publish = async_nats::jetstream::message::PublishMessage::build()
            .headers(headers(message, &self.settings.name))
            .payload(message.payload().to_vec().into());
        let sent = to.jetstream.send_publish(subject.clone(), publish).await;
        match sent {
            Ok(ack) => Ok(Sent { ack, subject }),
            Err(error) => Err(outcome(&error, &subject)),
        }
    }

    /// Sends messages, all at once, and waits for their acknowledgements.
    async fn publish(&self, to: &Connection, batch: &[SinkMessage]) -> Vec<Outcome> {
        let mut sent = Vec::with_capacity(batch.len());
        for message in batch {
            sent.push(self.send(to, message).await);
        }
        let mut outcomes = Vec::with_capacity(sent.len());
        let mut fails = false;
        for one in sent {
            let outcome = match one {
                Err(outcome) => outcome,
                // The time limit of an acknowledgement begins when it is waited for: after the
                // first that does not come only those count that are here.
                Ok(sent) if fails => match sent.ack.into_future().now_or_never() {
                    Some(Ok(_)) => Outcome::Done,
                    _ => Outcome::NotTried,
                },
                Ok(sent) => {
                    let acknowledged = tokio::select! {
                        biased;
                        acknowledged = sent.ack.into_future() => acknowledged,
                        () = to.lost() => Err(PublishError::new(PublishErrorKind::BrokenPipe)),
                    };
                    match acknowledged {
                        Ok(_) => Outcome::Done,
                        Err(error) => to.told(outcome(&error, &sent.subject)),
                    }
                }
            };
            fails |= matches!(outcome, Outcome::Failed(_));
            outcomes.push(outcome);
        }
        outcomes
    }
}

/// A message that was sent.
struct Sent {
    ack: PublishAckFuture,
    subject: String,
}

impl Sink for NatsSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(why) => return vec![Outcome::Failed(why)],
        };
        let mut outcomes = Vec::with_capacity(batch.len());
        let is_answered = |one: &Outcome| matches!(one, Outcome::Done | Outcome::Refused(_));
        for some in sent_at_once(batch, self.settings.stops_at_refusal) {
            outcomes.extend(self.publish(&connection, some).await);
            if outcomes.iter().any(|one| *one != Outcome::Done) {
                break;
            }
        }
        if outcomes.iter().all(is_answered) {
            self.connection.keep(connection);
        }
        outcomes
    }

    async fn test(&mut self) -> Result<(), String> {
        let connection = self.connect().await?;
        stream::reach(&connection.jetstream).await?;
        self.connection.keep(connection);
        Ok(())
    }
}

/// What a refusal or failure of JetStream means for a message.
fn outcome(error: &PublishError, subject: &str) -> Outcome {
    let why = error_words(&error);
    let code = std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<JetStreamError>())
        .map(JetStreamError::error_code);
    match (error.kind(), code) {
        (PublishErrorKind::MaxPayloadExceeded, _)
        | (
            _,
            Some(
                ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
                | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
            ),
        ) => Outcome::Refused(format!("NATS rejects a message of this size: {why}")),
        // Also while JetStream starts, or a stream has no leader.
        (PublishErrorKind::StreamNotFound, _) => Outcome::FailedAtMessage(format!(
            "no stream takes the subject {subject:?}: add it to the subjects of a stream"
        )),
        (PublishErrorKind::TimedOut, _) => Outcome::Failed(
            "NATS is connected and does not acknowledge in time (`timeout_secs`): it hangs, is \
             overloaded, or the stream has no leader"
                .to_owned(),
        ),
        (PublishErrorKind::BrokenPipe, _) => {
            Outcome::Failed("the connection to NATS was lost".to_owned())
        }
        (_, Some(_)) => Outcome::Failed(format!("JetStream takes no messages now: {why}")),
        _ => Outcome::Failed(format!("it cannot be published: {why}")),
    }
}

/// Headers of a message.
fn headers(message: &SinkMessage, sink: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: &str| {
        // Line breaks would be further headers.
        let value = value.replace(char::is_control, "\u{fffd}");
        headers.insert(name, value.as_str());
    };
    // Several sinks may publish to one stream.
    add("Nats-Msg-Id", &format!("{sink}-{}", message.unique_id()));
    add("Mqtt-Topic", message.topic());
    add("Mqtt-Qos", &(message.qos() as u8).to_string());
    add(
        "Mqtt-Retain",
        if message.retain() { "true" } else { "false" },
    );
    add(
        "Mqtt-Received-At",
        &crate::json::rfc3339(message.received_ms()),
    );
    let names = [
        ("Mqtt-Client-Id", message.client_id()),
        ("Mqtt-User", message.user()),
        ("Mqtt-Device", message.device()),
    ];
    for (name, value) in names {
        value.into_iter().for_each(|value| add(name, value));
    }
    let properties = PublishProperties::from_forwarded(message.properties());
    if let Some(kind) = properties.ok().and_then(|all| all.content_type) {
        add("Content-Type", kind);
    }
    headers
}

/// Time that a call needs beyond the time limit of an acknowledgement: connecting and looking at
/// streams.
pub(crate) const BEYOND_ACK: Duration = Duration::from_secs(25);
