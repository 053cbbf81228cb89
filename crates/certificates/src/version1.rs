//! Certificates of X.509 version 1, as `openssl x509 -req` creates them when no extensions are
//! given. The verifier of the TLS library rejects them. OpenSSL, and therefore Mosquitto, accepts
//! them, and many guides create device certificates this way. This module accepts them for
//! listeners that are configured to.
//!
//! A certificate of this version cannot state its purpose. So it is valid only as a client's own
//! certificate, never as that of a CA: a configured CA must have signed it directly. All other
//! checks are the same as for other certificates: the signature with the same algorithms, the
//! validity period, revocation lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
};
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::prelude::{
    CertificateRevocationList, FromDer as _, ParsedExtension, X509Certificate, X509Version,
};

use crate::refused;

/// Signed data, algorithm and signature: the form of certificates and revocation lists.
struct Signed<'a> {
    /// The signed bytes, including their DER header.
    data: &'a [u8],
    /// The content of `data`.
    fields: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// A public key in the form used in certificates.
#[derive(Clone, Debug)]
struct PublicKey {
    algorithm: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate of version 1.
struct Version1<'a> {
    /// The whole certificate.
    der: &'a [u8],
    signed: Signed<'a>,
    serial: &'a [u8],
    issuer: &'a [u8],
    key: PublicKey,
}

/// A configured CA: its name, including the DER header, and its key.
#[derive(Debug)]
struct Authority {
    name: Vec<u8>,
    key: PublicKey,
    /// Serial numbers that its lists revoke, without leading zeros; `None` if it has no list.
    revoked: Option<BTreeSet<Vec<u8>>>,
}

/// Verifies certificates of version 1, if they are accepted. Passes all others to the library's
/// verifier.
#[derive(Debug)]
pub(crate) struct Verifier {
    others: Arc<dyn ClientCertVerifier>,
    authorities: Vec<Authority>,
    /// Whether there are lists. Then each certificate must be issued by a CA that has one.
    has_lists: bool,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whether certificates of version 1 are accepted.
    is_on: bool,
}

impl Verifier {
    /// Creates a verifier. `others` has the same CAs and lists, and has accepted both.
    pub(crate) fn new(
        others: Arc<dyn ClientCertVerifier>,
        authorities: &[CertificateDer<'_>],
        lists: &[CertificateRevocationListDer<'_>],
        algorithms: WebPkiSupportedAlgorithms,
        is_on: bool,
    ) -> Self {
        let authorities = authorities.iter().filter_map(|der| authority(der));
        let authorities = authorities.map(|authority| Authority {
            revoked: revoked_by(&authority, lists, &algorithms),
            ..authority
        });
        Self {
            others,
            authorities: authorities.collect(),
            has_lists: !lists.is_empty(),
            algorithms,
            is_on,
        }
    }

    /// Only the form is parsed before the signature of a CA has been verified.
    fn verify(&self, certificate: &Version1<'_>, now: UnixTime) -> Result<(), CertificateError> {
        let named = |authority: &&Authority| authority.name == certificate.issuer;
        let mut why = CertificateError::UnknownIssuer;
        for authority in self.authorities.iter().filter(named) {
            if is_signed(&certificate.signed, &authority.key, &self.algorithms) {
                check_time(certificate, now)?;
                return self.check_revocation(certificate, authority);
            }
            why = CertificateError::BadSignature;
        }
        Err(why)
    }

    fn check_revocation(
        &self,
        certificate: &Version1<'_>,
        authority: &Authority,
    ) -> Result<(), CertificateError> {
        match &authority.revoked {
            _ if !self.has_lists => Ok(()),
            Some(revoked) if revoked.contains(number(certificate.serial)) => {
                Err(CertificateError::Revoked)
            }
            Some(_) => Ok(()),
            None => Err(CertificateError::UnknownRevocationStatus),
        }
    }

    /// Verifies that the client has the key of its certificate of version 1.
    fn verify_handshake(
        &self,
        message: &[u8],
        certificate: &Version1<'_>,
        said: &DigitallySignedStruct,
        is_tls13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let mut mapping = self.algorithms.mapping.iter();
        let Some((_, algorithms)) = mapping.find(|(scheme, _)| *scheme == said.scheme) else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        // TLS 1.3 binds the scheme to one curve, which is the first entry.
        let count = if is_tls13 { 1 } else { algorithms.len() };
        let verified = algorithms
            .iter()
            .take(count)
            .any(|algorithm| verifies(*algorithm, &certificate.key, message, said.signature()));
        match verified {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.others.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.others.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.others.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = match version1(end_entity).filter(|_| self.is_on) {
            Some(certificate) => match self.verify(&certificate, now) {
                Ok(()) => Ok(ClientCertVerified::assertion()),
                Err(why) => Err(Error::InvalidCertificate(why)),
            },
            None => self
                .others
                .verify_client_cert(end_entity, intermediates, now),
        };
        if verified.is_err() {
            refused::note(end_entity);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        said: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match version1(certificate) {
            Some(certificate) => self.verify_handshake(message, &certificate, said, false),
            None => self
                .others
                .verify_tls12_signature(message, certificate, said),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        said: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match version1(certificate) {
            // Only these schemes are allowed in TLS 1.3; the library checks this for other
            // certificates.
            Some(_) if !is_of_tls13(said.scheme) => {
                Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
            }
            Some(certificate) => self.verify_handshake(message, &certificate, said, true),
            None => self
                .others
                .verify_tls13_signature(message, certificate, said),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.others.supported_verify_schemes()
    }
}

/// Whether a TLS 1.3 handshake may be signed with this scheme (RFC 8446, 4.2.3).
fn is_of_tls13(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::ECDSA_NISTP256_SHA256
            | SignatureScheme::ECDSA_NISTP384_SHA384
            | SignatureScheme::ECDSA_NISTP521_SHA512
            | SignatureScheme::ED25519
            | SignatureScheme::RSA_PSS_SHA256
            | SignatureScheme::RSA_PSS_SHA384
            | SignatureScheme::RSA_PSS_SHA512
    )
}

fn check_time(certificate: &Version1<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let (_, read) =
        X509Certificate::from_der(certificate.der).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > read.validity().not_after.timestamp() {
        return Err(CertificateError::Expired);
    }
    if now < read.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet);
    }
    Ok(())
}

/// Serial numbers revoked by an authority's own lists; `None` if it has no list.
fn revoked_by(
    authority: &Authority,
    lists: &[CertificateRevocationListDer<'_>],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<BTreeSet<Vec<u8>>> {
    let mut revoked = None;
    for der in lists {
        let (Some(signed), Ok((_, list))) = (signed(der), CertificateRevocationList::from_der(der))
        else {
            continue;
        };
        // A list for some certificates only selects them by fields that version 1 does not have.
        let is_partial = list.extensions().iter().any(|one| {
            matches!(
                one.parsed_extension(),
                ParsedExtension::IssuingDistributionPoint(_)
            )
        });
        if !is_partial
            && list.issuer().as_raw() == authority.name
            && is_signed(&signed, &authority.key, algorithms)
        {
            let serials = list.iter_revoked_certificates();
            let serials = serials.map(|one| number(one.raw_serial()).to_vec());
            revoked.get_or_insert_with(BTreeSet::new).extend(serials);
        }
    }
    revoked
}

fn is_signed(signed: &Signed<'_>, by: &PublicKey, algorithms: &WebPkiSupportedAlgorithms) -> bool {
    algorithms.all.iter().any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signed.algorithm
            && verifies(*algorithm, by, signed.data, signed.signature)
    })
}

fn verifies(
    algorithm: &dyn SignatureVerificationAlgorithm,
    by: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> bool {
    algorithm.public_key_alg_id().as_ref() == by.algorithm
        && algorithm
            .verify_signature(&by.key, message, signature)
            .is_ok()
}

/// Whether the key of one certificate has signed another, of any version, with an algorithm that
/// nodes accept.
pub(crate) fn has_signed(by: &[u8], der: &[u8]) -> bool {
    let key = X509Certificate::from_der(by).ok().and_then(|(_, by)| {
        let (fields, _) = element(by.public_key().raw, Tag::Sequence)?;
        public_key_of(fields)
    });
    let algorithms = default_provider().signature_verification_algorithms;
    matches!((signed(der), key), (Some(signed), Some(key)) if is_signed(&signed, &key, &algorithms))
}

/// The key of a certificate of version 1, in DER; `None` for other versions and invalid data.
pub(crate) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    version1(der)?;
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.public_key().raw.to_vec())
}

/// Parses a certificate of version 1 completely; `None` for other versions and invalid data.
fn version1(der: &[u8]) -> Option<Version1<'_>> {
    let signed = signed(der)?;
    // Other versions begin with a version number.
    let (serial, rest) = element(signed.fields, Tag::Integer)?;
    let (algorithm, rest) = element(rest, Tag::Sequence)?;
    // The signed data contains the algorithm too, so that it cannot be replaced.
    if algorithm != signed.algorithm {
        return None;
    }
    let (_, after) = element(rest, Tag::Sequence)?;
    let issuer = &rest[..rest.len() - after.len()];
    let (_, rest) = element(after, Tag::Sequence)?;
    let (_, rest) = element(rest, Tag::Sequence)?;
    let (key, rest) = element(rest, Tag::Sequence)?;
    // Nothing may follow, in particular no extensions.
    if !rest.is_empty() {
        return None;
    }
    Some(Version1 {
        der,
        serial,
        issuer,
        key: public_key_of(key)?,
        signed,
    })
}

/// Parses a CA. Returns `None` if its certificate does not permit it to sign certificates.
fn authority(der: &[u8]) -> Option<Authority> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let usage = certificate.key_usage().ok()?;
    let may_sign = usage.is_none_or(|usage| usage.value.key_cert_sign());
    // Certificates of version 1 have no CA flag; the configuration makes them CAs.
    let is_ca = certificate.is_ca() || certificate.version() == X509Version::V1;
    // Name constraints are not checked here, so a CA with constraints is not accepted.
    let is_bound = !matches!(certificate.name_constraints(), Ok(None));
    if !is_ca || !may_sign || is_bound {
        return None;
    }
    let key = certificate.public_key().raw;
    let (key, _) = element(key, Tag::Sequence)?;
    Some(Authority {
        name: certificate.subject().as_raw().to_vec(),
        key: public_key_of(key)?,
        revoked: None,
    })
}

fn public_key_of(fields: &[u8]) -> Option<PublicKey> {
    let (algorithm, rest) = element(fields, Tag::Sequence)?;
    let (key, rest) = element(rest, Tag::BitString)?;
    rest.is_empty().then_some(())?;
    Some(PublicKey {
        algorithm: algorithm.to_vec(),
        key: whole_bytes(key)?.to_vec(),
    })
}

fn signed(der: &[u8]) -> Option<Signed<'_>> {
    let (all, rest) = element(der, Tag::Sequence)?;
    rest.is_empty().then_some(())?;
    let (fields, after) = element(all, Tag::Sequence)?;
    let (algorithm, rest) = element(after, Tag::Sequence)?;
    let (signature, rest) = element(rest, Tag::BitString)?;
    rest.is_empty().then_some(())?;
    Some(Signed {
        data: &all[..all.len() - after.len()],
        fields,
        algorithm,
        signature: whole_bytes(signature)?,
    })
}

/// The bytes of a bit string without unused bits.
fn whole_bytes(bits: &[u8]) -> Option<&[u8]> {
    bits.split_first()
        .filter(|(unused, _)| **unused == 0)
        .map(|(_, bytes)| bytes)
}

/// Splits DER after an element of this type. Returns its content and the rest.
fn element(der: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    let is_kind = any.class() == Class::Universal
        && any.tag() == tag
        && any.header.constructed() == (tag == Tag::Sequence);
    is_kind.then_some((any.data, rest))
}

/// A number without leading zeros.
fn number(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
        DnType, IsCa, KeyIdMethod, KeyPair, PublicKeyData as _, RevokedCertParams, SerialNumber,
        SigningKey as _,
    };
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
    use time::OffsetDateTime;

    use super::*;
    use crate::{ClientFiles, ServerCheck, Versions, client_config};

    /// A time within the validity of all certificates.
    const NOW_SECS: u64 = 1_800_000_000;
    const SERIAL: u8 = 0x51;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca(is_ca: IsCa) -> Ca {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = is_ca;
        params.distinguished_name.push(DnType::CommonName, "the CA");
        let key = KeyPair::generate().expect("a key");
        CertifiedIssuer::self_signed(params, key).expect("a CA")
    }

    fn a_ca() -> Ca {
        ca(IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag];
        match content.len() {
            short @ 0..0x80 => out.push(short as u8),
            long => out.extend([0x82, (long >> 8) as u8, long as u8]),
        }
        out.extend(content);
        out
    }

    const SEQUENCE: u8 = 0x30;

    /// ecdsa-with-SHA256.
    const ALGORITHM: &[u8] = &[
        0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02,
    ];

    /// A certificate signed by a CA, with these fields after the key.
    fn signed_by(ca: &Ca, behind: &[u8]) -> Vec<u8> {
        of_key(ca, &KeyPair::generate().expect("a key"), behind)
    }

    fn of_key(ca: &Ca, key: &KeyPair, behind: &[u8]) -> Vec<u8> {
        let (_, issuer) = X509Certificate::from_der(ca.der()).expect("the CA's");
        let name = issuer.subject().as_raw();
        let time = |text: &str| der(0x18, &[text.as_bytes()]);
        let validity = der(
            SEQUENCE,
            &[&time("20000101000000Z"), &time("21000101000000Z")],
        );
        let key = key.subject_public_key_info();
        let serial = der(0x02, &[&[SERIAL]]);
        let fields: &[&[u8]] = &[&serial, ALGORITHM, name, &validity, name, &key, behind];
        let data = der(SEQUENCE, fields);
        let signature = ca.key().sign(&data).expect("a signature");
        let signature = der(0x03, &[&[0], &signature]);
        der(SEQUENCE, &[&data, ALGORITHM, &signature])
    }

    fn list(ca: &Ca, serial: u8) -> CertificateRevocationListDer<'static> {
        let at = OffsetDateTime::from_unix_timestamp(NOW_SECS as i64).expect("a time");
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(vec![serial]),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at,
            next_update: at + Duration::from_secs(3600),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(ca).expect("a list").der().clone()
    }

    fn verifier(cas: &[&Ca], lists: &[CertificateRevocationListDer<'static>]) -> Verifier {
        let ders: Vec<_> = cas.iter().map(|ca| ca.der().clone()).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(ders.clone());
        let provider = Arc::new(default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let others = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(lists.iter().cloned())
            .build()
            .expect("a verifier");
        Verifier::new(others, &ders, lists, algorithms, true)
    }

    fn verdict_at(verifier: &Verifier, der: &[u8], secs: u64) -> Result<(), Error> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let verified = verifier.verify_client_cert(&CertificateDer::from(der), &[], now);
        verified.map(|_| ())
    }

    fn verdict(verifier: &Verifier, der: &[u8]) -> Result<(), Error> {
        verdict_at(verifier, der, NOW_SECS)
    }

    #[test]
    fn a_clients_own_of_a_configured_ca_is_good_in_its_time() {
        let ca = a_ca();
        let (verifier, own) = (verifier(&[&ca], &[]), signed_by(&ca, &[]));
        assert_eq!(verdict(&verifier, &own), Ok(()));
        let late = verdict_at(&verifier, &own, 3 * NOW_SECS);
        assert_eq!(late, Err(CertificateError::Expired.into()));
        let early = verdict_at(&verifier, &own, 0);
        assert_eq!(early, Err(CertificateError::NotValidYet.into()));
    }

    #[test]
    fn where_it_is_not_accepted_it_is_refused() {
        let (ca, other) = (a_ca(), a_ca());
        let verifier = Verifier {
            is_on: false,
            ..verifier(&[&ca, &other], &[])
        };
        assert!(verdict(&verifier, &signed_by(&ca, &[])).is_err());
    }

    #[test]
    fn another_ca_of_the_same_name_has_not_signed_it() {
        let (ca, other) = (a_ca(), a_ca());
        let own = signed_by(&other, &[]);
        let verified = verdict(&verifier(&[&ca], &[]), &own);
        assert_eq!(verified, Err(CertificateError::BadSignature.into()));
        assert_eq!(verdict(&verifier(&[&ca, &other], &[]), &own), Ok(()));
    }

    #[test]
    fn who_is_configured_and_no_ca_signs_nothing() {
        let no_ca = ca(IsCa::ExplicitNoCa);
        let verified = verdict(&verifier(&[&no_ca], &[]), &signed_by(&no_ca, &[]));
        assert_eq!(verified, Err(CertificateError::UnknownIssuer.into()));
    }

    #[test]
    fn revocation_lists_hold_for_it() {
        let (ca, other) = (a_ca(), a_ca());
        let own = signed_by(&ca, &[]);
        let by = |list| verdict(&verifier(&[&ca, &other], &[list]), &own);
        assert_eq!(by(list(&ca, 7)), Ok(()));
        assert_eq!(by(list(&ca, SERIAL)), Err(CertificateError::Revoked.into()));
        // A list that the CA has not signed is ignored, and a valid list is required.
        let unknown = Err(CertificateError::UnknownRevocationStatus.into());
        assert_eq!(by(list(&other, 7)), unknown);
    }

    #[test]
    fn extensions_are_not_of_this_version() {
        let ca = a_ca();
        let with = signed_by(&ca, &der(0xA3, &[&der(SEQUENCE, &[])]));
        assert!(verdict(&verifier(&[&ca], &[]), &with).is_err());
    }

    /// Whether the server's side of a handshake completes.
    fn handshake(certificate: &[u8], key: &KeyPair, ca: &Ca, tls: Versions) -> Result<(), Error> {
        let provider = Arc::new(default_provider());
        let signing = |key: &KeyPair| {
            let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            provider.key_provider.load_private_key(der).expect("a key")
        };
        let pair = |der: &[u8], key: &KeyPair| {
            let chain = vec![CertificateDer::from(der.to_vec())];
            Arc::new(SingleCertAndKey::from(CertifiedKey::new(
                chain,
                signing(key),
            )))
        };
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(verifier(&[ca], &[])))
            .with_cert_resolver(pair(ca.der(), ca.key()));
        let trust = ClientFiles {
            check: ServerCheck::Nothing,
            versions: tls,
            ..ClientFiles::default()
        };
        let mut client = ClientConfig::clone(&*client_config(&trust).expect("settings"));
        client.client_auth_cert_resolver = pair(certificate, key);
        let name = "localhost".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        while server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("memory");
            server.read_tls(&mut &bytes[..]).expect("memory");
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).expect("memory");
            client.read_tls(&mut &bytes[..]).expect("memory");
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn who_has_the_certificate_and_not_its_key_is_not_let_in() {
        let ca = a_ca();
        let [key, other] = [0, 1].map(|_| KeyPair::generate().expect("a key"));
        let own = of_key(&ca, &key, &[]);
        for tls in [Versions::Tls12, Versions::Tls13] {
            assert_eq!(handshake(&own, &key, &ca, tls), Ok(()), "{tls:?}");
            let refused = Err(CertificateError::BadSignature.into());
            assert_eq!(handshake(&own, &other, &ca, tls), refused, "{tls:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_certificate(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(version1(&bytes).is_none());
        }
    }

    #[test]
    fn no_changed_byte_is_good() {
        let ca = a_ca();
        let (verifier, own) = (verifier(&[&ca], &[]), signed_by(&ca, &[]));
        for at in 0..own.len() {
            for bit in 0..8 {
                let mut changed = own.clone();
                changed[at] ^= 1 << bit;
                assert!(
                    verdict(&verifier, &changed).is_err(),
                    "byte {at}, bit {bit}"
                );
            }
        }
    }
}
