//! Numbers for what vouches for clients: the same for the same thing as long as the process lives,
//! however often files are read again.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use martlet_broker::{RevokedClients, Voucher};

type VoucherNumbers = HashMap<[u8; SHA256_OUTPUT_LEN], u32>;

/// One for the process, as connections outlive policies. Not for secrets: it has digests alone.
static KNOWN: OnceLock<Mutex<VoucherNumbers>> = OnceLock::new();

/// Voucher that is of this kind and has these parts.
pub(super) fn voucher_of(kind: &str, parts: &[&[u8]]) -> Voucher {
    let mut all = Vec::new();
    for part in [kind.as_bytes()].iter().chain(parts) {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(digest(&SHA256, &all).as_ref());
    let mut known = KNOWN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let next = u32::try_from(known.len() + 1).unwrap_or(u32::MAX);
    Voucher(*known.entry(key).or_insert(next))
}

/// Vouchers of the old that are not among the new.
pub(super) fn removed(old: &[Voucher], new: &[Voucher]) -> Vec<RevokedClients> {
    let removed = old.iter().filter(|voucher| !new.contains(voucher));
    removed.copied().map(RevokedClients::Voucher).collect()
}
