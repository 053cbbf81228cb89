//! The retained messages of the node, sent to a broker that has no session of the bridge: it may
//! have none of them.
//!
//! They go before what waits in the queue. What was retained after they were read is in the queue,
//! so the other broker ends with the last of each topic.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use martlet_broker::{RetainedPage, RetainedQuery, TenantId};
use martlet_client::{RequestId, Session};
use tracing::warn;

use super::message::retained;
use super::origin::BridgeOrigin;
use super::settings::BridgeSettings;

/// Messages that are read at once.
const PAGE: usize = 100;

/// Retained messages that are being sent.
#[derive(Debug, Default)]
pub(super) struct RetainedTransfer {
    /// Filters that were not read to their end.
    filters: VecDeque<Box<str>>,
    /// Where the first of them goes on.
    after: Option<Box<str>>,
    under_way: HashSet<RequestId>,
}

impl RetainedTransfer {
    /// All retained messages that the bridge carries.
    pub(super) fn of(settings: &BridgeSettings) -> Self {
        Self {
            filters: settings.topics.local_filters().into(),
            ..Self::default()
        }
    }

    /// All are at the other broker.
    pub(super) fn is_over(&self) -> bool {
        self.filters.is_empty() && self.under_way.is_empty()
    }

    /// The next ones to read; none while those before are under way.
    pub(super) fn query(&self, tenant: TenantId) -> Option<RetainedQuery> {
        let filter = self.filters.front().filter(|_| self.under_way.is_empty())?;
        Some(RetainedQuery {
            tenant,
            filter: filter.clone(),
            after: self.after.clone(),
            limit: PAGE,
            payload_bytes_max: usize::MAX,
            ..RetainedQuery::default()
        })
    }

    /// Sends those that were read.
    pub(super) fn send(
        &mut self,
        page: &RetainedPage,
        (settings, route): (&BridgeSettings, &BridgeOrigin),
        (session, now): (&mut Session, Duration),
    ) {
        for info in &page.messages {
            let Some(message) = retained(info, settings, route) else {
                continue;
            };
            match session.publish(message, now) {
                Ok(request) => _ = self.under_way.insert(request),
                Err(error) => {
                    let (bridge, topic) = (&*settings.name, &*info.topic);
                    warn!(bridge, topic, %error, "a retained message cannot be sent");
                }
            }
        }
        match page.messages.last().filter(|_| page.more) {
            Some(last) => self.after = Some(last.topic.clone()),
            None => {
                self.filters.pop_front();
                self.after = None;
            }
        }
    }

    /// A request has ended. Returns whether it was of these messages.
    pub(super) fn completed(&mut self, request: RequestId) -> bool {
        self.under_way.remove(&request)
    }
}
