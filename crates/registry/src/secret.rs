//! Generated credentials: long and random, so a quick digest with a key is enough. A reader of the
//! tables can neither log in with them nor try guesses without the key's row.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use martlet_access::hash::{made_up_password, random_password};

use crate::{Refused, RegistryError};

/// Bytes of a key and of a digest.
const LEN: usize = 32;

/// Letters and digits of the key of a team token.
pub(crate) const TEAM_KEY_LEN: usize = 24;

/// Secret that a device logs in with: shown once, kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    pub(crate) fn new() -> Result<Self, RegistryError> {
        let password = made_up_password();
        password
            .map(Self)
            .map_err(|why| RegistryError::System(why.to_owned()))
    }

    /// This many random letters and digits; 16 are the fewest that cannot be guessed.
    pub(crate) fn of_length(length: usize) -> Result<Self, RegistryError> {
        let password = random_password(length.max(16));
        password
            .map(Self)
            .map_err(|why| RegistryError::System(why.to_owned()))
    }

    pub(crate) fn with_prefix(prefix: &str) -> Result<Self, RegistryError> {
        Ok(Self(format!("{prefix}{}", Self::new()?.0)))
    }

    /// One that a device has already, or was given elsewhere.
    ///
    /// # Errors
    /// It is short: a quick digest keeps it, by which a short one could be guessed.
    pub fn given(text: &str) -> Result<Self, RegistryError> {
        let secret = Self::unchecked(text.to_owned());
        secret.check()?;
        Ok(secret)
    }

    /// One from elsewhere, of any length.
    pub(crate) fn unchecked(text: String) -> Self {
        Self(text)
    }

    /// Checks the length of one from elsewhere.
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        match (16..=512).contains(&self.0.len()) {
            true => Ok(()),
            false => Err(Refused::GivenSecret.into()),
        }
    }

    /// To be shown.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Makes digests of secrets.
#[derive(Clone, Debug)]
pub(crate) struct DigestKey(hmac::Key);

/// The digest of a secret.
pub(crate) type Digest = [u8; LEN];

impl DigestKey {
    /// From the text of the table; none if it is no key.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let bytes = read_digest(text)?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// Text of a new one.
    pub(crate) fn new_text() -> Result<String, RegistryError> {
        Ok(STANDARD_NO_PAD.encode(random::<LEN>()?))
    }

    /// Identifies it without disclosing it.
    pub(crate) fn identity(&self) -> String {
        digest_text(&self.digest(b"the identity of the tables"))
    }

    pub(crate) fn digest(&self, secret: &[u8]) -> Digest {
        let mut digest = [0; LEN];
        digest.copy_from_slice(hmac::sign(&self.0, secret).as_ref());
        digest
    }
}

/// At random.
pub(crate) fn random_number() -> Result<i64, RegistryError> {
    Ok(i64::from_be_bytes(random::<8>()?))
}

pub(crate) fn is_same(one: &Digest, other: &Digest) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

pub(crate) fn read_digest(text: &str) -> Option<Digest> {
    STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}

pub(crate) fn digest_text(digest: &Digest) -> String {
    STANDARD_NO_PAD.encode(digest)
}

/// An id that nothing else has.
pub(crate) fn new_id() -> Result<String, RegistryError> {
    let bytes = random::<16>()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], RegistryError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes)
        .map_err(|_| RegistryError::System("no source of randomness".to_owned()))?;
    Ok(bytes)
}
