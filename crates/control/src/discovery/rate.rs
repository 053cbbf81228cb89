//! How many registrations may come from an address in a minute.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::counted_as;

/// Time over which registrations are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are kept; above that number, new ones share a count.
const ADDRESSES_MAX: usize = 10_000;

/// Counts by address.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<IpAddr, Count>>);

/// Registrations since a moment.
#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    count: u32,
}

impl Rates {
    /// Counts a registration; false if there were `most` in this minute.
    pub(super) fn take(&self, address: IpAddr, most: u32, now: Instant) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |count: &Count| now.saturating_duration_since(count.since) >= WINDOW;
        let mut address = counted_as(address);
        if counts.len() >= ADDRESSES_MAX && !counts.contains_key(&address) {
            counts.retain(|_, count| !is_over(count));
            if counts.len() >= ADDRESSES_MAX {
                address = Ipv6Addr::UNSPECIFIED.into();
            }
        }
        let count = counts.entry(address).or_insert(Count {
            since: now,
            count: 0,
        });
        if is_over(count) {
            *count = Count {
                since: now,
                count: 0,
            };
        }
        let has_room = count.count < most;
        count.count += u32::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_registrations_a_minute() {
        let (rates, now) = (Rates::default(), Instant::now());
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let one = address("2001:db8::1");
        assert!(rates.take(one, 2, now) && rates.take(address("2001:db8::2"), 2, now));
        assert!(!rates.take(one, 2, now), "the network has used its two");
        assert!(rates.take(address("10.0.0.1"), 2, now));
        assert!(rates.take(one, 2, now + WINDOW));
    }
}
