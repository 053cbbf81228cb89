//! Topics in use, and their clients: taken from the shard's routes, which it remembers for other
//! reasons, and reported on request. It costs messages nothing.

use std::sync::Arc;

use crate::id::RecordNumber;
use crate::operate::jobs::TrafficScan;
use crate::operate::step::{PAGE_BYTES, STEP_BYTES, Step};
use crate::report::{Answer, TopicUse};
use crate::session::permit::PermitToken;
use crate::shard::Shard;

/// Places of sessions, or routes, that a step looks at.
const PLACES_PER_STEP: u32 = 1024;
/// Uses after which a step ends; those of one route are reported together.
const USES_PER_STEP: usize = 128;

/// Bytes of an answer, about: what is beyond them is left out.
const TRAFFIC_BYTES: usize = 8 * PAGE_BYTES;

impl Shard {
    pub(super) fn scan_traffic(&self, scan: &mut TrafficScan) -> Step {
        let sessions = self.sessions.places();
        if scan.next_session < sessions {
            let end = sessions.min(scan.next_session + PLACES_PER_STEP);
            for place in scan.next_session..end {
                let session = self.sessions.look_at(place);
                let permit = session.and_then(|session| session.permit.as_ref());
                if let Some(permit) = permit.filter(|permit| permit.token != PermitToken::NONE) {
                    let id = self.sessions.id_of(place);
                    scan.by_permit.insert(permit.token.number(), id);
                }
            }
            scan.next_session = end;
            return Step::More;
        }
        let routes = self.router.cache.places();
        let end = routes.min(scan.next_route + PLACES_PER_STEP);
        let uses_max = scan.limit.min(scan.uses.len() + USES_PER_STEP);
        let bytes_max = TRAFFIC_BYTES.min(scan.bytes + STEP_BYTES);
        while scan.next_route < end && scan.uses.len() < uses_max && scan.bytes < bytes_max {
            self.report_uses(scan);
            scan.next_route += 1;
        }
        let has_room = scan.uses.len() < scan.limit && scan.bytes < TRAFFIC_BYTES;
        if scan.next_route < routes && has_room {
            return Step::More;
        }
        let uses = core::mem::take(&mut scan.uses);
        Step::Done(Answer::Traffic(uses), RecordNumber(0))
    }

    /// Reports the users of the topic of the next route.
    fn report_uses(&self, scan: &mut TrafficScan) {
        let Some((topic, publisher, receivers)) = self.router.cache.in_use(scan.next_route) else {
            return;
        };
        let publisher = scan.by_permit.get(&publisher.number()).copied();
        // It may have ended since it was looked at, and another may have its place.
        let publisher = publisher.filter(|id| self.sessions.get(*id).is_some());
        let publisher = publisher.map(|id| (id.index, true));
        let receivers = receivers.map(|session| (session, false));
        let topic: Arc<str> = topic.into();
        for (session, publishes) in publisher.into_iter().chain(receivers) {
            if scan.uses.len() >= scan.limit || scan.bytes >= TRAFFIC_BYTES {
                return;
            }
            if let Some(found) = self.topic_use(session, &topic, publishes) {
                let user_name = found.user_name.as_ref();
                scan.bytes += found.client_id.len() + found.topic.len();
                scan.bytes += user_name.map_or(0, String::len) + size_of::<TopicUse>();
                scan.uses.push(found);
            }
        }
    }

    fn topic_use(&self, session: u32, topic: &Arc<str>, publishes: bool) -> Option<TopicUse> {
        // Routes may be older than the end of a session.
        let session = self.sessions.look_at(session)?;
        let permit = session.permit.as_ref()?;
        Some(TopicUse {
            client_id: session.client_id.to_string(),
            user_name: permit.user_name().map(str::to_owned),
            topic: Arc::clone(topic),
            publishes,
        })
    }
}
