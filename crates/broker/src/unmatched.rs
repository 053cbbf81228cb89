//! Topics of messages that were published without a subscriber: for the question why a message did
//! not arrive.
//!
//! A shard remembers the last of the topics that it received messages of, and of those that other
//! shards sent it for subscribers whom the rules forbid to read them. Integrations that take
//! messages by lanes are no subscribers here, and clients subscribed to all topics, by `#` or
//! `+/#`, is none either: nearly every site has one, and it does not show for whom a message is. Of
//! a topic that only such clients get, a message is noted once in some seconds. A retained message
//! is not noted: later subscribers get it. A topic that has receivers again is forgotten.

pub(crate) mod topics;

use std::sync::Arc;

use crate::active_devices::list;
use crate::routing::Routing;
use crate::shard::Shard;
use topics::Reach;

impl Shard {
    /// Notes a message that no client of this shard got; `place` is that of its route.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_unmatched(&mut self, place: usize, routing: &Routing<'_>) {
        let reach = match self.router.cache.is_forbidden(place) {
            true => Reach::Forbidden,
            false => Reach::Nobody,
        };
        self.note_reach(place, routing, reach);
    }

    /// Notes a message that only subscribers to all topics get, if none of the topic was noted in
    /// the last seconds.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_only_all(&mut self, place: usize, routing: &Routing<'_>) {
        let round = list::round(routing.publication.received_mono_ms);
        if self.router.cache.begins(place, round) {
            self.note_reach(place, routing, Reach::OnlyAll);
        }
    }

    fn note_reach(&mut self, place: usize, routing: &Routing<'_>, reach: Reach) {
        let publication = &routing.publication;
        if publication.retain {
            return;
        }
        let (own, sessions) = (self.id, &self.sessions);
        self.noted.unmatched.note(place, publication, reach, || {
            let publisher = publication.publisher?;
            if publisher.shard == own {
                let session = sessions.get(publisher.session)?;
                return Some(Arc::clone(&session.client_id));
            }
            let client = routing.message.as_ref()?.client()?;
            Some(Arc::clone(&client.client_id))
        });
    }
}
