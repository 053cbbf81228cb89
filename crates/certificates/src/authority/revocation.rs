//! Revokes certificates of an authority.

use std::path::{Path, PathBuf};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::Duration;

use super::error::AuthorityError;
use super::files::{CA_CERTIFICATE, CERTIFICATE_MODE, INDEX, REGISTER, REVOKED, replace};
use super::index::{Index, IssuedCertificate};
use super::revoked::{NUMBER, read_serial, revoked};
use super::{Authority, BACKDATED, date};
use crate::facts::Facts;

/// Validity of a revocation list in days. Brokers refuse all clients if a list has expired.
const LIST_DAYS: i64 = 365;

/// Longest serial number in bytes (RFC 5280, 4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// Result of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Path of the revocation list.
    pub list: PathBuf,
    /// All revoked serial numbers, including earlier ones.
    pub serials: Vec<String>,
    /// Other certificates of the same name that are still valid.
    pub others: Vec<IssuedCertificate>,
    /// A note about missing information on a name, or about the owner of a serial number.
    pub note: Option<String>,
}

impl Authority {
    /// Revokes all certificates of a name that have not expired. If there is no such name, `what`
    /// is the path of a certificate to revoke. Writes a new list.
    ///
    /// # Errors
    /// There is no such name or file, or it belongs to another authority.
    pub fn revoke(&self, what: &str, now_secs: i64) -> Result<Revoked, AuthorityError> {
        let mut index = self.index()?;
        let here = self.files(what).map(|(certificate, _)| certificate);
        let here = here.ok().filter(|path| path.exists());
        if here.is_none() && !index.entries.iter().any(|entry| entry.name == what) {
            return self.revoke_file(Path::new(what), &index, now_secs);
        }
        // The certificate of the named file is added to the list even if it has expired.
        let mut serials = Vec::new();
        if let Some(path) = here {
            let facts = self.own(&path)?;
            if !index.has(&facts.serial) {
                index.add(IssuedCertificate::new(what, &facts, true))?;
            }
            serials.push(facts.serial);
        }
        for entry in index.good(what, now_secs - BACKDATED.whole_seconds()) {
            if !serials.contains(&entry.serial) {
                serials.push(entry.serial.clone());
            }
        }
        let is_old = |entry: &IssuedCertificate| entry.name == what && entry.is_found;
        let note = index.entries.iter().any(is_old).then(|| {
            format!(
                "{what} was here before {} was kept: if it had been renewed, the old certificate \
                 is unknown and still valid; revoke it by its file or its serial number",
                self.directory.join(INDEX).display()
            )
        });
        Ok(Revoked {
            list: self.write_list(&serials, now_secs)?,
            serials,
            others: Vec::new(),
            note,
        })
    }

    /// Revokes the certificate with this serial number, in hexadecimal. Writes a new list.
    ///
    /// # Errors
    /// The serial number is invalid, or is that of the authority itself.
    pub fn revoke_serial(&self, serial: &str, now_secs: i64) -> Result<Revoked, AuthorityError> {
        let fits = |read: &String| read != "00" && read.len() <= 2 * SERIAL_BYTES_MAX;
        let read = read_serial(serial).filter(fits).ok_or_else(|| {
            let text =
                format!("{serial:?} is not a valid serial number: up to 40 hexadecimal digits");
            AuthorityError::Unusable(text)
        })?;
        if Facts::of_file(&self.directory.join(CA_CERTIFICATE))?.serial == read {
            let text = format!("{serial} is the authority's own serial number");
            return Err(AuthorityError::Unusable(text));
        }
        let index = self.index()?;
        let note = (!index.has(&read)).then(|| {
            format!(
                "{} has no certificate of this number; if it is right, it is revoked anyway",
                self.directory.join(INDEX).display()
            )
        });
        self.revoke_one(read, note, &index, now_secs)
    }

    fn revoke_file(
        &self,
        path: &Path,
        index: &Index,
        now_secs: i64,
    ) -> Result<Revoked, AuthorityError> {
        if !path.exists() {
            return Err(AuthorityError::Unusable(format!(
                "{0} has no certificate by the name of {1}, and no file {1} is here",
                self.directory.display(),
                path.display()
            )));
        }
        let facts = self.own(path)?;
        self.revoke_one(facts.serial, None, index, now_secs)
    }

    fn revoke_one(
        &self,
        serial: String,
        note: Option<String>,
        index: &Index,
        now_secs: i64,
    ) -> Result<Revoked, AuthorityError> {
        let serials = vec![serial];
        let list = self.write_list(&serials, now_secs)?;
        let (_, revoked) = revoked(&self.directory)?;
        let is_revoked =
            |entry: &IssuedCertificate| revoked.iter().any(|(one, _)| *one == entry.serial);
        let named = index
            .entries
            .iter()
            .find(|entry| serials.contains(&entry.serial));
        let others = named.map_or_else(Vec::new, |named| {
            let good = index.good(&named.name, now_secs);
            good.filter(|entry| !is_revoked(entry)).cloned().collect()
        });
        Ok(Revoked {
            list,
            serials,
            others,
            note,
        })
    }

    /// Writes the revocation list anew, so that it is valid for another year.
    ///
    /// # Errors
    /// The list cannot be read or written.
    pub fn refresh_list(&self, now_secs: i64) -> Result<PathBuf, AuthorityError> {
        self.index()?;
        self.write_list(&[], now_secs)
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

    fn write_list(&self, more: &[String], now_secs: i64) -> Result<PathBuf, AuthorityError> {
        let (number, mut revoked) = revoked(&self.directory)?;
        for serial in more {
            if !revoked.iter().any(|(known, _)| known == serial) {
                revoked.push((serial.clone(), now_secs));
            }
        }
        // The register is written first, so that an interruption here loses no revocation.
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
