//! Random text and numbers for client commands.
//!
//! Responsible for unique client ids and for `--random-filter`. Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// Letters and digits of a client id.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A Client Identifier for a client without one: 23 characters, which MQTT 3.1 and every server
/// must accept [MQTT-3.1.3-5].
pub(crate) fn client_id() -> String {
    let mut random = (u128::from(number()) << 64) | u128::from(number());
    let mut id = String::from("martlet-");
    for _ in 0..15 {
        id.push(char::from(ALPHABET[(random % 62) as usize]));
        random /= 62;
    }
    id
}

/// A random number; each `RandomState` has its own keys.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_differ_and_have_23_letters_and_digits() {
        let (one, other) = (client_id(), client_id());
        assert_ne!(one, other);
        assert_eq!(one.len(), 23);
    }
}
