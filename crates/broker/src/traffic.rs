//! Topics in use, and their clients: taken from the shard's routes, which it remembers for other
//! reasons, and reported on request. It costs messages nothing.

use std::collections::BTreeMap;

use crate::session::permit::PermitToken;
use crate::shard::Shard;

/// A client uses a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicUse {
    /// Who.
    pub client_id: String,
    /// By which user name it is known.
    pub user_name: Option<String>,
    /// What.
    pub topic: String,
    /// It publishes to the topic; else messages of it are sent to it.
    pub publishes: bool,
}

impl Shard {
    /// Topics that were published to recently, with the client that did it last, and the clients to
    /// whom their messages go, as far as these are sessions of this shard with rules of their own
    /// user; `limit` uses at most.
    pub(crate) fn traffic(&self, limit: usize) -> Vec<TopicUse> {
        let mut by_token: BTreeMap<u32, u32> = BTreeMap::new();
        for (index, session) in self.sessions.iter() {
            let token = session.permit.as_ref().map(|permit| permit.token);
            if let Some(token) = token.filter(|token| *token != PermitToken::NONE) {
                by_token.insert(token.number(), index);
            }
        }
        let mut uses = Vec::new();
        for (topic, publisher, receivers) in self.routes.in_use() {
            let publisher = by_token.get(&publisher.number()).copied();
            let all = publisher.map(|session| (session, true));
            let all = all
                .into_iter()
                .chain(receivers.map(|session| (session, false)));
            for (session, publishes) in all {
                if uses.len() >= limit {
                    return uses;
                }
                uses.extend(self.topic_use(session, topic, publishes));
            }
        }
        uses
    }

    fn topic_use(&self, session: u32, topic: &str, publishes: bool) -> Option<TopicUse> {
        // Routes may be older than the end of a session.
        let session = self.sessions.look_at(session)?;
        let permit = session.permit.as_ref()?;
        Some(TopicUse {
            client_id: session.client_id.to_string(),
            user_name: permit.user_name().map(str::to_owned),
            topic: topic.to_owned(),
            publishes,
        })
    }
}
