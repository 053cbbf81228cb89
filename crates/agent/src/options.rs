//! The command line of the agent, and the settings that result from it and the environment.
//!
//! Responsible for names, defaults and checks. Opens no connection and no queue.

use std::ffi::OsString;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use martlet_certificates::{ClientFiles, ServerCheck, client_config};
use martlet_client::{ConnectOptions, Endpoint};
use martlet_codec::{ProtocolVersion, TopicName};
use martlet_environment::ClientEnvironment;
use martlet_text_file::text_without_bom;

use crate::queue::Limits;

/// Longest password file in bytes: the longest password in MQTT.
const PASSWORD_BYTES_MAX: u64 = 65_535;
/// Longest packet accepted from the broker, in bytes: enough for an answer with a reason string.
const PACKET_BYTES_MAX: u32 = 64 * 1024;
/// Session Expiry Interval in seconds: a device may be offline for a week.
const SESSION_EXPIRY_SECS: u32 = 7 * 24 * 60 * 60;
/// Keep Alive.
const KEEP_ALIVE_SECS: u16 = 60;

/// Arguments of `martlet agent` and of `martlet-agent`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentOptions {
    /// Action to do instead of running.
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// Action of the agent besides running.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Add the messages of an SQLite queue (ID_queue.db) to the queue of a stopped agent
    ///
    /// The file is not changed. A row that was imported before is not added again, even from a copy
    /// of the file.
    Import(ImportOptions),
}

/// Arguments of `martlet agent import`.
#[derive(Args, Debug)]
pub struct ImportOptions {
    /// SQLite file with the table messages
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub(crate) queue: QueueOptions,
}

/// Where the queue is and how much it holds.
#[derive(Args, Debug)]
pub(crate) struct QueueOptions {
    /// Directory of the queue [default: STATE_DIRECTORY of the environment, else
    /// ~/.local/state/martlet-agent]
    #[arg(long, value_name = "DIR")]
    queue: Option<PathBuf>,
    /// Maximum number of messages in the queue; above it the oldest are dropped and counted
    #[arg(long, value_name = "COUNT", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    queue_messages: u64,
    /// Maximum size of topics and payloads in the queue in bytes, with K, M or G; above it the
    /// oldest messages are dropped and counted
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = size)]
    queue_bytes: u64,
}

/// Arguments of the agent when it runs.
#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    /// Send each line of standard input; the default if no other input is given. At its end the
    /// agent sends the messages in the queue, and stops
    #[arg(long, help_heading = "Input")]
    stdin: bool,
    /// Send each line that is written to this named pipe, which is created if it does not exist
    #[arg(long, value_name = "PATH", help_heading = "Input")]
    pipe: Option<PathBuf>,
    /// Send each line of the files in this directory; new files and new lines are sent when they
    /// appear
    #[arg(long, value_name = "DIR", help_heading = "Input")]
    folder: Option<PathBuf>,
    /// Send metrics of the host at this interval, seconds
    #[arg(long, value_name = "SECONDS", help_heading = "Input",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    metrics: Option<u64>,
    /// Topic of lines. {device_id}, {client_id} and {hostname} are replaced, and {file} by the name
    /// of the file in --folder without its extension
    #[arg(
        short,
        long,
        value_name = "TOPIC",
        default_value = "device/data/{device_id}"
    )]
    topic: String,
    /// Topic of metrics
    #[arg(long, value_name = "TOPIC", default_value = "device/data/{device_id}")]
    metrics_topic: String,
    /// Name of the device in topics and metrics [default: the Client Identifier]
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// Maximum length of a line in bytes, with K or M; longer lines are skipped and counted
    #[arg(long, value_name = "BYTES", default_value = "256K", value_parser = line_size)]
    line_bytes: u64,

    /// Broker's host [default: MQTT_BROKER_HOST, else localhost]
    #[arg(long, value_name = "HOST", help_heading = "Broker")]
    host: Option<String>,
    /// Broker's port [default: MQTT_BROKER_PORT, else 1883, with TLS 8883]
    #[arg(short, long, value_name = "PORT", help_heading = "Broker",
          value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Client Identifier [default: MQTT_CLIENT_ID, else one that is generated for the queue]
    #[arg(short, long, value_name = "ID", help_heading = "Broker")]
    id: Option<String>,
    /// User name [default: MQTT_USERNAME]
    #[arg(short, long, value_name = "NAME", help_heading = "Broker")]
    username: Option<String>,
    /// File with the password in its first line [default: MQTT_PASSWORD]
    #[arg(long, value_name = "FILE", help_heading = "Broker")]
    password_file: Option<PathBuf>,
    /// Encrypt the connection [default: MQTT_USE_TLS]
    #[arg(long, help_heading = "Broker")]
    tls: bool,
    /// File of CAs to trust; the connection is encrypted [default: MQTT_CA_CERTS, else the CAs of
    /// the system]
    #[arg(long, value_name = "FILE", help_heading = "Broker")]
    cafile: Option<PathBuf>,
    /// The client's certificate [default: MQTT_CERTFILE]
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Broker")]
    cert: Option<PathBuf>,
    /// The key of that certificate [default: MQTT_KEYFILE]
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "Broker")]
    key: Option<PathBuf>,
    /// Protocol version: 5 or 311
    #[arg(long, value_name = "VERSION", default_value = "5",
          value_parser = version, help_heading = "Broker")]
    protocol_version: ProtocolVersion,
    /// Maximum number of messages sent per second
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, help_heading = "Broker",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,

    #[command(flatten, next_help_heading = "Queue")]
    queue: QueueOptions,
}

/// Sources of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) stdin: bool,
    pub(crate) pipe: Option<PathBuf>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) metrics: Option<Duration>,
}

impl Inputs {
    /// Whether standard input is the only source, so that the agent can end with it.
    pub(crate) fn is_stdin_alone(&self) -> bool {
        let others = self.pipe.is_some() || self.folder.is_some() || self.metrics.is_some();
        self.stdin && !others
    }
}

/// Location and limits of the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueuePlace {
    pub(crate) directory: PathBuf,
    pub(crate) limits: Limits,
}

/// Settings that result from the options.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    /// The CONNECT. If its Client Identifier is empty, the one in the queue is used.
    pub(crate) connect: ConnectOptions,
    pub(crate) queue: QueuePlace,
    pub(crate) inputs: Inputs,
    pub(crate) topic: String,
    pub(crate) metrics_topic: String,
    pub(crate) device_id: Option<String>,
    pub(crate) line_bytes_max: usize,
    /// Most messages per second.
    pub(crate) rate: u64,
}

impl QueueOptions {
    /// # Errors
    /// No directory is given, and there is no default one.
    pub(crate) fn place(&self) -> Result<QueuePlace, String> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let usual = || {
            let first = |text: OsString| {
                let text = text.into_string().ok()?;
                text.split(':').next().map(PathBuf::from)
            };
            let state = variable("XDG_STATE_HOME").map(PathBuf::from);
            let home = || Some(Path::new(&variable("HOME")?).join(".local/state"));
            let own = || Some(state.or_else(home)?.join("martlet-agent"));
            variable("STATE_DIRECTORY").and_then(first).or_else(own)
        };
        let directory = self.queue.clone().or_else(usual);
        Ok(QueuePlace {
            directory: directory.ok_or("name the directory of the queue with --queue DIR")?,
            limits: Limits {
                messages: self.queue_messages,
                bytes: self.queue_bytes,
            },
        })
    }
}

impl RunOptions {
    /// Returns the settings. Options take precedence over variables.
    ///
    /// # Errors
    /// The text is a line for the user.
    pub(crate) fn settings(&self, variables: &[(String, String)]) -> Result<Settings, String> {
        let overrides = self.overrides()?;
        let environment = ClientEnvironment::read(|name| {
            let own = overrides.iter().find(|(known, _)| *known == name);
            let own = own.map(|(_, value)| value.clone());
            let found = variables.iter().find(|(known, _)| known == name);
            own.or_else(|| found.map(|(_, value)| value.clone()))
        })?;
        let inputs = Inputs {
            stdin: self.stdin
                || (self.pipe.is_none() && self.folder.is_none() && self.metrics.is_none()),
            pipe: self.pipe.clone(),
            folder: self.folder.clone(),
            metrics: self.metrics.map(Duration::from_secs),
        };
        for topic in [&self.topic, &self.metrics_topic] {
            check_topic(topic)?;
        }
        let default_port = match environment.use_tls {
            true => 8883,
            false => 1883,
        };
        let host = environment.host.clone().unwrap_or("localhost".to_owned());
        let mut endpoint = Endpoint::tcp(host, environment.port.unwrap_or(default_port));
        if environment.use_tls {
            endpoint.tls =
                Some(client_config(&tls_files(&environment)).map_err(|e| e.to_string())?);
        }
        let (username, password) = environment.credentials()?;
        let connect = ConnectOptions {
            version: self.protocol_version,
            client_id: environment.client_id.unwrap_or_default(),
            clean_start: false,
            keep_alive_secs: KEEP_ALIVE_SECS,
            username,
            password,
            session_expiry_secs: Some(SESSION_EXPIRY_SECS),
            // The agent has no subscriptions: it receives only answers.
            maximum_packet_size: NonZeroU32::new(PACKET_BYTES_MAX),
            ..ConnectOptions::default()
        };
        Ok(Settings {
            endpoint,
            connect,
            queue: self.queue.place()?,
            inputs,
            topic: self.topic.clone(),
            metrics_topic: self.metrics_topic.clone(),
            device_id: self.device_id.clone(),
            line_bytes_max: usize::try_from(self.line_bytes).unwrap_or(usize::MAX),
            rate: self.rate,
        })
    }

    /// Returns the options under the names of their variables.
    fn overrides(&self) -> Result<Vec<(&'static str, String)>, String> {
        let mut all = Vec::new();
        let mut add = |name, value: Option<String>| all.extend(value.map(|value| (name, value)));
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        add("MQTT_BROKER_HOST", self.host.clone());
        add("MQTT_BROKER_PORT", self.port.map(|port| port.to_string()));
        add("MQTT_CLIENT_ID", self.id.clone());
        add("MQTT_CA_CERTS", text(&self.cafile));
        add("MQTT_CERTFILE", text(&self.cert));
        add("MQTT_KEYFILE", text(&self.key));
        let uses_tls = self.tls || self.cafile.is_some();
        add("MQTT_USE_TLS", uses_tls.then(|| "true".to_owned()));
        if self.username.is_some() {
            // A password from another source would belong to another user name.
            add("MQTT_USERNAME", self.username.clone());
            add(
                "MQTT_PASSWORD",
                self.password_file.is_none().then(String::new),
            );
        }
        let password = self.password_file.as_deref().map(password).transpose()?;
        add("MQTT_PASSWORD", password);
        Ok(all)
    }
}

fn tls_files(environment: &ClientEnvironment) -> ClientFiles {
    ClientFiles {
        system_cas: environment.ca_file.is_none(),
        ca_file: environment.ca_file.clone(),
        certificate: environment.certificate.clone(),
        key: environment.key.clone(),
        check: match environment.insecure {
            true => ServerCheck::Nothing,
            false => ServerCheck::Full,
        },
        ..ClientFiles::default()
    }
}

/// Reads the first line of a file.
fn password(path: &Path) -> Result<String, String> {
    let place = path.display();
    let failed = |error| format!("cannot read the password file {place}: {error}");
    if path.metadata().map_err(failed)?.len() > PASSWORD_BYTES_MAX {
        return Err(format!(
            "the password file {place} is longer than {PASSWORD_BYTES_MAX} bytes: name the file of \
             this device's password"
        ));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let line = text_without_bom(&text).lines().next().unwrap_or_default();
    match line.is_empty() {
        true => Err(format!(
            "the password file {place} has no password in its first line"
        )),
        false => Ok(line.to_owned()),
    }
}

/// Placeholders for topics.
const PLACEHOLDERS: [&str; 4] = ["{device_id}", "{client_id}", "{hostname}", "{file}"];

fn check_topic(topic: &str) -> Result<(), String> {
    let mut plain = topic.to_owned();
    for placeholder in PLACEHOLDERS {
        plain = plain.replace(placeholder, "x");
    }
    if plain.contains(['{', '}']) {
        return Err(format!(
            "topic {topic:?}: unknown name in braces, expected one of {}",
            PLACEHOLDERS.join(", ")
        ));
    }
    match TopicName::new(&plain) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "topic {topic:?}: expected a Topic Name, without + and #"
        )),
    }
}

fn version(text: &str) -> Result<ProtocolVersion, String> {
    match text {
        "5" | "mqttv5" => Ok(ProtocolVersion::V5),
        "311" | "mqttv311" => Ok(ProtocolVersion::V311),
        _ => Err("expected 5 or 311".to_owned()),
    }
}

/// Parses a number of bytes. The suffixes K, M and G are powers of 1,024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| (1024..=1 << 40).contains(bytes))
        .ok_or_else(|| "expected a size from 1K to 1024G".to_owned())
}

fn line_size(text: &str) -> Result<u64, String> {
    let bytes = match text.parse() {
        Ok(bytes @ 1..1024) => bytes,
        _ => size(text)?,
    };
    match bytes {
        0..=0x40_0000 => Ok(bytes),
        _ => Err("expected a size from 1 to 4M".to_owned()),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
