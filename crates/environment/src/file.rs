//! The file `.env` in the working directory. Because it is found by its name there, it is read only
//! if no other user can have written it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Mode bits for write access by others than the owner.
const OTHERS_WRITE: u32 = 0o022;

/// Text of the `.env` at `path`; `None` if there is no such file, or it is a directory.
///
/// # Errors
/// A sentence for the user: the file belongs to neither root nor the user of this process, others
/// have write access, it is no regular file, or it cannot be read.
pub fn read_file(path: &Path) -> Result<Option<String>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    // A symbolic link of another user would choose the file.
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => return Ok(None),
        Ok(found) => check_owner(path, &found)?,
        // It does not exist, or this user may not read the directory.
        Err(_) => return Ok(None),
    }
    // Opening a pipe would otherwise block until it has a writer.
    let mut options = OpenOptions::new();
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = options.read(true).custom_flags(flags).open(path);
    let mut file: File = opened.map_err(unreadable)?;
    // Checks the opened file, because another file may have the name by now.
    let found = file.metadata().map_err(unreadable)?;
    if found.is_dir() {
        return Ok(None);
    }
    check_owner(path, &found)?;
    if !found.is_file() {
        return Err(format!("{} is refused: it is not a file", path.display()));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(format!(
            "{} is refused: other users may write to it (mode {:04o}) and could control the node; \
             run chmod go-w {}",
            path.display(),
            found.mode() & 0o7777,
            quoted(path)
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}

fn check_owner(path: &Path, found: &Metadata) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    match found.uid() {
        owner if owner == own || owner == 0 => Ok(()),
        owner => Err(format!(
            "{} is refused: it belongs to the user {owner}, and this process runs as the user \
             {own}; a .env has to belong to that user or to root. Remove it, or start in another \
             directory",
            path.display()
        )),
    }
}

/// A path quoted for the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:@%+,".contains(letter);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("martlet-environment-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_environment_file_is_read_only_if_nobody_else_can_have_written_it() {
        let directory = directory("env");
        let path = directory.join(".env");
        assert_eq!(read_file(&path), Ok(None));
        std::fs::write(&path, "A=1\n").unwrap();
        for mode in [0o600, 0o640, 0o644] {
            chmod(&path, mode);
            assert_eq!(read_file(&path), Ok(Some("A=1\n".to_owned())), "{mode:o}");
        }
        for mode in [0o620, 0o602, 0o666] {
            chmod(&path, mode);
            let why = read_file(&path).unwrap_err();
            let shown = path.display().to_string();
            assert!(
                why.contains(&shown) && why.contains("may write to it"),
                "{why}"
            );
        }
        chmod(&path, 0o600);
        let own = directory.join("own");
        std::fs::rename(&path, &own).unwrap();
        symlink(&own, &path).unwrap();
        assert_eq!(read_file(&path), Ok(Some("A=1\n".to_owned())));
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(read_file(&path).unwrap_err().ends_with("it is not a file"));
        std::fs::remove_file(&path).unwrap();
        // A directory, as for virtual environments of Python.
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read_file(&path), Ok(None));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_owner_of_an_environment_file_is_this_user_or_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = directory("owner");
        let path = directory.join(".env");
        std::fs::write(&path, "A=1\n").unwrap();
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        let why = read_file(&path).unwrap_err();
        assert!(why.contains("belongs to the user 12345"), "{why}");
        // A symbolic link created by another user.
        std::fs::rename(&path, directory.join("x")).unwrap();
        std::os::unix::fs::chown(directory.join("x"), Some(0), None).unwrap();
        symlink(directory.join("x"), &path).unwrap();
        std::os::unix::fs::lchown(&path, Some(12_345), None).unwrap();
        assert!(
            read_file(&path)
                .unwrap_err()
                .contains("belongs to the user")
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
