//! A consistent copy of a running store: a checkpoint of this moment and the segments it needs,
//! which stay unchanged until the snapshot is dropped. The caller copies the files at its own
//! pace. Also lists what to copy of a store that is not open, where nothing can be written.

use crate::check::ReadOnly;
use crate::checkpoint;
use crate::disk::Disk;
use crate::engine::{Engine, Options};
use crate::error::{OpenError, StoreError};
use crate::identity;
use crate::mark;
use crate::segment::SegmentFile;
use std::sync::Arc;

/// Files that, up to a given length of each, form a store of one moment. While the snapshot
/// exists, they are neither removed nor reused; beyond that length they may grow.
#[derive(Debug)]
pub struct FrozenFiles<F> {
    files: Vec<(String, u64)>,
    _segments: Vec<Arc<SegmentFile<F>>>,
    _checkpoint: Arc<()>,
}

impl<F> FrozenFiles<F> {
    /// Name of each file and how many of its bytes to copy. A directory with those copies opens as
    /// a store.
    pub fn files(&self) -> &[(String, u64)] {
        &self.files
    }
}

/// Name of each file of a store that is not open, and how many of its bytes to copy. A directory
/// with those copies opens as this one does. Nothing is changed.
pub fn files_at_rest<D: Disk>(disk: D) -> Result<Vec<(String, u64)>, OpenError> {
    let listed = disk.list();
    let listed = listed.map_err(|e| StoreError::new("listing", "the directory", e))?;
    let (engine, _) = Engine::open(ReadOnly(disk), Options::default())?;
    let last = engine.checkpoint;
    let covered = last.map_or(0, |last| last.lsn);
    let mut wanted = vec![
        (identity::NAME.to_owned(), identity::FILE_BYTES),
        (mark::NAME.to_owned(), u64::MAX),
    ];
    if let Some(last) = last {
        wanted
            .extend(checkpoint::COPIES.map(|copy| (checkpoint::name(last.number, copy), u64::MAX)));
    }
    for (_, segment) in engine.segments.iter() {
        // A segment that the checkpoint does not list ends somewhere in the file: each opening
        // finds the end itself.
        let bytes = match segment.next <= covered + 1 {
            true => segment.end,
            false => u64::MAX,
        };
        wanted.push((segment.name(), bytes));
    }
    let files = wanted.into_iter().filter_map(|(name, bytes)| {
        let (_, len) = listed.iter().find(|(other, _)| *other == name)?;
        Some((name, bytes.min(*len)))
    });
    Ok(files.collect())
}

impl<D: Disk> Engine<D> {
    /// Completes a checkpoint of this moment and pins the files it needs.
    pub fn snapshot(&mut self) -> Result<FrozenFiles<D::File>, StoreError> {
        self.checkpoint_now()?;
        let mut files = vec![(identity::NAME.to_owned(), identity::FILE_BYTES)];
        if let Some(last) = self.checkpoint {
            for copy in checkpoint::COPIES {
                files.push((checkpoint::name(last.number, copy), last.bytes));
            }
        }
        let mut segments = Vec::new();
        for (_, segment) in self.segments.iter().filter(|(_, segment)| segment.end > 0) {
            files.push((segment.name(), segment.end));
            segments.push(Arc::clone(&segment.file));
        }
        Ok(FrozenFiles {
            files,
            _segments: segments,
            _checkpoint: Arc::clone(&self.checkpoint_pin),
        })
    }
}
