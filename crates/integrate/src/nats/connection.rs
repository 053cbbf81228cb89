//! A connection to NATS that never reconnects by itself: lost messages of an old connection must
//! not arrive after newer ones of a new connection.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{ContextBuilder, PublishErrorKind};
use async_nats::rustls::ClientConfig;
use async_nats::{
    AuthError, Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind,
    ServerAddr,
};
use martlet_certificates::{ClientFiles, client_config};
use tokio::sync::watch;

use super::complaints::{Complaints, Limit};
use super::credentials::{Shown, filled};
use super::guard::{Excess, check_max_payload};
use super::relay::Relay;
use super::server::{ServerSettings, server_of, servers};
use crate::masking::SecretTexts;
use crate::outcome::Outcome;
use crate::secret::SecretValues;
use crate::words::error_words;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Ping interval; a server that does not answer within it counts as lost.
const PING_EVERY: Duration = Duration::from_secs(10);
const IN_FLIGHT_MAX: usize = 65_535;
/// Bytes of a batch of messages, and overhead of a message besides headers and payload.
const BATCH_BYTES: usize = 4 << 20;
const BESIDE_PAYLOAD: usize = 64 << 10;
/// Maximum number of characters of a server's text that are shown.
const LETTERS_MAX: usize = 200;

const SILENT: &str = "NATS accepts connections but does not answer, or the network drops packets";

/// A connection and its JetStream context.
pub(super) struct NatsConnection {
    pub(super) jetstream: Context,
    pub(super) client: Client,
    /// Whether the connection is lost.
    lost: watch::Receiver<bool>,
    /// Errors reported by the server, such as a missing permission.
    complaints: watch::Receiver<Complaints>,
    secrets: SecretTexts,
    /// The excess for which the server was cut off; only with a relay.
    excess: Option<Arc<OnceLock<Excess>>>,
}

impl std::fmt::Debug for NatsConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl NatsConnection {
    /// Connects to the first server that answers. `capacity`: maximum number of waiting messages
    /// of a subscription; further ones are dropped.
    pub(super) async fn open(
        settings: &ServerSettings,
        values: &SecretValues,
        capacity: usize,
    ) -> Result<Self, String> {
        let url = filled(&settings.url, values)?;
        let mut failures = Vec::new();
        for url in servers(url.expose()) {
            match Self::open_at(&url, settings, values, capacity).await {
                Ok(connection) => return Ok(connection),
                Err(failure) if failures.contains(&failure) => {}
                Err(failure) => failures.push(failure),
            }
        }
        Err(failures.join("; "))
    }

    /// Connects to the first address of a server that answers. The addresses are checked; the
    /// client library gets no name that it would resolve again.
    async fn open_at(
        url: &str,
        settings: &ServerSettings,
        values: &SecretValues,
        capacity: usize,
    ) -> Result<Self, String> {
        let mut secrets = SecretTexts::of(values);
        let server = server_of(url)?;
        for text in [server.username(), server.password()].into_iter().flatten() {
            secrets.add(text.as_bytes());
        }
        let addresses = settings.allowed.resolve(server.host(), server.port()).await;
        let addresses = addresses.map_err(|why| format!("NATS cannot be reached: {why}"))?;
        let tls = tls(settings, &server).await;
        let tls = tls.map_err(|why| format!("NATS cannot be reached: {why}"))?;
        let shown = Shown::of(&settings.credentials, values, &server).await?;
        shown.add_to(&mut secrets);
        let way = Dialing {
            shown: Arc::new(shown),
            tls,
            requires_tls: server.tls_required(),
            host: server.host().trim_matches(['[', ']']).to_owned(),
            word: None,
        };
        let mut failure = "NATS has no address".to_owned();
        for address in addresses {
            let connected = match relay(address, &way).await {
                Ok(Some(relay)) => {
                    Self::connect_by(&relay, &way, settings, capacity, &secrets).await
                }
                Ok(None) => {
                    let connected = Self::connect(address, &way, settings, capacity, &secrets);
                    connected.await.map_err(NotConnected::from)
                }
                Err(refusal) => Err(refusal),
            };
            let refusal = match connected {
                Ok(connection) => {
                    let max_payload = connection.client.server_info().max_payload;
                    match check_max_payload(max_payload) {
                        Ok(()) => return Ok(connection),
                        Err(excess) => NotConnected::of(&excess.to_string()),
                    }
                }
                Err(refusal) => refusal,
            };
            failure = shortened(&secrets.mask_text(&refusal.why));
            if refusal.is_rejected {
                break;
            }
        }
        Err(failure)
    }

    /// Connects through a relay.
    async fn connect_by(
        relay: &Relay,
        way: &Dialing,
        settings: &ServerSettings,
        capacity: usize,
        secrets: &SecretTexts,
    ) -> Result<Self, NotConnected> {
        let through = Dialing {
            shown: Arc::clone(&way.shown),
            tls: None,
            requires_tls: false,
            host: way.host.clone(),
            word: Some(relay.word.clone()),
        };
        let connected = Self::connect(relay.address, &through, settings, capacity, secrets).await;
        let connected = connected.map(|connection| Self {
            excess: Some(Arc::clone(&relay.excess)),
            ..connection
        });
        connected.map_err(|error| {
            let refusal = NotConnected::from(error);
            match relay.trouble().filter(|_| !refusal.is_rejected) {
                Some(trouble) => NotConnected::of(&trouble),
                None => refusal,
            }
        })
    }

    async fn connect(
        address: SocketAddr,
        way: &Dialing,
        settings: &ServerSettings,
        capacity: usize,
        secrets: &SecretTexts,
    ) -> Result<Self, ConnectError> {
        let was_connected = Arc::<AtomicBool>::default();
        let (lost_sender, lost) = watch::channel(false);
        let (complaint_sender, complaints) = watch::channel(Complaints::default());
        let senders = Arc::new((lost_sender, complaint_sender));
        let options = way
            .options(&was_connected)
            .name(way.name())
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(PING_EVERY)
            .subscription_capacity(capacity)
            .max_reconnects(1)
            .ignore_discovered_servers()
            .event_callback(move |event| {
                let senders = Arc::clone(&senders);
                async move {
                    match event {
                        Event::Disconnected | Event::Closed => {
                            senders.0.send_replace(true);
                        }
                        Event::ServerError(error) => {
                            senders.1.send_modify(|all| all.note(error.to_string()));
                        }
                        _ => {}
                    }
                }
            });
        let client = options.connect(format!("nats://{address}")).await?;
        was_connected.store(true, Ordering::SeqCst);
        let jetstream = context(client.clone(), settings.timeout);
        Ok(Self {
            jetstream,
            client,
            lost,
            complaints,
            secrets: secrets.clone(),
            excess: None,
        })
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Maximum bytes of a batch of messages. The longest message of the server fits.
    pub(super) fn batch_bytes(&self) -> usize {
        let longest = self.client.server_info().max_payload;
        longest.saturating_add(BESIDE_PAYLOAD).max(BATCH_BYTES)
    }

    /// Whether the server was cut off because it sent more than allowed.
    pub(super) fn is_cut_off(&self) -> bool {
        let excess = self.excess.as_ref();
        excess.is_some_and(|excess| excess.get().is_some())
    }

    /// Waits until the connection is lost.
    pub(super) async fn lost(&self) {
        let mut lost = self.lost.clone();
        // The sender is dropped only with the connection.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Waits until the server has read everything sent before.
    ///
    /// # Errors
    /// The server does not answer, or the connection is lost.
    pub(super) async fn read_by_server(&self, within: Duration) -> Result<(), PublishErrorKind> {
        // There is no subscriber, and the server reports that.
        let asked = self.client.request(self.client.new_inbox(), "".into());
        let asked = async {
            match tokio::time::timeout(within, asked).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
                Ok(Err(_)) | Err(_) => Err(PublishErrorKind::TimedOut),
            }
        };
        tokio::select! {
            biased;
            read = asked => read,
            () = self.lost() => Err(PublishErrorKind::BrokenPipe),
        }
    }

    /// A text, perhaps of the server, without secrets and shortened for display.
    pub(super) fn masked(&self, text: &str) -> String {
        // Masked before it is shortened, so that no part of a secret remains.
        shortened(&self.secrets.mask_text(text))
    }

    /// Adds the last error of the server to a failure, without secrets.
    pub(super) fn told(&self, outcome: Outcome) -> Outcome {
        let Outcome::Failed(why) = outcome else {
            return outcome;
        };
        let why = self.secrets.mask_text(&why);
        if let Some(excess) = self.excess.as_ref().and_then(|excess| excess.get()) {
            return Outcome::Failed(format!("{why}: {excess}"));
        }
        Outcome::Failed(match self.complaints.borrow().last() {
            Some(complaint) => format!("{why}; the server answered: {}", self.masked(complaint)),
            None => why,
        })
    }

    /// Waits until the server reports that publishing to this subject is not permitted.
    pub(super) async fn denied(&self, subject: &str) {
        let mut complaints = self.complaints.clone();
        if complaints
            .wait_for(|all| all.denies(subject))
            .await
            .is_err()
        {
            // The connection is lost; others handle that.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the server does not permit publishing to this subject.
    pub(super) fn denies(&self, subject: &str) -> bool {
        self.complaints.borrow().denies(subject)
    }

    /// Whether the client may have missed errors of the server.
    pub(super) fn has_too_many_complaints(&self) -> bool {
        self.complaints.borrow().are_too_many()
    }

    /// Whether the server has reported why it closed the connection.
    pub(super) fn was_ended_by_server(&self) -> bool {
        self.complaints.borrow().has_ended()
    }

    /// The limit of the server at which the connection was closed, if reported.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.complaints.borrow().limit()
    }
}

/// A relay to a server; `None`: the client handles the TLS that the server requires.
async fn relay(address: SocketAddr, way: &Dialing) -> Result<Option<Relay>, NotConnected> {
    let (host, tls) = (&*way.host, way.tls.as_ref());
    let relay = Relay::open(address, host, tls, way.requires_tls, CONNECT_WITHIN).await;
    relay.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => NotConnected {
            why: match way.requires_tls {
                true => format!("{SILENT}: no TLS within {} s", CONNECT_WITHIN.as_secs()),
                false => format!("{SILENT}: nothing within {} s", CONNECT_WITHIN.as_secs()),
            },
            is_rejected: false,
        },
        _ => NotConnected::of(&error_words(&error)),
    })
}

/// The beginning of a text.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn context(client: Client, ack_timeout: Duration) -> Context {
    ContextBuilder::new()
        // The timeout of a request and of the acknowledgement of a publish.
        .timeout(ack_timeout)
        .ack_timeout(ack_timeout)
        .max_ack_inflight(IN_FLIGHT_MAX)
        .build(client)
}

/// How to connect to each address of a server.
struct Dialing {
    shown: Arc<Shown>,
    /// TLS configuration; `None`: the default of the client library.
    tls: Option<ClientConfig>,
    requires_tls: bool,
    /// The host of the URL.
    host: String,
    /// The word that a relay expects.
    word: Option<String>,
}

/// Why there is no connection.
struct NotConnected {
    why: String,
    /// The server has rejected the connection; other addresses would too.
    is_rejected: bool,
}

impl NotConnected {
    fn of(why: &str) -> Self {
        Self {
            why: format!("NATS cannot be reached: {why}"),
            is_rejected: false,
        }
    }
}

impl From<ConnectError> for NotConnected {
    fn from(error: ConnectError) -> Self {
        Self {
            why: words(&error),
            is_rejected: is_rejected(error.kind()),
        }
    }
}

impl Dialing {
    /// The name of the client, with the word that a relay expects.
    fn name(&self) -> String {
        const NAME: &str = concat!("martlet/", env!("CARGO_PKG_VERSION"));
        match &self.word {
            Some(word) => format!("{NAME} {word}"),
            None => NAME.to_owned(),
        }
    }

    /// Options of a connection. The credentials are given out only once, which ends reconnection
    /// attempts of the client library.
    fn options(&self, was_connected: &Arc<AtomicBool>) -> ConnectOptions {
        let was_connected = Arc::clone(was_connected);
        let shown = Arc::clone(&self.shown);
        let mut options = ConnectOptions::with_auth_callback(move |nonce| {
            let auth = match was_connected.load(Ordering::SeqCst) {
                true => Err(AuthError::new("a lost connection is not made again")),
                false => shown.auth(&nonce),
            };
            std::future::ready(auth)
        });
        if let Some(tls) = &self.tls {
            options = options.tls_client_config(tls.clone());
        }
        options.require_tls(self.requires_tls)
    }
}

/// TLS configuration: the certificate must be valid for the host of the URL, although the client
/// has only its address. A server may require TLS with `nats://` too.
///
/// # Errors
/// A file is unusable.
async fn tls(
    settings: &ServerSettings,
    server: &ServerAddr,
) -> Result<Option<ClientConfig>, String> {
    let has_files = settings.ca_file.is_some() || settings.certificate.is_some();
    if !server.tls_required() && !has_files {
        return Ok(None);
    }
    let (certificate, key) = settings.certificate.clone().unzip();
    let files = ClientFiles {
        system_cas: settings.ca_file.is_none(),
        ca_file: settings.ca_file.clone(),
        certificate,
        key,
        host: Some(server.host().to_owned()),
        ..ClientFiles::default()
    };
    let config = tokio::task::spawn_blocking(move || client_config(&files)).await;
    let config = config.map_err(|_| "the files of TLS were not read".to_owned())?;
    let config = config.map_err(|error| error.to_string())?;
    Ok(Some(Arc::unwrap_or_clone(config)))
}

/// Whether the server has rejected the connection, so that other addresses would too.
fn is_rejected(kind: ConnectErrorKind) -> bool {
    matches!(
        kind,
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation
    )
}

/// Why there is no connection.
fn words(error: &ConnectError) -> String {
    let why = error_words(error);
    match error.kind() {
        ConnectErrorKind::TimedOut => {
            format!("{SILENT}: {why}")
        }
        kind if is_rejected(kind) => format!("NATS rejects the credentials: {why}"),
        _ => format!("NATS cannot be reached: {why}"),
    }
}
