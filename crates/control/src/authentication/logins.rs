//! Logins to the panel, and keys of devices that are shown by HTTP: counted as logins of clients
//! are. Passwords are worked out for one address after the other.

use std::net::IpAddr;
use std::time::Instant;

use martlet_broker::{Realm, TenantId};
use martlet_lockout::{LockoutEntry, LockoutTarget, LoginAttempt};

use super::AuthenticationChain;
use super::slots::{Slot, SlotRequest};

/// Locked out for now: too many credentials were wrong, of this name or from this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// For how many seconds.
    pub secs: u64,
}

/// Bytes of the digest of a key that distinguish it from others: too few to find the key.
const KEY_NAME_BYTES: usize = 4;

/// An attempt to log in, which has its slot.
#[derive(Debug)]
pub struct LoginInSlot {
    chain: AuthenticationChain,
    attempt: LoginAttempt,
    slot: Option<Slot>,
}

impl AuthenticationChain {
    /// Waits for the slot of an attempt to log in by user name and password.
    ///
    /// # Errors
    /// The name or the address is locked out.
    pub async fn begin_login(
        &self,
        user_name: &str,
        address: Option<IpAddr>,
    ) -> Result<LoginInSlot, Locked> {
        let policy = self.policy();
        let (realm, name) = policy.tenant_of(Realm::COMMON, user_name);
        let attempt = LoginAttempt {
            realm,
            address,
            user_name: Some(name.into()),
            is_proved: false,
        };
        self.expect_not_locked(&attempt)?;
        let slot_request = SlotRequest::of(&self.0.lock().failures, &attempt);
        let slot = self.0.logins.take(&slot_request).await;
        // Others may have been wrong meanwhile.
        self.expect_not_locked(&attempt)?;
        Ok(LoginInSlot {
            chain: self.clone(),
            attempt,
            slot,
        })
    }

    /// Begins to check the key that a device shows by HTTP (its own, or a provisioning key), given
    /// by its SHA-256 digest. There is no slot to wait for: the key is looked up.
    ///
    /// Each key counts as a name of its own, by a part of the digest. So a device with an old key
    /// does not lock out the others at its address, and many keys from one address are guesses.
    ///
    /// # Errors
    /// The key or the address is locked out.
    pub fn begin_key(
        &self,
        key: &[u8; 32],
        address: Option<IpAddr>,
    ) -> Result<LoginInSlot, Locked> {
        let mut name = "device key ".to_owned();
        for byte in &key[..KEY_NAME_BYTES] {
            name.push_str(&format!("{byte:02x}"));
        }
        let attempt = LoginAttempt {
            realm: Realm::COMMON,
            address,
            user_name: Some(name.into()),
            is_proved: false,
        };
        self.expect_not_locked(&attempt)?;
        Ok(LoginInSlot {
            chain: self.clone(),
            attempt,
            slot: None,
        })
    }

    fn expect_not_locked(&self, attempt: &LoginAttempt) -> Result<(), Locked> {
        let state = self.0.lock();
        match state.failures.locked_for(attempt, Instant::now()) {
            Some((secs, _)) => Err(Locked { secs }),
            None => Ok(()),
        }
    }

    /// The lockouts of now, of clients and of logins to the panel, the latest first; of names of
    /// one tenant alone if one is given.
    pub fn lockouts(&self, tenant: Option<TenantId>) -> Vec<LockoutEntry> {
        self.0.lock().failures.lockouts(tenant, Instant::now())
    }

    /// Ends lockouts; how many.
    pub fn lift_lockouts(&self, tenant: Option<TenantId>, whom: &LockoutTarget) -> usize {
        self.0.lock().failures.lift(tenant, whom, Instant::now())
    }
}

impl LoginInSlot {
    /// Counts the result. The answer to wrong credentials is delayed, longer with each of them.
    ///
    /// # Errors
    /// It was one of many that were made at once: whether it was right is not told.
    pub async fn finish(self, was_right: bool) -> Result<(), Locked> {
        let Self {
            chain,
            attempt,
            slot,
        } = self;
        drop(slot);
        chain.expect_not_locked(&attempt)?;
        let wait = {
            let mut state = chain.0.lock();
            let lockout = state.policy.lockout;
            let now = Instant::now();
            match was_right {
                true => {
                    state.failures.succeeded(&attempt, now);
                    return Ok(());
                }
                false => state.failures.failed(&attempt, lockout, now),
            }
        };
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
