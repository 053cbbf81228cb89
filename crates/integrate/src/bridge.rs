//! Bridges: carry messages to and from another broker over one connection.
//!
//! * `kind`: `[[bridges]]` of the configuration
//! * `settings`: its values
//! * `address`: the address of the other broker
//! * `origin`: where a bridge begins
//! * `topics`: the topics it carries, and their names at the other side
//! * `message`: converts messages between the two sides
//! * `brokers`: which bridges connect to the same broker
//! * `changes`: changes of its subscriptions in progress
//! * `protocol`: its MQTT version
//! * `connection`: a named connection, whose subscriptions change while it runs
//! * `connecting`: a connection to the other broker
//! * `worker`, `ask`: the task that owns the connection, and its requests
//! * `outgoing`: messages that were passed to the worker and have no outcome yet
//! * `retained_transfer`: retained messages that the other broker may lack
//! * `room`: limits of memory for incoming messages
//! * `incoming`: messages of the other broker on their way into the node
//!
//! Outgoing messages come through a sink like any other: the runner has the queue, dead letters
//! and commands. The sink passes its batches to the worker, which also handles incoming messages.
//! Both run on one thread: waking another thread for each batch would cost more than sending it.

mod address;
mod ask;
mod brokers;
mod changes;
mod connecting;
mod connection;
mod incoming;
mod kind;
mod message;
mod origin;
mod outgoing;
mod protocol;
mod publisher;
mod retained_transfer;
mod room;
mod settings;
mod status;
mod topics;
mod worker;

use std::sync::{Arc, OnceLock};

use martlet_codec::QoS;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::configured_sink::ConfiguredSink;
use crate::host::Host;
use crate::incoming::Incoming;
use crate::outcome::Outcome;
use crate::runner::{Command, Runner, Settings, Teller};
use crate::secret::SecretsReceiver;
use crate::sink::Sink;
use crate::sink_message::{SinkMessage, sent_at_once};
use ask::Ask;
use message::Outward;
use origin::BridgeOrigin;
use outgoing::Messages;
use status::Status;
use worker::WorkerParts;

pub use address::{Address, check_addresses};
pub use ask::ConnectionError;
pub use brokers::{BrokerAddresses, Brokers};
pub use connection::NamedConnection;
pub(crate) use kind::BridgeKind;
pub use kind::NAME;
pub use protocol::Protocol;
pub(crate) use publisher::PUBLISHER;
pub use settings::{BridgeSettings, Start};
pub use topics::{BroughtTopics, DEFAULT_QOS, Direction, TopicRule, Topics};

/// The sink of a bridge: passes messages to the worker.
#[derive(Debug)]
struct BridgeSink {
    settings: Arc<BridgeSettings>,
    route: BridgeOrigin,
    worker: mpsc::UnboundedSender<Ask>,
    /// The runtime of the worker; `None`: it could not be started.
    runtime: Option<Handle>,
    status: Arc<Status>,
}

/// The integration of a bridge.
fn configured(settings: Settings, bridge: Arc<BridgeSettings>) -> ConfiguredSink {
    let connection = bridge.connection.clone();
    let broker = bridge.broker.clone();
    let sink = ConfiguredSink::started_by(settings, move |settings, secrets, host| {
        let (bridge, runner_host) = (Arc::clone(&bridge), Arc::clone(&host));
        let teller = Arc::<OnceLock<Teller>>::default();
        let incoming = Arc::<Incoming>::default();
        let counts = Arc::clone(&incoming);
        let for_workers = Arc::clone(&teller);
        let make = move || {
            BridgeSink::start(
                Arc::clone(&bridge),
                Arc::clone(&host),
                secrets.clone(),
                Arc::clone(&for_workers),
                Arc::clone(&counts),
            )
        };
        let handle = Runner::start_with_runtime(settings, make, runner_host);
        let handle = handle.with_incoming(incoming);
        // It is set once. A worker that connected earlier could not notify the runner.
        let _ = teller.set(handle.teller());
        handle.teller().tell(Command::Look);
        handle
    });
    let sink = sink.with_broker(broker);
    match connection {
        Some(connection) => sink.with_connection(connection),
        None => sink,
    }
}

impl BridgeSink {
    /// Starts a worker, and creates its sink.
    fn start(
        settings: Arc<BridgeSettings>,
        host: Arc<dyn Host>,
        secrets: SecretsReceiver,
        teller: Arc<OnceLock<Teller>>,
        incoming: Arc<Incoming>,
    ) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        if let Some(connection) = &settings.connection {
            connection.started(&asks);
        }
        let status = Arc::<Status>::default();
        let route = BridgeOrigin {
            node: host.node().into(),
            host: Arc::clone(&host),
        };
        let runtime = worker::start(WorkerParts {
            settings: Arc::clone(&settings),
            secrets,
            route: route.clone(),
            host,
            asks: asked,
            status: Arc::clone(&status),
            incoming,
            teller,
        });
        Self {
            settings,
            route,
            worker: asks,
            runtime,
            status,
        }
    }

    async fn send(&self, messages: Messages) -> Vec<Outcome> {
        let gone = || vec![Outcome::Failed("the bridge has ended".to_owned())];
        let (answer, answered) = oneshot::channel();
        if self.worker.send(Ask::Send(messages, answer)).is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }

    /// Outcomes of messages, in order. They end at the first undelivered message if the sink stops
    /// there.
    async fn deliver_at_once(&self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let version = self.settings.protocol.version();
        let bytes = batch.iter().map(SinkMessage::bytes).sum();
        let mut messages = Messages::with_room(version, batch.len(), bytes);
        let mut scratch = Vec::new();
        let remote = self.status.remote();
        let (settings, route, remote) = (&self.settings, &self.route, remote.as_deref());
        for one in batch {
            outcomes.push(match message::outward(one, settings, route, remote) {
                Outward::Skip => Outcome::Done,
                Outward::FromThere => {
                    self.status.skip();
                    Outcome::Done
                }
                Outward::Refuse(why) => Outcome::Refused(why),
                Outward::Send(sent) => {
                    if sent.qos == QoS::AtMostOnce {
                        messages.add_encoded(one.id(), |to| sent.encode(version, &mut scratch, to));
                    } else {
                        messages.add(one.id(), sent.message());
                    }
                    Outcome::NotTried
                }
            });
        }
        if messages.are_none() {
            return outcomes;
        }
        let mut sent = self.send(messages).await.into_iter();
        for outcome in &mut outcomes {
            if *outcome == Outcome::NotTried
                && let Some(of_worker) = sent.next()
            {
                *outcome = of_worker;
            }
        }
        outcomes
    }
}

impl Sink for BridgeSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        if batch.iter().any(|message| message.bridge().is_some()) {
            self.route.host.look_up_brokers().await;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for some in sent_at_once(batch, self.settings.stops_at_refusal) {
            outcomes.extend(self.deliver_at_once(some).await);
            if outcomes.iter().any(|one| *one != Outcome::Done) {
                break;
            }
        }
        outcomes
    }

    /// Connects if there is no connection.
    async fn test(&mut self) -> Result<(), String> {
        let gone = || Err("the bridge has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        if self.worker.send(Ask::Test(answer)).is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())?;
        self.status.trouble().map_or(Ok(()), Err)
    }

    fn health(&self) -> Option<String> {
        let connection = self.settings.connection.as_ref();
        // A connection that was never used is not needed.
        let is_used = connection.is_none_or(|one| one.is_used());
        self.status.trouble().filter(|_| is_used)
    }

    fn outage(&self) -> Option<String> {
        self.status.outage()
    }

    fn skipped(&self) -> u64 {
        self.status.skipped()
    }

    fn runtime(&self) -> Option<Handle> {
        self.runtime.clone()
    }

    fn try_again(&mut self) {
        // A bridge that has ended does not connect.
        let _ = self.worker.send(Ask::Connect);
    }
}
