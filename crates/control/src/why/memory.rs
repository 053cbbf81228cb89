//! What a start of the node has made it forget, where it keeps messages in memory only.

use martlet_broker::EventKind;

use super::Finding;
use super::facts::Facts;
use super::found::{Bearing, Found, RECENT_MS, is_connected};
use super::integration;
use crate::cause::Cause;
use crate::rfc3339;

/// What there is to find of a start of the node that came after something was kept for the client.
pub(super) fn forgotten(facts: &Facts) -> Found {
    let Some(started_ms) = facts.in_memory_since else {
        return Found::new();
    };
    let is_recent = facts.now_ms.saturating_sub(started_ms) <= RECENT_MS;
    let is_before = |ms: u64| ms > 0 && ms < started_ms;
    let last = facts.presence.as_ref().map(|presence| presence.since_ms);
    let connects = facts
        .runs
        .iter()
        .filter(|run| run.last.what == EventKind::Connected);
    let connects: u64 = connects.map(|run| run.count).sum();
    // It has logged in more often than since the start.
    let was_known = facts.logins > connects || last.is_some_and(is_before);
    // Without it, nothing was kept while it was away.
    let has_lasting_session = facts
        .session
        .as_ref()
        .is_some_and(|session| session.session_expiry_secs > 0);
    let bearing = if integration::is_one(facts) {
        Bearing::Aside
    } else if !was_known {
        return Found::new();
    } else if is_connected(facts) {
        match is_recent && has_lasting_session {
            true => Bearing::Happened,
            false => Bearing::Aside,
        }
    } else if last.is_some_and(is_before) {
        match is_recent {
            true => Bearing::Happened,
            false => Bearing::Remark,
        }
    } else {
        return Found::new();
    };
    let sentence = format!(
        "the node was started on {} and keeps messages in memory only (store.durability is \
         \"memory\"): sessions, subscriptions, retained messages and queued messages from before \
         that are lost",
        rfc3339::in_words(started_ms)
    );
    let finding = Finding::new(Cause::KeptInMemory, sentence).remedy(
        "have the clients subscribe and publish again; to keep messages across a restart, set \
         store.durability to \"sync\" or \"interval\" and restart the node",
    );
    vec![(bearing, finding.since(started_ms))]
}
