//! Fields of a certificate for output.

use std::path::Path;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::pem::{self, FileError};

/// Facts about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// The subject as text.
    pub subject: String,
    /// The issuer as text.
    pub issuer: String,
    /// Common Name of the subject.
    pub common_name: Option<String>,
    /// DNS names, addresses, URIs and e-mail addresses that it is valid for.
    pub names: Vec<String>,
    /// Purposes: `server`, `client`, or `ca`.
    pub purposes: Vec<&'static str>,
    /// Valid from, seconds since the Unix epoch.
    pub not_before_secs: i64,
    /// Valid until, seconds since the Unix epoch.
    pub not_after_secs: i64,
    /// SHA-256 of the certificate, hexadecimal with colons.
    pub fingerprint: String,
}

impl Facts {
    /// Reads a certificate in DER; `None` if it is invalid.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let common_name = subject.iter_common_name().next();
        let mut purposes = Vec::new();
        if certificate.is_ca() {
            purposes.push("ca");
        }
        if let Ok(Some(usage)) = certificate.extended_key_usage() {
            purposes.extend(usage.value.server_auth.then_some("server"));
            purposes.extend(usage.value.client_auth.then_some("client"));
        }
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names
            .iter()
            .flat_map(|extension| &extension.value.general_names);
        Some(Self {
            serial: certificate
                .raw_serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            subject: subject.to_string(),
            issuer: certificate.issuer().to_string(),
            common_name: common_name
                .and_then(|name| name.as_str().ok())
                .map(str::to_owned),
            names: names.filter_map(name_text).collect(),
            purposes,
            not_before_secs: certificate.validity().not_before.timestamp(),
            not_after_secs: certificate.validity().not_after.timestamp(),
            fingerprint: fingerprint(der),
        })
    }

    /// Reads the first certificate of a PEM text; `None` if there is no valid one.
    pub fn of_pem(text: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
        Self::of(&der)
    }

    /// Reads the first certificate of a file.
    ///
    /// # Errors
    /// The file contains no certificate.
    pub fn of_file(path: &Path) -> Result<Self, FileError> {
        let certificates = pem::certificates(path)?;
        certificates
            .first()
            .and_then(|der| Self::of(der))
            .ok_or_else(|| {
                FileError::Unusable(format!(
                    "{}: the certificate cannot be read",
                    path.display()
                ))
            })
    }
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|four| std::net::Ipv4Addr::from(four).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|all| std::net::Ipv6Addr::from(all).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn fingerprint(der: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    let bytes: Vec<String> = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}
