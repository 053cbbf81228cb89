//! Facts about devices by their names, until the tables change.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::shared_registry::SharedRegistry;

/// Name of a device: number of its tenant, and its id.
pub(crate) type Name = (u32, String);

/// Devices by name. A name that no device has is remembered too.
#[derive(Debug)]
pub(crate) struct Remembered<D> {
    known: Mutex<NamedDevices<D>>,
    names_max: usize,
}

#[derive(Debug)]
struct NamedDevices<D> {
    changes: watch::Receiver<()>,
    by_name: HashMap<Name, Option<D>>,
}

impl<D: Clone> Remembered<D> {
    /// Remembers names of these tables, at most this number.
    pub(crate) fn new(tables: &SharedRegistry, names_max: usize) -> Self {
        let known = NamedDevices {
            changes: tables.changes(),
            by_name: HashMap::new(),
        };
        Self {
            known: Mutex::new(known),
            names_max,
        }
    }

    /// The devices that are remembered of these names, and the names that are not. To be asked
    /// before the tables are read: what changes meanwhile is seen the next time.
    pub(crate) fn find(
        &self,
        names: impl IntoIterator<Item = Name>,
    ) -> (HashMap<Name, D>, Vec<Name>) {
        let mut known = self.lock();
        let has_changed = known.changes.has_changed().unwrap_or(false);
        if has_changed || known.by_name.len() >= self.names_max {
            known.changes.mark_unchanged();
            known.by_name.clear();
        }
        let (mut found, mut unknown) = (HashMap::new(), Vec::new());
        for name in names {
            match known.by_name.get(&name) {
                Some(Some(device)) => {
                    found.insert(name, device.clone());
                }
                Some(None) => {}
                None => unknown.push(name),
            }
        }
        (found, unknown)
    }

    /// Remembers what the tables have of these names.
    pub(crate) fn add(&self, names: Vec<Name>, read: &HashMap<Name, D>) {
        let mut known = self.lock();
        for name in names {
            let device = read.get(&name).cloned();
            known.by_name.insert(name, device);
        }
    }

    /// Bytes of memory that the names take, about: `of_device` is what a device takes.
    pub(crate) fn memory_bytes(&self, of_device: usize) -> usize {
        // An id is short; the name is there twice with what the device has of it.
        const NAME_BYTES: usize = 64;
        self.lock().by_name.len() * (NAME_BYTES + of_device)
    }

    fn lock(&self) -> MutexGuard<'_, NamedDevices<D>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
