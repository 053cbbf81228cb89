//! Converts keys and values to the settings of each layer: listeners, limits, data directory.
//!
//! * `listeners`, `url`: MQTT listeners and their addresses

mod listeners;
mod url;

pub(crate) use url::{listener_url, parse_url};

use std::path::PathBuf;
use std::sync::Arc;

use martlet_broker::{EventInterest, Realm, Settings, WorkLimits};
use martlet_certificates::{ClientFiles, client_config};
use martlet_control::UserConfiguration;
use martlet_control::authentication::{Lockout, Policy};
use martlet_control::event_archive::ArchiveSettings;
use martlet_control::feed::{Bounds, Filter, Kinds, Panel, PublishedKinds, Push};
use martlet_control::firmware::FirmwareSettings;
use martlet_control::presence::PresenceTopics;
use martlet_control::secrets::KEY_FILE;
use martlet_control::shared_registry::TablesSettings;
use martlet_control::telemetry::TelemetrySettings;
use martlet_reactor::{Durability, ListenerConfig};
use martlet_registry::Snapshot;

use crate::config::authentication::{PolicyReader, TablesRead, user_configuration};
use crate::config::data_dir::data_dir;
use crate::config::error::ConfigError;
use crate::config::http::{self, HttpConnections, HttpListener};
use crate::config::load::Effective;
use crate::config::log::{LogSettings, log_settings};
use crate::config::memory::memory_bytes_of;
use crate::config::schema::{self, StoreDurability};
use crate::config::sinks::SinksConfig;
use listeners::{keep_apart, listeners, no_certificates_are_asked_for};

/// Settings with which a node is started.
#[derive(Debug)]
pub(crate) struct NodeConfig {
    pub(crate) data_dir: PathBuf,
    pub(crate) threads: usize,
    pub(crate) durability: Durability,
    /// For crash tests: unsynced data is kept in memory only.
    pub(crate) simulate_power_loss: bool,
    pub(crate) settings: Settings,
    pub(crate) listeners: Vec<ListenerConfig>,
    /// HTTP listeners; empty if HTTP is off.
    pub(crate) http: Vec<HttpListener>,
    /// Access rules of HTTP.
    pub(crate) api: martlet_api::Settings,
    /// Limits of HTTP connections.
    pub(crate) http_connections: HttpConnections,
    pub(crate) memory_bytes: usize,
    pub(crate) log: LogSettings,
    /// Whether each connect, disconnect and refusal is logged.
    pub(crate) log_connections: bool,
    /// Limits of events that are kept for readers.
    pub(crate) events_kept: Bounds,
    /// Topics on which presence is published; `None` if it is not.
    pub(crate) presence_topics: Option<PresenceTopics>,
    /// The presence topic, whether or not presence is published.
    pub(crate) presence_topic: String,
    /// Target to which events are pushed.
    pub(crate) push: Option<Push>,
    /// Kinds of events that are published as messages.
    pub(crate) events_published: Option<PublishedKinds>,
    /// Names of these kinds.
    pub(crate) events_published_names: Vec<String>,
    pub(crate) sys_interval_secs: u64,
    /// Interval at which the node publishes its state to topics of IoTFlow, in seconds; 0 means
    /// never.
    pub(crate) iotflow_publish_secs: u64,
    /// The log of messages that other programs confirm.
    pub(crate) message_log: super::MessageLogConfig,
    /// Limits of firmware for devices, and the keys that verify it.
    pub(crate) firmware: FirmwareSettings,
    /// Archived events; `None` if there is no archive.
    pub(crate) event_archive: Option<ArchiveSettings>,
    /// Storage of telemetry; `None` if it is off.
    pub(crate) telemetry: Option<TelemetrySettings>,
    /// Rules about messages, and alarms.
    pub(crate) rules: super::rules::RulesConfig,
    pub(crate) shutdown_grace_secs: u64,
    /// Addresses that were skipped because this machine does not support their family.
    pub(crate) skipped: Vec<String>,
    /// Whether a listener on a non-loopback address accepts anonymous clients.
    pub(crate) anonymous_beyond_loopback: bool,
    /// Authentication of clients, if it is required.
    pub(crate) policy: Option<Arc<Policy>>,
    /// The lockout of the policy, or of the node if there is no policy.
    pub(crate) lockout: Lockout,
    /// The tables, if no login is checked against them and they are not disabled.
    pub(crate) idle_tables: Option<Arc<Snapshot>>,
    /// Location and settings of the tables.
    pub(crate) tables: TablesSettings,
    /// The key file of secrets.
    pub(crate) key_file: PathBuf,
    /// Integrations.
    pub(crate) sinks: SinksConfig,
    /// Where users are configured.
    pub(crate) user_configuration: UserConfiguration,
    /// Files that are reloaded when they change.
    pub(crate) files: Vec<PathBuf>,
    /// Warnings about the contents of the files.
    pub(crate) warnings: Vec<String>,
    /// Places of passwords that could be guessed.
    pub(crate) weak_passwords: Vec<String>,
    /// Rules that give no client any rights.
    pub(crate) locked_out: Vec<String>,
}

impl NodeConfig {
    /// Whether any listener without separate credentials accepts anonymous clients.
    pub(crate) fn lets_anonymous_in(&self) -> bool {
        let mut policies = self.listeners.iter().map(|listener| &listener.policy);
        policies.any(|policy| policy.allow_anonymous && policy.realm == Realm::COMMON)
    }
}

/// Resolves a configuration on this machine.
pub(crate) fn resolve(effective: &Effective) -> Result<NodeConfig, ConfigError> {
    resolve_with(effective, TablesRead::NotYet)
}

/// Resolves a configuration, with tables of users and devices that may have been read already.
pub(crate) fn resolve_with(
    effective: &Effective,
    tables: TablesRead,
) -> Result<NodeConfig, ConfigError> {
    let mut skipped = Vec::new();
    let mut reader = PolicyReader::new(effective, tables)?;
    let mut files = Vec::new();
    let listeners = listeners(effective, &mut reader, &mut files, &mut skipped)?;
    let settings = effective.settings();
    if settings.mqtt.enabled && listeners.iter().all(|listener| listener.tls.is_none()) {
        no_certificates_are_asked_for(effective)?;
    }
    let api = http::settings(effective, &mut reader.warnings)?;
    let http = http::listeners(effective, &api.routes, &mut files)?;
    for listener in &http {
        keep_apart(listener, &listeners)?;
    }
    files.append(&mut reader.files);
    let anonymous_beyond_loopback = listeners
        .iter()
        .any(|listener| listener.policy.allow_anonymous && !listener.address.is_local());
    let memory_bytes = memory_bytes_of(effective)?;
    let has_bans = reader.idle_tables().is_some_and(|tables| tables.has_bans());
    let sinks = super::sinks::sinks(effective, &data_dir(effective)?)?;
    let unknown = super::sinks::unknown_default(effective, &sinks);
    reader.warnings.extend(unknown);
    Ok(NodeConfig {
        key_file: match settings.secrets.key_file.as_str() {
            "" => data_dir(effective)?.join(KEY_FILE),
            path => PathBuf::from(path),
        },
        message_log: super::kept::message_log(effective)?,
        firmware: super::kept::firmware(effective)?,
        event_archive: super::kept::event_archive(effective)?,
        telemetry: super::telemetry::of(effective)?,
        rules: super::rules::of(effective)?,
        sinks,
        data_dir: data_dir(effective)?,
        tables: super::registry::settings(effective)?,
        threads: threads_of(settings.node.threads),
        durability: durability(effective),
        simulate_power_loss: settings.store.simulate_power_loss,
        settings: settings_of(settings, has_bans),
        listeners,
        http,
        http_connections: http::connections(effective, &api),
        api,
        memory_bytes,
        log: log_settings(effective)?,
        log_connections: settings.log.connections,
        events_kept: Bounds {
            events: settings.events.kept,
            bytes: settings.events.kept_bytes,
        },
        presence_topics: presence_topics(effective)?,
        presence_topic: settings.presence.topic.clone(),
        push: push(effective)?,
        events_published: events_published(effective)?,
        events_published_names: names_of(&settings.events.publish),
        sys_interval_secs: settings.mqtt.sys_interval_secs,
        iotflow_publish_secs: settings.iotflow.publish_secs,
        shutdown_grace_secs: settings.mqtt.shutdown_grace_secs,
        skipped,
        anonymous_beyond_loopback,
        warnings: std::mem::take(&mut reader.warnings),
        weak_passwords: std::mem::take(&mut reader.weak_passwords),
        locked_out: std::mem::take(&mut reader.locked_out),
        idle_tables: reader.idle_tables().cloned(),
        lockout: super::authentication::lockout(effective),
        policy: reader.policy(),
        user_configuration: user_configuration(effective),
        files,
    })
}

fn threads_of(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(64),
        threads => threads,
    }
}

/// Settings of the shards.
fn settings_of(configured: &schema::Settings, checks_bans: bool) -> Settings {
    let mqtt = &configured.mqtt;
    let prefix = &mqtt.response_information;
    Settings {
        limits: configured.limits.clone(),
        queue_full: mqtt.queue_full,
        rate_exceeded: mqtt.rate_exceeded,
        refuse_control_characters: mqtt.refuse_control_characters,
        response_information: (!prefix.is_empty()).then(|| prefix.clone()),
        events: EventInterest {
            // The journal records connections whether or not the log does.
            connections: true,
            drops: configured.log.drops,
            ..EventInterest::default()
        },
        work: WorkLimits::default(),
        checks_bans,
        node_seed: 0,
    }
}

/// Splits names separated by commas.
fn names_of(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn durability(effective: &Effective) -> Durability {
    let store = &effective.settings().store;
    match store.durability {
        StoreDurability::Memory => Durability::Memory,
        StoreDurability::Interval => Durability::Interval {
            ms: store.interval_ms,
        },
        StoreDurability::Sync => Durability::Sync,
    }
}

/// Topics on which presence is published.
fn presence_topics(effective: &Effective) -> Result<Option<PresenceTopics>, ConfigError> {
    let key = key!(presence.topic);
    let presence = &effective.settings().presence;
    let topics = PresenceTopics::new(&presence.topic);
    let topics = topics
        .map_err(|why| ConfigError::Unusable(format!("{}: {key}: {why}", effective.source(key))))?;
    Ok(presence.publish.then_some(topics))
}

/// Kinds of events that are published as messages.
fn events_published(effective: &Effective) -> Result<Option<PublishedKinds>, ConfigError> {
    const KEY: &str = key!(events.publish);
    PublishedKinds::parse(&effective.settings().events.publish).map_err(|error| {
        ConfigError::Unusable(format!("{}: {KEY}: {error}", effective.source(KEY)))
    })
}

fn push(effective: &Effective) -> Result<Option<Push>, ConfigError> {
    let events = &effective.settings().events;
    let url = &events.push_url;
    if url.is_empty() {
        return Ok(None);
    }
    let unusable = |key: &str, why: String| {
        ConfigError::Unusable(format!("{}: {key}: {why}", effective.source(key)))
    };
    let place = url.strip_prefix("ws://").or(url.strip_prefix("wss://"));
    if place.is_none_or(|place| place.is_empty() || place.starts_with('/')) {
        let why = "expected ws://HOST:PORT/app/KEY or wss://HOST/app/KEY".to_owned();
        return Err(unusable(key!(events.push_url), why));
    }
    let kinds = match events.push_kinds.is_empty() {
        true => Ok(Panel::kinds()),
        false => Kinds::parse(&events.push_kinds),
    };
    let ca_file = Some(&events.push_ca_file);
    let ca_file = ca_file.filter(|path| !path.is_empty()).map(PathBuf::from);
    if ca_file.is_some() && !url.starts_with("wss://") {
        let why = "events.push_url is not wss://, so no certificate is checked".to_owned();
        return Err(unusable(key!(events.push_ca_file), why));
    }
    if let Some(path) = &ca_file {
        let files = ClientFiles {
            ca_file: Some(path.clone()),
            ..ClientFiles::default()
        };
        client_config(&files)
            .map_err(|error| unusable(key!(events.push_ca_file), error.to_string()))?;
    }
    let topics = events.push_topics.to_vec();
    if let Some(topic) = topics.iter().find(|topic| !Filter::is_topic(topic)) {
        let why =
            format!("{topic:?} is not a valid Topic Filter, expected one such as devices/+/state");
        return Err(unusable(key!(events.push_topics), why));
    }
    let team = Some(&events.push_team);
    Ok(Some(Push {
        url: url.clone(),
        team: team.filter(|team| !team.is_empty()).cloned(),
        ca_file,
        topics,
        frame_bytes_max: events.push_bytes_max,
        kinds: kinds.map_err(|error| unusable(key!(events.push_kinds), error.to_string()))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Overlay, load};

    fn with_listen(urls: &[&str], more: &[(&str, &str)]) -> Result<NodeConfig, ConfigError> {
        let mut values: Vec<_> = more
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned(), "--set"))
            .collect();
        values.push((
            "node.data_dir".to_owned(),
            "unused".to_owned(),
            "--data-dir",
        ));
        let listen = urls.iter().map(|url| (*url).to_owned()).collect();
        resolve(&load(
            &Overlay {
                values,
                listen,
                ..Overlay::default()
            },
            &[],
        )?)
    }

    #[test]
    fn beyond_loopback_anonymous_access_must_be_chosen_in_words() {
        let node = with_listen(&["mqtt://0.0.0.0:1883"], &[]).unwrap();
        assert!(!node.listeners[0].policy.allow_anonymous);
        assert!(node.locked_out[0].contains("--allow-anonymous"));
        let never = [("auth.registry", "off")];
        let error = with_listen(&["mqtt://0.0.0.0:1883"], &never).unwrap_err();
        assert!(
            error.to_string().contains("auth.registry is off"),
            "{error}"
        );
        let node = with_listen(&["mqtt://[::]:1883"], &[("mqtt.allow_anonymous", "true")]).unwrap();
        assert!(node.anonymous_beyond_loopback);
        assert!(node.listeners[0].policy.allow_anonymous);
    }

    #[test]
    fn an_address_is_listened_on_once() {
        let twice = ["mqtt://127.0.0.1:1884", "ws://127.0.0.1:1884/mqtt"];
        let error = with_listen(&twice, &[]).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1884 is given twice"), "{error}");
    }

    #[test]
    fn certificates_that_nobody_can_show_are_not_asked_for() {
        let keys = [
            ("tls.client_certificates", "required"),
            ("tls.client_certificates", "optional"),
            ("tls.client_ca", "/etc/ca.crt"),
            ("tls.client_crl", "/etc/crl.pem"),
        ];
        for (key, value) in keys {
            for urls in [&[][..], &["mqtt://127.0.0.1:1883", "ws://127.0.0.1:9001"]] {
                let said = with_listen(urls, &[(key, value)]).unwrap_err().to_string();
                assert!(said.contains(&format!("`{key}` is set, but no")), "{said}");
            }
        }
        let off = [
            ("tls.client_certificates", "off"),
            ("tls.client_ca", "/etc/ca.crt"),
        ];
        assert!(with_listen(&["mqtt://127.0.0.1:1883"], &off).is_ok());
    }

    #[test]
    fn addresses_of_listeners_do_not_overlap() {
        let open = [("mqtt.allow_anonymous", "true")];
        for (one, other) in [
            ("mqtt://0.0.0.0:1884", "mqtt://127.0.0.1:1884"),
            ("ws://127.0.0.1:1884/mqtt", "mqtt://[::]:1884"),
            ("mqtt://[::]:1884", "mqtt://0.0.0.0:1884"),
            ("mqtt://[::1]:1884", "mqtt://:1884"),
        ] {
            let error = with_listen(&[one, other], &open).unwrap_err().to_string();
            assert!(error.contains("overlap"), "{one} {other}: {error}");
        }
        for (one, other) in [
            ("mqtt://0.0.0.0:1884", "mqtt://[::1]:1884"),
            ("mqtt://127.0.0.1:1884", "mqtt://[::1]:1884"),
            ("mqtt://[::]:0", "mqtt://127.0.0.1:0"),
            ("mqtt://[::]:1884", "mqtt://127.0.0.1:1885"),
        ] {
            assert!(with_listen(&[one, other], &open).is_ok(), "{one} {other}");
        }
        for (http, fits) in [
            ("127.0.0.1:1884", false),
            ("0.0.0.0:1884", false),
            ("127.0.0.2:1884", true),
            ("off", true),
        ] {
            let found = with_listen(&["ws://127.0.0.1:1884/mqtt"], &[("http.listen", http)]);
            let resolved = found
                .map(|node| node.http.len())
                .map_err(|error| error.to_string());
            assert_eq!(resolved.is_ok(), fits, "{resolved:?}");
            let names_both = |said: &String| {
                said.contains(&format!("http.listen: {http}"))
                    && said.contains("ws://127.0.0.1:1884")
            };
            assert!(
                resolved.as_ref().err().is_none_or(names_both),
                "{resolved:?}"
            );
        }
    }

    #[test]
    fn a_log_level_that_is_none_is_refused() {
        let error = with_listen(&[], &[("log.level", "loud")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("expected error, warn, info"), "{error}");
        assert!(with_listen(&[], &[("log.level", "info,martlet_control=warn")]).is_ok());
    }

    #[test]
    fn urls_have_default_ports_and_paths() {
        let node = with_listen(&["mqtt://127.0.0.1", "ws://127.0.0.1"], &[]).unwrap();
        let address = node.listeners[0].address.socket();
        assert_eq!(address.map(|address| address.port()), Some(1883));
        assert_eq!(node.listeners[1].name, "ws://127.0.0.1:9001/mqtt");
    }

    #[test]
    fn tls_that_is_switched_on_without_files_refuses_to_start_and_says_why() {
        let said =
            |urls: &[&str], more: &[(&str, &str)]| with_listen(urls, more).unwrap_err().to_string();
        let error = said(&["mqtts://127.0.0.1"], &[]);
        assert!(error.contains("set tls.certificate and tls.key"), "{error}");
        let files = [
            ("tls.certificate", "/nowhere/a.crt"),
            ("tls.key", "/nowhere/a.key"),
        ];
        let error = said(&["wss://127.0.0.1"], &files);
        assert!(error.contains("cannot read /nowhere/a.crt"), "{error}");
        let error = said(&["mqtts://127.0.0.1/path"], &[]);
        assert!(error.contains("only ws:// and wss:// have"), "{error}");
    }
}
