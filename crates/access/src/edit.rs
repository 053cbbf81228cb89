//! Changes a password file while brokers and other commands read it. The file is replaced as a
//! whole, and all other lines stay unchanged byte by byte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use martlet_text_file::{owned, read_file, text_without_bom};

use crate::FileProblem;
use crate::hash::{Kind, PasswordHash};
use crate::password_file::user_line;

/// Mode of a new file: accessible to its owner only.
const MODE: u32 = 0o600;

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The system cannot read or write the file.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The contents of the file are invalid.
    #[error(transparent)]
    Content(#[from] FileProblem),
    /// The name cannot be written into a line.
    #[error(
        "{0:?} is not a valid user name: it must be text without a colon or control characters"
    )]
    Name(String),
    /// An empty password.
    #[error("the password is empty")]
    Empty,
    /// The hash could not be computed.
    #[error("{0}")]
    Hash(&'static str),
    /// The user to be removed does not exist.
    #[error("{}: there is no user {user}", path.display())]
    Unknown {
        /// Path of the file.
        path: PathBuf,
        /// Name of the user.
        user: String,
    },
    /// The file already exists.
    #[error("{} already exists; leave -c out to change a user of it", .0.display())]
    Exists(PathBuf),
}

/// Result of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The user is new.
    Added,
    /// The password of an existing user was changed.
    Changed,
}

/// Creates a file without users. With `replaces`, an existing file is replaced.
///
/// # Errors
/// The file exists, or cannot be created.
pub fn create(path: &Path, replaces: bool) -> Result<(), EditError> {
    if replaces && path.exists() {
        return change(path, |lines| {
            lines.clear();
            Ok(())
        });
    }
    owned::check(path).map_err(file_error(path))?;
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(MODE).open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(EditError::Exists(path.to_owned()))
        }
        Err(error) => Err(file_error(path)(error)),
    }
}

/// Sets the password of a user in an existing file.
///
/// # Errors
/// The file is not changed.
pub fn set_user(path: &Path, user: &str, password: &[u8], kind: Kind) -> Result<Edited, EditError> {
    check_name(user)?;
    if password.is_empty() {
        return Err(EditError::Empty);
    }
    let hash = PasswordHash::new(password, kind).map_err(EditError::Hash)?;
    change(path, |lines| {
        let line = format!("{user}:{}", hash.text());
        match lines.iter_mut().find(|known| is_of(known, user)) {
            Some(known) => {
                *known = line;
                Ok(Edited::Changed)
            }
            None => {
                lines.push(line);
                Ok(Edited::Added)
            }
        }
    })
}

/// Replaces a user's hash by an Argon2id hash of the same password, if the hash is still `older`.
/// Returns the new hash, or `None` if it has been changed meanwhile.
///
/// # Errors
/// The file is not changed.
pub fn renew(
    path: &Path,
    user: &str,
    older: &str,
    password: &[u8],
) -> Result<Option<String>, EditError> {
    let hash = PasswordHash::new(password, Kind::Argon2id).map_err(EditError::Hash)?;
    change(path, |lines| {
        let is_meant = |line: &str| match user_line(line) {
            Ok(Some((name, text))) => {
                name == user && PasswordHash::parse(text).is_ok_and(|hash| hash.text() == older)
            }
            _ => false,
        };
        let Some(line) = lines.iter_mut().find(|line| is_meant(line)) else {
            return Ok(None);
        };
        *line = format!("{user}:{}", hash.text());
        Ok(Some(hash.text()))
    })
}

/// Text that remains of a file without its last user: an empty file may be an interrupted copy, and
/// a running node does not apply it.
const NO_USERS: &str = "# NAME:HASH, one user a line; martlet passwd adds them";

/// Removes a user.
///
/// # Errors
/// There is no such user, or the file is not changed.
pub fn remove_user(path: &Path, user: &str) -> Result<(), EditError> {
    change(path, |lines| {
        let before = lines.len();
        lines.retain(|line| !is_of(line, user));
        if lines.len() == before {
            return Err(EditError::Unknown {
                path: path.to_owned(),
                user: user.to_owned(),
            });
        }
        if lines.iter().all(|line| line.trim().is_empty()) {
            lines.push(NO_USERS.to_owned());
        }
        Ok(())
    })
}

/// Hashes all plain-text passwords in the file. Returns their number.
///
/// # Errors
/// The file is not changed.
pub fn hash_plain(path: &Path, kind: Kind) -> Result<usize, EditError> {
    change(path, |lines| {
        let mut count = 0;
        for line in lines.iter_mut() {
            let Ok(Some((user, text))) = user_line(line) else {
                continue;
            };
            let is_plain = PasswordHash::parse(text).is_ok_and(|hash| hash.is_plain());
            if is_plain {
                let hash = PasswordHash::new(text.as_bytes(), kind).map_err(EditError::Hash)?;
                *line = format!("{user}:{}", hash.text());
                count += 1;
            }
        }
        Ok(count)
    })
}

fn check_name(user: &str) -> Result<(), EditError> {
    let is_line = matches!(user_line(&format!("{user}:x")), Ok(Some((name, "x"))) if name == user);
    match is_line && !user.contains(':') {
        true => Ok(()),
        false => Err(EditError::Name(user.to_owned())),
    }
}

fn is_of(line: &str, user: &str) -> bool {
    matches!(user_line(line), Ok(Some((name, _))) if name == user)
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> EditError {
    let path = path.to_owned();
    move |error| {
        let path = path.clone();
        EditError::File { path, error }
    }
}

/// Most bytes of a file that is changed.
const BYTES_MAX: u64 = 256 << 20;

/// Reads, changes and replaces the file. Concurrent edits wait: the directory is locked, since the
/// file itself is replaced.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&mut Vec<String>) -> Result<T, EditError>,
) -> Result<T, EditError> {
    let failed = file_error(path);
    // The target of a symbolic link is changed, not the link; no link of another user chooses it.
    owned::check(path).map_err(&failed)?;
    let path = fs::canonicalize(path).map_err(&failed)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let lock = File::open(directory).map_err(&failed)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| failed(error.into()))?;
    let before = fs::metadata(&path).map_err(&failed)?;
    let text = read_file(&path, BYTES_MAX).map_err(&failed)?;
    let text = String::from_utf8(text).map_err(|_| FileProblem {
        file: path.display().to_string(),
        line: 1,
        why: "the file is not UTF-8".to_owned(),
    })?;
    // A carriage return is part of its line.
    let text = text_without_bom(&text);
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let kept = lines.clone();
    let done = edit(&mut lines)?;
    if lines == kept {
        return Ok(done);
    }
    let mut new = lines.join("\n");
    if !lines.is_empty() {
        new.push('\n');
    }
    replace(&path, directory, new.as_bytes(), &before).map_err(&failed)?;
    Ok(done)
}

fn replace(path: &Path, directory: &Path, bytes: &[u8], before: &fs::Metadata) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    // The leftover of a killed run, or a link through which another file would be overwritten.
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&temporary)?;
    let written = (|| {
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
        // A broker that runs as another user must still be able to read it. Only root can set the
        // owner.
        let _ = std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()));
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::password_file::{Check, PasswordFile, Plain};

    /// A file in a temporary directory, which is removed on drop.
    struct Edit(PathBuf);

    impl Edit {
        fn of(text: &str) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("martlet-edit-{}-{number}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir(&directory).unwrap();
            let path = directory.join("passwd");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            Self(path)
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.0).unwrap()
        }

        fn lines(&self) -> Vec<String> {
            lines_of(&self.text())
        }

        fn lets_in(&self, user: &str, password: &[u8]) -> bool {
            matches!(self.check(user, password), Check::Right { .. })
        }

        fn check(&self, user: &str, password: &[u8]) -> Check {
            let file = PasswordFile::parse("p", &fs::read(&self.0).unwrap(), Plain::Accepted);
            file.unwrap().check(user, password)
        }
    }

    impl Drop for Edit {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().unwrap());
        }
    }

    /// The lines with their line ends; the last line gets one.
    fn lines_of(text: &str) -> Vec<String> {
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
            last.push('\n');
        }
        lines
    }

    /// With the note of a file without its last user.
    fn or_note(mut lines: Vec<String>) -> Vec<String> {
        if lines.iter().all(|line| line.trim().is_empty()) {
            lines.push(format!("{NO_USERS}\n"));
        }
        lines
    }

    fn names(line: &str, user: &str) -> bool {
        !line.starts_with('#')
            && line
                .split_once(':')
                .is_some_and(|(name, _)| name.trim() == user)
    }

    fn others(lines: Vec<String>, user: &str) -> Vec<String> {
        let all = lines.into_iter();
        all.filter(|line| !names(line, user)).collect()
    }

    /// Files with comments, empty lines, users with and without spaces, and both kinds of line
    /// ends.
    fn a_file() -> impl Strategy<Value = String> {
        let kinds = prop_oneof![
            Just("# a comment: not a user".to_owned()),
            "#[a-e :]{0,10}",
            "[ \\t]{0,3}",
            "[ ]?[a-e]{1,2}[ ]?:[ ]?[A-Za-z0-9]{1,10}[ ]{0,2}",
            "\u{e9}t\u{e9}:[a-z]{1,5}",
        ];
        let lines = prop::collection::vec((kinds, prop_oneof!["\n", "\r\n"]), 0..12);
        (lines, any::<bool>()).prop_map(|(lines, ends)| {
            let mut users = std::collections::HashSet::new();
            let mut text = String::new();
            for (line, end) in &lines {
                // A duplicate user would be rejected by the parser.
                let user = line.split_once(':').map(|(name, _)| name.trim().to_owned());
                if line.starts_with('#') || user.is_none_or(|user| users.insert(user)) {
                    text.push_str(line);
                    text.push_str(end);
                }
            }
            match ends {
                true => text,
                false => text.trim_end_matches('\n').to_owned(),
            }
        })
    }

    proptest! {
        #[test]
        fn a_new_password_leaves_all_other_lines_as_they_are(
            text in a_file(),
            user in "[a-f]{1,2}",
        ) {
            let file = Edit::of(&text);
            let before = file.lines();
            let was_there = before.iter().any(|line| names(line, &user));
            let done = set_user(&file.0, &user, b"new", Kind::Sha512).unwrap();
            prop_assert_eq!(done == Edited::Changed, was_there);
            prop_assert!(file.lets_in(&user, b"new"));
            let after = file.lines();
            if was_there {
                let place = |lines: &[String]| lines.iter().position(|line| names(line, &user));
                prop_assert_eq!(place(&before), place(&after));
            }
            prop_assert_eq!(others(before, &user), others(after, &user));
            let mode = fs::metadata(&file.0).unwrap().permissions().mode();
            prop_assert_eq!(mode & 0o777, 0o640);
        }

        #[test]
        fn who_is_removed_is_gone_and_nothing_else(text in a_file(), user in "[a-e]{1,2}") {
            let file = Edit::of(&text);
            let before = file.lines();
            if before.iter().any(|line| names(line, &user)) {
                remove_user(&file.0, &user).unwrap();
                prop_assert_eq!(file.check(&user, b"x"), Check::Unknown);
                prop_assert_eq!(or_note(others(before, &user)), file.lines());
            } else {
                prop_assert!(remove_user(&file.0, &user).is_err());
                prop_assert_eq!(file.text(), text, "a refused edit changes nothing");
            }
        }

        #[test]
        fn adding_and_removing_again_is_as_before(text in a_file()) {
            let file = Edit::of(&text);
            let before = file.lines();
            set_user(&file.0, "somebody new", b"x", Kind::Sha512).unwrap();
            remove_user(&file.0, "somebody new").unwrap();
            prop_assert_eq!(or_note(before), file.lines());
        }

        #[test]
        fn names_that_would_be_other_lines_are_refused(user in "[a-b:# \n\r\t\u{0}]{0,4}") {
            let file = Edit::of("a:x\n");
            match set_user(&file.0, &user, b"new", Kind::Sha512) {
                Ok(_) => prop_assert!(file.lets_in(&user, b"new")),
                Err(_) => prop_assert_eq!(file.text(), "a:x\n"),
            }
        }
    }

    #[test]
    fn passwords_that_stand_there_as_they_are_become_hashes_and_no_other_line_changes() {
        let hashed = PasswordHash::new(b"b", Kind::Sha512).unwrap();
        let kept = format!("bob:{}\r\n", hashed.text());
        let file = Edit::of(&format!("# people\r\nalice:hunter2\n\n{kept}"));
        assert_eq!(hash_plain(&file.0, Kind::Sha512).unwrap(), 1);
        let lines = file.lines();
        assert_eq!(
            (&*lines[0], &*lines[2], &*lines[3]),
            ("# people\r\n", "\n", &*kept)
        );
        assert!(!lines[1].contains("hunter2"));
        assert!(file.lets_in("alice", b"hunter2"));
    }

    #[test]
    fn a_link_where_the_new_file_is_written_is_not_followed() {
        let edit = Edit::of("alice:$6$c2FsdA==$AAAA\n");
        let victim = edit.0.with_file_name("victim");
        fs::write(&victim, "not to be touched").unwrap();
        std::os::unix::fs::symlink(&victim, edit.0.with_file_name("passwd.new")).unwrap();
        set_user(&edit.0, "bob", b"secret", Kind::Sha512).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "not to be touched");
        assert!(edit.0.symlink_metadata().unwrap().is_file());
        assert!(edit.text().contains("bob:"));
    }
}
