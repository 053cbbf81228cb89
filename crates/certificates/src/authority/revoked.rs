//! Reads the revocations of an authority from its list and its register.

use std::io;
use std::path::Path;

use martlet_text_file::{read_file, text_without_bom, utf8};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::error::AuthorityError;
use super::files::{REGISTER, REVOKED, file_error};
use crate::pem::{self, BYTES_MAX};

/// First word of the register's line with the number of the last list.
pub(super) const NUMBER: &str = "list";

/// Parses a serial number in the notation of OpenSSL. Returns the form used in certificates: whole
/// bytes in lower case, with no leading zero byte except the one that makes it positive.
pub(super) fn read_serial(text: &str) -> Option<String> {
    let digits = text.trim().to_ascii_lowercase().replace(':', "");
    let digits = digits.strip_prefix("0x").unwrap_or(&digits);
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_number.then_some(())?;
    let digits = digits.trim_start_matches('0');
    let mut serial = match digits.len() % 2 {
        0 => digits.to_owned(),
        _ => format!("0{digits}"),
    };
    if serial.as_bytes().first().is_none_or(|first| *first >= b'8') {
        serial.insert_str(0, "00");
    }
    Some(serial)
}

/// Returns the number of the last list, and the revoked serial numbers with their times.
pub(super) fn revoked(directory: &Path) -> Result<(u64, Vec<(String, i64)>), AuthorityError> {
    let (in_list, mut all) = listed(directory)?;
    let (in_register, registered) = registered(directory)?;
    for (serial, secs) in registered {
        if !all.iter().any(|(known, _)| *known == serial) {
            all.push((serial, secs));
        }
    }
    Ok((in_list.max(in_register), all))
}

/// Reads the register. A missing file is empty, as before the first list.
fn registered(directory: &Path) -> Result<(u64, Vec<(String, i64)>), AuthorityError> {
    let path = directory.join(REGISTER);
    let text = match read_file(&path, BYTES_MAX).and_then(utf8) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, Vec::new())),
        Err(error) => return Err(file_error(&path)(error)),
    };
    let (mut number, mut all) = (0, Vec::new());
    for (at, line) in text_without_bom(&text).lines().enumerate() {
        let understood = line.split_once(' ').and_then(|(name, value)| {
            if name == NUMBER {
                number = value.parse().ok()?;
            } else {
                all.push((read_serial(name)?, value.parse().ok()?));
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

/// Reads the list.
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

#[cfg(test)]
mod tests {
    use super::read_serial;

    #[test]
    fn serial_numbers_are_read_in_every_form() {
        for (text, read) in [
            ("4a00ff", Some("4a00ff")),
            ("4A:00:FF", Some("4a00ff")),
            ("0x4A00FF", Some("4a00ff")),
            ("004a00ff", Some("4a00ff")),
            ("8f", Some("008f")),
            ("008F", Some("008f")),
            ("123", Some("0123")),
            ("0", Some("00")),
            ("", None),
            ("0x", None),
            ("device-7", None),
        ] {
            assert_eq!(read_serial(text).as_deref(), read, "{text}");
        }
    }
}
