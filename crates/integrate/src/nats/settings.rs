//! `[[sinks.nats]]` of the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::subject::SubjectTemplate;
use super::{BEYOND_ACK, NatsSink};
use crate::kind::{ConfiguredSink, Key, Kind, Surroundings, Table, Takes};
use crate::networks::AllowedNetworks;
use crate::runner::{OnReject, Settings};
use crate::secret::Template;

/// The kind `nats`.
pub const KIND: Kind = Kind {
    name: "nats",
    keys: KEYS,
    make,
};

const KEYS: &[Key] = &[
    Key {
        name: "url",
        takes: Takes::Text,
        meaning: "Server: nats://HOST:4222, or tls://HOST:4222. May contain ${secret:NAME}. Private addresses need integrations.allow_private.",
    },
    Key {
        name: "subject",
        takes: Takes::Text,
        meaning: "Subject of each message. {user}, {device}, {client}, {tenant} and {topic} are replaced; the levels of a topic become tokens. What NATS does not accept in a name is written as %XX, a missing name as -. {topic:mqtt}: the subject that nats-server's own MQTT listener uses. Default: raw.{user}.",
    },
    Key {
        name: "credentials_file",
        takes: Takes::Text,
        meaning: "File with a JWT and an nkey, as nsc writes it (.creds). It is read at each connection. A path that does not begin with / begins at the data directory.",
    },
    Key {
        name: "nkey",
        takes: Takes::Secret,
        meaning: "Seed of an nkey of a user, such as ${secret:NAME}.",
    },
    Key {
        name: "token",
        takes: Takes::Secret,
        meaning: "Token, such as ${secret:NAME}.",
    },
    Key {
        name: "user",
        takes: Takes::Text,
        meaning: "User name; it may stand in url too.",
    },
    Key {
        name: "password",
        takes: Takes::Secret,
        meaning: "Password of user, such as ${secret:NAME}.",
    },
    Key {
        name: "ca_file",
        takes: Takes::Text,
        meaning: "PEM file of the authorities that a server's certificate may be from, with tls://. Default: those that the system trusts.",
    },
    Key {
        name: "certificate_file",
        takes: Takes::Text,
        meaning: "PEM file of a client certificate. Needs key_file.",
    },
    Key {
        name: "key_file",
        takes: Takes::Text,
        meaning: "PEM file of its private key.",
    },
    Key {
        name: "stream",
        takes: Takes::Text,
        meaning: "Name of the stream that is created if none takes the subjects. Existing streams are never changed. Default: MARTLET_ and the name of the sink.",
    },
    Key {
        name: "create_stream",
        takes: Takes::Boolean,
        meaning: "Whether a missing stream is created. Default: true.",
    },
    Key {
        name: "stream_max_age_secs",
        takes: Takes::Integer {
            min: 60,
            max: 3_153_600_000,
        },
        meaning: "Age at which a created stream drops messages, seconds. Default: 604800, 7 days.",
    },
    Key {
        name: "stream_max_bytes",
        takes: Takes::Integer {
            min: 1_000_000,
            max: i64::MAX as u64,
        },
        meaning: "Size at which a created stream drops its oldest messages. Default: 1073741824, 1 GiB.",
    },
    Key {
        name: "stream_duplicates_secs",
        takes: Takes::Integer {
            min: 1,
            max: 86_400,
        },
        meaning: "Time in which a created stream recognises a message that is published twice, seconds; at most stream_max_age_secs. Default: 900.",
    },
    Key {
        name: "timeout_secs",
        takes: Takes::Integer { min: 1, max: 300 },
        meaning: "Time limit of an acknowledgement of JetStream, seconds. Default: 5.",
    },
];

const SUBJECT: &str = "raw.{user}";
const TIMEOUT_SECS: u64 = 5;
const STREAM_MAX_AGE_SECS: u64 = 7 * 86_400;
const STREAM_MAX_BYTES: u64 = 1 << 30;
const STREAM_DUPLICATES_SECS: u64 = 900;

/// Settings of a NATS sink.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// Name of the sink.
    pub name: Box<str>,
    /// Address of the server.
    pub url: Template,
    /// Who it is at the server.
    pub credentials: Credentials,
    /// Authorities that a server's certificate may be from.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The stream that is created if none takes the subjects.
    pub stream: Option<NewStream>,
    /// Subjects of messages.
    pub subject: SubjectTemplate,
    /// Time limit of an acknowledgement.
    pub timeout: Duration,
    /// Whether nothing is sent after a message that was refused: `on_reject` is `stop`.
    pub stops_at_refusal: bool,
    /// Private networks that it may connect to.
    pub allowed: AllowedNetworks,
}

/// What the sink shows the server.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// File with a JWT and the seed of its nkey.
    pub file: Option<PathBuf>,
    /// Seed of an nkey.
    pub nkey: Option<Template>,
    /// Token.
    pub token: Option<Template>,
    /// User name.
    pub user: Option<Box<str>>,
    /// Password.
    pub password: Option<Template>,
}

impl Credentials {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        [&self.nkey, &self.token, &self.password]
            .into_iter()
            .flatten()
    }
}

/// A stream to be created.
#[derive(Clone, Debug)]
pub struct NewStream {
    /// Its name.
    pub name: Box<str>,
    /// Age at which it drops messages.
    pub max_age: Duration,
    /// Size at which it drops the oldest.
    pub max_bytes: i64,
    /// Time in which it recognises duplicates.
    pub duplicates: Duration,
}

fn credentials(table: &Table, data_dir: &Path) -> Result<Credentials, String> {
    let credentials = Credentials {
        file: table.path("credentials_file", data_dir),
        nkey: table.template("nkey")?,
        token: table.template("token")?,
        user: table.text("user").map(Into::into),
        password: table.template("password")?,
    };
    let given = [
        credentials.file.is_some(),
        credentials.nkey.is_some(),
        credentials.token.is_some(),
        credentials.user.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err("expected one of `credentials_file`, `nkey`, `token` and `user`".to_owned());
    }
    if credentials.password.is_some() && credentials.user.is_none() {
        return Err("`password` needs `user`".to_owned());
    }
    Ok(credentials)
}

fn new_stream(table: &Table, sink: &str) -> Result<Option<NewStream>, String> {
    if !table.flag("create_stream", true) {
        return Ok(None);
    }
    let default = format!("MARTLET_{sink}");
    let name = table.text("stream").unwrap_or(&default);
    if name.contains(|c: char| c.is_whitespace() || ".*>/\\".contains(c)) {
        return Err(format!(
            "`stream` is {name:?}, expected a name without blanks, dots, *, > and slashes"
        ));
    }
    let max_age = table.number("stream_max_age_secs", STREAM_MAX_AGE_SECS);
    let duplicates = table.number(
        "stream_duplicates_secs",
        STREAM_DUPLICATES_SECS.min(max_age),
    );
    if duplicates > max_age {
        return Err("`stream_duplicates_secs` is more than `stream_max_age_secs`".to_owned());
    }
    let max_bytes = table.number("stream_max_bytes", STREAM_MAX_BYTES);
    Ok(Some(NewStream {
        name: name.into(),
        max_age: Duration::from_secs(max_age),
        max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        duplicates: Duration::from_secs(duplicates),
    }))
}

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    let subject = table.text("subject").unwrap_or(SUBJECT);
    let subject = SubjectTemplate::parse(subject).map_err(|why| format!("`subject`: {why}"))?;
    let nats = NatsSettings {
        name: settings.name.clone(),
        url: table
            .template("url")?
            .ok_or("`url` is missing, expected nats:// or tls://")?,
        credentials: credentials(table, surroundings.data_dir)?,
        ca_file: table.path("ca_file", surroundings.data_dir),
        certificate: table.client_certificate(surroundings.data_dir)?,
        stream: new_stream(table, &settings.name)?,
        subject,
        timeout: Duration::from_secs(table.number("timeout_secs", TIMEOUT_SECS)),
        stops_at_refusal: settings.on_reject == OnReject::Stop,
        allowed: surroundings.allowed.clone(),
    };
    let settings = Settings {
        deliver_within: nats.timeout + BEYOND_ACK,
        ..settings
    };
    let templates = nats.credentials.templates().chain([&nats.url]);
    let names: Vec<String> = templates
        .flat_map(Template::names)
        .map(str::to_owned)
        .collect();
    let nats = Arc::new(nats);
    let sink = ConfiguredSink::new(settings, move |secrets| {
        NatsSink::new(Arc::clone(&nats), secrets)
    });
    Ok(sink.with_secrets(names))
}
