//! `[[bridges]]` of the configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use martlet_certificates::ServerCheck;
use martlet_codec::{ProtocolVersion, TopicName};
use martlet_settings::{List, SecretValue, TopicLines, table, words};

use super::address::addresses;
use super::brokers::BrokerAddresses;
use super::configured;
use super::connection::NamedConnection;
use super::protocol::Protocol;
use super::settings::{BridgeSettings, Notifications, Start, TlsFiles};
use super::topics::{DEFAULT_QOS, TopicRule, Topics};
use crate::Here;
use crate::configured_sink::ConfiguredSink;
use crate::given::{client_certificate, given, path, template};
use crate::kind::{MakeIntegration, Surroundings};
use crate::runner::{ALL_TENANTS, Backoff, OnReject, Settings};
use crate::secret::Template;

/// Name of the kind.
pub const NAME: &str = "bridge";

/// The kind of the integrations that are bridges.
#[derive(Debug)]
pub(crate) struct BridgeKind;

/// Messages of a lane in hand for when the other broker has accepted others, if they are small.
/// QoS 0 messages beyond that are dropped, unless they are kept.
const IN_HAND: u16 = 4_000;
/// Maximum interval of two calls of a few messages, see [`Settings::called_every`].
const CALLED_EVERY: Duration = Duration::from_millis(4);

table! {
    /// Keys of `[[bridges]]`.
    BridgeKeys {
        /// Address of the other broker: mqtt://HOST:1883, or mqtts://HOST:8883 with TLS. Several, a
        /// list or separated by commas, are tried in turn. Private addresses need
        /// integrations.allow_private.
        url: List<String>;
        /// Topics that it carries: tables { filter, direction, qos, local_prefix, remote_prefix },
        /// or texts "FILTER DIRECTION QOS LOCAL_PREFIX REMOTE_PREFIX" as in a topic line of
        /// Mosquitto. direction: out (default), in or both. qos: highest QoS, default 1. A prefix
        /// is added before the filter on that side. The first entry that matches a topic applies.
        topics: TopicLines;
        /// Version of MQTT: 5.0 or 3.1.1. To another Martlet node with bridges it is always 5.0.
        /// Loops of several brokers are prevented only with 5.0.
        protocol: BridgeProtocol = BridgeProtocol::V5;
        /// Client Identifier at the other broker. Default: the host name, a dot and the name of the
        /// bridge.
        client_id: String;
        /// User name at the other broker.
        user: String;
        /// Password of user, such as ${secret:NAME}.
        password: SecretValue;
        /// Whether the other broker discards the session when the connection ends. If true,
        /// messages that are published while the bridge is disconnected are lost.
        clean_session: bool = false;
        /// Time without packets after which a ping is sent, seconds; without an answer within the
        /// same time the connection is lost.
        keep_alive_secs: u16 = 60, in 5..=65_535;
        /// PEM file of the CAs that are trusted to sign the other broker's certificate, with
        /// mqtts://. Default: those that the system trusts.
        ca_file: String;
        /// Directory with PEM files of such CAs.
        ca_directory: String;
        /// PEM file of a client certificate. Needs key_file.
        certificate_file: String;
        /// PEM file of its private key.
        key_file: String;
        /// Accept a certificate of the other broker for another host name.
        any_server_name: bool = false;
        /// Whether the other broker's certificate is checked, with mqtts://. false: it is not
        /// checked, and an attacker on the network path can read and change all messages.
        verify: bool = true;
        /// Whether it is a named connection, which the microservice's POST /publish and POST
        /// /subscribe can name as broker. topics is then optional. It connects at its first use,
        /// and ignores start.
        connection: bool = false;
        /// Prefix that is added to the topics of messages received for POST /subscribe. Default:
        /// none.
        prefix: String;
        /// automatic: connects at the start and again whenever the connection ends. lazy: connects
        /// when a message waits, and disconnects after idle_secs without one. once: connects once;
        /// when that connection ends, the bridge waits for a restart of the node.
        start: BridgeStart = BridgeStart::Automatic;
        /// See start.
        idle_secs: u64 = 60, in 1..=86_400;
        /// Pause after the first failed connection, seconds. It doubles with each further one, with
        /// jitter.
        reconnect_min_secs: u64 = 1, in 1..=3_600;
        /// Longest pause, seconds.
        reconnect_max_secs: u64 = 120, in 1..=86_400;
        /// Whether the state of the bridge is published to notification_topic at both brokers,
        /// retained: 1 connected, 0 not.
        notifications: bool = true;
        /// Whether it is published at this node only.
        notifications_local_only: bool = false;
        /// Default: $SYS/broker/connection/CLIENT_ID/state.
        notification_topic: String;
        /// Whether the bridge identifies itself as a bridge to the other broker with protocol
        /// 3.1.1, as Mosquitto does. The other broker then preserves RETAIN, and does not send the
        /// bridge its own messages. To a Martlet node with bridges, the bridge then uses 5.0, which
        /// prevents loops. Set it to false if the other broker rejects the connection.
        try_private: bool = true;
        /// Whether outgoing messages keep their RETAIN flag. false: it is cleared.
        outgoing_retain: bool = true;
        /// Maximum number of QoS 1 and 2 messages that are sent and not acknowledged.
        in_flight: u16 = 100, in 1..=65_535;
    }
}

/// Version of MQTT that a bridge uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BridgeProtocol {
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1.
    V311,
}

words! {
    BridgeProtocol {
        "5.0" => V5,
        "3.1.1" => V311,
    }
}

/// When a bridge connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BridgeStart {
    /// At the start, and again whenever the connection ends.
    Automatic,
    /// When a message waits.
    Lazy,
    /// Once.
    Once,
}

words! {
    BridgeStart {
        "automatic" => Automatic,
        "lazy" => Lazy,
        "once" => Once,
    }
}

impl BridgeKeys {
    fn tls_files(&self, data_dir: &Path) -> Result<TlsFiles, String> {
        let (certificate, key) = (&self.certificate_file, &self.key_file);
        Ok(TlsFiles {
            ca_file: path(&self.ca_file, data_dir),
            ca_directory: path(&self.ca_directory, data_dir),
            certificate: client_certificate(certificate, key, data_dir)?,
            check: match (self.verify, self.any_server_name) {
                (false, _) => ServerCheck::Nothing,
                (true, true) => ServerCheck::AnyName,
                (true, false) => ServerCheck::Full,
            },
        })
    }

    fn notifications(&self, client_id: &str) -> Result<Option<Notifications>, String> {
        if !self.notifications {
            return Ok(None);
        }
        let default = format!("$SYS/broker/connection/{client_id}/state");
        let topic = given(&self.notification_topic).unwrap_or(&default);
        TopicName::new(topic).map_err(|error| {
            format!(
                "the notification topic {topic:?} is not a valid Topic Name: {error}; set \
                 `client_id` or `notification_topic`"
            )
        })?;
        Ok(Some(Notifications {
            topic: topic.into(),
            remote: !self.notifications_local_only,
        }))
    }

    /// The topics.
    ///
    /// # Errors
    /// There are none, and it is not a named connection; or one is invalid.
    fn topics(&self) -> Result<Topics, String> {
        let lines = self.topics.iter().flat_map(|lines| &lines.0);
        let rules = lines.map(|line| TopicRule::parse(line, DEFAULT_QOS));
        let rules = rules.collect::<Result<Vec<_>, _>>();
        let rules = rules.map_err(|why| format!("`topics`: {why}"))?;
        if rules.is_empty() && !self.connection {
            return Err(
                "`topics` is missing, expected a list such as [{ filter = \"plant/#\", direction = \
                 \"out\" }]"
                    .to_owned(),
            );
        }
        Ok(rules.into_iter().collect())
    }

    /// The named connection that it is.
    ///
    /// # Errors
    /// Its prefix is invalid, or it has a prefix and is not a named connection.
    fn connection(&self, name: &str) -> Result<Option<Arc<NamedConnection>>, String> {
        let prefix = given(&self.prefix);
        match (self.connection, prefix) {
            (true, _) => {
                let prefix = prefix.unwrap_or_default();
                Ok(Some(Arc::new(NamedConnection::new(name, prefix)?)))
            }
            (false, Some(_)) => Err("`prefix` needs `connection = true`".to_owned()),
            (false, None) => Ok(None),
        }
    }

    /// Pauses between connections.
    fn pauses(&self) -> Result<(Duration, Duration), String> {
        if self.reconnect_min_secs > self.reconnect_max_secs {
            return Err("`reconnect_min_secs` is more than `reconnect_max_secs`".to_owned());
        }
        Ok((
            Duration::from_secs(self.reconnect_min_secs),
            Duration::from_secs(self.reconnect_max_secs),
        ))
    }

    /// User name and password at the other broker.
    fn credentials(&self) -> Result<(Option<Box<str>>, Option<Template>), String> {
        let password = template("password", &self.password)?;
        let user: Option<Box<str>> = given(&self.user).map(Into::into);
        if let Some(user) = &user
            && (user.len() > usize::from(u16::MAX) || user.contains('\0'))
        {
            return Err("`user` is longer than 65,535 bytes or has a NUL".to_owned());
        }
        if password.is_some() && user.is_none() {
            return Err("`password` needs `user`".to_owned());
        }
        Ok((user, password))
    }

    fn start(&self) -> Start {
        match self.start {
            _ if self.connection => Start::OnUse,
            BridgeStart::Automatic => Start::Automatic,
            BridgeStart::Lazy => Start::Lazy(Duration::from_secs(self.idle_secs)),
            BridgeStart::Once => Start::Once,
        }
    }
}

fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().into_owned();
    match name.is_empty() {
        true => "martlet".to_owned(),
        false => name,
    }
}

impl MakeIntegration for BridgeKind {
    const NAME: &'static str = NAME;
    type Keys = BridgeKeys;

    fn make(
        keys: &BridgeKeys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        if *settings.tenant == *ALL_TENANTS {
            return Err(
                "`tenant` is \"*\": a bridge carries the messages of one tenant".to_owned(),
            );
        }
        let default_id = format!("{}.{}", host_name(), settings.name.replace('/', "."));
        let client_id = given(&keys.client_id).unwrap_or(&default_id);
        let pauses = keys.pauses()?;
        let (user, password) = keys.credentials()?;
        let addresses = addresses(keys.url.as_deref().map_or("", |url| url))?;
        let connection = keys.connection(&settings.name)?;
        let bridge = BridgeSettings {
            name: settings.name.clone(),
            tenant: settings.tenant.clone(),
            broker: BrokerAddresses::new(&addresses, connection.is_some()),
            addresses,
            topics: keys.topics()?,
            connection,
            protocol: Protocol::new(match keys.protocol {
                BridgeProtocol::V311 => ProtocolVersion::V311,
                BridgeProtocol::V5 => ProtocolVersion::V5,
            }),
            client_id: client_id.into(),
            user,
            password,
            clean_session: keys.clean_session,
            keep_alive_secs: keys.keep_alive_secs,
            tls: keys.tls_files(surroundings.data_dir)?,
            start: keys.start(),
            pauses,
            notifications: keys.notifications(client_id)?,
            try_private: keys.try_private,
            outgoing_retain: keys.outgoing_retain,
            in_flight: keys.in_flight,
            stops_at_refusal: settings.on_reject == OnReject::Stop,
            allowed: surroundings.allowed.clone(),
        };
        let mut filters = bridge.topics.local_filters();
        filters.extend(bridge.connection.as_ref().map(|one| one.filter()));
        let settings = Settings {
            filters,
            brings: bridge.topics.brought(),
            sends: bridge.topics.sent(),
            in_hand: IN_HAND,
            called_every: CALLED_EVERY,
            // The pauses between connections are the bridge's own: a batch waits for the next
            // connection.
            backoff: Backoff {
                first: Duration::from_millis(100),
                longest: Duration::from_secs(1),
            },
            ..settings
        };
        let names = bridge.password.iter().flat_map(Template::names);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let files = bridge.tls.files();
        let sink = configured(settings, Arc::new(bridge));
        Ok(sink.with_secrets(names).reading(files))
    }

    fn target(keys: &BridgeKeys) -> Option<String> {
        let url = keys.url.as_ref().map(|url| url.to_string());
        url.filter(|url| !url.is_empty())
    }
}
