//! A certificate authority in a directory: its own certificate and key, those that it issues, and
//! its revocation list.
//!
//! Its whole state is in files: `ca.crt`, `ca.key`, `NAME.crt`, `NAME.key`, `issued.txt`, `crl.pem`
//! and `revoked.txt`. Only the owner may read the keys. Files are overwritten only by
//! [`Authority::renew`] and by revocations, and then replaced as a whole. The time comes from the
//! caller.
//!
//! Only one [`Authority`] at a time is open in a directory. Concurrent commands run one after the
//! other, so no revocation is lost.
//!
//! Revocations are stored in both files. Removing the list, or restoring an old copy, makes no
//! revoked certificate valid again.

mod error;
mod files;
mod index;
mod revocation;
mod revoked;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use martlet_text_file::text_without_bom;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RsaKeySize, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

pub use self::error::AuthorityError;
pub use self::files::{CA_CERTIFICATE, CA_KEY, INDEX, REGISTER, REVOKED};
use self::files::{CERTIFICATE_MODE, KEY_MODE, Lock, file_error, replace, write_new};
use self::index::Index;
pub use self::index::IssuedCertificate;
pub use self::revocation::Revoked;
use self::revoked::revoked;
use crate::facts::Facts;
use crate::pem;
use crate::version1;

/// How far a device's clock may be behind.
const BACKDATED: Duration = Duration::hours(1);

/// Kinds of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256: small and fast, for all but the oldest devices.
    #[default]
    EcP256,
    /// RSA with this number of bits: 2048, 3072 or 4096.
    Rsa(u16),
}

/// Purpose of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server with these DNS names and addresses.
    Server(Vec<String>),
    /// A client.
    Client,
}

/// The result of issuing a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Path of the certificate.
    pub certificate: PathBuf,
    /// Path of the key.
    pub key: PathBuf,
    /// The contents of the certificate.
    pub facts: Facts,
}

/// An open authority. Its directory is locked.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    _lock: Lock,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Creates an authority. Creates the directory if it does not exist. `waits` is called with the
    /// directory if another process holds its lock for more than a second.
    ///
    /// # Errors
    /// There already is an authority, or the files cannot be written.
    pub fn create(
        directory: &Path,
        name: &str,
        days: u32,
        kind: KeyKind,
        now_secs: i64,
        waits: fn(&Path),
    ) -> Result<Issued, AuthorityError> {
        fs::create_dir_all(directory).map_err(file_error(directory))?;
        let _lock = Lock::take(directory, waits)?;
        let key = new_key(kind)?;
        let mut params = params(name, days, now_secs)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let files = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        write_both(&files, &certificate.pem(), &key.serialize_pem(), || Ok(()))?;
        issued(files.0, files.1)
    }

    /// Opens the authority of a directory, as soon as no other process has it open. `waits` is
    /// called with the directory if that takes more than a second.
    ///
    /// # Errors
    /// There is no authority, or its files are invalid.
    pub fn open(directory: &Path, waits: fn(&Path)) -> Result<Self, AuthorityError> {
        let (certificate, key) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        for file in [&certificate, &key] {
            if file
                .symlink_metadata()
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                return Err(AuthorityError::Missing(file.clone()));
            }
        }
        let lock = Lock::take(directory, waits)?;
        let certificates = pem::certificates(&certificate)?;
        let text = fs::read_to_string(&key).map_err(file_error(&key))?;
        let pair = KeyPair::from_pem(text_without_bom(&text))
            .map_err(|error| AuthorityError::Unusable(format!("{}: {error}", key.display())))?;
        let first = certificates.first().ok_or_else(|| {
            AuthorityError::Unusable(format!("{}: no certificate", certificate.display()))
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
            issuer: Issuer::from_ca_cert_der(first, pair)?,
        })
    }

    /// Whether this is the path of the revocation list of an authority in the same directory that
    /// has not written it yet, because nothing is revoked. Also checks the register of revoked
    /// certificates: a lost list must not count as an empty one.
    pub fn has_revoked_nothing(list: &Path) -> bool {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let Some(directory) = list.parent() else {
            return false;
        };
        let is_own = list.file_name().is_some_and(|name| name == REVOKED);
        let has_authority = [CA_CERTIFICATE, CA_KEY]
            .iter()
            .all(|name| is_there(&directory.join(name)));
        is_own && !is_there(list) && has_authority && !is_there(&directory.join(REGISTER))
    }

    /// Issues `FILE.crt` and `FILE.key`.
    ///
    /// # Errors
    /// The files exist, cannot be written, or the request is invalid.
    pub fn issue(
        &self,
        file: &str,
        common_name: &str,
        purpose: &Purpose,
        days: u32,
        kind: KeyKind,
        now_secs: i64,
    ) -> Result<Issued, AuthorityError> {
        let files = self.files(file)?;
        let key = new_key(kind)?;
        let certificate = self.sign(&key, common_name, purpose, days, now_secs)?;
        write_both(&files, &certificate.pem(), &key.serialize_pem(), || {
            self.enter(file, &certificate)
        })?;
        issued(files.0, files.1)
    }

    /// Renews a certificate for the existing key, with the same names.
    ///
    /// # Errors
    /// The files do not exist or are invalid.
    pub fn renew(&self, file: &str, days: u32, now_secs: i64) -> Result<Issued, AuthorityError> {
        let files = self.files(file)?;
        let old = Facts::of_file(&files.0)?;
        if revoked(&self.directory)?
            .1
            .iter()
            .any(|(serial, _)| *serial == old.serial)
        {
            return Err(AuthorityError::Unusable(format!(
                "{} is revoked, and its key with it: make a new one under another name, or remove \
                 the files and make it again",
                files.0.display()
            )));
        }
        let text = fs::read_to_string(&files.1).map_err(file_error(&files.1))?;
        let key = KeyPair::from_pem(text_without_bom(&text))
            .map_err(|error| AuthorityError::Unusable(format!("{}: {error}", files.1.display())))?;
        let purpose = match old.purposes.contains(&"server") {
            true => Purpose::Server(old.names),
            false => Purpose::Client,
        };
        let name = old.common_name.unwrap_or_else(|| file.to_owned());
        let certificate = self.sign(&key, &name, &purpose, days, now_secs)?;
        self.enter(file, &certificate)?;
        replace(&files.0, certificate.pem().as_bytes(), CERTIFICATE_MODE)?;
        issued(files.0, files.1)
    }

    /// Lists all certificates of a directory, and whether each is revoked. Does not wait for the
    /// lock, because files are replaced as a whole.
    ///
    /// # Errors
    /// There is no authority, or the directory or the list cannot be read.
    pub fn list(directory: &Path) -> Result<Vec<(PathBuf, Facts, bool)>, AuthorityError> {
        pem::certificates(&directory.join(CA_CERTIFICATE))?;
        let (_, revoked) = revoked(directory)?;
        let mut all = Vec::new();
        let entries = fs::read_dir(directory).map_err(file_error(directory))?;
        for entry in entries {
            let path = entry.map_err(file_error(directory))?.path();
            if path.extension().is_some_and(|end| end == "crt")
                && let Ok(facts) = Facts::of_file(&path)
            {
                let is_revoked = revoked.iter().any(|(serial, _)| *serial == facts.serial);
                all.push((path, facts, is_revoked));
            }
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(all)
    }

    /// Lists valid certificates that were issued here, are not revoked, and have no file here, for
    /// example because [`Authority::renew`] has replaced them.
    ///
    /// # Errors
    /// The directory, its index or the list cannot be read.
    pub fn without_file(
        directory: &Path,
        now_secs: i64,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        let Some(index) = Index::read(directory)? else {
            return Ok(Vec::new());
        };
        let here = Self::list(directory)?;
        let (_, revoked) = revoked(directory)?;
        let mut others = index.entries;
        others.retain(|entry| {
            entry.not_after_secs >= now_secs
                && !revoked.iter().any(|(serial, _)| *serial == entry.serial)
                && !here
                    .iter()
                    .any(|(_, facts, _)| facts.serial == entry.serial)
        });
        others.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(others)
    }

    /// Reads the index of issued certificates. If an older version of the program has left none,
    /// creates it from the files.
    fn index(&self) -> Result<Index, AuthorityError> {
        if let Some(index) = Index::read(&self.directory)? {
            return Ok(index);
        }
        let mut found = Vec::new();
        for (path, facts, _) in Self::list(&self.directory)? {
            let name = path.file_stem().and_then(|name| name.to_str());
            if let Some(name) = name.filter(|name| *name != "ca")
                && self.own(&path).is_ok()
            {
                found.push(IssuedCertificate::new(name, &facts, true));
            }
        }
        Index::create(&self.directory, found)
    }

    /// Adds the certificate to the index before it is written anywhere, after the one that it
    /// replaces.
    fn enter(&self, file: &str, certificate: &Certificate) -> Result<(), AuthorityError> {
        let mut index = self.index()?;
        if let Ok(before) = self.own(&self.files(file)?.0)
            && !index.has(&before.serial)
        {
            index.add(IssuedCertificate::new(file, &before, true))?;
        }
        let facts = Facts::of(certificate.der()).ok_or_else(|| {
            AuthorityError::Unusable("the certificate that was made cannot be read".to_owned())
        })?;
        index.add(IssuedCertificate::new(file, &facts, false))
    }

    /// Reads the first certificate of a file. It must be signed by this authority and must not be
    /// its own.
    fn own(&self, path: &Path) -> Result<Facts, AuthorityError> {
        let facts = Facts::of_file(path)?;
        let ca = self.directory.join(CA_CERTIFICATE);
        let own = Facts::of_file(&ca)?;
        let unusable = |why: String| {
            let text = format!("{} is {why}", path.display());
            Err(AuthorityError::Unusable(text))
        };
        if facts.issuer != own.subject {
            return unusable(format!(
                "of {}, not of this authority, {}",
                facts.issuer, own.subject
            ));
        }
        if facts.fingerprint == own.fingerprint {
            return unusable("the authority's own".to_owned());
        }
        match (
            pem::certificates(&ca)?.first(),
            pem::certificates(path)?.first(),
        ) {
            (Some(ca), Some(der)) if version1::has_signed(ca, der) => Ok(facts),
            _ => unusable(format!(
                "of another authority by the name of {}",
                own.subject
            )),
        }
    }

    fn files(&self, file: &str) -> Result<(PathBuf, PathBuf), AuthorityError> {
        let is_name = !file.is_empty() && !file.contains('/') && !file.starts_with('.');
        if !is_name || file == "ca" || file.contains(char::is_control) {
            let text = format!(
                "{file:?} is not a valid name for files: no slashes, no line breaks and the like, \
                 not ca"
            );
            return Err(AuthorityError::Unusable(text));
        }
        let named = |end| self.directory.join(format!("{file}.{end}"));
        Ok((named("crt"), named("key")))
    }

    fn sign(
        &self,
        key: &KeyPair,
        common_name: &str,
        purpose: &Purpose,
        days: u32,
        now_secs: i64,
    ) -> Result<Certificate, AuthorityError> {
        let mut params = params(common_name, days, now_secs)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        match purpose {
            Purpose::Server(names) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                // For old clients that use RSA without elliptic curves.
                params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
                for name in names {
                    params.subject_alt_names.push(match name.parse::<IpAddr>() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| {
                            let text = format!("{name:?} is not a valid DNS name or address");
                            AuthorityError::Unusable(text)
                        })?),
                    });
                }
            }
            Purpose::Client => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        Ok(params.signed_by(key, &self.issuer)?)
    }
}

fn date(secs: i64) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(secs)
        .map_err(|_| AuthorityError::Unusable("no such time".to_owned()))
}

fn params(name: &str, days: u32, now_secs: i64) -> Result<CertificateParams, AuthorityError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| AuthorityError::Unusable("no source of randomness".to_owned()))?;
    // Positive, and always of the same length.
    serial[0] = serial[0] & 0x3F | 0x40;
    let now = date(now_secs)?;
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(days.into());
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    params.distinguished_name = DistinguishedName::new();
    let name = DnValue::Utf8String(name.to_owned());
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn new_key(kind: KeyKind) -> Result<KeyPair, AuthorityError> {
    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size);
    Ok(match kind {
        KeyKind::EcP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        KeyKind::Rsa(2048) => rsa(RsaKeySize::_2048)?,
        KeyKind::Rsa(3072) => rsa(RsaKeySize::_3072)?,
        KeyKind::Rsa(4096) => rsa(RsaKeySize::_4096)?,
        KeyKind::Rsa(bits) => {
            let text = format!("RSA keys have 2048, 3072 or 4096 bits here, not {bits}");
            return Err(AuthorityError::Unusable(text));
        }
    })
}

fn issued(certificate: PathBuf, key: PathBuf) -> Result<Issued, AuthorityError> {
    let facts = Facts::of_file(&certificate)?;
    Ok(Issued {
        certificate,
        key,
        facts,
    })
}

/// Writes both files or none. The key is written first, so every certificate has its key. `enter`
/// is called before the certificate is written.
fn write_both(
    files: &(PathBuf, PathBuf),
    pem: &str,
    key: &str,
    enter: impl FnOnce() -> Result<(), AuthorityError>,
) -> Result<(), AuthorityError> {
    for path in [&files.0, &files.1] {
        if path.exists() {
            return Err(AuthorityError::Exists(path.clone()));
        }
    }
    write_new(&files.1, key.as_bytes(), KEY_MODE)?;
    let written = enter().and_then(|()| write_new(&files.0, pem.as_bytes(), CERTIFICATE_MODE));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&files.1);
    })
}
