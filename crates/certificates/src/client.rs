//! TLS configuration of a client: trusted CAs, and the client's own certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pem::{self, FileError};

/// Checks of the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerCheck {
    /// A trusted CA has signed it, and it is valid for the requested host.
    #[default]
    Full,
    /// A trusted CA has signed it, for any host: `--insecure` of Mosquitto's clients.
    AnyName,
    /// No check: a man in the middle can read and change everything.
    Nothing,
}

/// Offered versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    #[default]
    Any,
    /// 1.2 only.
    Tls12,
    /// 1.3 only.
    Tls13,
}

/// Files and options of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// File of trusted CAs.
    pub ca_file: Option<PathBuf>,
    /// Directory with files of trusted CAs.
    pub ca_directory: Option<PathBuf>,
    /// Whether the CAs of the system are trusted too.
    pub system_cas: bool,
    /// The client's own certificate.
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate.
    pub key: Option<PathBuf>,
    /// Checks of the server's certificate.
    pub check: ServerCheck,
    /// Host that the server's certificate must be valid for; `None`: the host of the connection.
    /// Needed if the caller connects to a previously resolved and checked address.
    pub host: Option<String>,
    /// Versions of TLS.
    pub versions: Versions,
    /// Offered application protocol, such as `mqtt`.
    pub alpn: Option<String>,
}

/// Reads the files and creates a configuration.
///
/// # Errors
/// The file and its fault. A faulty file is never skipped.
pub fn client_config(files: &ClientFiles) -> Result<Arc<ClientConfig>, FileError> {
    let provider = Arc::new(default_provider());
    let versions: &[&SupportedProtocolVersion] = match files.versions {
        Versions::Any => rustls::DEFAULT_VERSIONS,
        Versions::Tls12 => &[&rustls::version::TLS12],
        Versions::Tls13 => &[&rustls::version::TLS13],
    };
    let unusable = |error: Error| FileError::Unusable(format!("TLS cannot be used: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(files, provider)?);
    let mut config = match (&files.certificate, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let (chain, private) = (pem::certificates(certificate)?, pem::private_key(key)?);
            builder.with_client_auth_cert(chain, private).map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                FileError::Unusable(match error {
                    Error::InconsistentKeys(_) => {
                        format!("the key in {key} does not belong to the certificate in {certificate}")
                    }
                    error => format!("{certificate} with {key}: {error}"),
                })
            })?
        }
        _ => {
            return Err(FileError::Unusable(
                "a client's certificate and its key are given together, or none of both".to_owned(),
            ));
        }
    };
    if let Some(alpn) = &files.alpn {
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    }
    Ok(Arc::new(config))
}

fn verifier(
    files: &ClientFiles,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, FileError> {
    if files.check == ServerCheck::Nothing {
        return Ok(Arc::new(Anybody(provider)));
    }
    let roots = Arc::new(roots(files)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
    let verifier = verifier.map_err(|error| {
        FileError::Unusable(format!(
            "the server's certificate could not be checked: {error}"
        ))
    })?;
    let host = files.host.as_deref().map(|host| {
        let name = ServerName::try_from(host.to_owned());
        name.map_err(|_| {
            FileError::Unusable(format!("{host:?} is neither a host name nor an address"))
        })
    });
    Ok(Arc::new(Trusted {
        verifier,
        host: host.transpose()?,
        files: match &files.ca_file {
            Some(path) => pem::certificates(path)?,
            None => Vec::new(),
        },
        any_name: files.check == ServerCheck::AnyName,
    }))
}

fn roots(files: &ClientFiles) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.ca_file {
        for certificate in pem::certificates(path)? {
            roots.add(certificate).map_err(|error| {
                let path = path.display();
                FileError::Unusable(format!("{path}: a CA cannot be used: {error}"))
            })?;
        }
    }
    if let Some(directory) = &files.ca_directory {
        add_directory(&mut roots, directory)?;
    }
    if files.system_cas {
        // Unreadable or unusable certificates of the system are ignored; the user cannot change
        // them.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    if roots.is_empty() {
        return Err(FileError::Unusable(
            "no CA is trusted, so no server could be: name a file of CAs".to_owned(),
        ));
    }
    Ok(roots)
}

/// Adds all certificates from the files of a directory.
fn add_directory(roots: &mut RootCertStore, directory: &Path) -> Result<(), FileError> {
    let unreadable = |error| FileError::Unreadable {
        path: directory.to_owned(),
        error,
    };
    let mut found = 0;
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file()
            && let Ok(certificates) = pem::certificates(&path)
        {
            found += roots.add_parsable_certificates(certificates).0;
        }
    }
    match found {
        0 => Err(FileError::Unusable(format!(
            "{}: no file in it has certificates in PEM",
            directory.display()
        ))),
        _ => Ok(()),
    }
}

/// Trusts certificates issued by trusted CAs, and the certificates in the given file themselves: a
/// server may have a self-signed one.
#[derive(Debug)]
struct Trusted {
    verifier: Arc<WebPkiServerVerifier>,
    files: Vec<CertificateDer<'static>>,
    /// Host that they must be valid for; `None`: the host of the connection.
    host: Option<ServerName<'static>>,
    /// Whether they are accepted for any host.
    any_name: bool,
}

impl Trusted {
    /// Whether it is one of the certificates in the file. An error if it is not valid at this time
    /// or for this host.
    fn is_named(
        &self,
        certificate: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, Error> {
        if !self.files.contains(certificate) {
            return Ok(false);
        }
        let facts = X509Certificate::from_der(certificate);
        let (_, facts) =
            facts.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > facts.validity().not_after.timestamp() {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        if now < facts.validity().not_before.timestamp() {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_name(&parsed, server_name).map(|()| true)
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let server_name = self.host.as_ref().unwrap_or(server_name);
        let checked = match self.is_named(end_entity, server_name, now) {
            Ok(true) => Ok(ServerCertVerified::assertion()),
            Ok(false) => self.verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            Err(error) => Err(error),
        };
        match checked {
            // The name is checked last, so all other checks have passed.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Accepts every certificate whose key the server has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A name without its type: `DnsName("a.example")` becomes a.example.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// Describes why a handshake failed, so that the user can fix it.
pub fn handshake_failure(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is of no CA that is trusted here: give its CA with --cafile"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }) => format!(
            "the server's certificate is not for {}, but for {}: connect by one of these, or --insecure",
            expected.to_str(),
            match presented.is_empty() {
                true => "no name at all".to_owned(),
                false => presented
                    .iter()
                    .map(|name| plain(name))
                    .collect::<Vec<_>>()
                    .join(", "),
            }
        ),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired".to_owned(),
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet, or this machine's clock is behind"
            .to_owned(),
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("UnsupportedCertVersion") =>
        {
            "the server's certificate is of X.509 version 1, which names no hosts: issue a new one \
             with -extfile and a subjectAltName, or with martlet cert server"
                .to_owned()
        }
        Error::InvalidCertificate(error) => {
            format!("the server's certificate is not valid: {error}")
        }
        Error::InvalidMessage(_) => {
            "the server did not answer with TLS: check that this is its TLS port".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a certificate of the client: give --cert and --key".to_owned()
        }
        Error::AlertReceived(alert) => format!("the server refused: {alert:?}"),
        error => error.to_string(),
    }
}
