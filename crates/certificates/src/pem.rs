//! PEM files.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use martlet_text_file::{read_file, without_bom};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// A fault of a file, or of several files together.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system. It is included in the text, so it is not a `source`; otherwise
        /// it would be printed twice.
        error: io::Error,
    },
    /// The contents are invalid.
    #[error("{}: {what}; expected {expected}", path.display())]
    Contents {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        what: String,
        /// The expected contents.
        expected: &'static str,
    },
    /// The files do not match each other, or cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// Most bytes of a file.
pub(crate) const BYTES_MAX: u64 = 64 << 20;

/// The certificates of a file; the certificate of the server or device is first.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let expected = "certificates in PEM (-----BEGIN CERTIFICATE-----)";
    all(path, expected, CertificateDer::pem_reader_iter)
}

/// Certificates of CAs from a file, or from all files of a directory. If the directory has files
/// with OpenSSL's hash names, such as `5ed36f99.0`, only these are read, as OpenSSL does.
/// Otherwise, files ending in `.crt` and `.pem` are read.
pub(crate) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    if !path.is_dir() {
        return certificates(path);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|source| unreadable(path, source))?;
    let named = |is_wanted: fn(&str) -> bool| -> Vec<PathBuf> {
        let names = entries.iter().map(std::fs::DirEntry::file_name);
        let names = names.filter(|name| name.to_str().is_some_and(is_wanted));
        names.map(|name| path.join(name)).collect()
    };
    let mut files = named(is_hash_name);
    if files.is_empty() {
        files = named(|name| name.ends_with(".crt") || name.ends_with(".pem"));
    }
    if files.is_empty() {
        return Err(FileError::Contents {
            path: path.to_owned(),
            what: "no file of certificates is in this directory".to_owned(),
            expected: "files ending in .crt or .pem, or named by openssl rehash",
        });
    }
    files.sort_unstable();
    let mut all = Vec::new();
    for file in files {
        all.append(&mut certificates(&file)?);
    }
    all.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    all.dedup();
    Ok(all)
}

/// Whether the name has eight hexadecimal digits and a number.
fn is_hash_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, number)| {
        let is_hex = |digit: u8| digit.is_ascii_hexdigit();
        hash.len() == 8
            && hash.bytes().all(is_hex)
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// The revocation lists of a file.
pub(crate) fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let expected = "revocation lists in PEM (-----BEGIN X509 CRL-----)";
    all(
        path,
        expected,
        CertificateRevocationListDer::pem_reader_iter,
    )
}

/// The first private key of a file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let found = PrivateKeyDer::from_pem_reader(open(path)?);
    found.map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(path) => FileError::Contents {
            path: path.to_owned(),
            what: "the key is encrypted".to_owned(),
            expected: "one without passphrase: openssl pkey -in OLD -out NEW",
        },
        error => contents(
            path,
            error,
            "a private key in PEM (-----BEGIN PRIVATE KEY-----, RSA or EC)",
        ),
    })
}

fn all<T, I>(
    path: &Path,
    expected: &'static str,
    read: impl FnOnce(Cursor<Vec<u8>>) -> I,
) -> Result<Vec<T>, FileError>
where
    I: Iterator<Item = Result<T, pem::Error>>,
{
    let found: Result<Vec<T>, pem::Error> = read(open(path)?).collect();
    match found {
        Ok(found) if found.is_empty() => Err(contents(path, pem::Error::NoItemsFound, expected)),
        Ok(found) => Ok(found),
        Err(error) => Err(contents(path, error, expected)),
    }
}

/// The text of a file, after a byte order mark.
fn open(path: &Path) -> Result<Cursor<Vec<u8>>, FileError> {
    let text = read_file(path, BYTES_MAX).map_err(|source| unreadable(path, source))?;
    let skipped = text.len() - without_bom(&text).len();
    let mut text = Cursor::new(text);
    text.set_position(skipped as u64);
    Ok(text)
}

fn unreadable(path: &Path, source: io::Error) -> FileError {
    FileError::Unreadable {
        path: path.to_owned(),
        error: source,
    }
}

fn contents(path: &Path, error: pem::Error, expected: &'static str) -> FileError {
    match error {
        pem::Error::Io(source) => unreadable(path, source),
        pem::Error::NoItemsFound => FileError::Contents {
            path: path.to_owned(),
            what: "nothing of the kind is in it".to_owned(),
            expected,
        },
        error => FileError::Contents {
            path: path.to_owned(),
            what: format!("it is not valid PEM: {error}"),
            expected,
        },
    }
}

fn is_encrypted(path: &Path) -> bool {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}
