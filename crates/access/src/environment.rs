//! Users with their passwords in one line: `user:password,user2:password2`.

use crate::hash::is_same;
use crate::password::is_short;
use crate::scram::{Problem, Verifier};

/// A user name and its password.
#[derive(Clone)]
pub struct Credential {
    /// User name.
    pub user_name: Box<str>,
    password: Box<[u8]>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({:?}, ***)", self.user_name)
    }
}

impl Credential {
    /// Whether this is the password; an empty password is always wrong.
    pub fn has_password(&self, password: &[u8]) -> bool {
        is_same(&self.password, password) && !password.is_empty()
    }

    /// Whether the password is shorter than the minimum length.
    pub fn is_short(&self) -> bool {
        is_short(&self.password)
    }

    /// A verifier of the password, with a new salt each time.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn verifier(&self) -> Result<Verifier, Problem> {
        Verifier::new(&self.password)
    }

    /// Whether both have the same name and the same password.
    pub fn is_same(&self, other: &Self) -> bool {
        self.user_name == other.user_name && is_same(&self.password, &other.password)
    }
}

/// Parses the list. A name ends at its first colon, a password at the next comma.
///
/// # Errors
/// The number of the invalid entry. Its text is not included, since it may be a password.
pub fn credentials(text: &str) -> Result<Vec<Credential>, String> {
    let mut users: Vec<Credential> = Vec::new();
    for (number, entry) in text.split(',').enumerate() {
        let number = number + 1;
        let entry = entry.trim();
        if entry.is_empty() {
            continue;
        }
        let (name, password) = entry.split_once(':').unwrap_or(("", ""));
        if name.is_empty() || password.is_empty() {
            return Err(format!(
                "entry {number} is not user:password (a password here cannot have a comma)"
            ));
        }
        if users.iter().any(|user| *user.user_name == *name) {
            return Err(format!(
                "entry {number}: there are two entries for the user {name}"
            ));
        }
        users.push(Credential {
            user_name: name.into(),
            password: password.as_bytes().into(),
        });
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_first_colon() {
        let users = credentials("user1:password1, user2:a:b ,").unwrap();
        assert_eq!(users.len(), 2);
        assert!(users[0].has_password(b"password1") && !users[0].has_password(b"password"));
        assert!(users[1].has_password(b"a:b") && &*users[1].user_name == "user2");
    }

    #[test]
    fn an_error_names_no_password() {
        for text in ["a:b,hunter2", "a:", ":b", "a:b,a:c"] {
            let error = credentials(text).unwrap_err();
            assert!(
                error.contains("entry") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
