//! Subscriptions to be looked for, and those that were found.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_codec::{SubscriptionFilter, TopicName};
use martlet_permission::TenantId;

use crate::command::SubscriptionQuery;
use crate::id::SessionId;
use crate::operate::step::PAGE_BYTES;
use crate::report::SubscriptionInfo;
use crate::subscribe::subscribers::SubscriptionPlace;

/// Looks for subscriptions, as [`ClientScan`](super::clients::ClientScan) does for sessions.
#[derive(Debug)]
pub(crate) struct SubscriptionScan {
    pub(crate) query: SubscriptionQuery,
    pub(crate) next: u32,
    /// Where the next step goes on within the subscriptions of the session at that place.
    pub(crate) within: Option<(SessionId, SubscriptionPlace)>,
    pub(crate) total: usize,
    pub(crate) found: BTreeMap<Key, SubscriptionInfo>,
    /// Bytes of the filters in there.
    found_bytes: usize,
    /// The first one that has no place on the page: all that are behind it have none.
    pub(crate) end: Option<Key>,
}

/// Client Identifier, tenant and filter.
type Key = (Arc<str>, TenantId, Box<str>);

impl SubscriptionScan {
    pub(crate) fn new(query: SubscriptionQuery) -> Self {
        Self {
            query,
            next: 0,
            within: None,
            total: 0,
            found: BTreeMap::new(),
            found_bytes: 0,
            end: None,
        }
    }

    /// A subscription of a session that is asked for.
    pub(crate) fn found(&mut self, info: SubscriptionInfo) {
        if !self.query.matches(&info) {
            return;
        }
        self.total += 1;
        let place = (&*info.client_id, info.tenant, &*info.filter);
        let after = self.query.after.as_ref();
        if after.is_some_and(|(client_id, tenant, filter)| place <= (client_id, *tenant, filter)) {
            return;
        }
        let end = self.end.as_ref();
        if end.is_some_and(|(client_id, tenant, filter)| place >= (client_id, *tenant, filter)) {
            return;
        }
        let key = (
            Arc::clone(&info.client_id),
            info.tenant,
            info.filter.clone(),
        );
        self.found_bytes += info.bytes();
        self.found.insert(key, info);
        let is_too_long = |found: &Self| found.found_bytes > PAGE_BYTES && found.found.len() > 1;
        while self.found.len() > self.query.limit || is_too_long(self) {
            let Some((key, last)) = self.found.pop_last() else {
                return;
            };
            self.found_bytes -= last.bytes();
            self.end = Some(key);
        }
    }
}

impl SubscriptionQuery {
    fn matches(&self, info: &SubscriptionInfo) -> bool {
        let has_filter = |filter: &str| filter == &*info.filter;
        let has_name = |name: &str| info.share_name() == Some(name);
        let matches = |topic: &str| {
            let topic = TopicName::new(topic);
            let parsed = SubscriptionFilter::parse(&info.filter);
            matches!((parsed, topic), (Ok(parsed), Ok(topic)) if parsed.filter.matches(topic))
        };
        self.filter.as_deref().is_none_or(has_filter)
            && self.share_name.as_deref().is_none_or(has_name)
            && self.topic.as_deref().is_none_or(matches)
    }

    /// Whether the query includes subscriptions of this session.
    pub(crate) fn matches_session(&self, tenant: TenantId, client_id: &str) -> bool {
        let is_it = |expected: &str| expected == client_id;
        let mut without = self.without.iter();
        if without.any(|beginning| client_id.starts_with(beginning)) {
            return false;
        }
        self.tenant.is_none_or(|expected| expected == tenant)
            && self.client_id.as_deref().is_none_or(is_it)
    }
}
