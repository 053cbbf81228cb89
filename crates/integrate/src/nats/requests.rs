//! Requests by NATS to clients: each becomes a request of MQTT 5, and its response the reply.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use martlet_broker::NewMessage;
use martlet_codec::QoS;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::headers::without_controls;
use super::server::{
    CA_FILE, CERTIFICATE_FILE, CREDENTIALS_FILE, KEY_FILE, NKEY, PASSWORD, ServerSettings, TOKEN,
    URL, USER,
};
use super::subject::check_filter;
use super::topic::TopicTemplate;
use crate::host::{Host, RequestTrouble, Response};
use crate::kind::{ConfiguredSink, Key, Kind, Surroundings, Table, Takes};
use crate::runner::Settings;
use crate::secret::SecretsReceiver;
use crate::source::{Source, SourceAnswer, SourceMessage, What};
use crate::words::error_words;

/// The kind of source `nats-requests`.
pub const REQUESTS_KIND: Kind = Kind {
    name: "nats-requests",
    keys: KEYS,
    make,
};

const KEYS: &[Key] = &[
    URL,
    Key::new(
        "subject",
        Takes::Text,
        "Subject of the requests; * stands for one token. Default: martlet.request.*.",
    ),
    Key::new(
        "topic",
        Takes::Text,
        "Topic that a request is published to, as topic of [[sources.nats]]. Default: d/{3}/request, with the third token of the subject.",
    ),
    Key::new(
        "qos",
        Takes::Integer { min: 0, max: 2 },
        "QoS of the requests. Default: 1.",
    ),
    Key::new(
        "timeout_secs",
        Takes::Integer { min: 1, max: 60 },
        "Time in which the client has to respond, seconds. Default: 5.",
    ),
    CREDENTIALS_FILE,
    NKEY,
    TOKEN,
    USER,
    PASSWORD,
    CA_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
];

const SUBJECT: &str = "martlet.request.*";
const TOPIC: &str = "d/{3}/request";
/// Headers by which clients of NATS services know an error.
const ERROR: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// Most requests that wait for their responses at one time.
const WAITING_MAX: usize = 64;

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
    open: Option<(Connection, Subscriber)>,
    /// Requests that wait for their responses. Each ends with where it came from.
    waiting: JoinSet<SourceMessage>,
    next_number: u64,
}

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    let subject = table.text("subject").unwrap_or(SUBJECT);
    check_filter(subject)
        .map_err(|why| format!("`subject` is {subject:?}, expected such as {SUBJECT}: {why}"))?;
    if &*settings.tenant == crate::ALL_TENANTS {
        return Err("`tenant` is \"*\": requests go to one tenant".to_owned());
    }
    let topic = TopicTemplate::parse(table.text("topic").unwrap_or(TOPIC));
    let own = Arc::new(RequestSettings {
        server: ServerSettings::of(table, surroundings)?,
        subject: subject.into(),
        topic: topic.map_err(|why| format!("`topic`: {why}"))?,
        qos: super::source_settings::qos(table),
        timeout: Duration::from_secs(table.number("timeout_secs", 5)),
        tenant: settings.tenant.clone(),
        publish_as: settings.publish_as.clone(),
    });
    let (names, files) = (own.server.secret_names(), own.server.files());
    let source = ConfiguredSink::of_source(settings, move |secrets, host| Requests {
        settings: Arc::clone(&own),
        host: Arc::clone(host),
        secrets,
        open: None,
        waiting: JoinSet::new(),
        next_number: 0,
    });
    Ok(source.with_secrets(names).reading(files))
}

impl Requests {
    async fn connect(&self) -> Result<(Connection, Subscriber), String> {
        let secrets = self.secrets.borrow().clone()?;
        let connection = Connection::open(&self.settings.server, &secrets).await?;
        let subject = self.settings.subject.to_string();
        let subscriber = connection.client.subscribe(subject).await;
        let subscriber = subscriber.map_err(|error| connection.masked(&error_words(&error)))?;
        Ok((connection, subscriber))
    }

    /// Begins to answer a request.
    fn begin(&mut self, client: async_nats::Client, request: Message) {
        let number = self.next_number;
        self.next_number += 1;
        let (settings, host) = (Arc::clone(&self.settings), Arc::clone(&self.host));
        let is_full = self.waiting.len() >= WAITING_MAX;
        self.waiting.spawn(async move {
            let place = format!("{:?}", request.subject.as_str());
            let received_ms = host.now_ms();
            let response = match is_full {
                true => Err(RequestTrouble::Busy(format!(
                    "{WAITING_MAX} requests wait for their responses already"
                ))),
                false => answered(&settings, &*host, &request).await,
            };
            if let Some(reply) = request.reply {
                let (headers, payload) = reply_of(response);
                // If the connection is lost, nobody waits for it any more.
                let _ = client
                    .publish_with_headers(reply, headers, payload.into())
                    .await;
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

async fn answered(
    settings: &RequestSettings,
    host: &dyn Host,
    request: &Message,
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

impl Source for Requests {
    async fn next(&mut self) -> Result<SourceMessage, String> {
        if self
            .open
            .as_ref()
            .is_none_or(|(connection, _)| connection.is_lost())
        {
            self.open = Some(self.connect().await?);
        }
        loop {
            let Some((connection, subscriber)) = &mut self.open else {
                return Err("there is no connection".to_owned());
            };
            let request = tokio::select! {
                biased;
                Some(done) = self.waiting.join_next(), if !self.waiting.is_empty() => {
                    match done {
                        Ok(done) => return Ok(done),
                        Err(_) => continue,
                    }
                }
                request = subscriber.next() => request,
                () = connection.lost() => None,
            };
            let Some(request) = request else {
                self.open = None;
                return Err("the connection to NATS was lost".to_owned());
            };
            let client = connection.client.clone();
            self.begin(client, request);
        }
    }

    async fn answer(&mut self, _: u64, _: SourceAnswer) {}

    fn rest(&mut self) {
        self.open = None;
    }

    async fn test(&mut self) -> Result<(), String> {
        self.connect().await.map(drop)
    }

    fn waiting(&self) -> Option<u64> {
        Some(self.waiting.len() as u64)
    }
}
