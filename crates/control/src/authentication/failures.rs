//! Who tries passwords: slowed down at first, then not asked for at all for a while.
//!
//! Counted by address and by user name, so that neither one machine with many names nor many
//! machines with one name get far. Who was right of late, from where it was, is let through all the
//! same: a stranger locks out no device that is at home. It knows no clock.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::Realm;

use super::turns::Place;
use crate::aging::Aging;

/// How much is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// Wrong credentials from one address, or for one name, within a minute; 0 is no end of them.
    pub failures: u32,
    /// How long nobody is asked for then.
    pub lasts: Duration,
}

/// Failures count for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// Who was right is known for so long.
const AT_HOME: Duration = Duration::from_secs(86_400);
/// Entries of each kind at most; when there are more, the oldest go.
const ENTRIES_MAX: usize = 100_000;
/// An answer to wrong credentials waits for so long, times the failures before it.
const SLOWED_BY: Duration = Duration::from_millis(20);
const SLOWED_MAX: Duration = Duration::from_secs(2);

/// Longest name that is remembered, in bytes.
const NAME_MAX: usize = 256;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Suspect {
    /// At whichever door.
    Address(IpAddr),
    /// Of the credentials of a door.
    Name(Realm, Arc<str>),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    since: Instant,
    locked_until: Option<Instant>,
}

/// Who was right, and from where.
type Home = (Realm, Arc<str>, IpAddr);

/// Failures of late, and who was right.
#[derive(Debug, Default)]
pub(super) struct Failures {
    counts: Aging<Suspect, Count>,
    at_home: Aging<Home, Instant>,
}

/// Who asks: the parts that are counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// Whose names are meant: those of another door are other people's.
    pub(super) realm: Realm,
    pub(super) address: Option<IpAddr>,
    pub(super) user_name: Option<Arc<str>>,
}

/// Who has an IPv6 address has at least all of its /64.
fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

impl Caller {
    fn suspects(&self) -> impl Iterator<Item = Suspect> {
        let address = self.address.map(counted_as).map(Suspect::Address);
        let name = self.user_name.clone();
        let name = name.filter(|name| name.len() <= NAME_MAX);
        let name = name.map(|name| Suspect::Name(self.realm, name));
        address.into_iter().chain(name)
    }

    fn home(&self) -> Option<Home> {
        // A longer name is nobody's, and would be kept for a day.
        let name = self.user_name.clone();
        let name = name.filter(|name| name.len() <= NAME_MAX)?;
        Some((self.realm, name, self.address.map(counted_as)?))
    }
}

impl Failures {
    /// Why it is not even looked who this is; none: it may try.
    pub(super) fn locked(&self, caller: &Caller, now: Instant) -> Option<String> {
        if self.is_at_home(caller, now) {
            return None;
        }
        caller.suspects().find_map(|suspect| {
            let until = self.counts.get(&suspect)?.locked_until?;
            let left = until.checked_duration_since(now)?.as_secs() + 1;
            let whose = match suspect {
                Suspect::Address(_) => "from this address",
                Suspect::Name(..) => "for this user name",
            };
            Some(format!(
                "locked out for {left} s more: too many wrong credentials {whose}"
            ))
        })
    }

    /// Where who asks stands among others who do.
    pub(super) fn place(&self, caller: &Caller, now: Instant) -> Place {
        Place {
            from: caller.address.map(counted_as),
            is_known: self.is_at_home(caller, now),
            is_wanted: None,
        }
    }

    /// Who asks was right from there of late.
    pub(super) fn is_at_home(&self, caller: &Caller, now: Instant) -> bool {
        let at_home = caller.home().and_then(|home| self.at_home.get(&home));
        at_home.is_some_and(|since| now.duration_since(*since) < AT_HOME)
    }

    /// The credentials were wrong; how long the answer is to wait.
    pub(super) fn failed(&mut self, caller: &Caller, lockout: Lockout, now: Instant) -> Duration {
        if lockout.failures == 0 {
            return Duration::ZERO;
        }
        self.tidy(now);
        let mut most = 0;
        for suspect in caller.suspects() {
            let count = self.counts.get(&suspect).copied();
            let mut count = count.unwrap_or(Count {
                failures: 0,
                since: now,
                locked_until: None,
            });
            if now.duration_since(count.since) > WINDOW {
                (count.failures, count.since) = (0, now);
            }
            count.failures += 1;
            most = most.max(count.failures);
            if count.failures >= lockout.failures {
                count.locked_until = Some(now + lockout.lasts);
            }
            self.counts.put(suspect, count);
        }
        (SLOWED_BY * (most - 1)).min(SLOWED_MAX)
    }

    /// They were right.
    pub(super) fn succeeded(&mut self, caller: &Caller, now: Instant) {
        if let Some(home) = caller.home() {
            self.at_home.put(home, now);
            self.tidy(now);
        }
    }

    fn tidy(&mut self, now: Instant) {
        let is_over = |count: &Count| {
            let is_locked = count.locked_until.is_some_and(|until| until > now);
            !is_locked && now.duration_since(count.since) > WINDOW
        };
        while self.counts.take_oldest_if(is_over).is_some() {}
        while self.counts.len() >= ENTRIES_MAX && self.counts.take_oldest().is_some() {}
        let is_over = |since: &Instant| now.duration_since(*since) >= AT_HOME;
        while self.at_home.take_oldest_if(is_over).is_some() {}
        while self.at_home.len() > ENTRIES_MAX && self.at_home.take_oldest().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKOUT: Lockout = Lockout {
        failures: 3,
        lasts: Duration::from_secs(30),
    };

    fn caller(address: u8, name: &str) -> Caller {
        Caller {
            realm: Realm::COMMON,
            address: Some([10, 0, 0, address].into()),
            user_name: Some(name.into()),
        }
    }

    #[test]
    fn who_fails_too_often_is_locked_out_for_a_while_by_address_and_by_name() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..3 {
            assert!(failures.locked(&caller(1, "a"), now).is_none(), "{number}");
            failures.failed(&caller(1, "a"), LOCKOUT, now);
        }
        let told = failures.locked(&caller(1, "b"), now).unwrap();
        assert!(told.contains("from this address"), "{told}");
        let told = failures.locked(&caller(2, "a"), now).unwrap();
        assert!(told.contains("for this user name"), "{told}");
        assert!(failures.locked(&caller(2, "b"), now).is_none());
        let later = now + LOCKOUT.lasts + Duration::from_secs(1);
        assert!(failures.locked(&caller(1, "a"), later).is_none());
    }

    #[test]
    fn a_name_at_one_door_is_not_that_of_another() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let guest = |address| Caller {
            realm: Realm(7),
            ..caller(address, "a")
        };
        for address in 1..=3 {
            failures.failed(&guest(address), LOCKOUT, now);
        }
        assert!(failures.locked(&guest(9), now).is_some());
        assert!(failures.locked(&caller(9, "a"), now).is_none());
        // Nor is who was right there at home here.
        failures.succeeded(&guest(9), now);
        for address in 1..=3 {
            failures.failed(&caller(address, "a"), LOCKOUT, now);
        }
        assert!(failures.locked(&guest(9), now).is_none());
        assert!(failures.locked(&caller(9, "a"), now).is_some());
    }

    #[test]
    fn an_ipv6_address_stands_for_all_of_its_64() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let from = |address: &str, name: &str| Caller {
            address: Some(address.parse().unwrap()),
            ..caller(0, name)
        };
        for (address, name) in [
            ("2001:db8:0:1::1", "a"),
            ("2001:db8:0:1:2::3", "b"),
            ("2001:db8:0:1:ffff::", "c"),
        ] {
            failures.failed(&from(address, name), LOCKOUT, now);
        }
        assert!(
            failures
                .locked(&from("2001:db8:0:1::9", "x"), now)
                .is_some()
        );
        assert!(
            failures
                .locked(&from("2001:db8:0:2::1", "x"), now)
                .is_none()
        );
        failures.succeeded(&from("2001:db8:0:1::1", "home"), now);
        assert!(
            failures
                .locked(&from("2001:db8:0:1::2", "home"), now)
                .is_none()
        );
    }

    #[test]
    fn who_was_right_from_there_is_not_locked_out_by_strangers() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.succeeded(&caller(1, "device"), now);
        for _ in 0..9 {
            failures.failed(&caller(2, "device"), LOCKOUT, now);
            failures.failed(&caller(1, "other"), LOCKOUT, now);
        }
        assert!(failures.locked(&caller(1, "device"), now).is_none());
        assert!(failures.locked(&caller(3, "device"), now).is_some());
        let next_day = now + AT_HOME;
        failures.failed(&caller(2, "device"), LOCKOUT, next_day);
        assert!(
            failures
                .locked(&caller(1, "device"), now + Duration::from_secs(1))
                .is_none()
        );
    }

    #[test]
    fn where_there_are_too_many_the_oldest_is_forgotten_and_nobody_else() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let caller = |number: usize| Caller {
            user_name: Some(number.to_string().into()),
            ..caller(1, "")
        };
        for number in 0..ENTRIES_MAX + 10 {
            failures.succeeded(&caller(number), now);
        }
        assert!(!failures.is_at_home(&caller(9), now));
        assert!(failures.is_at_home(&caller(10), now));
        let guess = |number: usize| Caller {
            address: None,
            ..caller(number)
        };
        for number in [0, 0, 0, 1, 1, 1] {
            failures.failed(&guess(number), LOCKOUT, now);
        }
        for number in 2..ENTRIES_MAX + 1 {
            failures.failed(&guess(number), LOCKOUT, now);
        }
        assert!(failures.locked(&guess(0), now).is_none());
        assert!(failures.locked(&guess(1), now).is_some());
    }

    #[test]
    fn failures_far_apart_lock_nobody_out_and_each_is_answered_more_slowly() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(
                failures.failed(&caller(1, "a"), LOCKOUT, now),
                Duration::ZERO
            );
            now += WINDOW + Duration::from_secs(1);
        }
        assert!(failures.locked(&caller(1, "a"), now).is_none());
        let delays: Vec<Duration> = (0..3)
            .map(|_| failures.failed(&caller(2, "b"), LOCKOUT, now))
            .collect();
        assert_eq!(delays, [0, 1, 2].map(|count| SLOWED_BY * count));
    }
}
