//! A certificate authority in a directory: its own certificate and key, those that it issues, and
//! the list of what it has revoked.
//!
//! The files are all there is: `ca.crt`, `ca.key`, `NAME.crt`, `NAME.key`, `crl.pem` and
//! `revoked.txt`. Keys are their owner's alone. Nothing is written over but by [`Authority::renew`]
//! and what is revoked, and these are replaced as a whole. The time comes from whoever calls.
//!
//! One [`Authority`] at a time is open in a directory: what two commands do at once, they do one
//! after the other, and neither forgets what the other has revoked.
//!
//! What is revoked stands in both of its files: who removes the list, or copies an old one there,
//! does not make anybody good again.

mod files;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use self::files::{Lock, file_error, replace, write_new};
use crate::facts::Facts;
use crate::pem::{self, FileError};

/// Certificate and key of the authority.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Its private key.
pub const CA_KEY: &str = "ca.key";
/// What it has revoked.
pub const REVOKED: &str = "crl.pem";

/// The same as text, which a new list is made of: a line with the last list's number, and one with
/// serial number and time, seconds since the Unix epoch, for each certificate.
pub const REGISTER: &str = "revoked.txt";

/// Begins the line with the number.
const NUMBER: &str = "list";

const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// Clocks of devices may be behind by so much.
const BACKDATED: Duration = Duration::hours(1);

/// A revocation list is good for so long: brokers refuse clients by an older one.
const LIST_DAYS: i64 = 365;

/// Kinds of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256: small and quick, for all but the oldest devices.
    #[default]
    EcP256,
    /// RSA of so many bits: 2048, 3072 or 4096.
    Rsa(u16),
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server by these DNS names and addresses.
    Server(Vec<String>),
    /// A client.
    Client,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's.
    pub key: PathBuf,
    /// What it says.
    pub facts: Facts,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It is there already.
    #[error("{} is there already and is not written over", .0.display())]
    Exists(PathBuf),
    /// The system does not read or write it.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What is in a file is not what it should be.
    #[error(transparent)]
    Content(#[from] FileError),
    /// What was asked for cannot be.
    #[error("{0}")]
    Unusable(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Unusable(format!("no certificate could be made: {error}"))
    }
}

/// An authority that is there, and that nobody else changes meanwhile.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    _lock: Lock,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one, in a directory that is made too if it is not there. `waits` is told of the
    /// directory if another holds it for over a second.
    ///
    /// # Errors
    /// There is one, or the files cannot be written.
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
        write_both(&files, &certificate.pem(), &key.serialize_pem())?;
        issued(files)
    }

    /// The one of a directory, as soon as nobody else has it open. `waits` is told of the directory
    /// if that takes over a second.
    ///
    /// # Errors
    /// There is none, or its files are not good.
    pub fn open(directory: &Path, waits: fn(&Path)) -> Result<Self, AuthorityError> {
        let lock = Lock::take(directory, waits)?;
        let (certificate, key) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        let certificates = pem::certificates(&certificate)?;
        let text = fs::read_to_string(&key).map_err(file_error(&key))?;
        let pair = KeyPair::from_pem(&text)
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

    /// Issues `FILE.crt` and `FILE.key`.
    ///
    /// # Errors
    /// They are there, or cannot be written, or what was asked for cannot be.
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
        let pem = self.sign(&key, common_name, purpose, days, now_secs)?;
        write_both(&files, &pem, &key.serialize_pem())?;
        issued(files)
    }

    /// Issues a certificate anew for the key that is there, with the same names.
    ///
    /// # Errors
    /// The files are not there or not good.
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
        let key = KeyPair::from_pem(&text)
            .map_err(|error| AuthorityError::Unusable(format!("{}: {error}", files.1.display())))?;
        let purpose = match old.purposes.contains(&"server") {
            true => Purpose::Server(old.names),
            false => Purpose::Client,
        };
        let name = old.common_name.unwrap_or_else(|| file.to_owned());
        let pem = self.sign(&key, &name, &purpose, days, now_secs)?;
        replace(&files.0, pem.as_bytes(), CERTIFICATE_MODE)?;
        issued(files)
    }

    /// Revokes a certificate, in a list that is written anew.
    ///
    /// # Errors
    /// It is not there, or of another authority.
    pub fn revoke(&self, file: &str, now_secs: i64) -> Result<PathBuf, AuthorityError> {
        let facts = Facts::of_file(&self.files(file)?.0)?;
        let own = Facts::of_file(&self.directory.join(CA_CERTIFICATE))?;
        if facts.issuer != own.subject {
            return Err(AuthorityError::Unusable(format!(
                "{file}.crt is of {}, not of this authority, {}",
                facts.issuer, own.subject
            )));
        }
        self.write_list(Some(&facts.serial), now_secs)
    }

    /// Writes the list of what is revoked anew, so that it is good for another year.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn refresh_list(&self, now_secs: i64) -> Result<PathBuf, AuthorityError> {
        self.write_list(None, now_secs)
    }

    /// All certificates of a directory, and whether each is revoked. It waits for nobody: each file
    /// is whole.
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

    fn files(&self, file: &str) -> Result<(PathBuf, PathBuf), AuthorityError> {
        let is_name = !file.is_empty() && !file.contains('/') && !file.starts_with('.');
        if !is_name || file == "ca" {
            let text = format!("{file:?} is no name for files: no slashes, not ca");
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
    ) -> Result<String, AuthorityError> {
        let mut params = params(common_name, days, now_secs)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        match purpose {
            Purpose::Server(names) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                // RSA without elliptic curves, of old clients.
                params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
                for name in names {
                    params.subject_alt_names.push(match name.parse::<IpAddr>() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| {
                            AuthorityError::Unusable(format!("{name:?} is no DNS name or address"))
                        })?),
                    });
                }
            }
            Purpose::Client => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    fn register(&self, number: u64, revoked: &[(String, i64)]) -> Result<(), AuthorityError> {
        let mut text = format!("{NUMBER} {number}\n");
        for (serial, secs) in revoked {
            text.push_str(&format!("{serial} {secs}\n"));
        }
        replace(
            &self.directory.join(REGISTER),
            text.as_bytes(),
            CERTIFICATE_MODE,
        )
    }

    fn write_list(&self, one_more: Option<&str>, now_secs: i64) -> Result<PathBuf, AuthorityError> {
        let (number, mut revoked) = revoked(&self.directory)?;
        if let Some(serial) = one_more
            && !revoked.iter().any(|(known, _)| known == serial)
        {
            revoked.push((serial.to_owned(), now_secs));
        }
        // First, so that a run that is cut off here forgets nobody.
        self.register(number + 1, &revoked)?;
        let now = date(now_secs)?;
        let revoked: Result<Vec<_>, AuthorityError> = revoked
            .iter()
            .map(|(serial, secs)| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from(bytes_of(serial)),
                    revocation_time: date(*secs)?,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: now - BACKDATED,
            next_update: now + Duration::days(LIST_DAYS),
            crl_number: SerialNumber::from(number + 1),
            issuing_distribution_point: None,
            revoked_certs: revoked?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.directory.join(REVOKED);
        let pem = list.signed_by(&self.issuer)?.pem()?;
        replace(&path, pem.as_bytes(), CERTIFICATE_MODE)?;
        Ok(path)
    }
}

/// Number of the last list, serial numbers that are revoked and when each was.
fn revoked(directory: &Path) -> Result<(u64, Vec<(String, i64)>), AuthorityError> {
    let (in_list, mut all) = listed(directory)?;
    let (in_register, registered) = registered(directory)?;
    for (serial, secs) in registered {
        if !all.iter().any(|(known, _)| *known == serial) {
            all.push((serial, secs));
        }
    }
    Ok((in_list.max(in_register), all))
}

/// What the register has; nothing if it is not there, as before the first list.
fn registered(directory: &Path) -> Result<(u64, Vec<(String, i64)>), AuthorityError> {
    let path = directory.join(REGISTER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, Vec::new())),
        Err(error) => return Err(file_error(&path)(error)),
    };
    let (mut number, mut all) = (0, Vec::new());
    for (at, line) in text.lines().enumerate() {
        let understood = line.split_once(' ').and_then(|(name, value)| {
            if name == NUMBER {
                number = value.parse().ok()?;
            } else {
                let is_serial =
                    !name.is_empty() && name.bytes().all(|digit| digit.is_ascii_hexdigit());
                is_serial.then_some(())?;
                all.push((name.to_owned(), value.parse().ok()?));
            }
            Some(())
        });
        understood.ok_or_else(|| {
            let (path, line) = (path.display(), at + 1);
            AuthorityError::Unusable(format!(
                "{path} line {line}: neither `{NUMBER} NUMBER` nor a serial number and a time"
            ))
        })?;
    }
    Ok((number, all))
}

/// What the list has.
fn listed(directory: &Path) -> Result<(u64, Vec<(String, i64)>), AuthorityError> {
    let path = directory.join(REVOKED);
    if !path.exists() {
        return Ok((0, Vec::new()));
    }
    let lists = pem::revocation_lists(&path)?;
    let unreadable = || AuthorityError::Unusable(format!("{}: it cannot be read", path.display()));
    let der = lists.first().ok_or_else(unreadable)?;
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| unreadable())?;
    let number = list.crl_number().map_or(0, |number| {
        let digits = number.to_u64_digits();
        digits.first().copied().unwrap_or(0)
    });
    let revoked = list.iter_revoked_certificates().map(|entry| {
        let serial = entry
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (serial, entry.revocation_date.timestamp())
    });
    Ok((number, revoked.collect()))
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> = hexadecimal
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit))
        .collect()
}

fn date(secs: i64) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(secs)
        .map_err(|_| AuthorityError::Unusable("no such time".to_owned()))
}

fn params(name: &str, days: u32, now_secs: i64) -> Result<CertificateParams, AuthorityError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| AuthorityError::Unusable("no source of randomness".to_owned()))?;
    // Positive, and as long as any other.
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

fn issued((certificate, key): (PathBuf, PathBuf)) -> Result<Issued, AuthorityError> {
    let facts = Facts::of_file(&certificate)?;
    Ok(Issued {
        certificate,
        key,
        facts,
    })
}

/// Both, or none: the key is there first, and a certificate has its key.
fn write_both(files: &(PathBuf, PathBuf), pem: &str, key: &str) -> Result<(), AuthorityError> {
    for path in [&files.0, &files.1] {
        if path.exists() {
            return Err(AuthorityError::Exists(path.clone()));
        }
    }
    write_new(&files.1, key.as_bytes(), KEY_MODE)?;
    write_new(&files.0, pem.as_bytes(), CERTIFICATE_MODE).inspect_err(|_| {
        let _ = fs::remove_file(&files.1);
    })
}
