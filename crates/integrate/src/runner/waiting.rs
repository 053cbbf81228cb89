//! Clients whose messages wait for an integration that does not deliver.

use super::handle::Activity;
use super::unsettled_message::UnsettledMessage;

/// Number of messages in hand per lane that are examined.
const LOOKED_AT: usize = 64;
/// Maximum number of clients listed per lane.
const NAMED: usize = 16;

/// The examined messages of one lane.
#[derive(Clone, Copy, Default)]
struct LaneLook {
    messages: usize,
    clients: usize,
}

/// Client Identifiers of the publishers of the first messages in hand of each lane, each once;
/// empty while the integration delivers. Each lane is examined separately, because lanes have
/// messages of different clients, and hundreds of messages of one lane may precede the first of
/// another.
pub(super) fn clients<'a>(
    activity: Activity,
    held: impl Iterator<Item = &'a UnsettledMessage>,
) -> Vec<String> {
    let mut clients = Vec::new();
    if !matches!(
        activity,
        Activity::Retrying | Activity::Paused | Activity::Stopped
    ) {
        return clients;
    }
    let mut lanes: Vec<LaneLook> = Vec::new();
    for one in held {
        let lane = one.lane();
        if lanes.len() <= lane {
            lanes.resize(lane + 1, LaneLook::default());
        }
        let seen = &mut lanes[lane];
        if seen.messages == LOOKED_AT || seen.clients == NAMED {
            continue;
        }
        seen.messages += 1;
        if let Some(client_id) = one.message.client_id()
            && !clients.iter().any(|known| known == client_id)
        {
            seen.clients += 1;
            clients.push(client_id.to_owned());
        }
    }
    clients
}
