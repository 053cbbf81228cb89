//! Files that are written by a name from outside, in directories where another user may have put
//! something under that name.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Mode bits for write access by others than the owner.
const OTHERS_WRITE: u32 = 0o022;

/// Opens a file for writing, or creates it. No link of another user is followed, and no file of
/// another user is opened.
///
/// # Errors
/// The same as for [`check`], or the file cannot be opened.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let found = look(path)?;
    // A link could replace what was looked at.
    if !found.is_some_and(|found| found.is_symlink()) {
        let flags = OFlags::NOFOLLOW.bits();
        options.custom_flags(i32::try_from(flags).unwrap_or_default());
    }
    let file = options.open(path)?;
    let opened = file.metadata()?;
    if opened.is_file() {
        expect_owner(path, &opened)?;
    }
    Ok(file)
}

/// Checks that a file may be written, if it exists: neither it nor a link to it is of another user.
///
/// # Errors
/// A sentence: a link, or the file, is of another user; or it cannot be looked at.
pub fn check(path: &Path) -> io::Result<()> {
    look(path).map(|_| ())
}

/// Checks that neither the path nor a part of it is a link of another user.
///
/// # Errors
/// A sentence: a link is of another user.
pub fn check_links(path: &Path) -> io::Result<()> {
    for place in path.ancestors() {
        match place.symlink_metadata() {
            Ok(found) if found.is_symlink() && !is_trusted(found.uid()) => {
                let why = format!(
                    "{} is a link of the user {}: it is not followed",
                    place.display(),
                    found.uid()
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that a directory may be made or used: no part of its path is a link of another user, or a
/// link to nothing.
///
/// # Errors
/// A sentence: a link is of another user, or its target does not exist.
pub fn check_directory(path: &Path) -> io::Result<()> {
    check_links(path)?;
    let mut all = path.ancestors();
    let Some(link) = all.find(|place| place.is_symlink() && !place.exists()) else {
        return Ok(());
    };
    let why = format!(
        "{} is a symbolic link to {}, which does not exist",
        link.display(),
        link.read_link()?.display()
    );
    Err(io::Error::new(io::ErrorKind::NotFound, why))
}

/// Looks up what has the name, if anything does.
fn look(path: &Path) -> io::Result<Option<Metadata>> {
    check_links(path)?;
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link whose target does not exist would create it.
            return Ok(path.symlink_metadata().ok());
        }
        Err(error) => return Err(error),
    };
    let named = path.symlink_metadata()?;
    // A pipe that is found through a link of the system, such as /dev/stdout, may be of any user.
    if found.is_file() || named.file_type().is_fifo() {
        expect_owner(path, &found)?;
    }
    Ok(Some(named))
}

/// The user of this process, or root.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}

/// A file must be of this user, of root, or of the owner of a directory where nobody else writes.
fn expect_owner(path: &Path, found: &Metadata) -> io::Result<()> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let directory = fs::metadata(parent.unwrap_or(Path::new(".")))?;
    let is_shared = directory.mode() & OTHERS_WRITE != 0 || !is_trusted(directory.uid());
    let is_of_directory = directory.mode() & OTHERS_WRITE == 0 && found.uid() == directory.uid();
    let why = match () {
        () if !is_trusted(found.uid()) && !is_of_directory => {
            format!("{} belongs to the user {}", path.display(), found.uid())
        }
        () if is_shared && !is_of_directory && found.is_file() && found.nlink() > 1 => {
            format!(
                "{} has another name elsewhere (a hard link)",
                path.display()
            )
        }
        () => return Ok(()),
    };
    let own = rustix::process::geteuid().as_raw();
    let why = format!("{why}, and this process runs as the user {own}: it is not written");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Nobody, on all systems that matter.
    const NOBODY: u32 = 65_534;

    fn place(name: &str) -> std::path::PathBuf {
        let name = format!("martlet-owned-{name}-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        fs::create_dir_all(&place).unwrap();
        place
    }

    /// Gives a name to another user; false: only root can.
    fn give(path: &Path) -> bool {
        std::os::unix::fs::lchown(path, Some(NOBODY), None).is_ok()
    }

    fn append(path: &Path) -> io::Result<()> {
        open(path, OpenOptions::new().create(true).append(true))?.write_all(b"x")
    }

    #[test]
    fn own_links_are_followed_and_those_of_others_are_not() {
        let place = place("links");
        let (target, link) = (place.join("target"), place.join("link"));
        symlink(&target, &link).unwrap();
        append(&link).unwrap();
        append(&target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"xx");
        if give(&link) {
            let refused = append(&link).unwrap_err().to_string();
            assert!(refused.contains("is a link of the user 65534"), "{refused}");
            assert!(check(&link).is_err() && check(&target).is_ok());
            fs::create_dir(place.join("inner")).unwrap();
            symlink(place.join("inner"), place.join("way")).unwrap();
            assert!(give(&place.join("way")));
            assert!(append(&place.join("way").join("new")).is_err());
            assert_eq!(fs::read(&target).unwrap(), b"xx");
        }
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_directory_is_no_link_to_nothing() {
        let place = place("nothing");
        let link = place.join("link");
        symlink(place.join("target"), &link).unwrap();
        for path in [&link, &link.join("below")] {
            let why = check_directory(path).unwrap_err().to_string();
            let expected = format!(
                "{0}/link is a symbolic link to {0}/target, which does not exist",
                place.display()
            );
            assert_eq!(why, expected);
        }
        fs::create_dir(place.join("target")).unwrap();
        assert!(check_directory(&link).is_ok() && check_directory(&place.join("new")).is_ok());
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_file_of_another_user_is_written_only_where_nobody_else_writes() {
        let place = place("owners");
        let file = place.join("file");
        append(&file).unwrap();
        if give(&file) {
            let refused = append(&file).unwrap_err().to_string();
            assert!(refused.contains("belongs to the user 65534"), "{refused}");
            // A service's own file in its own directory, which root edits.
            assert!(give(&place));
            append(&file).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(0o1777)).unwrap();
            assert!(append(&file).is_err());
        }
        fs::remove_dir_all(&place).unwrap();
    }
}
