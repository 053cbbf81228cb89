//! Keys and settings of a connection, shared by sinks and sources.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::ServerAddr;

use super::credentials::{Credentials, key_pair};
use crate::kind::{Key, Surroundings, Takes};
use crate::networks::AllowedNetworks;
use crate::secret::{SecretValues, Template};
use crate::table::Table;

pub(super) const URL: Key = Key::new(
    "url",
    Takes::List,
    "Server: nats://HOST:4222, or tls://HOST:4222; several are a list, or separated by commas, and the first that answers is used. May contain ${secret:NAME}. Private addresses need integrations.allow_private.",
);

pub(super) const CREDENTIALS_FILE: Key = Key::new(
    "credentials_file",
    Takes::Text,
    "File with a JWT and an nkey, as nsc writes it (.creds). It is read at each connection. A path that does not begin with / begins at the data directory.",
);

pub(super) const NKEY: Key = Key::new(
    "nkey",
    Takes::Secret,
    "Seed of an nkey of a user, such as ${secret:NAME}.",
);

pub(super) const TOKEN: Key = Key::new("token", Takes::Secret, "Token, such as ${secret:NAME}.");

pub(super) const USER: Key = Key::new("user", Takes::Text, "User name; it may stand in url too.");

pub(super) const PASSWORD: Key = Key::new(
    "password",
    Takes::Secret,
    "Password of user, such as ${secret:NAME}.",
);

pub(super) const CA_FILE: Key = Key::new(
    "ca_file",
    Takes::Text,
    "PEM file of the CAs that are trusted to sign a server's certificate, with tls://. Default: those that the system trusts.",
);

pub(super) const CERTIFICATE_FILE: Key = Key::new(
    "certificate_file",
    Takes::Text,
    "PEM file of a client certificate. Needs key_file.",
);

pub(super) const KEY_FILE: Key = Key::new("key_file", Takes::Text, "PEM file of its private key.");

const TIMEOUT_SECS: u64 = 5;

/// Settings of a connection.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Address of the server.
    pub url: Template,
    /// Credentials of the node at the server.
    pub credentials: Credentials,
    /// CA certificates for the server's certificate.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Time limit for an answer.
    pub timeout: Duration,
    /// Private networks that are permitted.
    pub allowed: AllowedNetworks,
}

impl ServerSettings {
    /// Settings from a table.
    ///
    /// # Errors
    /// They are unusable; the reason.
    pub(super) fn of(table: &Table, surroundings: &Surroundings<'_>) -> Result<Self, String> {
        let url = table.required_template("url", "nats:// or tls://")?;
        // A value with a secret is checked when it is read.
        if url.names().next().is_none() {
            let url = url.fill(&SecretValues::new()).map_err(String::from)?;
            for one in servers(url.expose()) {
                server_of(&one)?;
            }
        }
        Ok(Self {
            url,
            credentials: credentials(table, surroundings.data_dir)?,
            ca_file: table.path("ca_file", surroundings.data_dir),
            certificate: table.client_certificate(surroundings.data_dir)?,
            timeout: Duration::from_secs(table.number("timeout_secs", TIMEOUT_SECS)),
            allowed: surroundings.allowed.clone(),
        })
    }

    /// Names of the secrets that they use.
    pub(super) fn secret_names(&self) -> Vec<String> {
        let own = &self.credentials;
        let templates = [&own.nkey, &own.token, &own.password];
        let templates = templates.into_iter().flatten().chain([&self.url]);
        templates
            .flat_map(Template::names)
            .map(str::to_owned)
            .collect()
    }
}

impl ServerSettings {
    /// Files that a connection reads.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let certificate = self.certificate.iter();
        let certificate = certificate.flat_map(|(certificate, key)| [certificate, key]);
        let others = [&self.credentials.file, &self.ca_file];
        let all = others.into_iter().flatten().chain(certificate);
        all.cloned().collect()
    }
}

/// The servers of a URL, in order: several are separated by commas, and those without a scheme have
/// that of the first one.
pub(super) fn servers(url: &str) -> Vec<String> {
    let scheme = url.split_once("://").map_or("nats", |(scheme, _)| scheme);
    let all = url.split(',').map(str::trim).filter(|one| !one.is_empty());
    let servers = all.map(|one| match one.contains("://") {
        true => one.to_owned(),
        false => format!("{scheme}://{one}"),
    });
    let servers: Vec<String> = servers.collect();
    match servers.is_empty() {
        true => vec![url.to_owned()],
        false => servers,
    }
}

/// The address of one server.
///
/// # Errors
/// It is not a URL of NATS.
pub(super) fn server_of(url: &str) -> Result<ServerAddr, String> {
    let server = url.parse().ok();
    server
        .filter(|server: &ServerAddr| {
            let has_place = !server.host().is_empty() && server.port() != 0;
            has_place && matches!(server.scheme(), "nats" | "tls")
        })
        .ok_or_else(|| {
            "`url` is not a NATS URL, expected nats:// or tls:// with a host, such as \
             nats://host:4222"
                .to_owned()
        })
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
    // A value with a secret is checked when it is read.
    if let Some(seed) = &credentials.nkey
        && seed.names().next().is_none()
    {
        let seed = seed.fill(&SecretValues::new()).map_err(String::from)?;
        key_pair(seed.expose()).map_err(|why| format!("`nkey` {why}"))?;
    }
    Ok(credentials)
}
