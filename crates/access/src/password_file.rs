//! A file of users with password hashes: one `NAME:HASH` per line.

use std::collections::{BTreeMap, HashMap};

use martlet_text_file::without_bom;

use crate::FileProblem;
use crate::hash::{Kind, PasswordHash};

/// Whether the file may contain plain-text passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// The file is rejected.
    Refused,
    /// They are accepted with a warning for each.
    Accepted,
}

/// Result of checking a user name and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The password is correct.
    Right {
        /// Whether the hash is of a type that is fast to guess.
        renew: bool,
    },
    /// The password is wrong.
    Wrong,
    /// The user does not exist.
    Unknown,
}

/// The users of a file.
#[derive(Clone, Debug)]
pub struct PasswordFile {
    users: HashMap<Box<str>, PasswordHash>,
    /// Hash that passwords of unknown users are compared with, so that the response time does not
    /// reveal which users exist.
    stranger: Option<PasswordHash>,
    warnings: Vec<String>,
    /// Numbers of lines with passwords that are too short, as far as they are in plain text.
    short: Vec<usize>,
    /// Whether it has neither a user nor a comment.
    is_blank: bool,
}

/// Longest user name in bytes, as in a CONNECT.
const NAME_BYTES_MAX: usize = 65_535;

impl PasswordFile {
    /// Parses a file. `name` is its name in errors.
    ///
    /// # Errors
    /// The first invalid line. A partly valid file admits no user.
    pub fn parse(name: &str, text: &[u8], plain: Plain) -> Result<Self, FileProblem> {
        let mut file = Self {
            users: HashMap::new(),
            stranger: None,
            warnings: Vec::new(),
            short: Vec::new(),
            is_blank: text.iter().all(u8::is_ascii_whitespace),
        };
        for (number, line) in without_bom(text).split(|byte| *byte == b'\n').enumerate() {
            let number = number + 1;
            let problem = |why: String| FileProblem {
                file: name.to_owned(),
                line: number,
                why,
            };
            let line = std::str::from_utf8(line)
                .map_err(|_| problem("not UTF-8, which user names are".to_owned()))?;
            let Some((user, hash)) = user_line(line).map_err(|why| problem(why.to_owned()))? else {
                continue;
            };
            let hash = PasswordHash::parse(hash)
                .map_err(|expected| problem(format!("user {user}: expected {expected}")))?;
            if hash.is_plain() {
                if plain == Plain::Refused {
                    return Err(problem(format!(
                        "the password of {user} is plain text; martlet passwd -U FILE hashes all \
                         plain-text passwords, auth.plain_passwords = true permits them"
                    )));
                }
                file.warnings.push(format!(
                    "{name} line {number}: the password of {user} is plain text; martlet passwd -U \
                     {name} hashes all plain-text passwords"
                ));
            }
            if hash.is_short() {
                file.short.push(number);
            }
            if file.users.insert(user.into(), hash).is_some() {
                return Err(problem(format!("there are two lines for the user {user}")));
            }
        }
        file.stranger = commonest(file.users.values());
        Ok(file)
    }

    /// Warnings about its contents.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Lines whose passwords are shorter than the minimum length. Lines with hashes are not
    /// checked.
    pub fn short(&self) -> &[usize] {
        &self.short
    }

    /// Checks a password. Takes as long as the hash does: tens of milliseconds. For an unknown user
    /// it returns at once.
    pub fn check(&self, user: &str, password: &[u8]) -> Check {
        let Some(hash) = self.users.get(user) else {
            return Check::Unknown;
        };
        match hash.is_of(password) {
            true => Check::Right {
                renew: hash.is_weak(),
            },
            false => Check::Wrong,
        }
    }

    /// Takes as long as a check does for most users.
    pub fn pretend(&self, password: &[u8]) {
        if let Some(stranger) = &self.stranger {
            let _ = stranger.is_of(password);
        }
    }

    /// The hash of a user, as text.
    pub fn hash_of(&self, user: &str) -> Option<String> {
        self.users.get(user).map(PasswordHash::text)
    }

    /// Whether this user exists.
    pub fn has_user(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// All users, in no particular order.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(|name| &**name)
    }

    /// Whether it has neither a user nor a comment, as an interrupted copy leaves it.
    pub fn is_blank(&self) -> bool {
        self.is_blank
    }

    /// The kinds of its hashes, each once; plain-text passwords have none.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for kind in self.users.values().filter_map(PasswordHash::kind) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// Users of this file that are missing in a newer one, or have another hash there.
    pub fn no_longer_valid(&self, newer: &Self) -> Vec<&str> {
        let all = self.users.iter();
        let gone = all.filter(|(name, hash)| newer.users.get(*name) != Some(*hash));
        gone.map(|(name, _)| &**name).collect()
    }
}

/// A hash with the most common cost; among equally common ones, the slowest. It is what an unknown
/// name is compared with, so that it takes as long as most others.
pub fn commonest<'a>(hashes: impl Iterator<Item = &'a PasswordHash>) -> Option<PasswordHash> {
    let mut counts: BTreeMap<(u8, u64), (usize, &PasswordHash)> = BTreeMap::new();
    for hash in hashes {
        counts.entry(hash.effort()).or_insert((0, hash)).0 += 1;
    }
    let found = counts
        .iter()
        .max_by_key(|(effort, (count, _))| (*count, **effort));
    found.map(|(_, (_, hash))| (*hash).clone())
}

/// Name and hash of a line; `None` if it is empty or a comment.
pub(crate) fn user_line(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    if line.starts_with('#') || line.trim().is_empty() {
        return Ok(None);
    }
    let expected = "expected NAME:HASH, as mosquitto_passwd and martlet passwd write it";
    let (user, hash) = line.split_once(':').ok_or(expected)?;
    let (user, hash) = (user.trim(), hash.trim());
    if user.is_empty() || hash.is_empty() {
        return Err(expected);
    }
    if user.len() > NAME_BYTES_MAX || user.chars().any(char::is_control) {
        return Err("no user name: it is too long, or has control characters");
    }
    Ok(Some((user, hash)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::Kind;

    fn hash(password: &str) -> String {
        PasswordHash::new(password.as_bytes(), Kind::Sha512)
            .unwrap()
            .text()
    }

    #[test]
    fn users_are_known_by_their_passwords() {
        let text = format!("# people\n\nalice:{}\r\n bob :{}\n", hash("a"), hash("b"));
        let file = PasswordFile::parse("p", text.as_bytes(), Plain::Refused).unwrap();
        assert_eq!(file.check("alice", b"a"), Check::Right { renew: true });
        assert_eq!(file.check("bob", b"a"), Check::Wrong);
        assert_eq!(file.check("carol", b"a"), Check::Unknown);
    }

    #[test]
    fn who_is_not_there_takes_as_long_as_most_who_are() {
        let slow = |password: &str| {
            let hash = PasswordHash::new(password.as_bytes(), Kind::Pbkdf2Sha512);
            hash.unwrap().text()
        };
        let text = format!(
            "a:{}\nb:{}\nc:{}\nd:plain\n",
            hash("a"),
            slow("b"),
            slow("c")
        );
        let file = PasswordFile::parse("p", text.as_bytes(), Plain::Accepted).unwrap();
        assert_eq!(file.stranger.unwrap().effort(), (2, 1000));
        let text = format!("a:{}\nb:{}\n", hash("a"), slow("b"));
        let file = PasswordFile::parse("p", text.as_bytes(), Plain::Refused).unwrap();
        assert_eq!(file.stranger.unwrap().effort(), (2, 1000));
    }

    #[test]
    fn half_a_file_is_none() {
        for bad in [
            "alice",
            "alice:",
            ":x",
            "bob:$7$x",
            "alice:$6$AAAA$AAAA",
            "a\u{1}b:x",
        ] {
            let text = format!("alice:{}\n{bad}\n", hash("a"));
            let problem = PasswordFile::parse("p", text.as_bytes(), Plain::Accepted).unwrap_err();
            assert_eq!((problem.line, &*problem.file), (2, "p"), "{bad}");
        }
        assert!(PasswordFile::parse("p", b"\xff:x", Plain::Accepted).is_err());
    }

    #[test]
    fn a_password_as_it_is_needs_permission_and_is_in_no_message() {
        let text = b"alice:hunter2\n";
        let problem = PasswordFile::parse("p", text, Plain::Refused).unwrap_err();
        assert!(!problem.to_string().contains("hunter2") && problem.to_string().contains("alice"));
        let file = PasswordFile::parse("p", text, Plain::Accepted).unwrap();
        assert_eq!(
            file.check("alice", b"hunter2"),
            Check::Right { renew: true }
        );
        assert_eq!(file.warnings().len(), 1);
        assert!(!format!("{file:?}").contains("hunter2"));
    }

    #[test]
    fn who_is_gone_or_has_another_password_is_named() {
        let (a, b) = (hash("a"), hash("b"));
        let parse =
            |text: String| PasswordFile::parse("p", text.as_bytes(), Plain::Refused).unwrap();
        let old = parse(format!("alice:{a}\nbob:{b}\ncarol:{a}"));
        let new = parse(format!("alice:{a}\nbob:{}\ndave:{a}", hash("b")));
        let mut gone = old.no_longer_valid(&new);
        gone.sort_unstable();
        assert_eq!(gone, ["bob", "carol"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_file_or_an_error(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PasswordFile::parse("p", &text, Plain::Accepted);
        }

        #[test]
        fn any_hash_is_one_or_an_error(text in r"\$(7|6|argon2id)\$(v=19\$)?[mtp=0-9,]{0,20}(\$[A-Za-z0-9+/=]{0,20}){0,3}") {
            let _ = PasswordHash::parse(&text);
        }
    }
}
