//! A node without sockets or shards of its own: routes, and requests to them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use martlet_api::{
    Api, ApiKey, HttpConnection, ListenerKind, NodeParts, RouteSettings, Settings, router,
};
use martlet_broker::{
    Answer as Said, ClientPage, Command, DeleteOutcome, Limits, MemoryUse, MessageId, NewMessage,
    PartEvent, PartLine, PartOutlet, PartPublish, PartSpec, Published, Report, RetainedInfo,
    RetainedPage, Settlement, ShardId, SubscriptionPage,
};
use martlet_codec::{QoS, ReasonCode};
use martlet_control::callers::Callers;
use martlet_control::event_outbox::EventOutbox;
use martlet_control::principal::Scopes;
use martlet_control::shared_registry::{SharedRegistry, TablesSettings};
use martlet_control::{
    Control, ControlParts, Latencies, NodeInfo, OwnTopics, PinnedStore, ReloadRequest, Reloaded,
    Shards, StoreSize, StoreState,
};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use tower::ServiceExt as _;

use crate::in_memory::InMemory;

/// A shard without clients, which has one retained message.
struct Lone(Arc<OnceLock<Weak<Control>>>);

/// The topic and the payload of it.
pub(crate) const RETAINED: (&str, &[u8]) = ("room/7/light", b"<b>on</b>");

/// The client that has a session, as far as subscribing goes.
pub(crate) const CLIENT: &str = "a/b %2F\u{e9}";

fn published(messages: &[NewMessage]) -> Said {
    let outcomes = messages.iter().enumerate().map(|(number, message)| {
        let is_long = message.payload.len() > 1000;
        Published {
            reason: match is_long {
                true => ReasonCode::PacketTooLarge,
                false => ReasonCode::NoMatchingSubscribers,
            },
            id: (!is_long).then_some(MessageId(number as u64)),
            matched_locally: 0,
            lanes: 0,
            other_shards: 0,
            recorded: false,
            is_held: false,
            is_short: false,
        }
    });
    Said::Publish(outcomes.collect())
}

fn retained(filter: &str) -> RetainedPage {
    let (topic, payload) = RETAINED;
    let message = RetainedInfo {
        topic: topic.into(),
        id: MessageId(7),
        qos: QoS::AtLeastOnce,
        payload_is_utf8: None,
        content_type: Some("text/html".into()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        payload_bytes: payload.len(),
        payload: payload.into(),
        received_wall_ms: 1_700_000_000_000,
        expires_in_secs: None,
    };
    let found = [topic, "#", "room/#"].contains(&filter);
    RetainedPage {
        messages: found.then_some(message).into_iter().collect(),
        total: Some(u64::from(found)),
        more: false,
    }
}

/// Bytes that it has for one request at most.
const MEMORY: usize = 64 << 20;

/// A part that is attached to nothing.
#[derive(Debug)]
struct NoPart;

impl PartLine for NoPart {
    fn settle(&self, _: Vec<Settlement>) {}

    fn set_credit(&self, _: u16) {}

    fn set_queue_bytes(&self, _: u64) {}

    fn publish(&self, _: PartPublish) {}

    fn end(&self) {}
}

impl Shards for Lone {
    fn borrow_memory(&self, bytes: usize) -> bool {
        bytes <= MEMORY
    }

    fn return_memory(&self, _: usize) {}

    fn set_memory_outside(&self, _: usize) -> bool {
        false
    }

    fn memory_use(&self) -> MemoryUse {
        MemoryUse {
            limit: Some(MEMORY),
            ..MemoryUse::default()
        }
    }

    fn addresses_bytes(&self) -> usize {
        0
    }

    fn events_bytes(&self) -> usize {
        0
    }

    fn store_held_bytes(&self) -> usize {
        0
    }

    fn count(&self) -> u16 {
        1
    }

    fn send(&self, _: ShardId, command: Command) {
        let (request, answer) = match command {
            Command::Snapshot { request } => (request, Said::Snapshot(Box::default())),
            Command::Clients { request, .. } => (request, Said::Clients(ClientPage::default())),
            Command::ClientDetail { request, .. } => (request, Said::ClientDetail(None)),
            Command::Subscriptions { request, .. } => {
                (request, Said::Subscriptions(SubscriptionPage::default()))
            }
            Command::Traffic { request, .. } => (request, Said::Traffic(Vec::new())),
            Command::SessionRules { request, .. } => (request, Said::SessionRules(None)),
            Command::Retained { request, query } => {
                (request, Said::Retained(retained(&query.filter)))
            }
            Command::DeleteRetained {
                request, filter, ..
            } => {
                let deleted = retained(&filter).messages.len() as u64;
                let outcome = DeleteOutcome::Deleted;
                (request, Said::DeleteRetained { deleted, outcome })
            }
            Command::Publish {
                request, messages, ..
            } => (request, published(&messages)),
            Command::Disconnect {
                request, client_id, ..
            } => (request, Said::Disconnect(client_id == CLIENT)),
            Command::EndSession {
                request, client_id, ..
            } => (request, Said::EndSession(&*client_id == CLIENT)),
            Command::Subscribe {
                request,
                client_id,
                subscriptions,
                ..
            } => {
                let codes = subscriptions.iter().map(|one| match one.options.qos {
                    QoS::ExactlyOnce => ReasonCode::NotAuthorized,
                    _ => ReasonCode::GrantedQoS1,
                });
                let codes = (&*client_id == CLIENT).then(|| codes.collect());
                (request, Said::Subscribe(codes))
            }
            Command::Unsubscribe {
                request,
                client_id,
                filters,
                ..
            } => {
                let codes = filters.iter().map(|filter| match &**filter {
                    "t/+" => ReasonCode::Success,
                    _ => ReasonCode::NoSubscriptionExisted,
                });
                let codes = (&*client_id == CLIENT).then(|| codes.collect());
                (request, Said::Unsubscribe(codes))
            }
            _ => return,
        };
        let report = Report { request, answer };
        if let Some(control) = self.0.get().and_then(Weak::upgrade) {
            control.report_received(report);
        }
    }

    fn sockets_accepted(&self) -> u64 {
        0
    }

    fn accept_pauses(&self) -> u64 {
        0
    }

    fn is_accepting_paused(&self) -> bool {
        false
    }

    fn sockets_open(&self) -> u64 {
        0
    }

    fn clients_by_listener(&self) -> Vec<u32> {
        Vec::new()
    }

    fn events_reported(&self) -> u64 {
        0
    }

    fn events_dropped(&self) -> u64 {
        0
    }

    fn latencies(&self) -> Vec<Latencies> {
        Vec::new()
    }

    fn store_state(&self) -> Option<StoreState> {
        None
    }

    fn store_size(&self) -> Option<StoreSize> {
        None
    }

    fn attach(&self, _: PartSpec, mut outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine> {
        outlet.notify(PartEvent::Ended {
            reason: ReasonCode::ServerUnavailable,
            why: "there is no shard",
        });
        Box::new(NoPart)
    }

    fn recheck_certificates(&self) {}

    fn pin_store(&self) -> Result<PinnedStore, String> {
        Err("all is kept in memory".to_owned())
    }
}

pub(crate) const KEY: &str = "0123456789abcdef-all";
pub(crate) const VIEWER: &str = "0123456789abcdef-viewer";

pub(crate) struct Node {
    routes: Router,
    pub(crate) api: Api,
    pub(crate) control: Arc<Control>,
    pub(crate) directory: Arc<InMemory>,
    listener: ListenerKind,
    /// None: an address that fits the listener.
    peer: Option<IpAddr>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The last part of a problem's type.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16(), "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id"), "{body}");
        let kind = body["type"].as_str().unwrap();
        kind.strip_prefix("/problems/").unwrap().to_owned()
    }
}

pub(crate) fn with_keys() -> Settings {
    let viewer = Scopes::parse("viewer").unwrap();
    Settings {
        keys: vec![
            ApiKey::new("all".to_owned(), KEY, Scopes::all()),
            ApiKey::new("viewer".to_owned(), VIEWER, viewer),
        ],
        ..Settings::default()
    }
}

/// Beyond loopback, without TLS.
pub(crate) const FAR: ListenerKind = ListenerKind::Tcp {
    is_loopback: false,
    is_secure: false,
};
/// On loopback, without TLS.
pub(crate) const NEAR: ListenerKind = ListenerKind::Tcp {
    is_loopback: true,
    is_secure: false,
};

/// A control plane whose only shard is [`Lone`].
pub(crate) fn control() -> Arc<Control> {
    let own = Arc::new(OnceLock::new());
    let (reloads, mut builder) = unbounded_channel::<ReloadRequest>();
    tokio::spawn(async move {
        while let Some(builder) = builder.recv().await {
            builder.answer(Ok(Reloaded {
                changed: vec!["acl".to_owned()],
                ..Reloaded::default()
            }));
        }
    });
    let info = NodeInfo {
        version: "1.2.3",
        listeners: Vec::new(),
        data_dir: "/data".to_owned(),
        command_options: String::new(),
        durability: "memory",
        interval_ms: None,
        connections_max: 1000,
        anonymous_beyond_loopback: false,
        limits: Limits::default(),
        own_topics: OwnTopics::default(),
        restored: None,
    };
    let shards = Box::new(Lone(Arc::clone(&own)));
    let control = Arc::new(Control::new(ControlParts::new(shards, info, reloads)));
    own.set(Arc::downgrade(&control)).unwrap();
    control
}

/// The registry in this file.
pub(crate) fn tables_at(path: PathBuf, control: &Arc<Control>) -> SharedRegistry {
    let settings = TablesSettings {
        location: path.into(),
        keeps_scram: false,
        iotflow_base: Default::default(),
        devices_per_user_max: None,
        team_share: Default::default(),
        audit: martlet_registry::AuditKept::default(),
        deleted_kept_days: None,
    };
    let outbox = EventOutbox::new(Arc::clone(control), "node", None);
    SharedRegistry::new(settings, Arc::clone(control), outbox)
}

impl Node {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::of(settings, None)
    }

    /// With users, devices and the rest in a file of this directory.
    pub(crate) fn with_tables(settings: Settings, place: &Path) -> Self {
        Self::of(settings, Some(place.join("martlet.db")))
    }

    fn of(settings: Settings, tables: Option<PathBuf>) -> Self {
        let control = control();
        let parts = NodeParts {
            tables: tables.map(|path| Arc::new(tables_at(path, &control))),
            ..NodeParts::default()
        };
        Self::with_parts(settings, control, parts)
    }

    /// With this control plane and these parts.
    pub(crate) fn with_parts(settings: Settings, control: Arc<Control>, parts: NodeParts) -> Self {
        let directory = Arc::new(InMemory::default());
        let builder: Arc<dyn Callers> = match &parts.tables {
            Some(tables) => Arc::new(Arc::clone(tables)),
            None => directory.clone(),
        };
        let api = Api::new(Arc::clone(&control), builder, parts, settings).unwrap();
        Self {
            routes: router(api.clone()),
            api,
            control,
            directory,
            listener: FAR,
            peer: None,
        }
    }

    /// Requests arrive at this listener.
    pub(crate) fn at(mut self, listener: ListenerKind) -> Self {
        self.listener = listener;
        self
    }

    /// Node at a listener with routes of its own.
    pub(crate) fn with_routes(mut self, routes: RouteSettings) -> Self {
        self.api = self.api.with_routes(routes);
        self.routes = router(self.api.clone());
        self
    }

    /// Requests come from this address.
    pub(crate) fn from(mut self, peer: IpAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let mut request = request;
        if !request.headers().contains_key("host") {
            let host = "localhost:8080".parse().unwrap();
            request.headers_mut().insert("host", host);
        }
        request.extensions_mut().insert(HttpConnection {
            listener: self.listener,
            peer: Some(self.peer.unwrap_or(match self.listener {
                ListenerKind::Tcp {
                    is_loopback: true, ..
                } => Ipv4Addr::LOCALHOST.into(),
                _ => Ipv4Addr::new(192, 0, 2, 7).into(),
            })),
        });
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// With the key that may do everything.
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Answer {
        let request = request(method, target).header("x-api-key", KEY);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// By nobody in particular.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(request("GET", target).body(Body::empty()).unwrap())
            .await
    }

    /// With the key that may do everything, and a body.
    pub(crate) async fn ask_with(&self, method: &str, target: &str, body: &Value) -> Answer {
        let mut request = json(method, target, body);
        let key = KEY.parse().unwrap();
        request.headers_mut().insert("x-api-key", key);
        self.send(request).await
    }

    pub(crate) async fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(json("POST", target, body)).await
    }
}

pub(crate) fn request(method: &str, target: &str) -> Builder {
    Request::builder().method(method).uri(target)
}

pub(crate) fn json(method: &str, target: &str, body: &Value) -> Request<Body> {
    let request = request(method, target).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}
