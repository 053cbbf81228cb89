//! Devices by their numbers, which they may log in with.

use std::sync::Arc;

use super::Snapshot;
use crate::device_ids::is_digits;
use crate::shared_map::SharedMap;

/// Tenant and id of the device of each number.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(SharedMap<i64, (u32, Arc<str>)>);

impl Numbers {
    pub(super) fn insert(&mut self, number: i64, tenant: u32, id: Arc<str>) {
        self.0.insert(number, (tenant, id));
    }

    /// Removes a number, unless the device has another id or tenant by now.
    pub(super) fn remove(&mut self, number: i64, tenant: u32, id: &str) {
        let known = self.0.get(&number);
        if known.is_some_and(|(of, known)| *of == tenant && **known == *id) {
            self.0.remove(&number);
        }
    }
}

impl Snapshot {
    /// Id of the device whose number this name is. None: it is no number of a device of the
    /// tenant, or a name in itself, which takes precedence.
    pub fn device_numbered(&self, tenant: u32, name: &str) -> Option<&Arc<str>> {
        // Without zeros in front, as numbers are written.
        if !is_digits(name) || name.starts_with('0') {
            return None;
        }
        let (of, id) = self.numbers.0.get(&name.parse().ok()?)?;
        let is_name =
            self.known(tenant, name).is_some() || self.deleted.find(tenant, name).is_some();
        (*of == tenant && !is_name).then_some(id)
    }
}
