//! The NATS sink: publishes each message to JetStream. A message is delivered when JetStream has
//! acknowledged it; without JetStream, when the server has read it.

mod bucket;
mod complaints;
mod connection;
mod credentials;
mod guard;
mod headers;
mod kind;
mod lines;
mod mirror;
mod next_expiry;
mod raw;
mod relay;
mod requests;
mod server;
mod settings;
mod source;
mod source_kind;
mod source_settings;
mod stream;
mod subject;
mod suspects;
mod topic;
mod ttl;

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{Error as JetStreamError, ErrorCode};
use futures_util::FutureExt as _;

use crate::feed::{SinkMessages, Ticket, deliver_batch};
use crate::outcome::Outcome;
use crate::secret::{SecretValues, SecretsReceiver};
use crate::sink::Sink;
use crate::sink_message::{SinkMessage, sent_at_once};
use crate::sink_state::SinkState;
use crate::words::error_words;
use connection::NatsConnection;
use lines::LogLines;
use next_expiry::NextExpiry;
use suspects::{Culprit, Suspects, UnderWay};

pub use credentials::Credentials;
pub(crate) use kind::NatsKind;
pub(crate) use requests::NatsRequestsKind;
pub use server::ServerSettings;
pub use settings::{Bucket, NatsSettings, NewStream};
pub(crate) use source_kind::NatsSourceKind;

/// Maximum number of waiting messages of a subscription: keys of a bucket, which come in smaller
/// batches.
const CAPACITY: usize = 1_024;

/// A sink that publishes to JetStream.
#[derive(Debug)]
pub struct NatsSink {
    settings: Arc<NatsSettings>,
    /// Name of the node.
    node: Arc<str>,
    /// A connection over which every message so far was answered. After a failure a new one is
    /// made: then messages left on the old one cannot arrive after newer messages.
    connection: SinkState<NatsConnection>,
    /// Log lines for messages, if enabled.
    lines: Option<LogLines>,
    /// Next expiry in the bucket, if the sink has one.
    expiry: Option<Arc<NextExpiry>>,
    /// Messages at which the server has closed the connection.
    suspects: Suspects,
}

impl NatsSink {
    /// A sink with these settings and secrets, in a node of this name.
    pub fn new(settings: Arc<NatsSettings>, node: &str, secrets: SecretsReceiver) -> Self {
        Self {
            node: node.into(),
            expiry: None,
            suspects: Suspects::default(),
            lines: (settings.logs_messages).then(|| LogLines::new(&settings.name)),
            settings,
            connection: SinkState::new(secrets),
        }
    }

    /// Adds the shared time of the next expiry in the bucket.
    fn with_expiry(mut self, expiry: Arc<NextExpiry>) -> Self {
        self.expiry = Some(expiry);
        self
    }

    async fn connect(&mut self) -> Result<NatsConnection, String> {
        self.connection.discard_if(NatsConnection::is_lost);
        let settings = &self.settings;
        let open = |secrets: Arc<_>| async move { open(settings, &secrets).await };
        let connection = self.connection.take(open).await;
        if connection.is_err() {
            self.suspects.none_was();
        }
        connection
    }

    /// The data of a message in flight that is needed if the connection is lost.
    fn under_way(&self, message: &SinkMessage, subject: &str) -> UnderWay {
        let headers = headers::of(message, &self.settings, &self.node);
        let headers = headers.iter().flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values
                .iter()
                .map(move |value| name.len() + value.as_str().len() + 4)
        });
        UnderWay {
            id: message.id(),
            subject: subject.len(),
            bytes: headers.sum::<usize>() + message.payload().len(),
        }
    }

    /// Handles a lost connection with these messages in flight, each with its subject. Returns the
    /// message at which the server closed it, if known.
    fn lost<'a>(
        &mut self,
        to: &NatsConnection,
        sent: impl Iterator<Item = (&'a SinkMessage, &'a str)>,
    ) -> Option<Culprit> {
        if to.is_cut_off() {
            self.suspects.none_was();
            return None;
        }
        let under_way = sent.map(|(message, subject)| self.under_way(message, subject));
        let under_way: Vec<UnderWay> = under_way.collect();
        self.suspects.lost(to.limit(), &under_way)
    }

    /// The subject of a message.
    fn subject(&self, message: &SinkMessage) -> Result<String, String> {
        match &self.settings.bucket {
            Some(bucket) => bucket::subject(&bucket.name, message.topic()),
            None => self.settings.subject.subject(message, message.team()),
        }
    }

    /// Sends a message without waiting for its acknowledgement.
    async fn send(
        &self,
        to: &NatsConnection,
        message: &SinkMessage,
    ) -> Result<SentMessage, Outcome> {
        if self.settings.bucket.is_some() && !message.retain() {
            return Err(Outcome::Done);
        }
        if let (Some(expiry), Some(secs)) = (&self.expiry, message.expires_in_secs()) {
            if secs == 0 {
                // The message is no longer retained.
                return Err(Outcome::Done);
            }
            expiry.note(secs);
        }
        let subject = self.subject(message).map_err(Outcome::Refused)?;
        let mut headers = headers::of(message, &self.settings, &self.node);
        if self.settings.bucket.is_some() && message.payload().is_empty() {
            headers.insert(bucket::OPERATION, bucket::REMOVED);
        }
        let payload = message.payload().to_vec().into();
        if !self.settings.uses_jetstream {
            let sent = to
                .client
                .publish_with_headers(subject.clone(), headers, payload);
            return match sent.await {
                Ok(()) => Ok(SentMessage { ack: None, subject }),
                Err(error) => Err(outcome_without_jetstream(&error)),
            };
        }
        let publish = async_nats::jetstream::message::PublishMessage::build()
            .headers(headers)
            .payload(payload);
        let sent = to.jetstream.send_publish(subject.clone(), publish).await;
        match sent {
            Ok(ack) => Ok(SentMessage {
                ack: Some(ack),
                subject,
            }),
            Err(error) => Err(outcome(to, &error, &subject)),
        }
    }

    /// Sends all messages, and waits until the server has read them. Messages at which the server
    /// closed the connection before are sent alone, after the others.
    async fn publish_unacknowledged(
        &mut self,
        to: &NatsConnection,
        batch: &[SinkMessage],
    ) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::NotTried; batch.len()];
        for places in self.suspects.steps(batch) {
            let mut sent = Vec::with_capacity(places.len());
            for (place, message) in places.iter().filter_map(|at| Some((*at, batch.get(*at)?))) {
                sent.push((place, message, self.send(to, message).await));
            }
            let read = to.read_by_server(self.settings.server.timeout).await;
            let mut culprit = None;
            if read.is_err() && to.is_lost() {
                let under_way = sent.iter().filter_map(|(_, message, how)| {
                    let sent = how.as_ref().ok()?;
                    Some((*message, &*sent.subject))
                });
                culprit = self.lost(to, under_way);
            }
            let mut is_over = false;
            for (place, message, how) in sent {
                let outcome = match (how, &culprit) {
                    (Err(outcome), _) => outcome,
                    (Ok(_), Some(Culprit { id, why })) if *id == message.id() => {
                        Outcome::FailedAtMessage(why.clone())
                    }
                    (Ok(_), Some(_)) => Outcome::SentWithOthers,
                    (Ok(sent), None) => {
                        let outcome = to.told(unacknowledged(to, read, &sent.subject));
                        self.log(message, &sent.subject, &outcome);
                        outcome
                    }
                };
                if is_answered(&outcome) {
                    self.suspects.answered(message.id());
                }
                is_over |= outcome != Outcome::Done;
                if let Some(told) = outcomes.get_mut(place) {
                    *told = outcome;
                }
            }
            if is_over {
                break;
            }
        }
        outcomes
    }

    /// Sends messages as they arrive, and reports for each whether it was acknowledged. Returns
    /// whether all were answered.
    async fn publish(&mut self, to: &NatsConnection, feed: &mut SinkMessages) -> bool {
        let mut sent = VecDeque::new();
        let mut put_off = VecDeque::new();
        let mut state = Answers::default();
        let mut lost = pin!(to.lost().fuse());
        loop {
            // If the sink stops at a refusal, nothing may be sent after a refused message.
            let sent_max = match self.settings.stops_at_refusal {
                true => 1,
                false => self.suspects.under_way_max(),
            };
            while !state.ends
                && sent.len() < sent_max
                && let Some((ticket, message)) = feed.take()
            {
                let before = put_off.iter().map(|(_, one)| one);
                if self.suspects.waits(&message, before) {
                    put_off.push_back((ticket, message));
                    continue;
                }
                self.begin(to, ticket, message, &mut sent, &mut state).await;
            }
            if sent.is_empty()
                && !state.ends
                && let Some((ticket, message)) = put_off.pop_front()
            {
                state.ends = true;
                self.begin(to, ticket, message, &mut sent, &mut state).await;
            }
            let takes_more = !state.ends && sent.len() < sent_max;
            let Some((_, _, how)) = sent.front_mut() else {
                return state.all_answered;
            };
            let is_here = state.fails;
            let answered = async {
                match how {
                    Ok((Some(ack), subject)) => {
                        acknowledged(to, lost.as_mut(), ack, subject, is_here).await
                    }
                    Ok((None, _)) => Outcome::Done,
                    Err(outcome) => outcome.clone(),
                }
            };
            let outcome = tokio::select! {
                biased;
                outcome = answered => outcome,
                () = feed.more(), if takes_more => continue,
            };
            if matches!(outcome, Outcome::Failed(_)) && !state.fails && to.is_lost() {
                let under_way = sent.iter().filter_map(|(_, message, how)| {
                    let (_, subject) = how.as_ref().ok()?;
                    Some((message, &**subject))
                });
                state.culprit = self.lost(to, under_way);
            }
            if let Some((ticket, message, how)) = sent.pop_front() {
                let outcome = state.judged(message.id(), outcome);
                if let Ok((_, subject)) = &how {
                    self.log(&message, subject, &outcome);
                }
                if is_answered(&outcome) {
                    self.suspects.answered(message.id());
                }
                state.ends |= self.ends_at(&outcome);
                state.heard(&outcome);
                feed.tell(ticket, outcome);
            }
        }
    }

    /// Sends a message; the caller awaits its answer later.
    async fn begin(
        &self,
        to: &NatsConnection,
        ticket: Ticket,
        message: SinkMessage,
        sent: &mut VecDeque<InFlight>,
        state: &mut Answers,
    ) {
        let how = match self.send(to, &message).await {
            Ok(sent) => Ok((sent.ack.map(IntoFuture::into_future), sent.subject)),
            Err(outcome) => Err(outcome),
        };
        state.ends |= how.as_ref().is_err_and(|outcome| self.ends_at(outcome));
        sent.push_back((ticket, message, how));
    }

    /// Whether the call sends nothing more after this outcome.
    fn ends_at(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Done => false,
            Outcome::Refused(_) => self.settings.stops_at_refusal,
            _ => true,
        }
    }

    /// Logs a forwarded message, if enabled.
    fn log(&self, message: &SinkMessage, subject: &str, outcome: &Outcome) {
        if let Some(lines) = self.lines.as_ref().filter(|_| *outcome == Outcome::Done) {
            lines.forwarded(message, subject);
        }
    }
}

/// State of the answers in one call.
struct Answers {
    /// An answer did not arrive: see [`acknowledged`].
    fails: bool,
    /// Whether nothing more is sent.
    ends: bool,
    /// Whether each message was accepted or refused.
    all_answered: bool,
    /// The message at which the server closed the connection.
    culprit: Option<Culprit>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            fails: false,
            ends: false,
            all_answered: true,
            culprit: None,
        }
    }
}

impl Answers {
    fn heard(&mut self, outcome: &Outcome) {
        self.fails |= matches!(outcome, Outcome::Failed(_)) || self.culprit.is_some();
        self.all_answered &= is_answered(outcome);
    }

    /// The outcome of a message when it is known at which one the connection ended.
    fn judged(&self, id: u64, outcome: Outcome) -> Outcome {
        match (&self.culprit, outcome) {
            (Some(culprit), Outcome::Failed(_) | Outcome::NotTried) if culprit.id == id => {
                Outcome::FailedAtMessage(culprit.why.clone())
            }
            (Some(_), Outcome::Failed(_)) => Outcome::NotTried,
            (_, outcome) => outcome,
        }
    }
}

/// Whether the server has answered for the message.
fn is_answered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done | Outcome::Refused(_))
}

/// A message that was sent, with its acknowledgement and its subject, or why it was not.
type InFlight = (Ticket, SinkMessage, Result<(Option<Ack>, String), Outcome>);

/// The pending acknowledgement of a message.
type Ack = <PublishAckFuture as IntoFuture>::IntoFuture;

/// Waits for an acknowledgement. `fails`: an earlier one did not arrive. The time limit of each
/// begins with this call, so then only acknowledgements that have arrived already count.
async fn acknowledged(
    to: &NatsConnection,
    lost: impl Future<Output = ()>,
    ack: &mut Ack,
    subject: &str,
    fails: bool,
) -> Outcome {
    if fails {
        return match ack.now_or_never() {
            Some(Ok(_)) => Outcome::Done,
            _ => Outcome::NotTried,
        };
    }
    let acknowledged = tokio::select! {
        biased;
        acknowledged = ack => acknowledged,
        () = to.denied(subject) => return denied(subject),
        () = lost => Err(PublishError::new(PublishErrorKind::BrokenPipe)),
    };
    match acknowledged {
        Ok(_) => Outcome::Done,
        Err(error) => to.told(outcome(to, &error, subject)),
    }
}

/// Connects, and creates the stream or bucket if it does not exist.
async fn open(settings: &NatsSettings, secrets: &SecretValues) -> Result<NatsConnection, String> {
    let connection = NatsConnection::open(&settings.server, secrets, CAPACITY).await?;
    if let Some(new) = &settings.stream {
        let filter = settings.subject.filter();
        let made = stream::create_if_none(&connection.jetstream, new, filter).await;
        made.map_err(|why| connection.masked(&why))?;
    }
    if let Some(bucket) = &settings.bucket {
        let made = bucket::create_if_none(&connection.jetstream, &bucket.name, bucket.max_bytes);
        made.await.map_err(|why| connection.masked(&why))?;
    }
    Ok(connection)
}

/// A message that was sent.
struct SentMessage {
    /// Acknowledgement of the message by JetStream.
    ack: Option<PublishAckFuture>,
    subject: String,
}

impl NatsSink {
    /// Delivers messages that JetStream acknowledges.
    async fn deliver_acknowledged(&mut self, feed: &mut SinkMessages) {
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(why) => return feed.fail(why),
        };
        if self.publish(&connection, feed).await {
            self.connection.keep(connection);
        }
    }

    /// Delivers messages without JetStream.
    async fn deliver_unacknowledged(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(why) => return vec![Outcome::Failed(why)],
        };
        let mut outcomes = Vec::with_capacity(batch.len());
        for some in sent_at_once(batch, self.settings.stops_at_refusal) {
            outcomes.extend(self.publish_unacknowledged(&connection, some).await);
            if outcomes.iter().any(|one| *one != Outcome::Done) {
                break;
            }
        }
        if outcomes.iter().all(is_answered) {
            self.connection.keep(connection);
        }
        outcomes
    }
}

impl Sink for NatsSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        if !self.settings.uses_jetstream {
            return self.deliver_unacknowledged(batch).await;
        }
        deliver_batch(batch, async |feed: &mut SinkMessages| {
            self.deliver_acknowledged(feed).await;
        })
        .await
    }

    async fn deliver_from(&mut self, feed: &mut SinkMessages) {
        if self.settings.uses_jetstream {
            return self.deliver_acknowledged(feed).await;
        }
        let (tickets, batch) = feed.batch();
        let outcomes = self.deliver_unacknowledged(&batch).await;
        feed.tell_all(tickets, outcomes);
    }

    async fn test(&mut self) -> Result<(), String> {
        let connection = self.connect().await?;
        match self.settings.uses_jetstream {
            true => {
                stream::reach(&connection.jetstream).await?;
                if self.settings.bucket.is_none() {
                    // The subject may begin with a field: then there is no filter to find a stream
                    // with.
                    let filter = self.settings.subject.filter();
                    stream::expect(&connection.jetstream, &filter.unwrap_or_default()).await?;
                }
            }
            false => {
                let read = connection
                    .read_by_server(self.settings.server.timeout)
                    .await;
                read.map_err(|kind| format!("NATS does not answer: {kind}"))?;
            }
        }
        self.connection.keep(connection);
        Ok(())
    }
}

/// The outcome if the server does not permit publishing to a subject.
fn denied(subject: &str) -> Outcome {
    Outcome::FailedAtMessage(format!(
        "NATS does not permit the user of the sink to publish to {subject:?}"
    ))
}

/// The outcome of a message that was sent without JetStream, by whether the server has read it.
fn unacknowledged(
    to: &NatsConnection,
    read: Result<(), PublishErrorKind>,
    subject: &str,
) -> Outcome {
    match read {
        _ if to.denies(subject) => denied(subject),
        // The server may have rejected it without the client noticing.
        Ok(()) if to.has_too_many_complaints() => Outcome::SentWithOthers,
        Ok(()) => Outcome::Done,
        Err(kind) => outcome(to, &PublishError::new(kind), subject),
    }
}

/// Error text of JetStream when a stream accepts no more messages of one subject. The error code
/// is that of a full stream.
const SUBJECT_IS_FULL: &str = "maximum messages per subject exceeded";

/// The outcome for a refusal or failure of JetStream.
fn outcome(to: &NatsConnection, error: &PublishError, subject: &str) -> Outcome {
    let why = to.masked(&error_words(&error));
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
        // Also occurs while JetStream starts, or while a stream has no leader.
        (PublishErrorKind::StreamNotFound, _) => Outcome::FailedAtMessage(format!(
            "no stream contains the subject {subject:?}: add it to the subjects of a stream"
        )),
        (PublishErrorKind::TimedOut, _) => Outcome::Failed(
            "NATS is connected and does not acknowledge in time (`timeout_secs`): it hangs, is \
             overloaded, or the stream has no leader"
                .to_owned(),
        ),
        (PublishErrorKind::BrokenPipe, _) => {
            Outcome::Failed("the connection to NATS was lost".to_owned())
        }
        (_, Some(_)) if why.contains(SUBJECT_IS_FULL) => Outcome::FailedAtMessage(format!(
            "JetStream accepts no more messages of the subject {subject:?}: {why}"
        )),
        (_, Some(_)) => Outcome::Failed(format!("JetStream accepts no messages now: {why}")),
        _ => Outcome::Failed(format!("it cannot be published: {why}")),
    }
}

/// The outcome of a message that cannot be sent.
fn outcome_without_jetstream(error: &async_nats::PublishError) -> Outcome {
    let why = error_words(error);
    match error.kind() {
        async_nats::PublishErrorKind::MaxPayloadExceeded => {
            Outcome::Refused(format!("NATS rejects a message of this size: {why}"))
        }
        async_nats::PublishErrorKind::InvalidSubject => Outcome::Refused(why),
        _ => Outcome::Failed(format!("it cannot be published: {why}")),
    }
}

/// Time for a call beyond the time limit of an acknowledgement: connecting and looking up streams.
pub(crate) const BEYOND_ACK: Duration = Duration::from_secs(25);
