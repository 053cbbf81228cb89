//! Signatures of firmware. The node verifies them if the configuration has public keys: Ed25519
//! (RFC 8032) over the 32 bytes of the file's SHA-256, so that a file of any length is verified as
//! it is written.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::error::{FirmwareError, invalid};

/// Bytes of a public key.
const KEY: usize = 32;
/// Bytes that stand before a key of Ed25519 in a SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A public key of Ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; KEY]);

/// A text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a public key of Ed25519: the Base64 of its 32 bytes, or of the lines between BEGIN and \
     END PUBLIC KEY"
)]
pub struct WrongKey;

impl PublicKey {
    /// Reads the Base64 of the key, or of its SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, WrongKey> {
        let bytes = decoded(text.trim()).ok_or(WrongKey)?;
        let bytes = bytes.strip_prefix(&SPKI).unwrap_or(&bytes);
        bytes.try_into().map(Self).map_err(|_| WrongKey)
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    STANDARD_NO_PAD.decode(text).ok()
}

/// Whether a signature was verified: not if there are no keys.
///
/// # Errors
/// It is no Base64, or there are keys and none of them has made it.
pub(super) fn verify(
    keys: &[PublicKey],
    sha256: &str,
    signature: &str,
) -> Result<bool, FirmwareError> {
    if !signature.is_empty() && STANDARD.decode(signature).is_err() {
        return Err(invalid("the signature is not Base64"));
    }
    if keys.is_empty() {
        return Ok(false);
    }
    if signature.is_empty() {
        return Err(invalid(
            "a signature is needed, as firmware.public_keys is set: sign the 32 bytes of the file's \
             SHA-256 with Ed25519, and give the Base64 of that",
        ));
    }
    let bytes = decoded(signature).unwrap_or_default();
    let digest =
        digest_of(sha256).ok_or_else(|| invalid("sha256 must be 64 hexadecimal digits"))?;
    let is_right = |key: &PublicKey| {
        UnparsedPublicKey::new(&ED25519, key.0)
            .verify(&digest, &bytes)
            .is_ok()
    };
    match keys.iter().any(is_right) {
        true => Ok(true),
        false => Err(invalid(
            "no key of firmware.public_keys has made this signature over the 32 bytes of the file's \
             SHA-256",
        )),
    }
}

/// The bytes of hexadecimal digits.
fn digest_of(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    #[test]
    fn a_signature_over_the_digest_is_verified_with_any_of_the_keys() {
        let (pair, other) = (key_pair(1), key_pair(2));
        let sha256 = "0123456789abcdef".repeat(4);
        let signature = STANDARD.encode(pair.sign(&digest_of(&sha256).unwrap()));
        let key = |pair: &Ed25519KeyPair| {
            PublicKey::parse(&STANDARD.encode(pair.public_key().as_ref())).unwrap()
        };
        let keys = [key(&other), key(&pair)];
        assert!(verify(&keys, &sha256, &signature).unwrap());
        assert!(verify(&keys[..1], &sha256, &signature).is_err());
        assert!(verify(&keys, &"0".repeat(64), &signature).is_err());
        assert!(
            verify(&keys, &sha256, "").is_err(),
            "with keys it is needed"
        );
        assert!(!verify(&[], &sha256, &signature).unwrap());
        assert!(verify(&[], &sha256, "no base64!").is_err());
    }

    #[test]
    fn keys_are_read_as_openssl_writes_them() {
        let pair = key_pair(3);
        let raw = STANDARD.encode(pair.public_key().as_ref());
        let spki = STANDARD.encode([&SPKI, pair.public_key().as_ref()].concat());
        assert_eq!(PublicKey::parse(&raw), PublicKey::parse(&spki));
        assert_eq!(PublicKey::parse("AAAA"), Err(WrongKey));
        assert_eq!(PublicKey::parse("?"), Err(WrongKey));
    }

    fn key_pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }
}
