//! That no session is kept for a client that is away, so that messages for it do not wait.

use martlet_broker::EventKind;

use super::Finding;
use super::arrival::{is_published_by_itself, names_client};
use super::facts::Facts;
use super::found::{Bearing, Found};
use super::side::{Side, side};
use crate::cause::Cause;

/// Reports it if the client was connected and has no session any more, and either the question
/// names a topic that it may read, or messages with its name in their topics reached nobody.
pub(super) fn no_session(facts: &Facts, found: &mut Found) {
    let mut runs = facts.runs.iter();
    let was_connected = runs.any(|run| run.last.what == EventKind::Disconnected);
    if facts.session.is_some() || !was_connected {
        return;
    }
    let is_missed = match facts.question.topic {
        Some(_) => side(facts) != Side::Publisher,
        None => {
            let mut all = facts.unmatched.iter();
            all.any(|one| names_client(facts, &one.topic) && !is_published_by_itself(facts, one))
        }
    };
    if !is_missed {
        return;
    }
    let sentence = "no session is kept for it while it is away, so messages for it do not wait: \
                    its last connection had the Session Expiry Interval 0 (before MQTT 5: Clean \
                    Session 1), or its session has expired since";
    let finding = Finding::new(Cause::NotKept, sentence).remedy(
        "if messages should wait for it, have the client connect with Clean Start 0 and a Session \
         Expiry Interval (before MQTT 5: Clean Session 0), and subscribe with QoS 1",
    );
    found.push((Bearing::Aside, finding));
}
