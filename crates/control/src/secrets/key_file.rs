//! The key file: the key that secrets in the tables are sealed with. It is made at the first
//! secret, and nodes with the same tables share it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use martlet_integrate::{SecretTrouble, SecretValue};
use martlet_registry::SealedSecret;
use martlet_text_file::text_without_bom;

/// Beginning of the only line of a key file.
const HEAD: &str = "martlet-secrets-key-1 ";
/// Bytes of a key.
const LEN: usize = 32;
/// Longest key file that is read.
const BYTES_MAX: u64 = 1_024;
/// Mode bits of users other than the owner.
const OTHERS: u32 = 0o077;

/// The key of a key file.
pub(super) struct Key {
    key: RandomizedNonceKey,
    id: String,
    path: PathBuf,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// Reads a key file.
    ///
    /// # Errors
    /// There is none, others can read it, or it is no key file.
    pub(super) fn read(path: &Path) -> Result<Self, SecretTrouble> {
        let unusable = |why: String| SecretTrouble::KeyFileUnusable {
            path: path.to_owned(),
            why,
        };
        // To open a named pipe would wait for its writer.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(unusable("it is not a regular file".to_owned()));
        }
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SecretTrouble::NoKeyFile(path.to_owned()));
            }
            Err(error) => return Err(unusable(error.to_string())),
        };
        let found = file
            .metadata()
            .map_err(|error| unusable(error.to_string()))?;
        if found.mode() & OTHERS != 0 {
            let (path, mode) = (path.to_owned(), found.mode() & 0o7777);
            return Err(SecretTrouble::KeyFileExposed { path, mode });
        }
        let mut text = String::new();
        let read = file.take(BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| unusable(error.to_string()))?;
        if text.is_empty() {
            let why = "it is empty, as a crash leaves it: remove it if no secret was set yet";
            return Err(unusable(why.to_owned()));
        }
        let text = SecretValue::new(text);
        let line = text_without_bom(text.expose());
        let encoded = line.strip_prefix(HEAD).map(str::trim);
        let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        let bytes = bytes.filter(|bytes| bytes.len() == LEN);
        let bytes = bytes.ok_or_else(|| {
            unusable(format!(
                "expected one line, `{}` and a key in base64",
                HEAD.trim()
            ))
        })?;
        Self::of(path, &bytes).ok_or_else(|| unusable("it has no usable key".to_owned()))
    }

    /// Makes a key file, which only its owner can read, and syncs it.
    ///
    /// # Errors
    /// It exists or cannot be written.
    pub(super) fn make(path: &Path) -> Result<Self, SecretTrouble> {
        let unusable = |why: String| SecretTrouble::KeyFileUnusable {
            path: path.to_owned(),
            why,
        };
        let mut bytes = [0; LEN];
        rand::fill(&mut bytes).map_err(|_| unusable("no source of randomness".to_owned()))?;
        let text = SecretValue::new(format!("{HEAD}{}\n", STANDARD.encode(bytes)));
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            let written = file.write_all(text.expose().as_bytes());
            if let Err(error) = written.and_then(|()| file.sync_all()) {
                // Half a key file would be refused for ever.
                let _ = fs::remove_file(path);
                return Err(error);
            }
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| unusable(format!("it cannot be made: {error}")))?;
        let read_key = Self::of(path, &bytes);
        read_key.ok_or_else(|| unusable("it has no usable key".to_owned()))
    }

    fn of(path: &Path, bytes: &[u8]) -> Option<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()?;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"martlet secrets key id\0");
        context.update(bytes);
        let id = context.finish();
        Some(Self {
            key,
            id: id.as_ref()[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            path: path.to_owned(),
        })
    }

    /// Seals the value of a secret of the team of this id.
    ///
    /// # Errors
    /// Random bytes are not available.
    pub(super) fn seal(
        &self,
        team: &str,
        name: &str,
        value: &SecretValue,
    ) -> Result<SealedSecret, SecretTrouble> {
        let mut bytes = value.expose().as_bytes().to_vec();
        let aad = Aad::from(belongs_to(team, name));
        let nonce = self.key.seal_in_place_append_tag(aad, &mut bytes);
        let nonce = nonce.map_err(|_| SecretTrouble::KeyFileUnusable {
            path: self.path.clone(),
            why: "the value cannot be sealed with its key".to_owned(),
        })?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut bytes);
        Ok(SealedSecret {
            sealed: STANDARD.encode(sealed),
            key_id: self.id.clone(),
        })
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// It is sealed with another key, or damaged, or was moved from another row.
    pub(super) fn open(
        &self,
        team: &str,
        name: &str,
        sealed: &SealedSecret,
    ) -> Result<SecretValue, SecretTrouble> {
        if sealed.key_id != self.id {
            let (name, path) = (name.to_owned(), self.path.clone());
            return Err(SecretTrouble::OtherKey { name, path });
        }
        let opened = || {
            let bytes = STANDARD.decode(&sealed.sealed).ok()?;
            let (nonce, rest) = bytes.split_at_checked(12)?;
            let nonce = aws_lc_rs::aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut rest = rest.to_vec();
            let aad = Aad::from(belongs_to(team, name));
            let plain = self.key.open_in_place(nonce, aad, &mut rest).ok()?;
            String::from_utf8(plain.to_vec()).ok().map(SecretValue::new)
        };
        opened().ok_or_else(|| SecretTrouble::Damaged {
            name: name.to_owned(),
            options: String::new(),
        })
    }
}

/// The row that a value belongs to, so that it opens in no other.
fn belongs_to(team: &str, name: &str) -> Vec<u8> {
    format!("martlet secret\0{team}\0{name}").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("martlet-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).expect("a directory");
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("secrets.key")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_value_opens_with_its_key_in_its_row_only() {
        let directory = Directory::new("key-file-opens");
        let file = directory.file();
        let key = Key::make(&file).expect("it is made");
        assert!(Key::make(&file).is_err(), "it is made once");
        let value = SecretValue::new("known".to_owned());
        let sealed = key.seal("t", "n", &value).expect("sealed");
        let again = Key::read(&file).expect("it is read");
        assert_eq!(again.open("t", "n", &sealed), Ok(value));
        for row in [("", "n"), ("t", "m")] {
            let moved = again
                .open(row.0, row.1, &sealed)
                .expect_err("it is another row");
            assert_eq!(moved.cause(), "secret_damaged");
        }
        fs::remove_file(&file).expect("removed");
        let other = Key::make(&file).expect("another");
        let refused = other.open("t", "n", &sealed).expect_err("another key");
        assert_eq!(refused.cause(), "key_file_wrong");
    }

    #[test]
    fn a_key_file_that_is_missing_exposed_or_damaged_says_so() {
        let directory = Directory::new("key-file-faults");
        let file = directory.file();
        let cause = || Key::read(&file).expect_err("it is unusable").cause();
        assert_eq!(cause(), "key_file_missing");
        Key::make(&file).expect("it is made");
        let mode = file.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("changed");
        assert_eq!(cause(), "key_file_exposed");
        let error_text = Key::read(&file).expect_err("exposed").to_string();
        assert!(error_text.contains("chmod 600"), "{error_text}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
        fs::write(&file, "martlet-secrets-key-1 AAAA\n").expect("written");
        assert_eq!(cause(), "key_file_unusable");
    }
}
