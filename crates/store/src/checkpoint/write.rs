//! Writes a checkpoint in slices.

use super::{BLOCK_BYTES, COPIES, Checkpointed, Checkpointing, Stage, key, kind, name, new_name};
use crate::disk::Disk;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::record::{HEADER_BYTES, record_bytes};
use martlet_fault::{self as fault, Fault};
use martlet_rows::put_varint;
use std::sync::Arc;

/// Bytes written to a copy after which it is synced, so that the last sync is short.
const SYNC_BYTES: u64 = 1 << 20;

impl<D: Disk> Engine<D> {
    /// Begins a checkpoint; on a full disk, with the space of the ballast.
    pub(crate) fn begin_checkpoint(&mut self) -> Result<(), StoreError> {
        match self.try_checkpoint() {
            Err(error) if error.is_full() && self.drop_ballast() => self.try_checkpoint(),
            begun => begun,
        }
    }

    /// Begins a checkpoint of this moment. Written records must be synced first, so that the
    /// checkpoint has nothing that a crash could undo.
    fn try_checkpoint(&mut self) -> Result<(), StoreError> {
        match self.write() {
            // Staged records then come after it. Not possible if the index has applied them
            // already.
            Err(error) if error.is_full() && self.relocations.is_empty() => {}
            written => written?,
        }
        self.sync()?;
        // Usually done already by housekeeping.
        self.index.drop_forgotten(usize::MAX);
        let number = self.checkpoint.map_or(0, |last| last.number) + 1;
        let create = |copy| {
            let name = new_name(copy);
            let file = self.disk.create(&name, 0);
            file.map_err(|e| StoreError::new("creating", &name, e))
        };
        let files = [create(COPIES[0])?, create(COPIES[1])?];
        let key = key(self.salt, number);
        let mut checkpointing = Checkpointing {
            number,
            lsn: self.durable,
            files,
            key,
            offset: 0,
            synced: 0,
            blocks: 0,
            stage: Stage::Bodies,
            tail_bytes: self.tail_bytes,
        };
        let block = self.encode_begin();
        if let Err(error) = self.write_block(&mut checkpointing, block) {
            self.drop_new_checkpoint();
            return Err(error);
        }
        self.index.begin_capture();
        self.checkpointing = Some(checkpointing);
        Ok(())
    }

    fn encode_begin(&self) -> Vec<u8> {
        let mut block = new_block(kind::BEGIN);
        let active = self.active.and_then(|slot| self.segments.get(slot));
        let (number, offset) = match active {
            Some(segment) => (segment.number(), segment.end),
            None => (self.next_number, 0),
        };
        let fields = [
            self.durable,
            self.next_number,
            self.next_group,
            number,
            offset,
            self.segments.iter().count() as u64,
        ];
        fields
            .iter()
            .for_each(|field| put_varint(&mut block, *field));
        for (slot, segment) in self.segments.iter() {
            let fields = [
                slot.into(),
                segment.number(),
                segment.len,
                segment.end,
                segment.first,
                segment.next,
                segment.void_from,
                segment.stuck.into(),
            ];
            fields
                .iter()
                .for_each(|field| put_varint(&mut block, *field));
        }
        self.index.bodies.capture_rest(&mut block);
        block
    }

    /// Writes a slice of about `budget_bytes` bytes. True: the checkpoint is complete.
    pub(crate) fn work_on_checkpoint(&mut self, budget_bytes: usize) -> Result<bool, StoreError> {
        let Some(mut checkpointing) = self.checkpointing.take() else {
            return Ok(true);
        };
        let begin = checkpointing.offset;
        while checkpointing.offset - begin < budget_bytes.max(1) as u64 {
            let more = self.next_block(&mut checkpointing);
            match more {
                Ok(true) => {}
                Ok(false) => {
                    let finished = self.finish_checkpoint(&checkpointing);
                    self.index.end_capture();
                    return finished.map(|()| true);
                }
                Err(error) => {
                    // The captured image is lost: a new checkpoint must begin.
                    self.index.end_capture();
                    self.drop_new_checkpoint();
                    if error.is_full() {
                        self.drop_ballast();
                    }
                    return Err(error);
                }
            }
        }
        self.checkpointing = Some(checkpointing);
        Ok(false)
    }

    /// False: the last block is written.
    fn next_block(&mut self, to: &mut Checkpointing<D::File>) -> Result<bool, StoreError> {
        let (kind, next) = match to.stage {
            Stage::Bodies => (kind::BODIES, Stage::Queues),
            Stage::Queues => (kind::QUEUES, Stage::States),
            Stage::States => (kind::STATES, Stage::End),
            Stage::End => {
                let mut block = new_block(kind::END);
                put_varint(&mut block, to.blocks + 1);
                self.index.queues.capture_counts(&mut block);
                self.write_block(to, block)?;
                return Ok(false);
            }
        };
        let mut block = new_block(kind);
        let empty = block.len();
        let is_done = match to.stage {
            Stage::Bodies => self.index.bodies.capture(BLOCK_BYTES, &mut block),
            Stage::Queues => self.index.queues.capture(BLOCK_BYTES, &mut block),
            _ => self.index.states.capture(BLOCK_BYTES, &mut block),
        };
        if is_done {
            to.stage = next;
        }
        if block.len() > empty {
            self.write_block(to, block)?;
        }
        Ok(true)
    }

    fn write_block(
        &self,
        to: &mut Checkpointing<D::File>,
        mut block: Vec<u8>,
    ) -> Result<(), StoreError> {
        let ops_bytes = block.len() - HEADER_BYTES;
        block[4..8].copy_from_slice(&(ops_bytes as u32).to_le_bytes());
        block.resize(record_bytes(ops_bytes), 0);
        to.blocks += 1;
        to.key.seal(to.blocks, &mut block);
        let is_sync_due = to.offset + block.len() as u64 - to.synced >= SYNC_BYTES;
        for (file, copy) in to.files.iter().zip(COPIES) {
            let written = self.disk.write_at(file, to.offset, &block);
            written.map_err(|e| StoreError::new("writing", &new_name(copy), e))?;
            if is_sync_due {
                let synced = self.disk.sync(file);
                synced.map_err(|e| StoreError::new("syncing", &new_name(copy), e))?;
            }
        }
        to.offset += block.len() as u64;
        if is_sync_due {
            to.synced = to.offset;
        }
        Ok(())
    }

    fn finish_checkpoint(&mut self, done: &Checkpointing<D::File>) -> Result<(), StoreError> {
        for (file, copy) in done.files.iter().zip(COPIES) {
            if fault::is(Fault::CheckpointUnsynced) {
                break;
            }
            let synced = self.disk.sync(file);
            synced.map_err(|e| StoreError::new("syncing", &new_name(copy), e))?;
        }
        let said = self.marked.lsn;
        if said < done.lsn || said > self.durable {
            self.renew_mark();
        }
        for copy in COPIES {
            let renamed = self.disk.rename(&new_name(copy), &name(done.number, copy));
            renamed.map_err(|e| StoreError::new("renaming", &new_name(copy), e))?;
        }
        self.names_changed = true;
        self.sync_names()?;
        if let Some(old) = self.checkpoint {
            let pin = std::mem::take(&mut self.checkpoint_pin);
            self.old_checkpoints.push((old.number, pin));
            self.remove_old_checkpoints();
        }
        self.wants_checkpoint = false;
        self.tail_bytes -= done.tail_bytes.min(self.tail_bytes);
        self.checkpoint = Some(Checkpointed {
            number: done.number,
            lsn: done.lsn,
            bytes: done.offset,
        });
        Ok(())
    }

    /// Removes checkpoints that no snapshot needs.
    pub(crate) fn remove_old_checkpoints(&mut self) {
        let disk = &self.disk;
        self.old_checkpoints.retain(|(number, pin)| {
            let is_pinned = Arc::strong_count(pin) > 1;
            if !is_pinned {
                for copy in COPIES {
                    // On failure, the next opening removes it.
                    let _ = disk.remove(&name(*number, copy));
                }
            }
            is_pinned
        });
    }

    fn drop_new_checkpoint(&self) {
        for copy in COPIES {
            let _ = self.disk.remove(&new_name(copy));
        }
    }
}

fn new_block(kind: u8) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES + 4096);
    block.resize(HEADER_BYTES, 0);
    block.push(kind);
    block
}
