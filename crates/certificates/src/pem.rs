//! PEM files.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// What is wrong with a file, or with several together.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not let us read it.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {what}; expected {expected}", path.display())]
    Contents {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The files do not go together, or cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// The certificates of a file, the server's own or a device's first.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let expected = "certificates in PEM (-----BEGIN CERTIFICATE-----)";
    all(path, expected, CertificateDer::pem_reader_iter)
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
    read: impl FnOnce(BufReader<File>) -> I,
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

fn open(path: &Path) -> Result<BufReader<File>, FileError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    Ok(BufReader::new(file))
}

fn unreadable(path: &Path, source: io::Error) -> FileError {
    FileError::Unreadable {
        path: path.to_owned(),
        source,
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
            what: format!("it is no good PEM: {error}"),
            expected,
        },
    }
}

fn is_encrypted(path: &Path) -> bool {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}
