//! Events of traced clients, addresses and topics.

use std::sync::Arc;

use martlet_broker::{EventInterest, Traced};

use crate::event_log;
use crate::feed::Feed;
use crate::logging::{Logging, Subject};

/// Sets in all shards what is traced, when that changes.
pub(super) fn follow_traces(logging: &Logging, feed: &Arc<Feed>) {
    let feed = Arc::clone(feed);
    logging.on_change(Box::new(move |logging| {
        let mut traced = Traced::default();
        for (subject, _) in logging.traces() {
            match subject {
                Subject::Client(tenant, client_id) => traced.clients.push((tenant, client_id)),
                Subject::Address(address) => traced.addresses.push(address),
                Subject::Topic(filter) => traced.topics.push(filter),
            }
        }
        let interest = EventInterest {
            traced,
            ..event_log::interest()
        };
        feed.set_logged(interest);
    }));
}
