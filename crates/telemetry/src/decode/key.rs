//! Keys of values.

use super::rejection::Rejection;

/// Checks a key. Commas are invalid because queries separate keys by commas.
///
/// # Errors
/// It is empty or too long, or contains a comma or a control character.
pub fn check_key(key: &str, bytes_max: usize) -> Result<(), Rejection> {
    if key.is_empty() {
        return Err(Rejection::KeyEmpty);
    }
    if key.len() > bytes_max {
        return Err(Rejection::KeyTooLong {
            bytes: key.len(),
            max: bytes_max,
        });
    }
    match key.chars().find(|c| *c == ',' || c.is_control()) {
        Some(character) => Err(Rejection::KeyCharacter {
            key: key.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}
