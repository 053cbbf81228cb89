//! Keys and settings of a connection, shared by sinks and sources.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::ServerAddr;
use martlet_settings::{List, SecretValue, table};

use super::credentials::{Credentials, key_pair};
use crate::Here;
use crate::given::{client_certificate, given, path, required_template, template};
use crate::kind::Surroundings;
use crate::networks::AllowedNetworks;
use crate::secret::{SecretValues, Template};

table! {
    /// Keys of a connection to NATS.
    ServerKeys {
        /// Server: nats://HOST:4222, or tls://HOST:4222; several are a list, or separated by
        /// commas, and the first that answers is used. May contain ${secret:NAME}. Private
        /// addresses need integrations.allow_private.
        url: List<String>;
        /// File with a JWT and an nkey, as nsc writes it (.creds). It is read at each connection. A
        /// path that does not begin with / begins at the data directory.
        credentials_file: String;
        /// Seed of an nkey of a user, such as ${secret:NAME}.
        nkey: SecretValue;
        /// Token, such as ${secret:NAME}.
        token: SecretValue;
        /// User name; it may stand in url too.
        user: String;
        /// Password of user, such as ${secret:NAME}.
        password: SecretValue;
        /// PEM file of the CAs that are trusted to sign a server's certificate, with tls://.
        /// Default: those that the system trusts.
        ca_file: String;
        /// PEM file of a client certificate. Needs key_file.
        certificate_file: String;
        /// PEM file of its private key.
        key_file: String;
    }
}

impl ServerKeys {
    /// The URL, as it is written.
    pub(super) fn target(&self) -> Option<String> {
        let url = self.url.as_ref().map(|url| url.to_string());
        url.filter(|url| !url.is_empty())
    }
}

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
    /// Settings from the keys of a table, with the time limit of an answer.
    ///
    /// # Errors
    /// They are unusable; the reason.
    pub(super) fn of(
        keys: &ServerKeys,
        timeout_secs: u64,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, String> {
        let url = required_template("url", &keys.target(), "nats:// or tls://")?;
        // A value with a secret is checked when it is read.
        if url.names().next().is_none() {
            let url = url.fill(&SecretValues::new()).map_err(String::from)?;
            for one in servers(url.expose()) {
                server_of(&one)?;
            }
        }
        Ok(Self {
            url,
            credentials: credentials(keys, surroundings.data_dir)?,
            ca_file: path(&keys.ca_file, surroundings.data_dir),
            certificate: client_certificate(
                &keys.certificate_file,
                &keys.key_file,
                surroundings.data_dir,
            )?,
            timeout: Duration::from_secs(timeout_secs),
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

fn credentials(keys: &ServerKeys, data_dir: &Path) -> Result<Credentials, String> {
    let credentials = Credentials {
        file: path(&keys.credentials_file, data_dir),
        nkey: template("nkey", &keys.nkey)?,
        token: template("token", &keys.token)?,
        user: given(&keys.user).map(Into::into),
        password: template("password", &keys.password)?,
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
