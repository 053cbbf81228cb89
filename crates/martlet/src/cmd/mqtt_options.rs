//! Options shared by `martlet pub`, `sub` and `rr`: the broker's address and the credentials.
//!
//! Responsible for their spelling, which is mosquitto's, for their checks, and for converting them
//! to an endpoint and a CONNECT. Does not connect. MQTT 5.0 §3.1.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use martlet_client::{ConnectOptions, Endpoint, Message, Password, Transport, Will};
use martlet_codec::{ProtocolVersion, QoS, TopicName};
use martlet_environment::ClientEnvironment;

use super::argv;
use super::client_environment;
use super::property::{Properties, Property};
use super::random;
use super::scram::Scram;
use super::tls_options::TlsOptions;
use super::url::{self, BrokerUrl, Scheme};

/// Session Expiry Interval of a session that never expires.
const NEVER: u32 = u32::MAX;

/// Options of every client command.
#[derive(Args)]
pub(crate) struct MqttOptions {
    /// Address to connect from
    #[arg(short = 'A', long = "bind", value_name = "address")]
    bind: Option<IpAddr>,
    /// Keep the session after disconnecting (needs -i)
    #[arg(short = 'c', long = "disable-clean-session")]
    persistent: bool,
    /// Print what is sent and received
    #[arg(short = 'd', long = "debug")]
    pub(crate) debug: bool,
    /// MQTT 5.0 property: COMMAND NAME VALUE, or COMMAND user-property NAME VALUE. May be repeated
    #[arg(short = 'D', long = "property", value_name = "COMMAND NAME VALUE",
          value_parser = super::property::parse, action = ArgAction::Append)]
    properties: Vec<Property>,
    /// Host to connect to [default: localhost]
    #[arg(short = 'h', long, value_name = "host")]
    host: Option<String>,
    /// Client Identifier
    #[arg(short = 'i', long, value_name = "id")]
    id: Option<String>,
    /// Client Identifier made of this and the process id
    #[arg(short = 'I', long, value_name = "id-prefix")]
    id_prefix: Option<String>,
    /// Keep Alive in seconds
    #[arg(short = 'k', long = "keepalive", value_name = "keepalive", default_value = "60",
          value_parser = keep_alive)]
    keep_alive_secs: u16,
    /// Broker as mqtt[s]://[user[:password]@]host[:port]/topic
    /// or ws[s]://[user[:password]@]host[:port]/path
    #[arg(short = 'L', long, value_name = "URL", value_parser = url::parse)]
    url: Option<BrokerUrl>,
    /// Maximum number of QoS 1 and 2 messages in flight
    #[arg(short = 'M', long = "max-inflight", value_name = "max-inflight", default_value = "20",
          value_parser = max_inflight)]
    pub(crate) max_inflight: u16,
    /// Send small packets at once (TCP_NODELAY)
    #[arg(long)]
    nodelay: bool,
    /// TCP port [default: 1883; with TLS 8883; with --ws 80, or 443]
    #[arg(short = 'p', long, value_name = "port", value_parser = port)]
    port: Option<u16>,
    /// Password
    #[arg(short = 'P', long = "pw", value_name = "password")]
    password: Option<OsString>,
    /// Print no errors of the connection
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Connect to a Unix socket instead of TCP
    #[arg(long, value_name = "path", conflicts_with_all = ["host", "port", "url"])]
    unix: Option<PathBuf>,
    /// User name
    #[arg(short = 'u', long, value_name = "username")]
    username: Option<String>,
    /// Protocol version: 5, 311 or 31, also mqttv5, mqttv311, mqttv31
    #[arg(short = 'V', long = "protocol-version", value_name = "version", value_parser = version)]
    version: Option<ProtocolVersion>,
    /// Authenticate by SCRAM-SHA-256 instead of sending the password; the server must prove that it
    /// knows the password. MQTT 5.0 only
    #[arg(long)]
    scram: bool,
    /// Session Expiry Interval in seconds, -1 for never
    #[arg(short = 'x', long = "session-expiry", value_name = "session-expiry-interval",
          value_parser = session_expiry)]
    session_expiry_secs: Option<u32>,
    /// Connect over WebSocket
    #[arg(long)]
    ws: bool,
    /// Payload of the Will
    #[arg(long, value_name = "will-payload")]
    will_payload: Option<OsString>,
    /// QoS of the Will
    #[arg(long, value_name = "will-QoS", value_parser = will_qos)]
    will_qos: Option<QoS>,
    /// Make the Will retained
    #[arg(long)]
    will_retain: bool,
    /// Topic of the Will
    #[arg(long, value_name = "will-topic")]
    will_topic: Option<String>,
    #[command(flatten)]
    tls: TlsOptions,
    #[command(flatten)]
    unsupported: Unsupported,
}

/// Options of mosquitto's clients that this build refuses by name.
#[derive(Args, Debug)]
struct Unsupported {
    #[arg(long, hide = true)]
    keyform: Option<OsString>,
    #[arg(long, hide = true)]
    ciphers: Option<OsString>,
    #[arg(long, hide = true)]
    tls_engine: Option<OsString>,
    #[arg(long, hide = true)]
    tls_engine_kpass_sha1: Option<OsString>,
    #[arg(long, hide = true)]
    psk: Option<OsString>,
    #[arg(long, hide = true)]
    psk_identity: Option<OsString>,
    #[arg(long, hide = true)]
    proxy: Option<OsString>,
}

/// The endpoint, and the user name, password and topic in the URL, if any.
type UrlParts = (Endpoint, Option<String>, Option<Password>, Option<String>);

/// Settings that result from the options.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where to connect.
    pub(crate) endpoint: Endpoint,
    /// The CONNECT to send.
    pub(crate) connect: ConnectOptions,
    /// Whether the Client Identifier was generated, so that no other client has it.
    pub(crate) has_generated_id: bool,
    /// SCRAM, if it is used, so that the password is not sent.
    pub(crate) scram: Option<Scram>,
    /// The topic in the URL, if any.
    pub(crate) topic: Option<String>,
    /// Properties for packets other than CONNECT.
    pub(crate) properties: Properties,
}

/// Why options are rejected.
#[derive(Debug)]
pub(crate) struct OptionsRefusal {
    line: String,
    points_to_help: bool,
}

impl OptionsRefusal {
    /// The text for standard error, in mosquitto's format.
    pub(crate) fn text(&self, command: &str) -> String {
        match self.points_to_help {
            true => argv::with_usage(&self.line, command),
            false => format!("Error: {}", self.line),
        }
    }
}

impl From<String> for OptionsRefusal {
    fn from(line: String) -> Self {
        Self {
            line,
            points_to_help: true,
        }
    }
}

impl From<&str> for OptionsRefusal {
    fn from(line: &str) -> Self {
        line.to_owned().into()
    }
}

impl MqttOptions {
    /// Checks the options and converts them. `default_version` applies if neither `-V` nor an
    /// option of MQTT 5.0 determines the version.
    ///
    /// # Errors
    /// A line for the user.
    pub(crate) fn target(self, default_version: ProtocolVersion) -> Result<Target, OptionsRefusal> {
        self.unsupported.check()?;
        let environment = client_environment::of_process()?;
        if self.id.is_some() && self.id_prefix.is_some() {
            return Err("-i and -I argument cannot be used together.".into());
        }
        if self.id.as_deref() == Some("") && self.version != Some(ProtocolVersion::V5) {
            return Err(OptionsRefusal {
                line: "Invalid id.".into(),
                points_to_help: false,
            });
        }
        let keeps_session = self.persistent || self.session_expiry_secs == Some(NEVER);
        if keeps_session && self.id.is_none() {
            return Err("You must provide a client id if you are using the -c option.".into());
        }
        let properties = Properties::collect(&self.properties)?;
        // As in mosquitto, an option that exists only in MQTT 5.0 selects MQTT 5.0.
        let wants_v5 =
            !self.properties.is_empty() || self.session_expiry_secs.is_some() || self.scram;
        let version = match wants_v5 {
            true => ProtocolVersion::V5,
            false => self.version.unwrap_or(default_version),
        };
        let will = self.will(&properties)?;
        let (endpoint, url_user, url_password, topic) = self.endpoint(&environment)?;
        let username = self.username.or(url_user);
        let password = self.password.map(OsString::into_vec);
        let password = password.map(Password).or(url_password);
        // Both or none: a name and a password from different sources do not match.
        let (username, password) = match (username, password) {
            (None, None) => environment.credentials()?,
            both => both,
        };
        if password.is_some() && username.is_none() && !version.is_v5() {
            let line = "Problem setting username and/or password.".into();
            return Err(OptionsRefusal {
                line,
                points_to_help: false,
            });
        }
        let (scram, password) = match (self.scram, &username, password) {
            (false, _, password) => (None, password),
            (true, Some(name), Some(password)) => {
                (Some(Scram::new(name.clone(), password.0)), None)
            }
            (true, ..) => return Err("--scram needs a user name and a password.".into()),
        };
        let client_id = match (self.id, self.id_prefix) {
            (Some(id), _) => Some(id),
            (None, Some(prefix)) => Some(format!("{prefix}{}", std::process::id())),
            (None, None) => environment.client_id,
        };
        let has_generated_id = client_id.is_none();
        let session_expiry_secs = self.session_expiry_secs.or(properties.session_expiry_secs);
        let mut connect = ConnectOptions {
            version,
            client_id: client_id.unwrap_or_else(random::client_id),
            clean_start: !self.persistent,
            keep_alive_secs: self.keep_alive_secs,
            username,
            password,
            will,
            session_expiry_secs: session_expiry_secs.or(self.persistent.then_some(NEVER)),
            ..ConnectOptions::default()
        };
        properties.apply_to_connect(&mut connect);
        Ok(Target {
            endpoint,
            connect,
            has_generated_id,
            scram,
            topic,
            properties,
        })
    }

    /// The endpoint, and the user name, password and topic in the URL, if any.
    fn endpoint(&self, environment: &ClientEnvironment) -> Result<UrlParts, String> {
        let named = self.host.clone().or_else(|| environment.host.clone());
        let is_secure = match &self.url {
            Some(url) => url.is_secure,
            None => self.tls.is_requested(environment),
        };
        let default_port = match (self.ws, is_secure) {
            (false, false) => 1883,
            (false, true) => 8883,
            (true, false) => 80,
            (true, true) => 443,
        };
        let tls = match (is_secure, self.tls.needs_tls()) {
            (true, _) => Some(self.tls.config(environment)?),
            (false, Some(option)) => {
                return Err(format!(
                    "{option}: the connection is not encrypted; give --cafile, --capath, \
                     --tls-use-os-certs or -L mqtts://…"
                ));
            }
            (false, None) => None,
        };
        let mut endpoint = Endpoint {
            tls,
            host: named.unwrap_or_else(|| "localhost".to_owned()),
            port: self.port.or(environment.port).unwrap_or(default_port),
            resolved: None,
            unix: self.unix.clone(),
            transport: Transport::Tcp,
            bind: self.bind,
            no_delay: self.nodelay,
        };
        if self.ws {
            endpoint.transport = Transport::WebSocket {
                path: "/mqtt".into(),
            };
        }
        let Some(url) = &self.url else {
            return Ok((endpoint, None, None, None));
        };
        endpoint.host.clone_from(&url.host);
        endpoint.port = url.port;
        let mut topic = None;
        match url.scheme {
            Scheme::Mqtt => topic = url.path.clone().filter(|topic| !topic.is_empty()),
            Scheme::WebSocket => {
                let path = format!("/{}", url.path.as_deref().unwrap_or("mqtt"));
                endpoint.transport = Transport::WebSocket { path };
            }
        }
        Ok((endpoint, url.username.clone(), url.password.clone(), topic))
    }

    fn will(&self, properties: &Properties) -> Result<Option<Will>, String> {
        let Some(topic) = &self.will_topic else {
            return match () {
                () if self.will_payload.is_some() => {
                    Err("Will payload given, but no will topic given.".into())
                }
                () if self.will_retain => Err("Will retain given, but no will topic given.".into()),
                () => Ok(None),
            };
        };
        TopicName::new(topic)
            .map_err(|_| format!("Invalid will topic '{topic}', does it contain '+' or '#'?"))?;
        let message = Message {
            topic: topic.clone(),
            payload: self.will_payload.clone().unwrap_or_default().into_vec(),
            qos: self.will_qos.unwrap_or_default(),
            retain: self.will_retain,
            properties: properties.will.clone(),
            ..Message::default()
        };
        Ok(Some(Will {
            message,
            delay_secs: properties.will_delay_secs,
        }))
    }
}

impl Unsupported {
    fn check(&self) -> Result<(), String> {
        let tls_values = [
            &self.keyform,
            &self.ciphers,
            &self.tls_engine,
            &self.tls_engine_kpass_sha1,
            &self.psk,
            &self.psk_identity,
        ];
        if tls_values.iter().any(|value| value.is_some()) {
            let why = "ciphers, engines and pre-shared keys are not supported by this build.";
            return Err(why.into());
        }
        if self.proxy.is_some() {
            return Err("--proxy is not supported by this build yet.".into());
        }
        Ok(())
    }
}

/// Parses a QoS, for `-q`.
pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    parse_qos(text).ok_or_else(|| format!("Invalid QoS given: {text}"))
}

fn will_qos(text: &str) -> Result<QoS, String> {
    parse_qos(text).ok_or_else(|| format!("Invalid will QoS {text}."))
}

fn parse_qos(text: &str) -> Option<QoS> {
    text.parse().ok().and_then(QoS::from_bits)
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("Invalid port given: {text}"))
}

fn keep_alive(text: &str) -> Result<u16, String> {
    let error = "Invalid keepalive given, it must be between 5 and 65535 inclusive.";
    text.parse()
        .ok()
        .filter(|secs| *secs >= 5)
        .ok_or_else(|| error.to_owned())
}

fn max_inflight(text: &str) -> Result<u16, String> {
    match text.parse::<i64>() {
        Ok(count) if count > 0 => Ok(u16::try_from(count).unwrap_or(u16::MAX)),
        _ => Err("Maximum inflight messages must be greater than 0.".into()),
    }
}

fn version(text: &str) -> Result<ProtocolVersion, String> {
    match text {
        "5" | "mqttv5" => Ok(ProtocolVersion::V5),
        "311" | "mqttv311" => Ok(ProtocolVersion::V311),
        "31" | "mqttv31" => Ok(ProtocolVersion::V31),
        _ => Err("Invalid protocol version argument given.".into()),
    }
}

fn session_expiry(text: &str) -> Result<u32, String> {
    if text == "∞" {
        return Ok(NEVER);
    }
    let number: i64 = text
        .parse()
        .map_err(|_| "session-expiry-interval not a number.")?;
    match number {
        -1 => Ok(NEVER),
        _ => u32::try_from(number).map_err(|_| "session-expiry-interval out of range.".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(clap::Subcommand)]
    enum Command {
        #[command(disable_help_flag = true, args_override_self = true)]
        Pub {
            #[command(flatten)]
            mqtt: MqttOptions,
        },
    }

    fn target(args: &[&str]) -> Result<Target, String> {
        let mut argv: Vec<OsString> = vec!["martlet".into(), "pub".into()];
        argv.extend(args.iter().map(OsString::from));
        let cli = Cli::command();
        let argv = argv::normalise(argv, &cli)?;
        let parsed = Cli::try_parse_from(&argv)
            .map_err(|error| argv::describe(&error, &argv, &cli).unwrap_or_default())?;
        let Command::Pub { mqtt } = parsed.command;
        mqtt.target(ProtocolVersion::V311)
            .map_err(|refusal| refusal.text("pub"))
    }

    #[test]
    fn without_options_it_is_localhost_1883_with_mqtt_311_and_a_random_client_id() {
        let target = target(&[]).unwrap();
        assert_eq!(
            (target.endpoint.host.as_str(), target.endpoint.port),
            ("localhost", 1883)
        );
        assert_eq!(target.connect.version, ProtocolVersion::V311);
        assert!(target.connect.clean_start);
        assert!(target.connect.client_id.starts_with("martlet-"));
    }

    #[test]
    fn h_is_the_host_and_capital_v_the_protocol_version() {
        let target = target(&["-h", "example.org", "-p", "1999", "-V", "mqttv5"]).unwrap();
        assert_eq!(
            (target.endpoint.host.as_str(), target.endpoint.port),
            ("example.org", 1999)
        );
        assert_eq!(target.connect.version, ProtocolVersion::V5);
    }

    #[test]
    fn a_property_or_a_session_expiry_chooses_mqtt_5() {
        let by_property = target(&["-V", "311", "-D", "connect", "receive-maximum", "5"]).unwrap();
        assert_eq!(by_property.connect.version, ProtocolVersion::V5);
        assert_eq!(by_property.connect.receive_maximum.unwrap().get(), 5);
        let by_expiry = target(&["-x", "-1", "-i", "a"]).unwrap();
        assert_eq!(by_expiry.connect.session_expiry_secs, Some(NEVER));
    }

    #[test]
    fn a_url_gives_user_password_host_port_and_topic() {
        let target = target(&["-L", "mqtt://u:p@h:7/a/b"]).unwrap();
        assert_eq!(target.topic.as_deref(), Some("a/b"));
        assert_eq!(target.connect.username.as_deref(), Some("u"));
        assert_eq!(target.connect.password, Some(Password(b"p".to_vec())));
    }

    #[test]
    fn with_scram_the_password_is_not_in_connect() {
        let target = target(&["--scram", "-u", "alice", "-P", "secret"]).unwrap();
        assert_eq!(target.connect.version, ProtocolVersion::V5);
        assert_eq!(target.connect.username.as_deref(), Some("alice"));
        assert!(target.connect.password.is_none() && target.scram.is_some());
        assert!(!format!("{target:?}").contains("secret"));
    }

    #[test]
    fn refusals_have_mosquittos_words() {
        let cases: [(&[&str], &str); 14] = [
            (&["-p", "70000"], "Error: Invalid port given: 70000"),
            (&["-p"], "Error: -p argument given but no port specified."),
            (&["-z"], "Error: Unknown option '-z'."),
            (&["-k", "3"], "Error: Invalid keepalive given"),
            (
                &["-M", "0"],
                "Error: Maximum inflight messages must be greater than 0.",
            ),
            (
                &["-V", "6"],
                "Error: Invalid protocol version argument given.",
            ),
            (
                &["-i", "a", "-I", "b"],
                "-i and -I argument cannot be used together.",
            ),
            (
                &["-c"],
                "You must provide a client id if you are using the -c option.",
            ),
            (
                &["--will-payload", "x"],
                "Will payload given, but no will topic given.",
            ),
            (
                &["--will-topic", "a/+"],
                "Invalid will topic 'a/+', does it contain '+' or '#'?",
            ),
            (
                &["-P", "secret"],
                "Problem setting username and/or password.",
            ),
            (
                &["--scram", "-u", "alice"],
                "--scram needs a user name and a password.",
            ),
            (&["--cafile", "/nowhere/ca"], "cannot read /nowhere/ca"),
            (
                &["--insecure"],
                "--insecure: the connection is not encrypted",
            ),
        ];
        for (args, want) in cases {
            let error = target(args).unwrap_err();
            assert!(error.contains(want), "{args:?}: {error}");
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn the_last_of_a_repeated_option_counts() {
        assert_eq!(target(&["-p", "1", "-p", "2"]).unwrap().endpoint.port, 2);
    }
}
