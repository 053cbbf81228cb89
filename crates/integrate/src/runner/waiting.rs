//! Clients whose messages wait for an integration that does not deliver.

use std::collections::VecDeque;

use super::core::Held;
use super::handle::Activity;

/// Messages in hand that are looked at.
const LOOKED_AT: usize = 64;
/// Clients that are named, at most.
const NAMED: usize = 16;

/// Client Identifiers of those who published the first messages in hand, each once; none while the
/// integration delivers.
pub(super) fn clients(activity: Activity, held: &VecDeque<Held>) -> Vec<String> {
    let mut clients = Vec::new();
    if !matches!(
        activity,
        Activity::Retrying | Activity::Paused | Activity::Stopped
    ) {
        return clients;
    }
    for one in held.iter().take(LOOKED_AT) {
        if let Some(client_id) = one.message.client_id()
            && clients.len() < NAMED
            && !clients.iter().any(|known| known == client_id)
        {
            clients.push(client_id.to_owned());
        }
    }
    clients
}
