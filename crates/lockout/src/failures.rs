//! Protection against guessed passwords: answers are delayed at first, then logins are refused for
//! a while.
//!
//! Counted for a name from an address, for the name, and for the address, so that neither one
//! machine with many names nor many machines with one name get far. A client that has logged in
//! recently from an address is locked out only for wrong credentials of its own name from there:
//! neither another client nor a device with an old password beside it can lock it out. Unknown
//! names count as any other, so that a lockout does not show which names exist. Times are
//! arguments.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::{LockoutScope, Realm, Refusal, RefusalCause, TenantId, counted_as};

use crate::aging::Aging;

/// When logins are locked out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// Wrong credentials from one address, or for one name, within a minute; 0 is no end of them.
    pub failures: u32,
    /// How long the lockout lasts.
    pub lasts: Duration,
}

/// Names and addresses that are locked out at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockedOut {
    /// Addresses and names that are kept out now.
    pub now: usize,
    /// How often one was, since the start.
    pub total: u64,
    /// Some of them, the latest first, each as `192.0.2.7` or `the name pump from 192.0.2.7`.
    pub some: Vec<String>,
}

/// A lockout: of a name, of an address, or of a name from an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockoutEntry {
    /// In which tenant the name is; none for an address.
    pub tenant: Option<TenantId>,
    /// The user name.
    pub user_name: Option<Arc<str>>,
    /// The address; of IPv6 a network of 64 bits.
    pub address: Option<String>,
    /// How long it lasts.
    pub left: Duration,
    /// Where the last wrong credentials came from.
    pub last_address: Option<String>,
}

/// Which lockouts are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockoutTarget {
    /// All of them.
    Everybody,
    /// Lockouts of a user name, from anywhere.
    Name(String),
    /// Lockouts of an address, for any name.
    Address(IpAddr),
}

/// Time for which failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// Time for which a successful login from an address is remembered.
const AT_HOME: Duration = Duration::from_secs(86_400);
/// Entries of each kind, at most; the oldest make room.
const ENTRIES_MAX: usize = 100_000;
/// Bytes that an entry takes, approximately, with a name of the longest that are remembered.
const ENTRY_BYTES: usize = 512;
/// Delay of an answer to wrong credentials, multiplied by the number of failures before it.
const SLOWED_BY: Duration = Duration::from_millis(20);
const SLOWED_MAX: Duration = Duration::from_secs(2);

/// Divisor of the failures that are tolerated from an address, for one name: a device with an old
/// password does not lock out a new client there.
const SHARE_OF_ONE_NAME: u32 = 3;

/// Longest name that is remembered, in bytes.
const NAME_MAX: usize = 256;

/// Locked-out names and addresses that a message names, at most.
const NAMED_MAX: usize = 5;

/// Subject whose failures are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Suspect {
    /// A name, or none, of the credentials of a realm, from an address.
    NameFrom(Home),
    /// In any realm.
    Address(IpAddr),
    /// A name of the credentials of a realm.
    Name(Realm, Arc<str>),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    since: Instant,
}

/// A lockout.
#[derive(Clone, Debug)]
struct Lock {
    until: Instant,
    /// The last one that was wrong.
    by: LoginAttempt,
}

/// A name that has logged in, and its address.
type Home = (Realm, Option<Arc<str>>, IpAddr);

/// Recent failures, and names that were right.
#[derive(Debug)]
pub struct Failures {
    /// Writes a name for operators.
    write_name: fn(&str) -> String,
    counts: Aging<Suspect, Count>,
    locks: Aging<Suspect, Lock>,
    /// Number of lockouts.
    locked_total: u64,
    /// Entries of each kind at most; none: [`ENTRIES_MAX`].
    entries_max: Option<usize>,
    at_home: Aging<Home, Instant>,
}

/// A login: the parts of it that are counted.
#[derive(Clone, Debug, Default)]
pub struct LoginAttempt {
    /// The realm of the names: those of another realm are of other clients.
    pub realm: Realm,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The name that it gives.
    pub user_name: Option<Arc<str>>,
    /// Whether it shows nothing that could be guessed.
    pub is_proved: bool,
}

/// An address as it is counted: an IPv6 one with the length of what is.
fn shown(address: IpAddr) -> String {
    match counted_as(address) {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("{v6}/64"),
    }
}

fn of_map<V>(map: &Aging<Suspect, V>, is_meant: impl Fn(&Suspect) -> bool) -> Vec<Suspect> {
    let keys = map.youngest().map(|(suspect, _)| suspect);
    keys.filter(|suspect| is_meant(suspect)).cloned().collect()
}

impl Suspect {
    fn realm(&self) -> Option<Realm> {
        match self {
            Self::NameFrom((realm, _, _)) | Self::Name(realm, _) => Some(*realm),
            Self::Address(_) => None,
        }
    }

    fn name(&self) -> Option<Arc<str>> {
        match self {
            Self::NameFrom((_, name, _)) => name.clone(),
            Self::Name(_, name) => Some(Arc::clone(name)),
            Self::Address(_) => None,
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::NameFrom((_, _, address)) | Self::Address(address) => Some(*address),
            Self::Name(..) => None,
        }
    }

    /// Whether it is visible to a caller that sees this tenant; none: all tenants.
    fn is_seen(&self, tenant: Option<TenantId>) -> bool {
        tenant.is_none_or(|tenant| self.realm().is_some_and(|realm| realm.tenant() == tenant))
    }

    fn is_of(&self, whom: &LockoutTarget) -> bool {
        match whom {
            LockoutTarget::Everybody => true,
            LockoutTarget::Name(name) => self.name().is_some_and(|own| *own == **name),
            LockoutTarget::Address(address) => self.address() == Some(counted_as(*address)),
        }
    }
}

impl LoginAttempt {
    /// Returns the name; none if it is too long to exist. It would be kept for a day.
    fn name(&self) -> Option<Arc<str>> {
        let name = self.user_name.clone();
        name.filter(|name| name.len() <= NAME_MAX)
    }

    /// Returns what its own failures are counted for.
    fn own(&self) -> Option<Suspect> {
        (!self.is_proved).then(|| self.home().map(Suspect::NameFrom))?
    }

    /// Lists what it shares with others.
    fn shared(&self) -> impl Iterator<Item = Suspect> {
        let address = self.counted_address().map(Suspect::Address);
        let name = self.name().map(|name| Suspect::Name(self.realm, name));
        let all = address.into_iter().chain(name);
        all.filter(|_| !self.is_proved)
    }

    /// Returns the address as it is counted: of IPv6, its network of 64 bits.
    pub fn counted_address(&self) -> Option<IpAddr> {
        self.address.map(counted_as)
    }

    fn home(&self) -> Option<Home> {
        let is_long = self.user_name.is_some() && self.name().is_none();
        let address = self.address.filter(|_| !is_long)?;
        Some((self.realm, self.name(), counted_as(address)))
    }
}

impl Failures {
    /// No failures so far. `write_name` writes names for operators.
    pub fn new(write_name: fn(&str) -> String) -> Self {
        Self {
            write_name,
            counts: Aging::default(),
            locks: Aging::default(),
            locked_total: 0,
            entries_max: None,
            at_home: Aging::default(),
        }
    }

    /// Why the login is refused without a check; none: it may try. Names of another realm than the
    /// caller's are not in it.
    pub fn locked(&self, attempt: &LoginAttempt, now: Instant) -> Option<String> {
        let (left, why) = self.locked_for(attempt, now)?;
        Some(format!("locked out for {left} s more: {why}"))
    }

    /// Returns why the login is refused, as a refusal.
    pub fn refusal(&self, attempt: &LoginAttempt, now: Instant) -> Option<Refusal> {
        let detail = self.locked(attempt, now)?;
        let scope = match self.is_locked_by_name(attempt, now) {
            true => LockoutScope::UserName,
            false => LockoutScope::Address,
        };
        Some(Refusal::operators_only(
            RefusalCause::LockedOut(scope),
            detail,
        ))
    }

    /// Returns for how many seconds the login is refused, and why.
    pub fn locked_for(&self, attempt: &LoginAttempt, now: Instant) -> Option<(u64, String)> {
        if let Some(why) = attempt
            .own()
            .and_then(|own| self.lock_of(&own, attempt, now))
        {
            return Some(why);
        }
        if self.is_at_home(attempt, now) {
            return None;
        }
        let mut shared = attempt.shared();
        shared.find_map(|suspect| self.lock_of(&suspect, attempt, now))
    }

    /// Whether its user name is locked out; else its address is.
    pub fn is_locked_by_name(&self, attempt: &LoginAttempt, now: Instant) -> bool {
        let shared = attempt.shared().filter(|_| !self.is_at_home(attempt, now));
        let mut all = attempt.own().into_iter().chain(shared);
        let locking = all.find(|suspect| self.lock_of(suspect, attempt, now).is_some());
        locking.is_some_and(|suspect| suspect.name().is_some())
    }

    fn lock_of(
        &self,
        suspect: &Suspect,
        attempt: &LoginAttempt,
        now: Instant,
    ) -> Option<(u64, String)> {
        let lock = self.locks.get(suspect)?;
        let left = lock.until.checked_duration_since(now)?.as_secs() + 1;
        let whose = match suspect {
            Suspect::NameFrom((_, None, address)) | Suspect::Address(address) => {
                let by = match &lock.by.user_name {
                    Some(name) if lock.by.realm == attempt.realm => {
                        format!(", the last for the name {}", (self.write_name)(name))
                    }
                    _ => String::new(),
                };
                format!("from this address, {}{by}", shown(*address))
            }
            Suspect::NameFrom((_, Some(_), address)) => {
                format!("for this user name from this address, {}", shown(*address))
            }
            Suspect::Name(..) => {
                let from = lock.by.address.map(shown);
                let from = from.map(|from| format!(", the last from {from}"));
                format!("for this user name{}", from.unwrap_or_default())
            }
        };
        Some((left, format!("too many wrong credentials {whose}")))
    }

    /// The lockouts in force, the latest first. With a tenant, only those of its names, without
    /// addresses, which belong to no tenant.
    pub fn lockouts(&mut self, tenant: Option<TenantId>, now: Instant) -> Vec<LockoutEntry> {
        self.tidy(now);
        let entry = |(suspect, lock): (&Suspect, &Lock)| LockoutEntry {
            tenant: suspect.realm().map(|realm| realm.tenant()),
            user_name: suspect.name(),
            address: suspect.address().map(shown),
            left: lock.until.saturating_duration_since(now),
            last_address: lock.by.address.map(shown),
        };
        let all = self
            .locks
            .youngest()
            .filter(|(suspect, _)| suspect.is_seen(tenant));
        all.map(entry).collect()
    }

    /// Ends the lockouts of a name or an address, and forgets the failures that are counted for it.
    /// How many lockouts there were.
    pub fn lift(&mut self, tenant: Option<TenantId>, whom: &LockoutTarget, now: Instant) -> usize {
        self.tidy(now);
        let is_meant = |suspect: &Suspect| suspect.is_seen(tenant) && suspect.is_of(whom);
        for suspect in of_map(&self.counts, is_meant) {
            self.counts.take(&suspect);
        }
        let lifted = of_map(&self.locks, is_meant);
        for suspect in &lifted {
            self.locks.take(suspect);
        }
        lifted.len()
    }

    /// Sets the number of bytes that all kinds together take, approximately, at most. Each kind may
    /// have a thousand entries in any case.
    pub fn set_bytes_max(&mut self, bytes: usize) {
        self.entries_max = Some((bytes / ENTRY_BYTES / 3).clamp(1_000, ENTRIES_MAX));
    }

    /// Approximate number of bytes of what is remembered.
    pub fn memory_bytes(&self) -> usize {
        let entries = self.counts.len() + self.locks.len() + self.at_home.len();
        entries * ENTRY_BYTES
    }

    /// Names and addresses that are locked out now.
    pub fn locked_out(&mut self, now: Instant) -> LockedOut {
        self.tidy(now);
        let some = self.locks.youngest().take(NAMED_MAX);
        let some = some.map(|(suspect, lock)| match suspect {
            Suspect::Address(address) | Suspect::NameFrom((_, None, address)) => shown(*address),
            Suspect::NameFrom((_, Some(name), address)) => {
                format!(
                    "the name {} from {}",
                    (self.write_name)(name),
                    shown(*address)
                )
            }
            Suspect::Name(_, name) => match lock.by.address {
                Some(by) => format!("the name {}, by {}", (self.write_name)(name), shown(by)),
                None => format!("the name {}", (self.write_name)(name)),
            },
        });
        LockedOut {
            now: self.locks.len(),
            total: self.locked_total,
            some: some.collect(),
        }
    }

    /// The name was right from there recently.
    pub fn is_at_home(&self, attempt: &LoginAttempt, now: Instant) -> bool {
        let at_home = attempt.home().and_then(|home| self.at_home.get(&home));
        at_home.is_some_and(|since| now.duration_since(*since) < AT_HOME)
    }

    /// The credentials were wrong; how long the answer is to wait.
    pub fn failed(&mut self, attempt: &LoginAttempt, lockout: Lockout, now: Instant) -> Duration {
        if lockout.failures == 0 || attempt.is_proved {
            return Duration::ZERO;
        }
        self.tidy(now);
        let own = attempt
            .own()
            .map(|own| self.count(own, attempt, lockout, now));
        let mut most = own.unwrap_or_default();
        let share = lockout.failures.div_ceil(SHARE_OF_ONE_NAME);
        for suspect in attempt.shared() {
            let is_enough = own.is_some_and(|own| own > share) && attempt.user_name.is_some();
            if is_enough && matches!(suspect, Suspect::Address(_)) {
                continue;
            }
            most = most.max(self.count(suspect, attempt, lockout, now));
        }
        (SLOWED_BY * most.saturating_sub(1)).min(SLOWED_MAX)
    }

    /// One more failure; how many there are.
    fn count(&mut self, of: Suspect, by: &LoginAttempt, lockout: Lockout, now: Instant) -> u32 {
        let count = self.counts.get(&of).copied();
        let count = count.filter(|count| now.duration_since(count.since) <= WINDOW);
        let (before, since) = count.map_or((0, now), |count| (count.failures, count.since));
        let failures = before + 1;
        if failures >= lockout.failures {
            let lock = Lock {
                until: now + lockout.lasts,
                by: LoginAttempt {
                    user_name: by.name(),
                    ..by.clone()
                },
            };
            let was_locked = self.locks.put(of.clone(), lock).is_some();
            self.locked_total += u64::from(!was_locked);
        }
        self.counts.put(of, Count { failures, since });
        failures
    }

    /// They were right.
    pub fn succeeded(&mut self, attempt: &LoginAttempt, now: Instant) {
        if let Some(home) = attempt.home() {
            self.at_home.put(home, now);
            self.tidy(now);
        }
    }

    fn tidy(&mut self, now: Instant) {
        let is_over = |count: &Count| now.duration_since(count.since) > WINDOW;
        while self.counts.take_oldest_if(is_over).is_some() {}
        let entries_max = self.entries_max.unwrap_or(ENTRIES_MAX);
        while self.counts.len() >= entries_max && self.counts.take_oldest().is_some() {}
        let is_over = |lock: &Lock| lock.until <= now;
        while self.locks.take_oldest_if(is_over).is_some() {}
        while self.locks.len() >= entries_max && self.locks.take_oldest().is_some() {}
        let is_over = |since: &Instant| now.duration_since(*since) >= AT_HOME;
        while self.at_home.take_oldest_if(is_over).is_some() {}
        while self.at_home.len() > entries_max && self.at_home.take_oldest().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKOUT: Lockout = Lockout {
        failures: 3,
        lasts: Duration::from_secs(30),
    };

    fn failures() -> Failures {
        Failures::new(str::to_owned)
    }

    fn attempt(address: u8, name: &str) -> LoginAttempt {
        LoginAttempt {
            realm: Realm::COMMON,
            address: Some([10, 0, 0, address].into()),
            user_name: Some(name.into()),
            is_proved: false,
        }
    }

    #[test]
    fn who_fails_too_often_is_locked_out_for_a_while_by_address_and_by_name() {
        let (mut failures, now) = (failures(), Instant::now());
        for name in ["a", "x", "y"] {
            assert!(failures.locked(&attempt(1, "b"), now).is_none(), "{name}");
            failures.failed(&attempt(1, name), LOCKOUT, now);
        }
        let text = failures.locked(&attempt(1, "b"), now).unwrap();
        assert!(
            text.contains("from this address, 10.0.0.1, the last for the name y"),
            "{text}"
        );
        for address in 2..4 {
            failures.failed(&attempt(address, "a"), LOCKOUT, now);
        }
        let text = failures.locked(&attempt(9, "a"), now).unwrap();
        assert!(
            text.contains("for this user name, the last from 10.0.0.3"),
            "{text}"
        );
        assert!(failures.locked(&attempt(2, "b"), now).is_none());
        let later = now + LOCKOUT.lasts + Duration::from_secs(1);
        assert!(failures.locked(&attempt(1, "a"), later).is_none());
        assert_eq!(
            failures.locked_out(later),
            LockedOut {
                total: 2,
                ..LockedOut::default()
            }
        );
    }

    #[test]
    fn a_lockout_is_lifted_by_name_or_by_address() {
        let (mut failures, now) = (failures(), Instant::now());
        let lock = |failures: &mut Failures| {
            for _ in 0..LOCKOUT.failures {
                failures.failed(&attempt(1, "a"), LOCKOUT, now);
            }
            for name in ["x", "y", "z"] {
                failures.failed(&attempt(2, name), LOCKOUT, now);
            }
        };
        lock(&mut failures);
        let lockouts = failures.lockouts(None, now);
        let shown: Vec<_> = lockouts
            .iter()
            .map(|one| (one.user_name.as_deref(), one.address.as_deref()))
            .collect();
        let expected = [
            (None, Some("10.0.0.2")),
            (Some("a"), None),
            (Some("a"), Some("10.0.0.1")),
        ];
        assert_eq!(shown, expected);
        // A caller that sees one tenant sees neither the addresses of all nor names of others.
        assert_eq!(failures.lockouts(Some(TenantId(7)), now), []);
        let a = LockoutTarget::Name("a".to_owned());
        assert_eq!(failures.lift(Some(TenantId(7)), &a, now), 0);
        assert_eq!(failures.lift(None, &a, now), 2);
        assert!(failures.locked(&attempt(1, "a"), now).is_none());
        // What led to it is forgotten, too: one more failure is the first again.
        failures.failed(&attempt(1, "a"), LOCKOUT, now);
        assert!(failures.locked(&attempt(1, "a"), now).is_none());
        let address = LockoutTarget::Address([10, 0, 0, 2].into());
        assert_eq!(failures.lift(None, &address, now), 1);
        assert!(failures.locked(&attempt(2, "b"), now).is_none());
        lock(&mut failures);
        assert_eq!(failures.lift(None, &LockoutTarget::Everybody, now), 3);
    }

    #[test]
    fn one_name_with_an_old_password_locks_out_nobody_beside_it() {
        let (mut failures, now) = (failures(), Instant::now());
        for _ in 0..50 {
            failures.failed(&attempt(1, "old"), LOCKOUT, now);
        }
        let text = failures.locked(&attempt(1, "old"), now).unwrap();
        assert!(text.contains("from this address, 10.0.0.1"), "{text}");
        assert!(failures.locked(&attempt(1, "new"), now).is_none());
        let locked_out = failures.locked_out(now);
        assert_eq!(
            (locked_out.now, locked_out.total),
            (2, 2),
            "the name, and it from there"
        );
        assert_eq!(
            locked_out.some,
            ["the name old, by 10.0.0.1", "the name old from 10.0.0.1"]
        );
    }

    #[test]
    fn who_is_at_home_is_kept_out_for_its_own_failures_there_alone() {
        let (mut failures, now) = (failures(), Instant::now());
        failures.succeeded(&attempt(1, "device"), now);
        for name in ["a", "b", "c", "d"] {
            failures.failed(&attempt(1, name), LOCKOUT, now);
        }
        assert!(failures.locked(&attempt(1, "stranger"), now).is_some());
        for _ in 0..LOCKOUT.failures {
            assert!(failures.locked(&attempt(1, "device"), now).is_none());
            failures.failed(&attempt(1, "device"), LOCKOUT, now);
        }
        assert!(failures.locked(&attempt(1, "device"), now).is_some());
    }

    #[test]
    fn names_of_other_tenants_are_not_told() {
        let (mut failures, now) = (failures(), Instant::now());
        for name in ["x", "y", "z"] {
            failures.failed(&attempt(1, name), LOCKOUT, now);
        }
        let other = LoginAttempt {
            realm: Realm(7),
            ..attempt(1, "b")
        };
        let text = failures.locked(&other, now).unwrap();
        assert!(text.ends_with("from this address, 10.0.0.1"), "{text}");
    }

    #[test]
    fn a_certificate_alone_is_no_guess() {
        let (mut failures, now) = (failures(), Instant::now());
        let by_certificate = LoginAttempt {
            user_name: None,
            is_proved: true,
            ..attempt(1, "")
        };
        for name in ["x", "y", "z"] {
            failures.failed(&by_certificate, LOCKOUT, now);
            failures.failed(&attempt(1, name), LOCKOUT, now);
        }
        assert!(failures.locked(&attempt(1, "b"), now).is_some());
        assert!(failures.locked(&by_certificate, now).is_none());
    }

    #[test]
    fn who_names_nobody_is_counted_by_address() {
        let (mut failures, now) = (failures(), Instant::now());
        let nameless = |address| LoginAttempt {
            user_name: None,
            ..attempt(address, "")
        };
        for _ in 0..LOCKOUT.failures {
            failures.failed(&nameless(1), LOCKOUT, now);
        }
        assert!(failures.locked(&nameless(1), now).is_some());
        assert!(failures.locked(&attempt(1, "b"), now).is_some());
        assert!(failures.locked(&nameless(2), now).is_none());
        assert_eq!(failures.locked_out(now).some, ["10.0.0.1", "10.0.0.1"]);
    }

    #[test]
    fn a_name_in_one_realm_is_not_that_of_another() {
        let (mut failures, now) = (failures(), Instant::now());
        let guest = |address| LoginAttempt {
            realm: Realm(7),
            ..attempt(address, "a")
        };
        for address in 1..=3 {
            failures.failed(&guest(address), LOCKOUT, now);
        }
        assert!(failures.locked(&guest(9), now).is_some());
        assert!(failures.locked(&attempt(9, "a"), now).is_none());
        // Nor does a login there count here.
        failures.succeeded(&guest(9), now);
        for address in 1..=3 {
            failures.failed(&attempt(address, "a"), LOCKOUT, now);
        }
        assert!(failures.locked(&guest(9), now).is_none());
        assert!(failures.locked(&attempt(9, "a"), now).is_some());
    }

    #[test]
    fn an_ipv6_address_stands_for_all_of_its_64() {
        let (mut failures, now) = (failures(), Instant::now());
        let from = |address: &str, name: &str| LoginAttempt {
            address: Some(address.parse().unwrap()),
            ..attempt(0, name)
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
        let (mut failures, now) = (failures(), Instant::now());
        failures.succeeded(&attempt(1, "device"), now);
        for _ in 0..9 {
            failures.failed(&attempt(2, "device"), LOCKOUT, now);
            failures.failed(&attempt(1, "other"), LOCKOUT, now);
        }
        assert!(failures.locked(&attempt(1, "device"), now).is_none());
        assert!(failures.locked(&attempt(3, "device"), now).is_some());
        let next_day = now + AT_HOME;
        failures.failed(&attempt(2, "device"), LOCKOUT, next_day);
        assert!(
            failures
                .locked(&attempt(1, "device"), now + Duration::from_secs(1))
                .is_none()
        );
    }

    #[test]
    fn where_there_are_too_many_the_oldest_is_forgotten_and_nobody_else() {
        let (mut failures, now) = (failures(), Instant::now());
        let attempt = |number: usize| LoginAttempt {
            user_name: Some(number.to_string().into()),
            ..attempt(1, "")
        };
        for number in 0..ENTRIES_MAX + 10 {
            failures.succeeded(&attempt(number), now);
        }
        assert!(!failures.is_at_home(&attempt(9), now));
        assert!(failures.is_at_home(&attempt(10), now));
        let guess = |number: usize| LoginAttempt {
            address: None,
            ..attempt(number)
        };
        for number in [0, 0, 1, 1] {
            failures.failed(&guess(number), LOCKOUT, now);
        }
        for number in 2..ENTRIES_MAX {
            failures.failed(&guess(number), LOCKOUT, now);
        }
        failures.failed(&guess(1), LOCKOUT, now);
        failures.failed(&guess(ENTRIES_MAX), LOCKOUT, now);
        failures.failed(&guess(0), LOCKOUT, now);
        assert!(failures.locked(&guess(0), now).is_none());
        assert!(failures.locked(&guess(1), now).is_some());
        assert!(failures.counts.len() <= ENTRIES_MAX);
    }

    #[test]
    fn many_names_that_are_locked_out_take_no_more_room() {
        let (mut failures, now) = (failures(), Instant::now());
        let lockout = Lockout {
            failures: 1,
            ..LOCKOUT
        };
        for number in 0..150_000_u32 {
            let attempt = LoginAttempt {
                address: Some(IpAddr::V4(number.into())),
                user_name: Some(number.to_string().into()),
                ..LoginAttempt::default()
            };
            failures.failed(&attempt, lockout, now);
        }
        assert!(failures.counts.len() <= ENTRIES_MAX + 3);
        assert!(failures.locks.len() <= ENTRIES_MAX + 3);
        assert_eq!(failures.locked_out(now).total, 450_000);
    }

    #[test]
    fn failures_far_apart_lock_nobody_out_and_each_is_answered_more_slowly() {
        let (mut failures, mut now) = (failures(), Instant::now());
        for _ in 0..20 {
            assert_eq!(
                failures.failed(&attempt(1, "a"), LOCKOUT, now),
                Duration::ZERO
            );
            now += WINDOW + Duration::from_secs(1);
        }
        assert!(failures.locked(&attempt(1, "a"), now).is_none());
        let delays: Vec<Duration> = (0..3)
            .map(|_| failures.failed(&attempt(2, "b"), LOCKOUT, now))
            .collect();
        assert_eq!(delays, [0, 1, 2].map(|count| SLOWED_BY * count));
    }
}
