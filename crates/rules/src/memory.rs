//! State of rules between messages.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cel::Value;

use crate::fuel::{UNITS_MAX, UNITS_OF_VALUE};
use crate::value::bytes_of;

/// Maximum number of values that are remembered for `previous`, of all tenants.
pub const PREVIOUS_MAX: usize = 50_000;
/// Maximum bytes of such a value.
const PREVIOUS_BYTES_MAX: usize = 4 * 1024;

/// Key of a remembered value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PreviousKey {
    pub(crate) tenant: u32,
    pub(crate) rule: String,
    /// Topic, or device and key.
    pub(crate) of: String,
}

/// Values of one tenant.
#[derive(Debug, Default)]
struct OfTenant {
    values: HashMap<PreviousKey, Value>,
    /// The oldest first.
    order: VecDeque<PreviousKey>,
}

/// Values that rules remember for `previous`. If there are too many, the tenant that has most
/// loses its oldest.
#[derive(Debug)]
pub struct Previous {
    tenants: BTreeMap<u32, OfTenant>,
    count: usize,
    count_max: usize,
    dropped: u64,
}

impl Default for Previous {
    fn default() -> Self {
        Self::new(PREVIOUS_MAX)
    }
}

impl Previous {
    /// At most `count_max` values. Beyond that, the tenant with most loses its oldest one.
    pub fn new(count_max: usize) -> Self {
        Self {
            tenants: BTreeMap::new(),
            count: 0,
            count_max,
            dropped: 0,
        }
    }

    /// Number of values that were dropped to make room for others.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many values are remembered, by tenant.
    pub fn counts(&self) -> impl Iterator<Item = (u32, usize)> {
        let tenants = self.tenants.iter();
        tenants.map(|(tenant, own)| (*tenant, own.order.len()))
    }

    /// How many values there may be, of all tenants.
    pub fn count_max(&self) -> usize {
        self.count_max
    }

    fn get(&self, key: &PreviousKey) -> Option<&Value> {
        self.tenants.get(&key.tenant)?.values.get(key)
    }

    fn put(&mut self, key: PreviousKey, value: &Value) {
        let tenant = key.tenant;
        let own = self.tenants.entry(tenant).or_default();
        if own.values.insert(key.clone(), value.clone()).is_some() {
            return;
        }
        own.order.push_back(key);
        self.count += 1;
        if self.count > self.count_max {
            let most = self.tenants.iter().max_by_key(|(_, of)| of.order.len());
            self.drop_oldest_of(most.map_or(tenant, |(most, _)| *most));
        }
    }

    /// Drops the values of rules other than these: tenants and names.
    pub fn keep_rules(&mut self, rules: &BTreeSet<(u32, &str)>) {
        let is_kept = |key: &PreviousKey| rules.contains(&(key.tenant, &*key.rule));
        self.tenants.retain(|_, own| {
            own.values.retain(|key, _| is_kept(key));
            own.order.retain(is_kept);
            !own.order.is_empty()
        });
        self.count = self.tenants.values().map(|own| own.order.len()).sum();
    }

    fn drop_oldest_of(&mut self, tenant: u32) {
        let Some(of) = self.tenants.get_mut(&tenant) else {
            return;
        };
        if let Some(oldest) = of.order.pop_front() {
            of.values.remove(&oldest);
            self.count -= 1;
            self.dropped += 1;
        }
        if of.order.is_empty() {
            self.tenants.remove(&tenant);
        }
    }
}

/// State of rules between messages; empty at first.
#[derive(Debug, Default)]
pub struct Memory {
    /// Shared by the rules of all tenants.
    previous: Arc<Mutex<Previous>>,
    /// Units used by rules for the current message, by rule index. Small values are not counted.
    used: HashMap<usize, u64>,
}

impl Memory {
    /// With these values for `previous`.
    pub fn with(previous: Arc<Mutex<Previous>>) -> Self {
        Self {
            previous,
            used: HashMap::new(),
        }
    }

    /// Starts the next message. One message may have many telemetry values: the cost limit of a
    /// rule applies to all of them together.
    pub fn next_message(&mut self) {
        self.used.clear();
    }

    /// Units that the rule with this index may use now.
    pub(crate) fn units_of(&self, rule: usize) -> u64 {
        let used = self.used.get(&rule).copied().unwrap_or_default();
        UNITS_MAX.saturating_sub(used).max(UNITS_OF_VALUE)
    }

    /// Counts units used by the rule with this index.
    pub(crate) fn note_used(&mut self, rule: usize, units: u64) {
        if units > UNITS_OF_VALUE {
            *self.used.entry(rule).or_default() += units;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Previous> {
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The previous value with this key.
    pub(crate) fn previous(&self, key: &PreviousKey) -> Option<Value> {
        self.lock().get(key).cloned()
    }

    pub(crate) fn remember(&mut self, key: PreviousKey, value: &Value) {
        if bytes_of(value) <= PREVIOUS_BYTES_MAX {
            self.lock().put(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: u32, of: usize) -> PreviousKey {
        PreviousKey {
            tenant,
            rule: "r".to_owned(),
            of: of.to_string(),
        }
    }

    #[test]
    fn the_tenant_that_has_most_gives_way() {
        let mut previous = Previous::new(10);
        previous.put(key(2, 0), &Value::Int(1));
        for of in 0..100 {
            previous.put(key(1, of), &Value::Int(1));
        }
        assert!(previous.get(&key(2, 0)).is_some());
        assert_eq!((previous.count, previous.dropped()), (10, 91));
        assert!(previous.get(&key(1, 90)).is_none() && previous.get(&key(1, 91)).is_some());
        // One that comes later takes turns with it.
        for of in 1..100 {
            previous.put(key(2, of), &Value::Int(1));
        }
        let counts: Vec<_> = previous.counts().collect();
        assert_eq!(counts, [(1, 5), (2, 5)]);
        for of in 0..100 {
            previous.put(key(0, of), &Value::Int(1));
        }
        assert!(previous.counts().all(|(_, count)| count >= 3) && previous.count == 10);
    }

    #[test]
    fn values_of_removed_rules_make_room() {
        let mut previous = Previous::new(3);
        for tenant in [1, 2] {
            previous.put(key(tenant, 0), &Value::Int(1));
        }
        previous.keep_rules(&BTreeSet::from([(2, "r"), (1, "other")]));
        assert_eq!(previous.counts().collect::<Vec<_>>(), [(2, 1)]);
        for of in 1..3 {
            previous.put(key(2, of), &Value::Int(1));
        }
        assert_eq!((previous.count, previous.dropped()), (3, 0));
        assert!(previous.get(&key(2, 0)).is_some() && previous.get(&key(1, 0)).is_none());
    }
}
