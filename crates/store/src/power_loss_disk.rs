//! A disk that simulates power loss: unsynced writes to a file are in memory only, except for some
//! sectors that reach the disk early, as with a kernel. So `kill -9` acts as a power cut.
//!
//! For crash tests of the whole program. Names are passed on at once. A real disk may lose names
//! too, which the simulated one ([`SimDisk`](crate::SimDisk)) does.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

const PAGE: u64 = 4096;
const SECTOR: usize = 512;

/// A disk over another one, which gets writes only when they are synced.
#[derive(Clone, Debug)]
pub struct PowerLossDisk<D: Disk> {
    disk: D,
    files: Arc<Mutex<BTreeMap<String, Shadow>>>,
}

/// Unsynced data, by page number. Shared by all handles of a file.
type Shadow = Arc<Mutex<Unsynced>>;

#[derive(Debug, Default)]
struct Unsynced {
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    /// Length of the file including it.
    end: u64,
    /// State of the random choice of sectors that reach the disk early.
    random: u64,
}

/// An open file.
#[derive(Clone, Debug)]
pub struct PowerLossFile<F> {
    file: F,
    shadow: Shadow,
}

impl<D: Disk> PowerLossDisk<D> {
    /// A disk over `disk`.
    pub fn new(disk: D) -> Self {
        let files = Arc::default();
        Self { disk, files }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Shadow>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> PowerLossFile<F> {
    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsynced {
    /// Takes a sector of a page that reaches the disk before any sync; most do not.
    fn early_sector(&mut self) -> Option<usize> {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        let chosen = (self.random >> 33) as usize;
        chosen
            .is_multiple_of(5)
            .then_some(chosen / 5 % (PAGE as usize / SECTOR))
    }
}

impl<D: Disk> Disk for PowerLossDisk<D> {
    type File = PowerLossFile<D::File>;

    fn create(&self, name: &str, len: u64) -> io::Result<Self::File> {
        let file = self.disk.create(name, len)?;
        let shadow = Shadow::default();
        self.files().insert(name.to_owned(), Arc::clone(&shadow));
        Ok(PowerLossFile { file, shadow })
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        let file = self.disk.open(name)?;
        let shadow = Arc::clone(self.files().entry(name.to_owned()).or_default());
        Ok(PowerLossFile { file, shadow })
    }

    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut unsynced = file.unsynced();
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, start) = (at / PAGE, (at % PAGE) as usize);
            let count = rest.len().min(PAGE as usize - start);
            let mut page = match unsynced.pages.remove(&number) {
                Some(page) => page,
                None => {
                    let mut page = Box::new([0; PAGE as usize]);
                    self.disk
                        .read_at(&file.file, number * PAGE, page.as_mut_slice())?;
                    page
                }
            };
            page[start..start + count].copy_from_slice(&rest[..count]);
            let end = unsynced.end.max(at + count as u64);
            if let Some(sector) = unsynced.early_sector()
                && let from = sector * SECTOR
                && let place = number * PAGE + from as u64
                && place + SECTOR as u64 <= end
            {
                self.disk
                    .write_at(&file.file, place, &page[from..from + SECTOR])?;
            }
            unsynced.pages.insert(number, page);
            at += count as u64;
            rest = &rest[count..];
        }
        unsynced.end = unsynced.end.max(at);
        Ok(())
    }

    fn read_at(&self, file: &Self::File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let unsynced = file.unsynced();
        let on_disk = self.disk.read_at(&file.file, offset, bytes)?;
        let known = unsynced.end.saturating_sub(offset);
        let length = on_disk.max(known.min(bytes.len() as u64) as usize);
        bytes[on_disk.min(length)..length].fill(0);
        let last = offset + length as u64;
        for (number, page) in unsynced.pages.range(offset / PAGE..last.div_ceil(PAGE)) {
            let begin = number * PAGE;
            let (from, to) = (begin.max(offset), (begin + PAGE).min(last));
            if from < to {
                let source = &page[(from - begin) as usize..(to - begin) as usize];
                bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
        }
        Ok(length)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes()
    }

    fn sync(&self, file: &Self::File) -> io::Result<()> {
        let mut unsynced = file.unsynced();
        for (number, page) in &unsynced.pages {
            let begin = number * PAGE;
            // The file does not grow beyond the written bytes.
            let known = unsynced.end.max(begin).min(begin + PAGE) - begin;
            let length = match known {
                0 => PAGE,
                known => known,
            };
            self.disk
                .write_at(&file.file, begin, &page[..length as usize])?;
        }
        self.disk.sync(&file.file)?;
        unsynced.pages.clear();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        let mut files = self.files();
        match files.remove(from) {
            Some(shadow) => files.insert(to.to_owned(), shadow),
            None => files.remove(to),
        };
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)?;
        self.files().remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let files = self.files();
        let mut names = self.disk.list()?;
        for (name, length) in &mut names {
            if let Some(shadow) = files.get(name) {
                let unsynced = shadow.lock().unwrap_or_else(PoisonError::into_inner);
                *length = unsynced.end.max(*length);
            }
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;

    #[test]
    fn what_is_not_synced_is_read_here_and_mostly_not_on_the_disk_below() {
        let below = SimDisk::new(1);
        let disk = PowerLossDisk::new(below.clone());
        let file = disk.create("a", 20_000).unwrap();
        disk.write_at(&file, 100, &[7; 9_000]).unwrap();
        let mut here = [0; 9_000];
        assert_eq!(disk.read_at(&file, 100, &mut here).unwrap(), 9_000);
        assert_eq!(here, [7; 9_000]);
        let on_disk = |name| {
            let all = below.contents(name).unwrap();
            all.iter().filter(|byte| **byte == 7).count()
        };
        assert!(on_disk("a") < 9_000);
        disk.sync(&file).unwrap();
        assert_eq!(on_disk("a"), 9_000);
        assert_eq!(below.contents("a").unwrap().len(), 20_000);
    }

    #[test]
    fn a_file_that_grows_has_its_length_at_once() {
        let disk = PowerLossDisk::new(SimDisk::new(1));
        let file = disk.create("a", 0).unwrap();
        disk.write_at(&file, 4_090, b"0123456789").unwrap();
        assert_eq!(disk.list().unwrap(), [("a".to_owned(), 4_100)]);
        disk.rename("a", "b").unwrap();
        let again = disk.open("b").unwrap();
        let mut read = [0; 20];
        assert_eq!(disk.read_at(&again, 4_090, &mut read).unwrap(), 10);
        assert_eq!(&read[..10], b"0123456789");
        disk.sync(&again).unwrap();
        assert_eq!(disk.list().unwrap(), [("b".to_owned(), 4_100)]);
    }
}
