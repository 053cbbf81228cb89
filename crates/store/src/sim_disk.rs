//! A disk in memory that fails: for tests and simulations only. For every file it tracks which
//! bytes were synced. [`SimDisk::crash`] decides by a seed which of the rest survive, sector by
//! sector and name by name. Tests can inject errors at any call, flip bits and limit the space.
//!
//! The same calls and the same seeds give the same disk. Production code does not use it.

use crate::disk::Disk;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Unit that a power loss keeps, loses or tears: bytes.
const SECTOR: usize = 512;

/// A method of [`Disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Disk::create`].
    Create,
    /// [`Disk::open`].
    Open,
    /// [`Disk::write_at`].
    Write,
    /// [`Disk::read_at`].
    Read,
    /// [`Disk::sync`].
    Sync,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::list`].
    List,
    /// [`Disk::sync_dir`].
    SyncDir,
}

/// Kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `ENOSPC`.
    NoSpace,
    /// `EIO`.
    Io,
    /// `EROFS`.
    ReadOnly,
    /// Half of it is written, then `WriteZero`; at any other call `EIO`.
    ShortWrite,
}

/// An injected error: which call fails and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Only this call; `None` is any.
    pub call: Option<Call>,
    /// How many matching calls pass first.
    pub skip: u64,
    /// Kind of failure.
    pub failure: Failure,
    /// Fail only once; otherwise until [`SimDisk::lift`].
    pub once: bool,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimDisk`].
#[derive(Clone, Debug)]
pub struct SimFile(Arc<Mutex<Inode>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, SimFile>,
    names_synced: BTreeMap<String, SimFile>,
    /// Changes of names since the last sync of the directory.
    unsynced: Vec<Change>,
    faults: Vec<Fault>,
    calls: u64,
    capacity: Option<u64>,
    random: Random,
}

#[derive(Clone, Debug)]
enum Change {
    Set(String, SimFile),
    Rename(String, String, SimFile),
    Remove(String),
}

#[derive(Debug, Default)]
struct Inode {
    /// The contents that a reader sees.
    bytes: Vec<u8>,
    /// The contents that are durable.
    synced: Vec<u8>,
    /// Ranges written since the last sync.
    unsynced: Vec<(usize, usize)>,
    /// Whether a power loss may lose the length with which the file was created.
    is_length_unsynced: bool,
    /// Ranges that cannot be read.
    spoilt: Vec<(u64, u64)>,
}

impl SimDisk {
    /// An empty disk. `seed` decides what a failed sync loses.
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::default();
        disk.lock().random = Random(seed);
        disk
    }

    /// Simulates a power loss. Of everything unsynced, each sector, name and file length is kept,
    /// lost or (a sector) torn, as `seed` decides. Injected errors are removed. Files opened
    /// before must not be used again.
    pub fn crash(&self, seed: u64) {
        let mut random = Random(seed);
        let mut state = self.lock();
        for change in std::mem::take(&mut state.unsynced) {
            if random.below(2) == 0 {
                change.apply(&mut state.names_synced);
            }
        }
        state.names = state.names_synced.clone();
        let mut lengths = Random(!seed);
        // Separate copies, as a new process sees them.
        for file in state.names.values() {
            let mut inode = file.lock();
            inode.settle(|_| random.fate());
            if core::mem::take(&mut inode.is_length_unsynced) && lengths.below(2) == 0 {
                inode.synced.clear();
            }
            inode.bytes = inode.synced.clone();
        }
        state.faults.clear();
    }

    /// Injects an error.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes all injected errors.
    pub fn lift(&self) {
        self.lock().faults.clear();
    }

    /// Number of calls so far: to fail at each of them in turn.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Limits the sum of all file lengths, bytes; beyond it calls fail with `ENOSPC`.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// The sum of all file lengths, bytes.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Flips one bit, also in the durable contents. False: there is no such place.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) -> bool {
        let state = self.lock();
        let Some(file) = state.names.get(name) else {
            return false;
        };
        let mut inode = file.lock();
        let mask = 1 << (bit % 8);
        let index = offset as usize;
        if let Some(byte) = inode.synced.get_mut(index) {
            *byte ^= mask;
        }
        match inode.bytes.get_mut(index) {
            Some(byte) => *byte ^= mask,
            None => return false,
        }
        true
    }

    /// Makes every later read of these bytes fail: a bad sector. False: there is no such file.
    pub fn spoil(&self, name: &str, offset: u64, len: u64) -> bool {
        let state = self.lock();
        let Some(file) = state.names.get(name) else {
            return false;
        };
        file.lock().spoilt.push((offset, offset + len));
        true
    }

    /// A file's contents, as a reader sees them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.names.get(name)?;
        let bytes = file.lock().bytes.clone();
        Some(bytes)
    }

    /// Adds a file, synced.
    pub fn set_contents(&self, name: &str, bytes: &[u8]) {
        let inode = Inode {
            bytes: bytes.to_vec(),
            synced: bytes.to_vec(),
            ..Inode::default()
        };
        let file = SimFile(Arc::new(Mutex::new(inode)));
        let mut state = self.lock();
        state.names.insert(name.to_owned(), file.clone());
        state.names_synced.insert(name.to_owned(), file);
    }

    /// A separate disk with the same contents, all synced.
    pub fn duplicate(&self) -> SimDisk {
        let disk = SimDisk::new(0);
        let names: Vec<String> = self.lock().names.keys().cloned().collect();
        for name in names {
            if let Some(bytes) = self.contents(&name) {
                disk.set_contents(&name, &bytes);
            }
        }
        disk
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call; returns the failure injected for it, if any.
    fn enter(&self, call: Call) -> (MutexGuard<'_, State>, Option<Failure>) {
        let mut state = self.lock();
        state.calls += 1;
        let mut failure = None;
        state.faults.retain_mut(|fault| {
            if fault.call.is_some_and(|only| only != call) {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            failure = failure.or(Some(fault.failure));
            !fault.once
        });
        (state, failure)
    }

    fn enter_or_fail(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        match self.enter(call) {
            (state, None) => Ok(state),
            (_, Some(failure)) => Err(failure.error()),
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn free_bytes(&self) -> Option<u64> {
        let state = self.lock();
        let capacity = state.capacity?;
        Some(capacity.saturating_sub(state.used()))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimFile> {
        let mut state = self.enter_or_fail(Call::Create)?;
        let replaced = state.names.get(name).map_or(0, |file| file.len());
        state.check_space(len.saturating_sub(replaced))?;
        let inode = Inode {
            bytes: vec![0; len as usize],
            synced: vec![0; len as usize],
            is_length_unsynced: true,
            ..Inode::default()
        };
        let file = SimFile(Arc::new(Mutex::new(inode)));
        state.change(Change::Set(name.to_owned(), file.clone()));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let state = self.enter_or_fail(Call::Open)?;
        let file = state.names.get(name).cloned();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write_at(&self, file: &SimFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (state, failure) = self.enter(Call::Write);
        let grown = (offset + bytes.len() as u64).saturating_sub(file.len());
        match failure {
            None => state.check_space(grown)?,
            Some(Failure::ShortWrite) => file.lock().write(offset, &bytes[..bytes.len() / 2]),
            Some(_) => {}
        }
        if let Some(failure) = failure {
            return Err(failure.error());
        }
        file.lock().write(offset, bytes);
        Ok(())
    }

    fn read_at(&self, file: &SimFile, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let _state = self.enter_or_fail(Call::Read)?;
        let inode = file.lock();
        let end = offset + bytes.len() as u64;
        if inode
            .spoilt
            .iter()
            .any(|(from, to)| *from < end && offset < *to)
        {
            return Err(Failure::Io.error());
        }
        let there = inode.bytes.get(offset as usize..).unwrap_or_default();
        let count = there.len().min(bytes.len());
        bytes[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        let (mut state, failure) = self.enter(Call::Sync);
        let random = &mut state.random;
        match failure {
            None => {
                let mut inode = file.lock();
                inode.settle(|_| Fate::Kept);
                inode.is_length_unsynced = false;
            }
            // The kernel marks the pages as clean: bytes that have not reached the disk never
            // will.
            Some(_) => file.lock().settle(|_| random.fate()),
        }
        failure.map_or(Ok(()), |failure| Err(failure.error()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.enter_or_fail(Call::Rename)?;
        let Some(file) = state.names.get(from).cloned() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        state.change(Change::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.enter_or_fail(Call::Remove)?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.enter_or_fail(Call::List)?;
        let names = state.names.iter();
        Ok(names
            .map(|(name, file)| (name.clone(), file.len()))
            .collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.enter_or_fail(Call::SyncDir)?;
        state.unsynced.clear();
        state.names_synced = state.names.clone();
        Ok(())
    }
}

impl SimFile {
    fn lock(&self) -> MutexGuard<'_, Inode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> u64 {
        self.lock().bytes.len() as u64
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(SimFile::len).sum()
    }

    fn check_space(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => {
                Err(Failure::NoSpace.error())
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.names);
        self.unsynced.push(change);
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, SimFile>) {
        match self {
            Change::Set(name, file) => {
                names.insert(name, file);
            }
            Change::Rename(from, to, file) => {
                names.remove(&from);
                names.insert(to, file);
            }
            Change::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

enum Fate {
    Kept,
    Lost,
    /// Only this number of its bytes is kept.
    Torn(usize),
}

impl Inode {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let begin = offset as usize;
        let end = begin + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[begin..end].copy_from_slice(bytes);
        self.unsynced.push((begin, end));
    }

    /// Decides for each sector written since the last sync.
    fn settle(&mut self, mut fate: impl FnMut(usize) -> Fate) {
        for (begin, end) in std::mem::take(&mut self.unsynced) {
            let mut at = begin;
            while at < end {
                let next = (at / SECTOR + 1) * SECTOR;
                let stop = next.min(end);
                let stop = match fate(at) {
                    Fate::Kept => stop,
                    Fate::Lost => at,
                    Fate::Torn(bytes) => (at + bytes).min(stop),
                };
                if stop > at {
                    if stop > self.synced.len() {
                        self.synced.resize(stop, 0);
                    }
                    self.synced[at..stop].copy_from_slice(&self.bytes[at..stop]);
                }
                at = next;
            }
        }
    }
}

impl Failure {
    fn error(self) -> io::Error {
        let kind = match self {
            Failure::NoSpace => io::ErrorKind::StorageFull,
            Failure::Io => return io::Error::other("input/output error"),
            Failure::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Failure::ShortWrite => io::ErrorKind::WriteZero,
        };
        kind.into()
    }
}

/// splitmix64.
#[derive(Debug, Default)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn fate(&mut self) -> Fate {
        match self.below(8) {
            0..=3 => Fate::Kept,
            4..=6 => Fate::Lost,
            _ => Fate::Torn(self.below(SECTOR as u64) as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_nothing_is_certain_about_the_rest() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = disk.create("a", 4096).unwrap();
            disk.sync_dir().unwrap();
            disk.write_at(&file, 0, &[1; 2048]).unwrap();
            disk.sync(&file).unwrap();
            disk.write_at(&file, 2048, &[2; 2048]).unwrap();
            disk.create("b", 0).unwrap();
            disk.crash(seed);
            let bytes = disk.contents("a").unwrap();
            assert_eq!(bytes[..2048], [1; 2048]);
            lost += bytes[2048..].iter().filter(|byte| **byte == 0).count();
            kept += bytes[2048..].iter().filter(|byte| **byte == 2).count();
        }
        assert!(lost > 10_000 && kept > 10_000, "{lost} {kept}");
    }

    #[test]
    fn what_a_failed_sync_lost_stays_lost_though_it_can_be_read() {
        let disk = SimDisk::new(3);
        let file = disk.create("a", 1 << 20).unwrap();
        disk.sync_dir().unwrap();
        disk.write_at(&file, 0, &[1; 1 << 20]).unwrap();
        disk.inject(Fault {
            call: Some(Call::Sync),
            skip: 0,
            failure: Failure::Io,
            once: true,
        });
        disk.sync(&file).unwrap_err();
        disk.sync(&file).unwrap();
        let mut seen = vec![0; 1 << 20];
        disk.read_at(&file, 0, &mut seen).unwrap();
        assert!(seen.iter().all(|byte| *byte == 1));
        disk.crash(1);
        assert!(disk.contents("a").unwrap().contains(&0));
    }
}
