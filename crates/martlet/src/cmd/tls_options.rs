//! The TLS options of the client commands, with mosquitto's names.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use martlet_certificates::{ClientFiles, ServerCheck, Versions, client_config};
use martlet_environment::ClientEnvironment;
use rustls::ClientConfig;

/// Options of TLS.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// File of CAs to trust; the connection is encrypted
    #[arg(long, value_name = "file")]
    cafile: Option<PathBuf>,
    /// Directory of files of CAs to trust; the connection is encrypted
    #[arg(long, value_name = "dir")]
    capath: Option<PathBuf>,
    /// The client's own certificate
    #[arg(long, value_name = "file")]
    cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, value_name = "file")]
    key: Option<PathBuf>,
    /// Accept a trusted certificate for any host name
    #[arg(long)]
    insecure: bool,
    /// Version of TLS: tlsv1.2 or tlsv1.3 [default: both]
    #[arg(long, value_name = "version", value_parser = versions)]
    tls_version: Option<Versions>,
    /// Application protocol to offer
    #[arg(long, value_name = "protocol")]
    tls_alpn: Option<String>,
    /// Trust the CAs that the system trusts; the connection is encrypted
    #[arg(long)]
    tls_use_os_certs: bool,
    /// No TLS, even if the environment requests it
    #[arg(long, hide = true)]
    without_tls: bool,
}

impl TlsOptions {
    /// Whether these options or the environment request TLS.
    pub(crate) fn is_requested(&self, environment: &ClientEnvironment) -> bool {
        let named = self.cafile.is_some() || self.capath.is_some() || self.tls_use_os_certs;
        named || environment.use_tls && !self.without_tls
    }

    /// Creates the TLS configuration.
    ///
    /// # Errors
    /// A line for the user.
    pub(crate) fn config(
        &self,
        environment: &ClientEnvironment,
    ) -> Result<Arc<ClientConfig>, String> {
        let has_own_cas = self.cafile.is_some() || self.capath.is_some();
        let ca_file = match has_own_cas {
            true => self.cafile.clone(),
            false => environment.ca_file.clone(),
        };
        let (certificate, key) = match (&self.cert, &self.key) {
            (None, None) => (environment.certificate.clone(), environment.key.clone()),
            (Some(_), None) | (None, Some(_)) => {
                return Err(
                    "Both certfile and keyfile must be provided if one of them is set.".into(),
                );
            }
            (certificate, key) => (certificate.clone(), key.clone()),
        };
        let check = match (self.insecure, environment.insecure) {
            (true, _) => ServerCheck::AnyName,
            // In the program that this variable comes from, it disables all checks.
            (false, true) => ServerCheck::Nothing,
            (false, false) => ServerCheck::Full,
        };
        let files = ClientFiles {
            system_cas: self.tls_use_os_certs || (ca_file.is_none() && self.capath.is_none()),
            ca_file,
            ca_directory: self.capath.clone(),
            certificate,
            key,
            check,
            versions: self.tls_version.unwrap_or_default(),
            alpn: self.tls_alpn.clone(),
            ..ClientFiles::default()
        };
        client_config(&files).map_err(|error| error.to_string())
    }

    /// The first given option that requires TLS, if any.
    pub(crate) fn needs_tls(&self) -> Option<&'static str> {
        let all = [
            (
                self.cert.is_some() || self.key.is_some(),
                "--cert and --key",
            ),
            (self.insecure, "--insecure"),
            (self.tls_version.is_some(), "--tls-version"),
            (self.tls_alpn.is_some(), "--tls-alpn"),
        ];
        all.iter()
            .find(|(is_given, _)| *is_given)
            .map(|(_, name)| *name)
    }
}

fn versions(text: &str) -> Result<Versions, String> {
    match text {
        "tlsv1.2" => Ok(Versions::Tls12),
        "tlsv1.3" => Ok(Versions::Tls13),
        "tlsv1.1" | "tlsv1" | "tlsv1.0" => Err(format!(
            "{text} is insecure and not supported, expected tlsv1.2 or tlsv1.3"
        )),
        _ => Err(format!(
            "Invalid TLS version {text}, expected tlsv1.2 or tlsv1.3"
        )),
    }
}
