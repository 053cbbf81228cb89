//! The task that owns the connection of a bridge: it connects, sends the messages of the sink, and
//! publishes incoming messages at this node. It has its own thread, on which the sink is called
//! too.

use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use martlet_broker::{
    NODES_WITH_BRIDGES, NewMessage, PartEvent, PartId, PartPublish, PartQueueLimits, PartReach,
    PartSpec,
};
use martlet_client::{
    Acknowledgement, Client, ConnAckInfo, Event, NetError, RequestId, Session, SubscribeRequest,
    UserPropertyList,
};
use martlet_codec::{QoS, ReasonCode};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use super::ask::Ask;
use super::changes::Changes;
use super::connecting;
use super::incoming::Inbox;
use super::origin::BridgeOrigin;
use super::outgoing::{Outbox, Server};
use super::protocol::{OtherNode, is_topic_of_node, topic_of_node};
use super::publisher::PUBLISHER;
use super::retained_transfer::RetainedTransfer;
use super::room::Room;
use super::settings::{BridgeSettings, Start};
use super::status::{Status, Trouble};
use crate::host::Host;
use crate::incoming::Incoming;
use crate::masking::SecretTexts;
use crate::part::Part;
use crate::runner::{Command, Teller, own_name};
use crate::secret::SecretsReceiver;

/// After a connection that lasted this long, the next pause is the shortest again.
const LASTED: Duration = Duration::from_secs(10);
/// Interval of attempts to attach the part through which the bridge publishes.
const ATTACHED_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Time limit for the last packets when the node stops.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// Error of waiting messages while the bridge changes its MQTT version, or fetches messages again.
const CONNECTS_AGAIN: &str = "the bridge connects again";

/// An event for the worker, except those of the other broker.
enum WorkerMessage {
    /// From the sink; `None`: the sink has ended.
    Sink(Option<Ask>),
    /// From the node; `None`: the part has ended.
    Node(Option<PartEvent>),
    /// A timer has expired.
    Time,
}

/// The task of a bridge.
pub(super) struct Worker {
    client: Client,
    core: Core,
}

/// All state except the connection.
struct Core {
    settings: Arc<BridgeSettings>,
    secrets: SecretsReceiver,
    route: BridgeOrigin,
    host: Arc<dyn Host>,
    /// Closed when the sink has ended.
    asks: mpsc::UnboundedReceiver<Ask>,
    status: Arc<Status>,
    /// Notifies the runner of a changed status. Not set while the runner starts.
    teller: Arc<OnceLock<Teller>>,
    outbox: Outbox,
    inbox: Inbox,
    room: Room,
    part: Option<Part>,
    /// When the part is attached again.
    attach_at: Instant,
    is_connected: bool,
    /// Error of messages while no connection is being made.
    resting: Option<String>,
    /// Secrets that the other broker may repeat in its answers, and that must not be shown.
    mask: SecretTexts,
    /// Whether a message was to be sent since the last connection.
    is_wanted: bool,
    /// Whether a connection was requested.
    connects_at_once: bool,
    /// Tests that wait for the result of a connection attempt.
    tests: Vec<oneshot::Sender<Result<(), String>>>,
    /// The SUBSCRIBE in progress, and its filters.
    subscribing: Option<(RequestId, Vec<String>)>,
    /// Whether the other broker is a Martlet node.
    other: OtherNode,
    /// Whether the session of the other broker has the subscriptions.
    is_subscribed: bool,
    /// Retained messages that are sent before all others.
    snapshot: Option<RetainedTransfer>,
    /// Changes of subscriptions.
    changes: Changes,
    failures: u32,
    is_over: bool,
}

/// The arguments of a worker.
pub(super) struct WorkerParts {
    pub(super) settings: Arc<BridgeSettings>,
    pub(super) secrets: SecretsReceiver,
    pub(super) route: BridgeOrigin,
    pub(super) host: Arc<dyn Host>,
    pub(super) asks: mpsc::UnboundedReceiver<Ask>,
    pub(super) status: Arc<Status>,
    pub(super) incoming: Arc<Incoming>,
    pub(super) teller: Arc<OnceLock<Teller>>,
}

/// Starts the thread of a bridge, and returns its runtime. It ends when all senders of `asks` are
/// dropped. `None`: the thread could not be started, and the bridge carries nothing.
pub(super) fn start(parts: WorkerParts) -> Option<Handle> {
    let bridge = parts.settings.name.clone();
    let started = || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(async { Worker::new(parts).run().await });
        let thread = std::thread::Builder::new().name("bridge".to_owned());
        thread.spawn(run).map(|_| handle)
    };
    match started() {
        Ok(handle) => Some(handle),
        Err(error) => {
            let error: io::Error = error;
            error!(%bridge, %error, "no thread could be started for the bridge: it transfers no \
                 messages");
            None
        }
    }
}

impl Worker {
    /// Needs a Tokio runtime.
    fn new(parts: WorkerParts) -> Self {
        let mut session = Session::new();
        session.set_manual_acknowledgement(true);
        session.set_send_maximum(parts.settings.in_flight);
        let core = Core {
            settings: parts.settings,
            secrets: parts.secrets,
            route: parts.route,
            room: Room::new(parts.host.input_memory()),
            host: parts.host,
            asks: parts.asks,
            status: parts.status,
            teller: parts.teller,
            outbox: Outbox::default(),
            inbox: Inbox::new(parts.incoming),
            part: None,
            attach_at: Instant::now(),
            is_connected: false,
            resting: None,
            mask: SecretTexts::default(),
            is_wanted: false,
            connects_at_once: false,
            tests: Vec::new(),
            subscribing: None,
            other: OtherNode::default(),
            is_subscribed: false,
            snapshot: None,
            changes: Changes::default(),
            failures: 0,
            is_over: false,
        };
        Self {
            client: Client::new(session),
            core,
        }
    }

    async fn run(mut self) {
        let mut due = Some(Instant::now());
        loop {
            self.core.rest(due).await;
            if self.core.is_over {
                return;
            }
            self.core.resting = None;
            let connected = self.connect().await;
            if self.core.is_over {
                return self.client.close();
            }
            let since = Instant::now();
            let ended = match connected {
                Ok(info) => {
                    let server = self.connected(&info);
                    self.serve(server).await
                }
                Err(why) => Err(why),
            };
            if self.core.is_over {
                return self.send_disconnect().await;
            }
            if ended.is_ok() {
                self.send_disconnect().await;
            }
            self.client.close();
            due = self.core.disconnected(ended, since.elapsed());
        }
    }

    /// Connects to the first address that accepts the connection.
    async fn connect(&mut self) -> Result<ConnAckInfo, String> {
        let Self { client, core } = self;
        let secrets = core.secrets.borrow_and_update().clone()?;
        let mut options = connecting::options(&core.settings, &secrets)?;
        options.maximum_packet_size = core.host.packet_bytes_max();
        core.mask = connecting::secret_texts(&secrets, &options);
        let (settings, mask) = (Arc::clone(&core.settings), core.mask.clone());
        let mut connecting = pin!(async {
            let mut failure = String::new();
            for address in &settings.addresses {
                match connecting::open(client, address, &settings, &options).await {
                    Ok(info) => return Ok(info),
                    Err(why) => failure = mask.mask_text(&why),
                }
            }
            Err(failure)
        });
        loop {
            tokio::select! {
                biased;
                done = &mut connecting => return done,
                heard = core.hear(None) => core.heard(heard, None),
            }
            if core.is_over {
                return Err(String::new());
            }
        }
    }

    /// Handles an accepted connection. Returns the limits of the other broker.
    fn connected(&mut self, info: &ConnAckInfo) -> Server {
        let Self { client, core } = self;
        let settings = Arc::clone(&core.settings);
        core.set_connected(true);
        core.connects_at_once = false;
        core.answer_tests(&Ok(()));
        core.inbox.connected(info.session_present);
        let (protocol, status) = (&settings.protocol, &core.status);
        core.other.connected(info, &settings.name, protocol, status);
        let now = client.now();
        let notifications = settings.notifications.as_ref();
        if let Some(one) = notifications.filter(|one| one.remote) {
            let state = connecting::state(&one.topic, true);
            if let Err(error) = client.session().publish(state, now) {
                warn!(bridge = &*settings.name, %error, "cannot send the notification");
            }
        }
        core.subscribe(client, info.session_present);
        if !info.session_present {
            core.snapshot = Some(RetainedTransfer::of(&settings));
        }
        core.tell_status(None);
        core.notify(true);
        let (bridge, resumed) = (&*settings.name, info.session_present);
        info!(bridge, resumed, "the bridge is connected");
        Server {
            qos_max: info.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            takes_retained: info.retain_available.unwrap_or(true),
        }
    }

    /// Carries messages until the connection ends, with the reason; `Ok`: it is no longer needed.
    async fn serve(&mut self, server: Server) -> Result<(), String> {
        let Self { client, core } = self;
        let mut idle_since = Instant::now();
        loop {
            let now = client.now();
            core.send_retained(client).await;
            if let Some(connection) = &core.settings.connection {
                core.changes.send(connection, client.session(), now);
            }
            if core.snapshot.is_none() {
                core.outbox.send(client.session(), server, now);
            }
            core.inbox.go_on(core.part.as_ref());
            // The next batch is requested only after the output buffer is written.
            if client.session().output_mut().is_empty() {
                core.outbox.answer_if_done();
            }
            if core.outbox.waits() {
                idle_since = Instant::now();
            }
            let idle_until = match core.settings.start {
                Start::Lazy(idle) => Some(idle_since + idle),
                _ => None,
            };
            if idle_until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            if core.inbox.is_to_fetch_skipped() {
                let bridge = &*core.settings.name;
                info!(
                    bridge,
                    "it connects again, for messages that it had no memory for"
                );
                core.connects_at_once = true;
                return Ok(());
            }
            let until = core
                .look_at_room(client)
                .into_iter()
                .chain(idle_until)
                .min();
            tokio::select! {
                biased;
                heard = core.hear(until) => core.heard(heard, Some(client.session())),
                event = client.next_event_or_written() => {
                    let mut event = event.map_err(|error| core.lost(&error))?;
                    while let Some(one) = event {
                        core.event(one, client.session())?;
                        event = client.session().poll_event();
                    }
                }
            }
            if core.is_over || core.settings.protocol.version() != client.session().version() {
                return Ok(());
            }
        }
    }

    /// Ends the connection with DISCONNECT.
    async fn send_disconnect(&mut self) {
        let Self { client, core } = self;
        if !core.is_connected {
            return client.close();
        }
        let now = client.now();
        let notifications = core.settings.notifications.as_ref();
        if let Some(one) = notifications.filter(|one| one.remote) {
            // If it cannot be sent, the other broker gets no notification: after DISCONNECT it
            // does not publish the Will either.
            let _ = (client.session()).publish(connecting::state(&one.topic, false), now);
        }
        let none = UserPropertyList::default();
        (client.session()).disconnect(ReasonCode::Success, None, &none);
        let _ = timeout(GOODBYE_WITHIN, client.finish()).await;
    }
}

impl Core {
    /// Waits until a connection must be made.
    async fn rest(&mut self, due: Option<Instant>) {
        while !self.is_over {
            let may = due.is_some_and(|due| Instant::now() >= due);
            // A request waits for a subscription: connect at once.
            let is_asked = std::mem::take(&mut self.connects_at_once) || self.changes.wait();
            if is_asked && self.is_ready() || may && self.is_to_connect() {
                self.is_wanted = false;
                return;
            }
            let until = due.filter(|_| !may);
            let heard = self.hear(until).await;
            self.heard(heard, None);
            self.room.count(&self.inbox, &self.outbox, 0, 0);
        }
    }

    /// Whether a connection is needed.
    fn is_to_connect(&self) -> bool {
        match self.settings.start {
            Start::Automatic | Start::Once => true,
            Start::Lazy(_) => self.is_wanted,
            Start::OnUse => {
                self.is_ready()
                    && self
                        .settings
                        .connection
                        .as_ref()
                        .is_none_or(|one| one.wants())
            }
        }
    }

    /// Whether a connection may be made: the topics to subscribe to are known.
    fn is_ready(&self) -> bool {
        let connection = self.settings.connection.as_ref();
        connection.is_none_or(|one| one.is_restored())
    }

    /// Stops reading while there is no room. Returns when to check again.
    fn look_at_room(&mut self, client: &mut Client) -> Option<Instant> {
        let keeps_session = !self.settings.clean_session;
        let (inbox, session) = (&mut self.inbox, client.session());
        let look_at = self.room.look(inbox, &self.outbox, session, keeps_session);
        client.set_paused(look_at.is_some());
        look_at
    }

    fn set_connected(&mut self, is_connected: bool) {
        self.is_connected = is_connected;
        if let Some(connection) = &self.settings.connection {
            connection.set_connected(is_connected);
        }
    }

    /// The next event, until that time.
    async fn hear(&mut self, until: Option<Instant>) -> WorkerMessage {
        let Self {
            asks,
            part,
            inbox,
            outbox,
            attach_at,
            ..
        } = self;
        let attach = part.is_none().then_some(*attach_at);
        let times = [until, outbox.until(), inbox.blocked_until(), attach];
        let wake = times.into_iter().flatten().min();
        let of_node = async {
            match part {
                Some(part) => part.next().await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match wake {
                Some(wake) => sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ask = asks.recv() => WorkerMessage::Sink(ask),
            event = of_node => WorkerMessage::Node(event),
            () = time => WorkerMessage::Time,
        }
    }

    fn heard(&mut self, heard: WorkerMessage, mut session: Option<&mut Session>) {
        match heard {
            WorkerMessage::Sink(None) => self.is_over = true,
            WorkerMessage::Sink(Some(Ask::Change(change))) => self.changes.take(change),
            WorkerMessage::Sink(Some(Ask::Look)) => {}
            WorkerMessage::Sink(Some(Ask::Connect)) => self.connects_at_once = !self.is_connected,
            WorkerMessage::Sink(Some(Ask::Test(answer))) => {
                self.tests.push(answer);
                match self.is_connected {
                    true => self.answer_tests(&Ok(())),
                    false => self.connects_at_once = true,
                }
            }
            WorkerMessage::Sink(Some(Ask::Send(messages, answer))) => {
                self.is_wanted = true;
                if messages.version() != self.settings.protocol.version() {
                    // The sink may have stopped waiting.
                    let _ = answer.send(messages.failed(CONNECTS_AGAIN));
                    return;
                }
                if let Some(connection) = &self.settings.connection {
                    connection.set_used();
                }
                self.outbox.take(messages, answer);
                if let Some(why) = &self.resting {
                    self.outbox.answer(Some(why));
                }
            }
            WorkerMessage::Node(None) => self.part_gone(),
            WorkerMessage::Node(Some(event)) => {
                let mut next = Some(event);
                while let Some(event) = next {
                    self.told(event, session.as_deref_mut());
                    next = self.part.as_mut().and_then(Part::next_now);
                }
            }
            WorkerMessage::Time => {
                let now = Instant::now();
                if self.part.is_none() && now >= self.attach_at {
                    self.attach();
                }
                if self.outbox.until().is_some_and(|until| now >= until) {
                    let trouble = match self.is_connected {
                        true => None,
                        false => Some("the bridge is connecting"),
                    };
                    self.outbox.answer(trouble);
                }
            }
        }
    }

    /// Attaches the part through which messages are published at this node.
    fn attach(&mut self) {
        self.attach_at = Instant::now() + ATTACHED_AGAIN_AFTER;
        let Some(tenant) = self.host.tenant(&self.settings.tenant) else {
            return;
        };
        let spec = PartSpec {
            id: PartId::default(),
            tenant,
            client_id: format!("{PUBLISHER}{}", self.settings.name).into(),
            identity: None,
            subscriptions: Vec::new(),
            credit: 1,
            session_expiry_secs: 0,
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
            reach: PartReach::Node,
        };
        self.part = Some(Part::attach(spec, |spec, outlet| {
            self.host.attach(spec, outlet)
        }));
        self.publish(
            topic_of_node(own_name(&self.settings.name)),
            self.route.node.as_bytes(),
        );
        self.notify(self.is_connected);
    }

    fn part_gone(&mut self) {
        self.part = None;
        self.attach_at = Instant::now() + ATTACHED_AGAIN_AFTER;
        self.inbox.detached();
    }

    /// Handles an event of the node.
    fn told(&mut self, event: PartEvent, session: Option<&mut Session>) {
        match event {
            PartEvent::Published { number, outcome } => {
                self.inbox
                    .answered(number, &outcome, &self.settings, session);
            }
            PartEvent::Ended { why, .. } => {
                let bridge = &*self.settings.name;
                info!(bridge, why, "the bridge is detached from the node");
                self.part_gone();
            }
            _ => {}
        }
    }

    /// Sends the next retained messages, if some are to be sent.
    async fn send_retained(&mut self, client: &mut Client) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        // Without the tenant there are no retained messages.
        let tenant = self.host.tenant(&self.settings.tenant);
        let query = tenant.and_then(|tenant| snapshot.query(tenant));
        if let Some(query) = query
            && let Some(page) = self.host.retained(&query).await
        {
            let now = client.now();
            snapshot.send(&page, &self.settings, &self.route, client.session(), now);
        }
        if tenant.is_none() || snapshot.is_over() {
            self.snapshot = None;
        }
    }

    /// Handles an event of the other broker.
    fn event(&mut self, event: Event, session: &mut Session) -> Result<(), String> {
        match event {
            Event::Message(message) if is_topic_of_node(&message.topic) => {
                let settings = &self.settings;
                let (name, protocol) = (&*settings.name, &settings.protocol);
                self.other
                    .told(&message.payload, name, protocol, &self.status);
                if let Some(packet_id) = message.packet_id {
                    session.acknowledge(message.qos, packet_id, ReasonCode::Success);
                }
            }
            Event::Message(message) => {
                let remote = self.status.remote();
                let (route, remote) = (&self.route, remote.as_deref());
                let part = self.part.as_ref();
                let settings = &*self.settings;
                self.inbox
                    .take(*message, settings, route, remote, session, part);
            }
            Event::Completed {
                request,
                acknowledgement,
            } if self
                .subscribing
                .as_ref()
                .is_some_and(|(own, _)| *own == request) =>
            {
                self.subscribed(acknowledgement);
            }
            Event::Completed {
                request,
                acknowledgement,
            } => {
                let Some(mut acknowledgement) = self.changed(request, acknowledgement) else {
                    return Ok(());
                };
                if let Acknowledgement::Published {
                    reason_string: Some(text),
                    ..
                } = &mut acknowledgement
                {
                    *text = self.mask.mask_text(text);
                }
                let mut snapshot = self.snapshot.as_mut();
                if !snapshot.as_mut().is_some_and(|one| one.completed(request)) {
                    self.outbox.completed(request, acknowledgement);
                }
            }
            Event::Disconnected {
                reason,
                reason_string,
                ..
            } => {
                // The text may repeat what the bridge sent.
                let text = reason_string.map(|text| format!(" ({})", self.mask.mask_text(&text)));
                let text = text.unwrap_or_default();
                return Err(connecting::ended_by_broker(reason, &self.settings.client_id) + &text);
            }
            Event::Connected(_) | Event::Refused { .. } | Event::Traced(_) => {}
        }
        Ok(())
    }

    /// Subscribes to the incoming topics. Before MQTT 5.0, each SUBSCRIBE sends all retained
    /// messages again, which may be older than those of this node. So if the session has the
    /// subscriptions already, no SUBSCRIBE is sent.
    fn subscribe(&mut self, client: &mut Client, session_present: bool) {
        let is_v5 = self.settings.protocol.is_v5();
        let mut filters = self.settings.topics.remote_filters();
        let connection = self.settings.connection.as_ref();
        let of_connection = connection.map_or_else(Vec::new, |one| one.all());
        filters.extend(of_connection.iter().cloned());
        // With MQTT 3.1.1, `try_private = false` turns off the subscription to topics of bridges.
        if is_v5 || self.settings.try_private {
            filters.insert(0, (NODES_WITH_BRIDGES.to_owned(), QoS::AtLeastOnce));
        }
        if filters.is_empty() || !is_v5 && session_present && self.is_subscribed {
            return;
        }
        self.is_subscribed = false;
        let names = filters.iter().map(|(filter, _)| filter.clone()).collect();
        let filters = filters.into_iter().map(|(filter, qos)| {
            // A subscription by name gets every message that is published there.
            let is_own = of_connection.iter().any(|(own, _)| *own == filter);
            let options = connecting::subscription(&filter, qos, is_v5, is_own);
            (filter, options)
        });
        let request = SubscribeRequest {
            filters: filters.collect(),
            ..SubscribeRequest::default()
        };
        let now = client.now();
        match client.session().subscribe(&request, now) {
            Ok(request) => self.subscribing = Some((request, names)),
            Err(error) => self.tell_trouble(format!("it cannot subscribe: {error}")),
        }
    }

    fn subscribed(&mut self, how: Acknowledgement) {
        let Some((_, filters)) = self.subscribing.take() else {
            return;
        };
        let Acknowledgement::Subscribed(codes) = how else {
            return;
        };
        self.is_subscribed = true;
        // The bridge works without these subscriptions.
        let mut refused = filters
            .iter()
            .zip(&codes)
            .filter(|(filter, _)| **filter != NODES_WITH_BRIDGES);
        if let Some((filter, reason)) = refused.find(|(_, reason)| reason.is_error()) {
            let why = format!(
                "the other broker rejects the subscription to {filter:?}: {}",
                reason.name()
            );
            warn!(
                bridge = &*self.settings.name,
                why, "the other broker rejects a subscription"
            );
            self.tell_trouble(why);
        }
    }

    /// Handles the end of a connection or of a failed attempt, with the reason; `Ok`: it is not
    /// needed. Returns when the next attempt is due; `None`: never.
    fn disconnected(&mut self, ended: Result<(), String>, lasted: Duration) -> Option<Instant> {
        let was_connected = self.is_connected;
        self.set_connected(false);
        self.inbox.disconnected();
        self.room.disconnected();
        self.subscribing = None;
        self.notify(false);
        let Err(why) = ended else {
            self.tell_status(None);
            self.outbox.answer(Some(CONNECTS_AGAIN));
            self.fail_changes("the connection was ended");
            return Some(Instant::now());
        };
        self.failures = match was_connected && lasted >= LASTED {
            true => 1,
            false => self.failures.saturating_add(1),
        };
        let (bridge, is_once) = (&*self.settings.name, self.settings.start == Start::Once);
        let (first, longest) = self.settings.pauses;
        let pause = connecting::pause(first, longest, self.failures, self.host.random());
        let why = match is_once {
            true => format!("{why}; `start` is once, so it connects again at the next start"),
            false => why,
        };
        if was_connected || self.status.trouble().as_deref() != Some(&*why) {
            warn!(bridge, why, "the bridge is not connected");
        }
        self.outbox.answer(Some(&why));
        self.answer_tests(&Err(why.clone()));
        self.fail_changes(&why);
        self.resting = Some(why.clone());
        let is_outage = true;
        self.tell_status(Some(Trouble { why, is_outage }));
        (!is_once).then(|| Instant::now() + pause)
    }

    fn lost(&self, error: &NetError) -> String {
        connecting::lost(error, self.failures, &self.settings.client_id)
    }

    /// Publishes at this node whether the bridge is connected.
    fn notify(&self, is_connected: bool) {
        if let Some(one) = &self.settings.notifications {
            self.publish(one.topic.clone(), if is_connected { b"1" } else { b"0" });
        }
    }

    /// Publishes a retained message at this node.
    fn publish(&self, topic: Box<str>, payload: &[u8]) {
        if let Some(part) = &self.part {
            let message = NewMessage {
                topic,
                payload: payload.into(),
                qos: QoS::AtLeastOnce,
                retain: true,
                ..NewMessage::default()
            };
            part.publish(PartPublish {
                number: 0,
                message,
                receipts: false,
            });
        }
    }

    /// Handles the end of a request that may be a change of the subscriptions. Returns the
    /// acknowledgement if it is not one.
    fn changed(&mut self, request: RequestId, how: Acknowledgement) -> Option<Acknowledgement> {
        match &self.settings.connection {
            Some(connection) => self.changes.completed(connection, request, how),
            None => Some(how),
        }
    }

    /// Fails the waiting changes of subscriptions, because there is no connection.
    fn fail_changes(&mut self, why: &str) {
        if let Some(connection) = &self.settings.connection {
            self.changes.fail(connection, why);
        }
    }

    fn answer_tests(&mut self, outcome: &Result<(), String>) {
        for answer in self.tests.drain(..) {
            // The requester may have stopped waiting.
            let _ = answer.send(outcome.clone());
        }
    }

    fn tell_status(&self, trouble: Option<Trouble>) {
        if self.status.set(trouble)
            && let Some(teller) = self.teller.get()
        {
            teller.tell(Command::Look);
        }
    }

    /// Reports an error while there is a connection.
    fn tell_trouble(&self, why: String) {
        let is_outage = false;
        self.tell_status(Some(Trouble { why, is_outage }));
    }
}
