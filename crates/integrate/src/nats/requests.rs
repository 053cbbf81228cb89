//! Requests from NATS to clients: each becomes an MQTT 5 request, and its response the reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject, Subscriber};
use futures_util::StreamExt as _;
use martlet_broker::NewMessage;
use martlet_codec::QoS;
use martlet_settings::{Both, table};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::NatsConnection;
use super::headers::without_controls;
use super::server::{ServerKeys, ServerSettings};
use super::subject::check_filter;
use super::topic::TopicTemplate;
use crate::Here;
use crate::configured_sink::ConfiguredSink;
use crate::host::{Host, RequestTrouble, Response};
use crate::input_memory::InputShare;
use crate::kind::{MakeIntegration, Surroundings};
use crate::runner::Settings;
use crate::secret::SecretsReceiver;
use crate::source::{MessageSource, SourceAnswer, SourceMessage, What};
use crate::words::error_words;

/// The kind of source `nats-requests`.
#[derive(Debug)]
pub(crate) struct NatsRequestsKind;

table! {
    /// Keys of `[[sources.nats-requests]]` beside those of the connection.
    RequestsKeys {
        /// Subject of the requests; * matches one token.
        subject: String = "martlet.request.*";
        /// Topic that a request is published to, as topic of [[sources.nats]]. The default has the
        /// third token of the subject.
        topic: String = "d/{3}/request";
        /// QoS of the requests.
        qos: u8 = 1, in 0..=2;
        /// Time limit for the client's response, seconds.
        timeout_secs: u64 = 5, in 1..=60;
    }
}

/// Headers that mark an error for clients of NATS services.
const ERROR: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// Maximum number of requests that wait for their responses.
const WAITING_MAX: usize = 64;
/// Maximum number of replies in progress, including those that report an overload.
const REPLIES_MAX: usize = 1_024;
/// Maximum number of requests that wait to be processed. The client library drops further ones.
const CAPACITY: usize = 1_024;
/// Bytes of a request besides its data.
const REQUEST_BYTES: usize = 2_048;
/// Minimum interval of connection attempts.
const CONNECTS_EVERY: Duration = Duration::from_millis(100);
const UNREADABLE: &str = "the node cannot read the headers of a request; it gets no reply, and \
                          has ended the connection, which was made again at once";

struct RequestSettings {
    server: ServerSettings,
    subject: Box<str>,
    topic: TopicTemplate,
    qos: QoS,
    timeout: Duration,
    tenant: Arc<str>,
    publish_as: Option<Arc<str>>,
}

/// A source that answers requests.
struct Requests {
    settings: Arc<RequestSettings>,
    host: Arc<dyn Host>,
    secrets: SecretsReceiver,
    /// The current connection. A reply uses the one that exists when it is ready.
    connection: watch::Sender<Option<Arc<NatsConnection>>>,
    subscriber: Option<Subscriber>,
    /// When the last connection was made.
    connected_at: Option<Instant>,
    /// The server that closed the last connection without a reason.
    ended_at: Option<String>,
    /// Requests that wait for their responses. Each task returns where the request came from.
    waiting: JoinSet<SourceMessage>,
    /// Memory for these requests.
    memory: InputShare,
    /// Bytes of requests that wait for responses.
    bytes: Arc<AtomicUsize>,
    next_number: u64,
}

impl MakeIntegration for NatsRequestsKind {
    const NAME: &'static str = "nats-requests";
    type Keys = Both<ServerKeys, RequestsKeys>;

    fn make(
        Both(server, keys): &Self::Keys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        let subject = &*keys.subject;
        check_filter(subject).map_err(|why| {
            let default = RequestsKeys::default().subject;
            format!("`subject` is {subject:?}, expected such as {default}: {why}")
        })?;
        if &*settings.tenant == crate::ALL_TENANTS {
            return Err("`tenant` is \"*\": requests go to one tenant".to_owned());
        }
        let topic = TopicTemplate::parse(&keys.topic);
        let own = Arc::new(RequestSettings {
            server: ServerSettings::of(server, keys.timeout_secs, surroundings)?,
            subject: subject.into(),
            topic: topic.map_err(|why| format!("`topic`: {why}"))?,
            qos: super::source_settings::qos(keys.qos),
            timeout: Duration::from_secs(keys.timeout_secs),
            tenant: settings.tenant.clone(),
            publish_as: settings.publish_as.clone(),
        });
        let (names, files) = (own.server.secret_names(), own.server.files());
        let source = ConfiguredSink::of_source(settings, move |secrets, host| Requests {
            settings: Arc::clone(&own),
            host: Arc::clone(host),
            secrets,
            connection: watch::channel(None).0,
            subscriber: None,
            connected_at: None,
            ended_at: None,
            waiting: JoinSet::new(),
            memory: InputShare::new(host.input_memory()),
            bytes: Arc::default(),
            next_number: 0,
        });
        Ok(source.with_secrets(names).reading(files))
    }

    fn target(Both(server, _): &Self::Keys) -> Option<String> {
        server.target()
    }
}

impl Requests {
    async fn connect(&self) -> Result<NatsConnection, String> {
        let secrets = self.secrets.borrow().clone()?;
        NatsConnection::open(&self.settings.server, &secrets, CAPACITY).await
    }

    async fn subscribe(&self, connection: &NatsConnection) -> Result<Subscriber, String> {
        let subject = self.settings.subject.to_string();
        let subscriber = connection.client.subscribe(subject).await;
        subscriber.map_err(|error| connection.masked(&error_words(&error)))
    }

    /// The current connection.
    fn current(&self) -> Option<Arc<NatsConnection>> {
        self.connection.borrow().clone()
    }

    /// Connects and subscribes, if needed. Returns a request at which the previous connection
    /// ended: the client library closes it at headers that it cannot read.
    async fn open(&mut self) -> Result<Option<SourceMessage>, String> {
        if let Some(lost) = self.current().filter(|one| one.is_lost()) {
            self.lost(&lost);
        }
        let connection = match self.current() {
            Some(connection) => connection,
            None => {
                if let Some(at) = self.connected_at {
                    sleep_until(at + CONNECTS_EVERY).await;
                }
                let connection = self.connect().await.map(Arc::new);
                if connection.is_err() {
                    // The server was unreachable.
                    self.ended_at = None;
                }
                let connection = connection?;
                self.connected_at = Some(Instant::now());
                let made = Some(Arc::clone(&connection));
                self.connection.send_replace(made);
                connection
            }
        };
        if self.subscriber.is_none() {
            self.subscriber = Some(self.subscribe(&connection).await?);
        }
        let Some(server) = self.ended_at.take() else {
            return Ok(None);
        };
        let is_unread = server == connection.client.server_info().server_id;
        Ok(is_unread.then(|| self.unread()))
    }

    /// A request whose headers cannot be read.
    fn unread(&mut self) -> SourceMessage {
        let number = self.next_number;
        self.next_number += 1;
        SourceMessage {
            number,
            place: format!("{:?}", &*self.settings.subject),
            received_ms: self.host.now_ms(),
            repeated: false,
            what: What::Refuse(UNREADABLE.to_owned()),
        }
    }

    /// Handles a lost connection.
    fn lost(&mut self, connection: &NatsConnection) {
        self.connection.send_replace(None);
        self.subscriber = None;
        let server = connection.client.server_info().server_id;
        self.ended_at = (!connection.was_ended_by_server()).then_some(server);
    }

    /// Starts to process a request.
    fn begin(&mut self, request: Message) {
        let number = self.next_number;
        self.next_number += 1;
        let (settings, host) = (Arc::clone(&self.settings), Arc::clone(&self.host));
        let connection = self.connection.subscribe();
        let bytes = memory_of(&request);
        let before = self.bytes.load(Ordering::Relaxed);
        self.memory.set(before + bytes, 0);
        let too_much = if self.waiting.len() >= WAITING_MAX {
            Some(format!(
                "{WAITING_MAX} requests wait for their responses already"
            ))
        } else if before > 0 && before + bytes > self.memory.max() {
            Some("the requests that wait for their responses use too much memory".to_owned())
        } else {
            None
        };
        let held = too_much.is_none().then(|| Held::of(&self.bytes, bytes));
        self.waiting.spawn(async move {
            let place = format!("{:?}", request.subject.as_str());
            let received_ms = host.now_ms();
            let to = request.reply.clone();
            let response = match too_much {
                Some(why) => {
                    drop(request);
                    Err(RequestTrouble::Busy(why))
                }
                None => answered(&settings, &*host, request).await,
            };
            drop(held);
            if let Some(to) = to {
                let (headers, payload) = reply_of(response);
                let sent = send_reply(connection, &to, headers, payload);
                // If there is no connection for long, the requester has stopped waiting.
                let _ = timeout(settings.timeout, sent).await;
            }
            SourceMessage {
                number,
                place,
                received_ms,
                repeated: false,
                what: What::Handled,
            }
        });
    }
}

/// Bytes of a request that waits for its response.
struct Held(Arc<AtomicUsize>, usize);

impl Held {
    fn of(all: &Arc<AtomicUsize>, bytes: usize) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self(Arc::clone(all), bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Approximate memory of a request: the received data, and the published message.
fn memory_of(request: &Message) -> usize {
    REQUEST_BYTES + 2 * request.length
}

/// Sends a reply over the current connection, or over the next one.
async fn send_reply(
    mut connection: watch::Receiver<Option<Arc<NatsConnection>>>,
    to: &Subject,
    headers: HeaderMap,
    payload: Vec<u8>,
) {
    loop {
        let is_there = |one: &Option<Arc<NatsConnection>>| {
            let one = one.as_ref();
            one.is_some_and(|one| !one.is_lost())
        };
        let current = match connection.wait_for(is_there).await {
            Ok(current) => current.clone(),
            // The source has ended.
            Err(_) => return,
        };
        let Some(current) = current else {
            continue;
        };
        let (headers, payload) = (headers.clone(), payload.clone().into());
        let client = &current.client;
        let sent = client.publish_with_headers(to.clone(), headers, payload);
        if sent.await.is_ok() {
            let _ = client.flush().await;
        }
        // If sending fails although the connection works, it will always fail.
        if !current.is_lost() {
            return;
        }
    }
}

async fn answered(
    settings: &RequestSettings,
    host: &dyn Host,
    request: Message,
) -> Result<Response, RequestTrouble> {
    let topic = settings.topic.topic(&request.subject, None);
    let topic = topic.map_err(RequestTrouble::Refused)?;
    let tenant = host.tenant(&settings.tenant);
    let tenant =
        tenant.ok_or_else(|| RequestTrouble::Busy(host.why_no_tenant(&settings.tenant)))?;
    let headers = request.headers.as_ref();
    let content_type = headers.and_then(|headers| headers.get("Content-Type"));
    let message = NewMessage {
        topic: topic.into(),
        payload: request.payload.as_ref().into(),
        qos: settings.qos,
        retain: false,
        payload_is_utf8: None,
        message_expiry_secs: u32::try_from(settings.timeout.as_secs()).ok(),
        content_type: content_type.map(|kind| kind.as_str().into()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        hops: 0,
    };
    drop(request);
    let publisher = (tenant, settings.publish_as.as_deref());
    host.request(publisher, message, settings.timeout).await
}

fn reply_of(response: Result<Response, RequestTrouble>) -> (HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: &str| {
        headers.insert(name, without_controls(value.to_owned()));
    };
    match response {
        Ok(response) => {
            if let Some(kind) = &response.content_type {
                add("Content-Type", kind);
            }
            (headers, response.payload)
        }
        Err(trouble) => {
            let (code, why) = trouble.code_and_words();
            add(ERROR, &why);
            add(ERROR_CODE, code);
            (headers, Vec::new())
        }
    }
}

impl MessageSource for Requests {
    async fn next(&mut self) -> Result<SourceMessage, String> {
        loop {
            if let Some(unread) = self.open().await? {
                return Ok(unread);
            }
            let (Some(connection), Some(subscriber)) = (self.current(), &mut self.subscriber)
            else {
                return Err("there is no connection".to_owned());
            };
            let may_begin = self.waiting.len() < REPLIES_MAX;
            let request = tokio::select! {
                biased;
                Some(done) = self.waiting.join_next(), if !self.waiting.is_empty() => {
                    self.memory.set(self.bytes.load(Ordering::Relaxed), 0);
                    match done {
                        Ok(done) => return Ok(done),
                        Err(_) => continue,
                    }
                }
                request = subscriber.next(), if may_begin => request,
                () = connection.lost() => None,
            };
            match request {
                Some(request) => self.begin(request),
                None => self.lost(&connection),
            }
        }
    }

    async fn answer(&mut self, _: u64, _: SourceAnswer) {}

    fn rest(&mut self) {
        // Replies of accepted requests still use the connection.
        self.subscriber = None;
    }

    async fn test(&mut self) -> Result<(), String> {
        let connection = self.connect().await?;
        self.subscribe(&connection).await.map(drop)
    }

    fn waiting(&self) -> Option<u64> {
        Some(self.waiting.len() as u64)
    }
}
