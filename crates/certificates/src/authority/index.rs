//! Index of the certificates that an authority has issued, as readable text: one line per
//! certificate, written before the certificate's file. So a revocation by name also finds
//! certificates that `renew` has replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use martlet_text_file::{read_file, text_without_bom, utf8};

use super::error::AuthorityError;
use super::files::{INDEX, file_error, replace_for_owner};
use crate::facts::Facts;
use crate::pem::BYTES_MAX;

/// Only the owner may read which devices exist.
const MODE: u32 = 0o600;

const HEAD: &str = "\
# What this authority has issued: serial number, from, until, `issued` or `found`, name, SHA-256.
# found: it was here before this file. What had replaced what until then is not known.
";

/// A certificate that an authority has issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Valid from, seconds since the Unix epoch.
    pub not_before_secs: i64,
    /// Valid until, seconds since the Unix epoch.
    pub not_after_secs: i64,
    /// Whether it was issued before its authority kept an index. There may be further certificates
    /// of this name that are not in the index.
    pub is_found: bool,
    /// Name of its files.
    pub name: String,
    /// SHA-256 of the certificate, hexadecimal with colons.
    pub fingerprint: String,
}

impl IssuedCertificate {
    pub(super) fn new(name: &str, facts: &Facts, is_found: bool) -> Self {
        Self {
            serial: facts.serial.clone(),
            not_before_secs: facts.not_before_secs,
            not_after_secs: facts.not_after_secs,
            is_found,
            name: name.to_owned(),
            fingerprint: facts.fingerprint.clone(),
        }
    }

    /// Whether it can be written as one line.
    fn fits(&self) -> bool {
        !self.name.is_empty() && !self.name.contains(char::is_control)
    }

    fn line(&self) -> String {
        let origin = if self.is_found { "found" } else { "issued" };
        format!(
            "{} {} {} {origin} {} {}\n",
            self.serial,
            date(self.not_before_secs),
            date(self.not_after_secs),
            self.name,
            self.fingerprint
        )
    }

    /// The fingerprint is last and has a fixed length, so a truncated line is not valid.
    fn of_line(line: &str) -> Option<Self> {
        let mut parts = line.splitn(5, ' ');
        let serial = parts.next()?;
        let is_serial = !serial.is_empty() && serial.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_serial.then_some(())?;
        let not_before_secs = secs(parts.next()?)?;
        let not_after_secs = secs(parts.next()?)?;
        let is_found = match parts.next()? {
            "found" => true,
            "issued" => false,
            _ => return None,
        };
        let (name, fingerprint) = parts.next()?.rsplit_once(' ')?;
        let is_whole = fingerprint
            .split(':')
            .filter(|byte| byte.len() == 2)
            .count()
            == 32;
        is_whole.then(|| Self {
            serial: serial.to_owned(),
            not_before_secs,
            not_after_secs,
            is_found,
            name: name.to_owned(),
            fingerprint: fingerprint.to_owned(),
        })
    }
}

/// The file and its entries.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    pub(super) entries: Vec<IssuedCertificate>,
    /// Offset of the next line.
    end: u64,
    /// Whether the last line has no line end.
    is_open: bool,
}

impl Index {
    /// Reads the index; `None` if there is no file.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, AuthorityError> {
        let path = directory.join(INDEX);
        let text = match read_file(&path, BYTES_MAX).and_then(utf8) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path)(error)),
        };
        let bare = text_without_bom(&text);
        let mut index = Self {
            path,
            entries: Vec::new(),
            end: (text.len() - bare.len()) as u64,
            is_open: false,
        };
        for (at, line) in bare.split_inclusive('\n').enumerate() {
            let content = line.trim_end_matches(['\n', '\r']);
            let is_open = !line.ends_with('\n');
            if !content.is_empty() && !content.starts_with('#') {
                match IssuedCertificate::of_line(content) {
                    Some(entry) => index.entries.push(entry),
                    // The line was written incompletely by an interrupted run. That run has issued
                    // no certificate, and the next line overwrites it.
                    None if is_open => break,
                    None => {
                        return Err(AuthorityError::Unusable(format!(
                            "{} line {}: not a serial number, two times, `issued` or `found`, a \
                             name and a fingerprint",
                            index.path.display(),
                            at + 1
                        )));
                    }
                }
            }
            index.end += line.len() as u64;
            index.is_open = is_open;
        }
        Ok(Some(index))
    }

    /// Creates an index of the certificates found.
    pub(super) fn create(
        directory: &Path,
        found: Vec<IssuedCertificate>,
    ) -> Result<Self, AuthorityError> {
        let path = directory.join(INDEX);
        let entries: Vec<_> = found.into_iter().filter(IssuedCertificate::fits).collect();
        let mut text = HEAD.to_owned();
        text.extend(entries.iter().map(IssuedCertificate::line));
        replace_for_owner(&path, text.as_bytes(), MODE)?;
        Ok(Self {
            path,
            entries,
            end: text.len() as u64,
            is_open: false,
        })
    }

    /// Adds a certificate. It is on the disk when this returns.
    pub(super) fn add(&mut self, entry: IssuedCertificate) -> Result<(), AuthorityError> {
        if !entry.fits() {
            let text = format!("{:?} cannot stand in {}", entry.name, self.path.display());
            return Err(AuthorityError::Unusable(text));
        }
        let line = match self.is_open {
            true => format!("\n{}", entry.line()),
            false => entry.line(),
        };
        let failed = file_error(&self.path);
        let opened = OpenOptions::new().write(true).open(&self.path);
        let mut file = opened.map_err(&failed)?;
        write_at(&mut file, self.end, line.as_bytes()).map_err(|error| {
            // Removes the partial line, if the system permits it.
            let _ = file.set_len(self.end);
            failed(error)
        })?;
        self.end += line.len() as u64;
        self.is_open = false;
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn has(&self, serial: &str) -> bool {
        self.entries.iter().any(|entry| entry.serial == serial)
    }

    /// Certificates of this name that have not expired.
    pub(super) fn good<'a>(
        &'a self,
        name: &'a str,
        now: i64,
    ) -> impl Iterator<Item = &'a IssuedCertificate> {
        let entries = self.entries.iter();
        entries.filter(move |entry| entry.name == name && entry.not_after_secs >= now)
    }
}

fn write_at(file: &mut File, end: u64, bytes: &[u8]) -> io::Result<()> {
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn date(secs: i64) -> String {
    // The times of certificates are within these limits.
    Timestamp::from_second(secs)
        .unwrap_or(Timestamp::MAX)
        .to_string()
}

fn secs(date: &str) -> Option<i64> {
    let time: Timestamp = date.parse().ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(name: &str) -> IssuedCertificate {
        IssuedCertificate {
            serial: "4a00ff".to_owned(),
            not_before_secs: 1_700_000_000,
            not_after_secs: 1_800_000_000,
            is_found: false,
            name: name.to_owned(),
            fingerprint: ["AB"; 32].join(":"),
        }
    }

    #[test]
    fn a_line_says_what_it_was_made_of() {
        for name in ["e1", "of two words", " odd  ", "issued 4a00ff", "Küche"] {
            let (entry, mut found) = (entry(name), entry(name));
            found.is_found = true;
            for entry in [entry, found] {
                let line = entry.line();
                assert_eq!(
                    IssuedCertificate::of_line(line.trim_end_matches('\n')),
                    Some(entry)
                );
            }
        }
    }

    #[test]
    fn no_line_that_is_cut_off_is_one() {
        let line = entry("e1 e2").line();
        for end in 0..line.len() - 1 {
            assert_eq!(
                IssuedCertificate::of_line(&line[..end]),
                None,
                "{}",
                &line[..end]
            );
        }
    }

    #[test]
    fn what_was_cut_off_is_written_over_and_an_end_that_lacks_is_added() {
        let of = std::env::temp_dir().join(format!("martlet-index-{}", std::process::id()));
        fs::create_dir_all(&of).unwrap();
        let names = |index: &Index| -> Vec<String> {
            index.entries.iter().map(|one| one.name.clone()).collect()
        };
        let mut index = Index::create(&of, vec![entry("a"), entry("no\nline")]).unwrap();
        index.add(entry("b")).unwrap();
        assert!(index.add(entry("no\nline")).is_err());
        let whole = fs::read_to_string(of.join(INDEX)).unwrap();
        let cut = &entry("cut").line()[..60];
        for (text, lines) in [
            (format!("{whole}{cut}"), 5),
            (whole[..whole.len() - 1].into(), 5),
        ] {
            fs::write(of.join(INDEX), text).unwrap();
            let mut index = Index::read(&of).unwrap().unwrap();
            assert_eq!(names(&index), ["a", "b"]);
            index.add(entry("c")).unwrap();
            let index = Index::read(&of).unwrap().unwrap();
            assert_eq!(names(&index), ["a", "b", "c"]);
            let text = fs::read_to_string(of.join(INDEX)).unwrap();
            assert_eq!(text.lines().count(), lines);
        }
        // A byte order mark does not belong to the first line. New lines are added at the end.
        fs::write(of.join(INDEX), format!("\u{feff}{}", &entry("a").line())).unwrap();
        let mut index = Index::read(&of).unwrap().unwrap();
        index.add(entry("b")).unwrap();
        assert_eq!(names(&Index::read(&of).unwrap().unwrap()), ["a", "b"]);
        fs::write(of.join(INDEX), format!("{cut}\n{whole}")).unwrap();
        let said = Index::read(&of).unwrap_err().to_string();
        assert!(said.contains("issued.txt line 1: not a serial"), "{said}");
        fs::remove_dir_all(&of).unwrap();
    }
}
