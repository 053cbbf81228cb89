//! TLS configuration of a listener.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, InconsistentKeys, RootCertStore, ServerConfig};

use crate::authority::Authority;
use crate::pem::{self, FileError};
use crate::version1::{self, Verifier};

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No certificate is requested.
    #[default]
    Off,
    /// A certificate is optional, but must be valid if present.
    Optional,
    /// Clients without one are refused.
    Required,
}

/// The files of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's certificate with its intermediate certificates. If the file has none of these,
    /// they are taken from `client_ca`.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// The CAs of clients' certificates: a file, or a directory of files.
    pub client_ca: Option<PathBuf>,
    /// Whether clients need a certificate.
    pub client_certificates: ClientCertificates,
    /// Revocation lists. If there are any, each certificate must be issued by a CA that has one.
    pub revoked: Option<PathBuf>,
    /// Whether client certificates of X.509 version 1 are accepted too, if a CA of `client_ca` has
    /// signed them directly. Such certificates do not state their purpose.
    pub accepts_version1: bool,
    /// Whether only TLS 1.3 is accepted.
    pub without_tls12: bool,
    /// Longest TLS record sent, in bytes, for clients with little memory; `None`: 16 KiB.
    pub record_bytes: Option<u16>,
}

/// The configuration made of the files.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// Verifier of client certificates; `None` if clients need none.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// Reads the files and creates a configuration.
///
/// # Errors
/// The file and its fault. A faulty file is never skipped.
pub fn server_config(files: &ServerFiles) -> Result<ServerTls, FileError> {
    let mut provider = default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| preference(suite.suite()));
    let provider = Arc::new(provider);
    let chain = whole_chain(files)?;
    let key = pem::private_key(&files.key)?;
    let (certificate, key_path) = (files.certificate.display(), files.key.display());
    let signing = provider.key_provider.load_private_key(key);
    let signing = signing.map_err(|error| {
        FileError::Unusable(format!(
            "{key_path}: the key cannot be used ({error}); RSA of 2048 bits or more, P-256, \
             P-384, P-521 and Ed25519 can"
        ))
    })?;
    let own = CertifiedKey::new(chain.clone(), signing);
    let matches = match chain.first().and_then(|own| version1::public_key(own)) {
        None => own.keys_match(),
        // The library cannot read certificates of version 1; clients decide whether they accept
        // them.
        Some(key) => match own.key.public_key() {
            None => Err(InconsistentKeys::Unknown.into()),
            Some(public) if public.as_ref() == key => Ok(()),
            Some(_) => Err(InconsistentKeys::KeyMismatch.into()),
        },
    };
    match matches {
        // Some types of keys cannot be compared. For these, the handshake would fail.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(FileError::Unusable(format!(
                "the key in {key_path} does not belong to the first certificate in {certificate}; \
                 the server's own has to stand before those of its CAs"
            )));
        }
        Err(error) => {
            let text = format!("{certificate}: the certificate cannot be used: {error}");
            return Err(FileError::Unusable(text));
        }
    }
    let unusable = |error: rustls::Error| {
        FileError::Unusable(format!("{certificate} with {key_path}: {error}"))
    };
    let versions = match files.without_tls12 {
        true => &[&rustls::version::TLS13][..],
        false => rustls::DEFAULT_VERSIONS,
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let clients = verifier(files)?;
    let mut config = builder
        .with_client_cert_verifier(Arc::clone(&clients))
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
    // New keys at each reading of the files, so that clients revoked since then cannot resume.
    config.ticketer = Ticketer::new().map_err(unusable)?;
    // With two tickets, the default of rustls, a device that uses one connection at a time uses
    // only one.
    config.send_tls13_tickets = 1;
    config.ignore_client_order = true;
    config.max_fragment_size = files.record_bytes.map(usize::from);
    let is_asked = files.client_certificates != ClientCertificates::Off;
    Ok(ServerTls {
        config: Arc::new(config),
        clients: is_asked.then_some(clients),
    })
}

/// Reads the server's certificate and its intermediate certificates. If the file has none of these,
/// searches for them among the client CAs, as OpenSSL does.
fn whole_chain(files: &ServerFiles) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let mut chain = pem::certificates(&files.certificate)?;
    let ([own], Some(path)) = (&chain[..], &files.client_ca) else {
        return Ok(chain);
    };
    let authorities = pem::authorities(path)?;
    let mut last = own.clone();
    while let Some(next) = issuer_between(&last, &authorities) {
        if chain.contains(next) {
            break;
        }
        last = next.clone();
        chain.push(last.clone());
    }
    Ok(chain)
}

/// The intermediate CA that has signed a certificate. Clients have the self-signed CAs.
fn issuer_between<'a>(
    certificate: &[u8],
    authorities: &'a [CertificateDer<'static>],
) -> Option<&'a CertificateDer<'static>> {
    let mut all = authorities.iter();
    all.find(|by| version1::has_signed(by, certificate) && !version1::has_signed(by, by))
}

/// Rank of a cipher suite in the server's order. SHA-384, which most libraries prefer, has no
/// hardware support: a handshake with it costs a quarter more. Suites of equal rank keep their
/// order.
fn preference(suite: CipherSuite) -> u8 {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    }
}

fn verifier(files: &ServerFiles) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    if files.client_certificates == ClientCertificates::Off {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let Some(path) = &files.client_ca else {
        return Err(FileError::Unusable(
            "client certificates are required, but no CA to verify them is configured".to_owned(),
        ));
    };
    let authorities = pem::authorities(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &authorities {
        roots.add(certificate.clone()).map_err(|error| {
            FileError::Unusable(format!("{}: a CA cannot be used: {error}", path.display()))
        })?;
    }
    let provider = Arc::new(default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let lists = match &files.revoked {
        Some(revoked) if !Authority::has_revoked_nothing(revoked) => {
            pem::revocation_lists(revoked)?
        }
        _ => Vec::new(),
    };
    builder = builder.with_crls(lists.iter().cloned());
    if files.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    let others = builder.build().map_err(|error| {
        let path = path.display();
        FileError::Unusable(format!("{path}: clients cannot be verified: {error}"))
    })?;
    Ok(Arc::new(Verifier::new(
        others,
        &authorities,
        &lists,
        algorithms,
        files.accepts_version1,
    )))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    struct Directory(PathBuf);

    impl Drop for Directory {
        fn drop(&mut self) {
            // Otherwise it is removed with the temporary directory.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn directory(name: &str) -> Directory {
        let name = format!("martlet-certificates-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Directory(path)
    }

    fn write(path: &Path, text: &str) -> PathBuf {
        std::fs::write(path, text).expect("a file");
        path.to_owned()
    }

    /// Creates a CA, a server's certificate with its key, and another key.
    fn files(at: &Path) -> (ServerFiles, PathBuf) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let own = params.signed_by(&key, &issuer).expect("a certificate");
        let other = KeyPair::generate().expect("a key");
        let files = ServerFiles {
            certificate: write(&at.join("server.crt"), &own.pem()),
            key: write(&at.join("server.key"), &key.serialize_pem()),
            client_ca: Some(write(&at.join("ca.crt"), &issuer.pem())),
            ..ServerFiles::default()
        };
        (files, write(&at.join("other.key"), &other.serialize_pem()))
    }

    fn error(files: &ServerFiles) -> String {
        match server_config(files) {
            Ok(_) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn files_that_belong_together_are_settings() {
        let directory = directory("good");
        let (mut files, _) = files(&directory.0);
        for mode in [
            ClientCertificates::Off,
            ClientCertificates::Optional,
            ClientCertificates::Required,
        ] {
            files.client_certificates = mode;
            assert_eq!(error(&files), "none");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_what_to_do() {
        let directory = directory("wrong");
        let (good, other_key) = files(&directory.0);
        let with_key = |key| ServerFiles {
            key,
            ..good.clone()
        };
        let said = error(&with_key(other_key));
        assert!(said.contains("other.key does not belong"), "{said}");
        let said = error(&with_key(directory.0.join("nothing")));
        assert!(
            said.contains("cannot read") && said.contains("nothing"),
            "{said}"
        );
        let said = error(&with_key(good.certificate.clone()));
        assert!(said.contains("expected a private key in PEM"), "{said}");
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let said = error(&with_key(write(&directory.0.join("locked.key"), encrypted)));
        assert!(said.contains("the key is encrypted"), "{said}");
        let certificate = good.key.clone();
        let said = error(&ServerFiles {
            certificate,
            ..good.clone()
        });
        assert!(said.contains("expected certificates in PEM"), "{said}");
        let said = error(&ServerFiles {
            client_certificates: ClientCertificates::Required,
            client_ca: None,
            ..good.clone()
        });
        assert!(said.contains("no CA to verify them"), "{said}");
        let said = error(&ServerFiles {
            client_certificates: ClientCertificates::Required,
            revoked: good.client_ca.clone(),
            ..good
        });
        assert!(said.contains("expected revocation lists"), "{said}");
    }
}
