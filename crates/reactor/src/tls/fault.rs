//! Faults of TLS connections, by the errors of rustls and by what a client offers.

use martlet_broker::TlsFault;
use rustls::server::Accepted;
use rustls::{
    AlertDescription, CertificateError, PeerIncompatible, ServerConfig, SignatureAlgorithm,
};

/// The fault of a client whose cipher suites of TLS 1.2 are all for another kind of key than that
/// of the server.
pub(super) fn only_other_keys(hello: &Accepted, config: &ServerConfig) -> Option<TlsFault> {
    let key = config.cert_resolver.resolve(hello.client_hello())?;
    let is_rsa = key.key.algorithm() == SignatureAlgorithm::RSA;
    let (own, other, fault) = match is_rsa {
        true => (
            SignatureAlgorithm::RSA,
            SignatureAlgorithm::ECDSA,
            TlsFault::OnlyEcdsa,
        ),
        false => (
            SignatureAlgorithm::ECDSA,
            SignatureAlgorithm::RSA,
            TlsFault::OnlyRsa,
        ),
    };
    let hello = hello.client_hello();
    let offers_for = |kind| {
        let mut known = config.crypto_provider().cipher_suites.iter();
        known.any(|suite| {
            suite.tls13().is_none()
                && suite.usable_for_signature_algorithm(kind)
                && hello.cipher_suites().contains(&suite.suite())
        })
    };
    (offers_for(other) && !offers_for(own)).then_some(fault)
}

/// Maps an error of rustls to a fault.
pub(super) fn fault_of(error: &rustls::Error, handshaking: bool) -> TlsFault {
    use rustls::Error;
    match error {
        Error::InvalidMessage(_) if handshaking => TlsFault::NotTls,
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            TlsFault::NoSignatureOfClient
        }
        Error::PeerIncompatible(why) => incompatible(why),
        Error::NoApplicationProtocol => TlsFault::NoApplicationProtocol,
        Error::NoCertificatesPresented => TlsFault::CertificateMissing,
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => TlsFault::CertificateExpired,
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => TlsFault::CertificateNotYetValid,
        Error::InvalidCertificate(CertificateError::Revoked) => TlsFault::CertificateRevoked,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => TlsFault::CertificateForeign,
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => TlsFault::CertificateNotForClients,
        Error::InvalidCertificate(
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. },
        ) => TlsFault::RevocationListExpired,
        Error::InvalidCertificate(CertificateError::BadSignature) => TlsFault::CertificateNotSigned,
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("UnsupportedCertVersion") =>
        {
            TlsFault::CertificateVersion
        }
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            TlsFault::CertificateOfCa
        }
        Error::InvalidCertificate(_) => TlsFault::CertificateInvalid,
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => TlsFault::ServerNotTrusted,
        Error::AlertReceived(AlertDescription::CertificateExpired) => TlsFault::ServerExpired,
        Error::AlertReceived(_) => TlsFault::EndedByClient,
        Error::DecryptError => TlsFault::Undecryptable,
        _ => TlsFault::Failed,
    }
}

/// Maps what the client does not support to a fault.
fn incompatible(why: &PeerIncompatible) -> TlsFault {
    use PeerIncompatible as Lacks;
    match why {
        Lacks::Tls12NotOffered
        | Lacks::Tls12NotOfferedOrEnabled
        | Lacks::ServerDoesNotSupportTls12Or13
        | Lacks::ServerTlsVersionIsDisabledByOurConfig
        | Lacks::SupportedVersionsExtensionRequired
        // rustls reports this before it compares versions; the extension came with TLS 1.2.
        | Lacks::SignatureAlgorithmsExtensionRequired => {
            TlsFault::NoVersion
        }
        // Without curves the client offers only suites without ECDHE.
        Lacks::NoCipherSuitesInCommon
        | Lacks::NamedGroupsExtensionRequired
        | Lacks::EcPointsExtensionRequired => TlsFault::NoCipherSuite,
        Lacks::NoKxGroupsInCommon
        | Lacks::KeyShareExtensionRequired
        | Lacks::NoEcPointFormatsInCommon
        | Lacks::UncompressedEcPointsRequired => TlsFault::NoKeyExchange,
        Lacks::NoSignatureSchemesInCommon => {
            TlsFault::NoSignatureOfServer
        }
        _ => TlsFault::NoExtension,
    }
}
