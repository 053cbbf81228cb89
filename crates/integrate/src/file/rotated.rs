//! A file of lines that only grows, and is renamed when it is large.
//!
//! Lines are written with one call and synced before it returns. Remains of a failed or
//! interrupted write are cut off or terminated before the next line. Another program may rename
//! the file, as logrotate does: the next lines go to a new file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::opening::{self, OTHER_CONTENTS, flags};
use super::settings::FileSettings;
use super::synced::SyncedLength;

/// A file of lines, opened on first use.
#[derive(Debug)]
pub struct RotatedFile {
    settings: FileSettings,
    open: Option<OpenFile>,
    /// Why the file could not be renamed although it is large, or its length not be kept.
    trouble: Option<String>,
}

/// The file, and the one that keeps its length; none if that cannot be written.
#[derive(Debug)]
struct OpenFile {
    lines: File,
    synced: Option<SyncedLength>,
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

    /// Why the file could not be renamed although it is large, or its length not be kept.
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
        let opened = opening::open_regular(path).and_then(|file| opening::lock(&file));
        opened.map_err(|error| self.told(&error))
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
        let Some(OpenFile {
            lines: file,
            synced,
        }) = &mut self.open
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Otherwise a full disk would leave half a line. If this fails too, the next call cuts
            // it.
            let _ = file.set_len(bytes);
            return Err(error);
        }
        if let Some(synced) = synced {
            // The old length is kept if this fails: then more is checked at the next opening.
            let _ = synced.keep(file, bytes + lines.len() as u64);
        }
        Ok(())
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
            let open = file.lines.metadata()?;
            if (open.dev(), open.ino()) == (found.dev(), found.ino()) {
                return Ok(open.len());
            }
        }
        self.open = None;
        let mut lines = opening::open_regular(path)?;
        opening::lock(&lines)?;
        let synced = SyncedLength::open(path);
        let length = match &synced {
            Ok(synced) => synced.of(&lines)?,
            Err(_) => None,
        };
        opening::repair_end(&mut lines, length)?;
        opening::append_from_now_on(&lines)?;
        let bytes = lines.metadata()?.len();
        let synced = synced.and_then(|synced| {
            synced.keep(&lines, bytes)?;
            synced.sync()?;
            Ok(synced)
        });
        let synced = synced.map_err(|error| {
            let path = path.display();
            self.trouble = Some(format!(
                "{path}.synced cannot be written, so a power cut may damage {path}: {error}"
            ));
        });
        // The names of new files, too, survive a power cut.
        sync_directory(path)?;
        self.open = Some(OpenFile {
            lines,
            synced: synced.ok(),
        });
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

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// Makes the names of new files survive a power cut.
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
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

    use super::*;
    use crate::file::opening::{MODE, PIECE};

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
    fn zeros_between_lines_that_were_not_synced_are_cut_off_with_all_after_them() {
        let place = TestDirectory::new("zeros");
        let kept = place.0.join("messages.json.synced");
        place.file().append(b"{\"id\":1}\n").unwrap();
        let of_the_first = fs::read(&kept).unwrap();
        for (behind, then) in [
            ("{\"id\":2}\n\0\0\0\0\0:3}\n{\"id\":4}\n", "{\"id\":2}\n"),
            ("\0\0\0\0\0:2}\n{\"id\":3}\n", ""),
            ("{\"id\":2}\n{\"id\":3,\"to\0\0\n{\"id\":4", "{\"id\":2}\n"),
            ("{\"id\":2}\n{\"id\":3}\n", "{\"id\":2}\n{\"id\":3}\n"),
            ("{\"id\":2}\n{\"id\":3}", "{\"id\":2}\n{\"id\":3}\n"),
        ] {
            place.file().append(b"").unwrap();
            let file = OpenOptions::new().write(true).open(place.path()).unwrap();
            file.set_len(9).unwrap();
            fs::write(&kept, &of_the_first).unwrap();
            file.write_at(behind.as_bytes(), 9).unwrap();
            place.file().append(b"{\"id\":9}\n").unwrap();
            let expected = format!("{{\"id\":1}}\n{then}{{\"id\":9}}\n");
            assert_eq!(place.read("messages.json"), expected, "{behind:?}");
        }
    }

    #[test]
    fn zeros_at_the_begin_of_a_file_that_was_not_synced_are_cut_off() {
        let place = TestDirectory::new("begin");
        place.file().append(b"").unwrap();
        let mut file = OpenOptions::new().append(true).open(place.path()).unwrap();
        file.write_all(b"\0\0\0\0\n{\"id\":1}\n").unwrap();
        place.file().append(b"{\"id\":2}\n").unwrap();
        assert_eq!(place.read("messages.json"), "{\"id\":2}\n");
    }

    #[test]
    fn a_kept_length_is_of_its_file_alone() {
        let place = TestDirectory::new("other-length");
        place.file().append(b"{\"id\":1}\n").unwrap();
        fs::rename(place.path(), place.0.join("moved.json")).unwrap();
        // No line of the sink: it is ended, and nothing before it is examined.
        let others = "{\"of\":\0}\n{\"of\":\"others\"}\n{\"of\"";
        fs::write(place.path(), others).unwrap();
        place.file().append(b"{\"id\":2}\n").unwrap();
        let expected = format!("{others}\n{{\"id\":2}}\n");
        assert_eq!(place.read("messages.json"), expected);
        // Cut by another program, as `copytruncate` of logrotate does.
        fs::write(place.path(), "").unwrap();
        place.file().append(b"{\"id\":3}\n").unwrap();
        assert_eq!(place.read("messages.json"), "{\"id\":3}\n");
    }

    #[test]
    fn a_long_torn_line_is_found_across_pieces() {
        let place = TestDirectory::new("long");
        let long = "x".repeat(3 * PIECE);
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
