//! Devices by their numbers, which they may log in with.

use std::sync::Arc;

use crate::shared_map::SharedMap;

/// Tenant and id of the device of each number.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(SharedMap<i64, (u32, Arc<str>)>);

impl Numbers {
    /// Tenant and id of the device that has a number.
    pub(super) fn get(&self, number: i64) -> Option<&(u32, Arc<str>)> {
        self.0.get(&number)
    }

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
