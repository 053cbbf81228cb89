//! A file of lines that only grows, and is renamed when it is large.
//!
//! Lines are written with one call and synced before it returns. Remains of a failed or
//! interrupted write are cut off or terminated before the next line. Another program may rename
//! the file, as logrotate does: the next lines go to a new file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags};

use super::settings::FileSettings;

/// The file has payloads, so only owner and group may read it.
const MODE: u32 = 0o640;
/// The end of a file is searched in pieces of this length, bytes.
const PIECE: u64 = 64 * 1024;
/// Error for a file with other contents.
const OTHER_CONTENTS: &str = "it has other contents than lines of JSON, and is left as it is";
/// Beginning of every line.
const LINE_BEGIN: &[u8] = b"{\"id\":";

/// A file of lines, opened on first use.
#[derive(Debug)]
pub struct RotatedFile {
    settings: FileSettings,
    open: Option<File>,
    /// Why the file could not be renamed although it is large.
    trouble: Option<String>,
}

impl RotatedFile {
    /// A file that is not yet opened.
    pub fn new(settings: FileSettings) -> Self {
        Self {
            settings,
            open: None,
            trouble: None,
        }
    }

    /// Why the file could not be renamed although it is large.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Appends whole lines and syncs them.
    ///
    /// # Errors
    /// The lines are not safely written: the system's error, with the path. Nothing of them is in
    /// the file, or the next call cuts it off.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), String> {
        let appended = self.try_append(lines);
        if appended.is_err() {
            // The file is examined again at the next opening.
            self.open = None;
        }
        appended.map_err(|error| self.told(&error))
    }

    /// Whether lines could be appended now.
    ///
    /// # Errors
    /// Writing is not possible; the system's error, with the path.
    pub fn check(&mut self) -> Result<(), String> {
        let path = &self.settings.path;
        check_path(path)?;
        // The lock of a file that this process has open does not count.
        if self.open.is_some() || !path.exists() {
            return Ok(());
        }
        open(path).map(drop).map_err(|error| self.told(&error))
    }

    fn told(&self, error: &io::Error) -> String {
        told(&self.settings.path, error)
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut bytes = self.reopen()?;
        let limit = self.settings.file_bytes;
        if limit > 0 && bytes > 0 && bytes + lines.len() as u64 > limit {
            // The lines are safe in any case: the file grows until it can be renamed.
            self.trouble = self.rotate().err().map(|error| {
                let path = self.settings.path.display();
                format!("{path} cannot be renamed, and grows beyond `file_bytes`: {error}")
            });
            bytes = self.reopen()?;
        }
        let Some(file) = &mut self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // Otherwise a full disk would leave half a line. If this fails too, the next call cuts
            // it.
            let _ = file.set_len(bytes);
        }
        written
    }

    /// Opens the file unless the open one is still at the path. Returns its length.
    fn reopen(&mut self) -> io::Result<u64> {
        let path = &self.settings.path;
        let found = match fs::symlink_metadata(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let (Some(found), Some(file)) = (&found, &self.open) {
            let open = file.metadata()?;
            if (open.dev(), open.ino()) == (found.dev(), found.ino()) {
                return Ok(open.len());
            }
        }
        self.open = None;
        let mut file = open(path)?;
        repair_end(&mut file)?;
        if found.is_none() {
            sync_directory(path)?;
        }
        let bytes = file.metadata()?.len();
        self.open = Some(file);
        Ok(bytes)
    }

    /// Renames `PATH` to `PATH.1`, `PATH.1` to `PATH.2` and so on; removes the last one. Only
    /// files without a gap are renamed: after an attempt that failed halfway `PATH.1` is free, so
    /// the next attempt loses nothing.
    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        let exists = |number: &u32| fs::symlink_metadata(numbered(path, *number)).is_ok();
        let in_a_row = (1..self.settings.files_kept).take_while(exists).count();
        for number in (1..=in_a_row as u32).rev() {
            fs::rename(numbered(path, number), numbered(path, number + 1))?;
        }
        fs::rename(path, numbered(path, 1))?;
        self.open = None;
        sync_directory(path)
    }
}

/// Opens a file to append to it, or creates it. Only a regular file is opened, and no link is
/// followed: another user of the directory could have created one.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true).mode(MODE);
    let file = options.custom_flags(flags()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    lock(&file)?;
    Ok(file)
}

/// Flags: do not follow links, do not wait for the other end of a pipe.
fn flags() -> i32 {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    i32::try_from(flags.bits()).unwrap_or_default()
}

/// Locks a file while it is open: two writers would cut off each other's lines.
fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::other(
            "another sink or node writes it: give each a file of its own",
        )),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Cuts off or terminates an incomplete last line, as left by a crash.
fn repair_end(file: &mut File) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        return Ok(());
    }
    let mut first = [0];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut first)?;
    let begin = last_line(file, bytes)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut line = Vec::new();
    file.read_to_end(&mut line)?;
    // After a power cut, the end of a file may have its length but not its contents.
    let zeros = line.iter().rev().take_while(|byte| **byte == 0).count();
    let text = &line[..line.len() - zeros];
    let is_blank = begin == 0 && text.is_empty();
    if !matches!(first[0], b'{' | b'\n') && !is_blank {
        return Err(io::Error::other(OTHER_CONTENTS));
    }
    if line.is_empty() {
        return Ok(());
    }
    let is_whole = serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_ok();
    let is_torn = text.starts_with(LINE_BEGIN) || LINE_BEGIN.starts_with(text);
    match is_torn && !is_whole {
        true => file.set_len(begin)?,
        false => file.write_all(b"\n")?,
    }
    file.sync_data()
}

/// Offset of the last line; the length if the file ends with a line break.
fn last_line(file: &mut File, bytes: u64) -> io::Result<u64> {
    let mut end = bytes;
    while end > 0 {
        let begin = end.saturating_sub(PIECE);
        let mut piece = vec![0; usize::try_from(end - begin).unwrap_or_default()];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// Makes the name of a new file survive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

fn told(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

/// Whether lines could be appended at this path. Creates nothing.
pub(super) fn check_path(path: &Path) -> Result<(), String> {
    let checked = match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a regular file")),
        Ok(_) => rustix::fs::access(path, Access::WRITE_OK | Access::READ_OK)
            .map_err(io::Error::from)
            .and_then(|()| check_begin(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let access = Access::WRITE_OK | Access::EXEC_OK;
            rustix::fs::access(directory(path), access).map_err(io::Error::from)
        }
        Err(error) => Err(error),
    };
    checked.map_err(|error| told(path, &error))
}

/// Whether a file begins like a file of JSON lines, or is empty.
fn check_begin(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags()).open(path);
    let mut first = [0];
    match file?.read(&mut first)? {
        // Zeros are left by a power cut: they are handled when the file is opened.
        1 if !matches!(first[0], b'{' | b'\n' | 0) => Err(io::Error::other(OTHER_CONTENTS)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A temporary directory of a test, removed at its end.
    struct TestDirectory(PathBuf);

    impl TestDirectory {
        fn new(name: &str) -> Self {
            let name = format!("martlet-file-sink-{name}-{}", std::process::id());
            let place = std::env::temp_dir().join(name);
            fs::create_dir_all(&place).unwrap();
            Self(place)
        }

        fn path(&self) -> PathBuf {
            self.0.join("messages.json")
        }

        fn file(&self) -> RotatedFile {
            self.rotated(0)
        }

        fn rotated(&self, file_bytes: u64) -> RotatedFile {
            RotatedFile::new(FileSettings {
                path: self.path(),
                file_bytes,
                files_kept: 2,
            })
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap()
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_check_tells_that_another_one_writes_the_file() {
        let place = TestDirectory::new("checked");
        let (mut own, mut other) = (place.file(), place.file());
        assert_eq!(other.check(), Ok(()));
        own.append(b"{}\n").unwrap();
        assert_eq!(own.check(), Ok(()));
        let why = other.check().unwrap_err();
        assert!(why.contains("another sink or node writes it"), "{why}");
        drop(own);
        assert_eq!(other.check(), Ok(()));
    }

    #[test]
    fn a_large_file_is_renamed_and_the_oldest_removed() {
        let place = TestDirectory::new("rotation");
        let mut file = place.rotated(12);
        for number in 0..7 {
            file.append(format!("{{\"{number}\"}}\n").as_bytes())
                .unwrap();
        }
        assert_eq!(place.read("messages.json"), "{\"6\"}\n");
        assert_eq!(place.read("messages.json.1"), "{\"4\"}\n{\"5\"}\n");
        assert_eq!(place.read("messages.json.2"), "{\"2\"}\n{\"3\"}\n");
        assert!(!place.0.join("messages.json.3").exists());
        let mode = place.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !MODE, 0, "{mode:o}");
    }

    #[test]
    fn a_file_that_cannot_be_renamed_grows_and_takes_no_other_with_it() {
        let place = TestDirectory::new("stuck");
        let mut file = place.rotated(12);
        for number in 0..5 {
            file.append(format!("{{\"{number}\"}}\n").as_bytes())
                .unwrap();
        }
        // A non-empty directory: no file can be renamed to it.
        for number in 1..=2 {
            let kept = numbered(&place.path(), number);
            fs::rename(&kept, place.0.join(format!("kept-{number}"))).unwrap();
        }
        fs::create_dir_all(numbered(&place.path(), 2).join("x")).unwrap();
        fs::write(numbered(&place.path(), 1), "kept\n").unwrap();
        for number in 5..9 {
            file.append(format!("{{\"{number}\"}}\n").as_bytes())
                .unwrap();
        }
        let grown: String = (4..9).map(|number| format!("{{\"{number}\"}}\n")).collect();
        assert_eq!(place.read("messages.json"), grown);
        assert_eq!(place.read("messages.json.1"), "kept\n");
        let trouble = file.trouble().unwrap();
        assert!(trouble.contains("cannot be renamed"), "{trouble}");
        fs::remove_dir_all(numbered(&place.path(), 2)).unwrap();
        file.append(b"{\"9\"}\n").unwrap();
        assert_eq!(place.read("messages.json"), "{\"9\"}\n");
        assert_eq!(place.read("messages.json.1"), grown);
        assert_eq!(place.read("messages.json.2"), "kept\n");
        assert_eq!(file.trouble(), None);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let place = TestDirectory::new("moved");
        let mut file = place.file();
        file.append(b"{\"id\":1}\n").unwrap();
        fs::rename(place.path(), place.0.join("moved.json")).unwrap();
        file.append(b"{\"id\":2}\n").unwrap();
        assert_eq!(place.read("messages.json"), "{\"id\":2}\n");
        assert_eq!(place.read("moved.json"), "{\"id\":1}\n");
    }

    #[test]
    fn a_file_has_one_writer() {
        let place = TestDirectory::new("two");
        let mut first = place.rotated(12);
        let linked = place.0.join("linked.json");
        first.append(b"{\"0\"}\n").unwrap();
        fs::hard_link(place.path(), &linked).unwrap();
        let mut second = RotatedFile::new(FileSettings {
            path: linked.clone(),
            file_bytes: 0,
            files_kept: 1,
        });
        let error = second.append(b"{\"1\"}\n").unwrap_err();
        assert!(
            error.contains("linked.json: another sink or node"),
            "{error}"
        );
        assert_eq!(place.read("messages.json"), "{\"0\"}\n");
        for number in 2..5 {
            first
                .append(format!("{{\"{number}\"}}\n").as_bytes())
                .unwrap();
        }
        // The file was renamed, and its first writer has another one open now.
        second.append(b"{\"5\"}\n").unwrap();
        assert!(place.file().append(b"{\"6\"}\n").is_err());
        drop(first);
        place.file().append(b"{\"6\"}\n").unwrap();
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_a_whole_one_ended() {
        let place = TestDirectory::new("torn");
        for (found, then) in [
            ("{\"id\":1}\n{\"id\":2,\"to", "{\"id\":1}\n"),
            ("{\"id\":1}\n{\"i", "{\"id\":1}\n"),
            ("{\"id\":1}\n\0\0\0", "{\"id\":1}\n"),
            ("{\"id\":1,\"topic\":\"a\0\0", ""),
            ("{\"id\":1}\n{\"id\":2}", "{\"id\":1}\n{\"id\":2}\n"),
            ("{\"of\":\"others\"", "{\"of\":\"others\"\n"),
        ] {
            fs::write(place.path(), found).unwrap();
            place.file().append(b"{\"id\":3}\n").unwrap();
            let expected = format!("{then}{{\"id\":3}}\n");
            assert_eq!(place.read("messages.json"), expected, "{found:?}");
        }
    }

    #[test]
    fn a_long_torn_line_is_found_across_pieces() {
        let place = TestDirectory::new("long");
        let long = "x".repeat(3 * PIECE as usize);
        fs::write(place.path(), format!("{{\"id\":1}}\n{{\"id\":2,\"{long}")).unwrap();
        place.file().append(b"{\"id\":3}\n").unwrap();
        assert_eq!(place.read("messages.json"), "{\"id\":1}\n{\"id\":3}\n");
    }

    #[test]
    fn links_directories_and_other_files_are_left_as_they_are() {
        let place = TestDirectory::new("other");
        let target = place.0.join("target");
        fs::write(&target, "{}\n").unwrap();
        symlink(&target, place.path()).unwrap();
        assert!(place.file().append(b"{}\n").is_err());
        assert!(check_path(&place.path()).is_err());
        assert_eq!(place.read("target"), "{}\n");
        fs::remove_file(place.path()).unwrap();
        fs::write(place.path(), "root:x:0:0").unwrap();
        let error = place.file().append(b"{}\n").unwrap_err();
        assert!(error.contains("other contents"), "{error}");
        assert_eq!(check_path(&place.path()), Err(error));
        assert_eq!(place.read("messages.json"), "root:x:0:0");
        fs::remove_file(place.path()).unwrap();
        fs::create_dir(place.path()).unwrap();
        assert!(place.file().append(b"{}\n").is_err());
    }

    #[test]
    fn what_cannot_be_written_names_the_path() {
        let place = TestDirectory::new("missing");
        let path = place.0.join("no/such/file.json");
        let settings = FileSettings {
            path: path.clone(),
            file_bytes: 0,
            files_kept: 1,
        };
        let error = RotatedFile::new(settings).append(b"{}\n").unwrap_err();
        assert!(error.contains("no/such/file.json"), "{error}");
        assert!(check_path(&path).is_err());
        assert!(check_path(&place.path()).is_ok());
    }
}
