//! Minimum length of passwords.

/// Shortest password that a person may choose, in characters.
pub const PASSWORD_MIN: usize = 10;

/// Whether a password is shorter than [`PASSWORD_MIN`] characters.
pub fn is_short(password: &[u8]) -> bool {
    characters(password) < PASSWORD_MIN
}

/// Checks a password that a person chooses.
///
/// # Errors
/// The password is too short. The text for the user does not contain it.
pub fn check_password(password: &[u8]) -> Result<(), String> {
    match characters(password) {
        PASSWORD_MIN.. => Ok(()),
        0 => Err("the password is empty".to_owned()),
        _ => Err(format!(
            "the password has fewer than {PASSWORD_MIN} characters"
        )),
    }
}

/// Number of characters; of bytes, if the password is not UTF-8.
fn characters(password: &[u8]) -> usize {
    std::str::from_utf8(password).map_or(password.len(), |text| text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_not_bytes() {
        for (password, is_good) in [
            ("", false),
            ("x", false),
            ("123456789", false),
            ("1234567890", true),
            ("äöüäöüäöü", false),
            ("äöüäöüäöüä", true),
        ] {
            assert_eq!(check_password(password.as_bytes()).is_ok(), is_good);
            assert_eq!(is_short(password.as_bytes()), !is_good);
        }
        assert!(!is_short(&[0xFF; 10]) && is_short(&[0xFF; 9]));
        assert!(!check_password(b"s3cret").unwrap_err().contains("s3cret"));
    }
}
