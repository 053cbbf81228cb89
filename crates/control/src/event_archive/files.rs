//! Segments of the archive: files that are written one after the other, and deleted as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::feed::Kinds;

const EXTENSION: &str = "log";
/// Bytes of a segment, at most; a smaller archive has 16 of them.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Segments of an archive, about, by age and by bytes.
const SEGMENTS: u64 = 16;
/// A segment is as long as this, at least, so that there are not too many.
const SEGMENT_MS_MIN: u64 = 60_000;

/// A segment: the time of its first event, and a number that distinguishes segments of one time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) first_ms: u64,
    pub(super) number: u32,
}

impl Segment {
    fn of(path: &Path) -> Option<Self> {
        if path.extension()?.to_str()? != EXTENSION {
            return None;
        }
        let (first_ms, number) = path.file_stem()?.to_str()?.split_once('-')?;
        Some(Self {
            first_ms: first_ms.parse().ok()?,
            number: number.parse().ok()?,
        })
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        let (first_ms, number) = (self.first_ms, self.number);
        directory.join(format!("{first_ms:013}-{number}.{EXTENSION}"))
    }
}

/// The segments of an archive with their bytes, the oldest one first. Without a directory there are
/// none.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<(Segment, u64)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(segment) = Segment::of(&entry.path()) {
            // It may have been deleted meanwhile.
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            all.push((segment, bytes));
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Writes segments, and deletes those that are too many or too old.
#[derive(Debug)]
pub(super) struct Writer {
    settings: ArchiveSettings,
    open: Option<OpenSegment>,
    looked_ms: u64,
}

#[derive(Debug)]
struct OpenSegment {
    segment: Segment,
    file: File,
    bytes: u64,
    is_synced: bool,
}

impl Writer {
    pub(super) fn new(settings: ArchiveSettings) -> Self {
        Self {
            settings,
            open: None,
            looked_ms: 0,
        }
    }

    /// Writes whole lines behind the others.
    pub(super) fn write(&mut self, lines: &[u8], now_ms: u64) -> io::Result<()> {
        let written = self.try_write(lines, now_ms);
        if written.is_err() {
            // What stands at its end is not known: the next line begins a segment.
            self.open = None;
        }
        written
    }

    fn try_write(&mut self, lines: &[u8], now_ms: u64) -> io::Result<()> {
        let most = (self.settings.bytes / SEGMENTS).clamp(1, SEGMENT_BYTES);
        let longest = self
            .settings
            .age_ms
            .map_or(u64::MAX, |age_ms| (age_ms / SEGMENTS).max(SEGMENT_MS_MIN));
        let is_full = self.open.as_ref().is_some_and(|open| {
            open.bytes >= most || now_ms.saturating_sub(open.segment.first_ms) >= longest
        });
        if is_full {
            self.sync()?;
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(begin(&self.settings.directory, now_ms)?),
        };
        open.file.write_all(lines)?;
        open.bytes += lines.len() as u64;
        open.is_synced = false;
        if is_full {
            self.delete_old(now_ms)?;
        }
        Ok(())
    }

    /// Syncs what was written, and now and then looks for old segments.
    pub(super) fn tick(&mut self, now_ms: u64) -> io::Result<()> {
        self.sync()?;
        if now_ms.saturating_sub(self.looked_ms) < SEGMENT_MS_MIN {
            return Ok(());
        }
        self.looked_ms = now_ms;
        self.delete_old(now_ms)
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_synced) {
            open.file.sync_data()?;
            open.is_synced = true;
        }
        Ok(())
    }

    fn delete_old(&self, now_ms: u64) -> io::Result<()> {
        let all = segments(&self.settings.directory)?;
        let mut bytes: u64 = all.iter().map(|(_, bytes)| bytes).sum();
        let oldest_ms = self
            .settings
            .age_ms
            .map(|age_ms| now_ms.saturating_sub(age_ms));
        let open = self.open.as_ref().map(|open| &open.segment);
        for (at, (segment, own)) in all.iter().enumerate() {
            // All of its events are older than the first one of the next segment.
            let end_ms = all.get(at + 1).map_or(now_ms, |(next, _)| next.first_ms);
            let is_old = oldest_ms.is_some_and(|oldest_ms| end_ms < oldest_ms);
            if Some(segment) == open || !is_old && bytes <= self.settings.bytes {
                break;
            }
            fs::remove_file(segment.path(&self.settings.directory))?;
            bytes = bytes.saturating_sub(*own);
        }
        Ok(())
    }
}

/// Begins a segment. One of an earlier run is never continued: its last line may be half a one.
fn begin(directory: &Path, now_ms: u64) -> io::Result<OpenSegment> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut segment = Segment {
        first_ms: now_ms,
        number: 0,
    };
    loop {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        match options.open(segment.path(directory)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => segment.number += 1,
            file => {
                return Ok(OpenSegment {
                    segment,
                    file: file?,
                    bytes: 0,
                    is_synced: true,
                });
            }
        }
    }
}

/// Events that are archived, and for how long.
#[derive(Clone, Debug)]
pub struct ArchiveSettings {
    /// Where the files are.
    pub directory: PathBuf,
    /// Kinds of events.
    pub kinds: Kinds,
    /// Milliseconds after which events are deleted; none: never.
    pub age_ms: Option<u64>,
    /// Bytes of all files, at most.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Kinds;

    #[test]
    fn the_oldest_segments_are_deleted_by_bytes_and_by_age() {
        let directory = std::env::temp_dir().join(format!("archive-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let settings = ArchiveSettings {
            directory: directory.clone(),
            kinds: Kinds::all(),
            age_ms: Some(3_600_000),
            bytes: 1_600,
        };
        let mut writer = Writer::new(settings);
        for at in 0..100 {
            writer.write(&[b'x'; 50], 1_000 + at).unwrap();
        }
        writer.delete_old(2_000).unwrap();
        let all = segments(&directory).unwrap();
        let bytes: u64 = all.iter().map(|(_, bytes)| bytes).sum();
        assert!((1_400..=1_600).contains(&bytes), "{bytes}");
        assert!(all[0].0.first_ms > 1_000);
        // After an hour all but the open one are too old.
        writer.tick(10_000_000).unwrap();
        assert_eq!(segments(&directory).unwrap().len(), 1);
        fs::remove_dir_all(&directory).unwrap();
    }
}
