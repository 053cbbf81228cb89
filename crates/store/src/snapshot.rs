//! A consistent copy of a running store: a checkpoint of this moment and the segments it needs,
//! which stay as they are until the snapshot is dropped. The caller copies the files, at its own
//! pace.

use crate::checkpoint;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::identity;
use crate::segment::SegmentFile;
use std::sync::Arc;

/// Files whose first so many bytes are together a store of one moment. While it lives, they are
/// neither removed nor used again; behind those bytes they may grow.
#[derive(Debug)]
pub struct Snapshot<F> {
    files: Vec<(String, u64)>,
    _segments: Vec<Arc<SegmentFile<F>>>,
    _checkpoint: Arc<()>,
}

impl<F> Snapshot<F> {
    /// Name of each file and how many of its bytes to copy. A directory with those copies opens as
    /// a store.
    pub fn files(&self) -> &[(String, u64)] {
        &self.files
    }
}

impl<D: Disk> Engine<D> {
    /// Completes a checkpoint of this moment and pins what it needs.
    pub fn snapshot(&mut self) -> Result<Snapshot<D::File>, StoreError> {
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
        Ok(Snapshot {
            files,
            _segments: segments,
            _checkpoint: Arc::clone(&self.checkpoint_pin),
        })
    }
}
