//! Changing a password file while brokers and other commands read it: the file is replaced as a
//! whole, and every line that is not meant stays byte by byte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::FileProblem;
use crate::hash::{Kind, PasswordHash};
use crate::password_file::user_line;

/// Mode of a new file: its owner's alone.
const MODE: u32 = 0o600;

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The system does not read or write it.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{0}")]
    Content(#[from] FileProblem),
    /// A line of that name cannot be.
    #[error("{0:?} is no user name: it must be text without a colon, and no control characters")]
    Name(String),
    /// An empty password.
    #[error("the password is empty")]
    Empty,
    /// No hash could be made.
    #[error("{0}")]
    Hash(&'static str),
    /// It is not there to be removed.
    #[error("{}: there is no user {user}", path.display())]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Which user.
        user: String,
    },
    /// It is there already.
    #[error("{} is there already; leave -c out to change a user of it", .0.display())]
    Exists(PathBuf),
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The user is new.
    Added,
    /// The user has another password now.
    Changed,
}

/// Makes a file without users; if `replaces`, of one that is there too.
///
/// # Errors
/// There is one, or it cannot be made.
pub fn create(path: &Path, replaces: bool) -> Result<(), EditError> {
    if replaces && path.exists() {
        return change(path, |lines| {
            lines.clear();
            Ok(())
        });
    }
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

/// Gives a user a password, in a file that is there.
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

/// Removes a user.
///
/// # Errors
/// There is no such user, or the file is not changed.
pub fn remove_user(path: &Path, user: &str) -> Result<(), EditError> {
    change(path, |lines| {
        let before = lines.len();
        lines.retain(|line| !is_of(line, user));
        match lines.len() < before {
            true => Ok(()),
            false => Err(EditError::Unknown {
                path: path.to_owned(),
                user: user.to_owned(),
            }),
        }
    })
}

/// Makes hashes of all passwords that stand there as they are; answers how many there were.
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

/// Reads, changes and replaces the file. Who else edits it waits: the lock is on the directory,
/// since the file is another one afterwards.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&mut Vec<String>) -> Result<T, EditError>,
) -> Result<T, EditError> {
    let failed = file_error(path);
    // What a link points at is changed, not the link.
    let path = fs::canonicalize(path).map_err(&failed)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let lock = File::open(directory).map_err(&failed)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| failed(error.into()))?;
    let before = fs::metadata(&path).map_err(&failed)?;
    let text = fs::read(&path).map_err(&failed)?;
    let text = String::from_utf8(text).map_err(|_| FileProblem {
        file: path.display().to_string(),
        line: 1,
        why: "the file is not UTF-8".to_owned(),
    })?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let kept = lines.clone();
    let done = edit(&mut lines)?;
    if lines == kept {
        return Ok(done);
    }
    let mut new = lines.join("\n");
    if !new.is_empty() {
        new.push('\n');
    }
    replace(&path, directory, new.as_bytes(), &before).map_err(&failed)?;
    Ok(done)
}

fn replace(path: &Path, directory: &Path, bytes: &[u8], before: &fs::Metadata) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(&temporary)?;
    let written = (|| {
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
        // A broker that runs as another user goes on reading it; only root can see to that.
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
