//! Sends the retained messages of the node to a broker that has no session of the bridge: it may
//! lack all of them.
//!
//! They are sent before the messages of the queue. Messages retained after they were read are in
//! the queue, so the other broker ends with the last message of each topic.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use martlet_broker::{RetainedPage, RetainedQuery, TenantId};
use martlet_client::{RequestId, Session};
use tracing::warn;

use super::message::retained;
use super::origin::BridgeOrigin;
use super::settings::BridgeSettings;

/// Number of messages per read.
const PAGE: usize = 100;

/// Retained messages that are being sent.
#[derive(Debug, Default)]
pub(super) struct RetainedTransfer {
    /// Filters that are not completely read.
    filters: VecDeque<Box<str>>,
    /// Topic after which the first of them continues.
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

    /// Whether all are at the other broker.
    pub(super) fn is_over(&self) -> bool {
        self.filters.is_empty() && self.under_way.is_empty()
    }

    /// The next query; `None` while earlier messages are in flight.
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

    /// Sends the messages that were read.
    pub(super) fn send(
        &mut self,
        page: &RetainedPage,
        settings: &BridgeSettings,
        route: &BridgeOrigin,
        session: &mut Session,
        now: Duration,
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

    /// Handles the end of a request. Returns whether it was one of these messages.
    pub(super) fn completed(&mut self, request: RequestId) -> bool {
        self.under_way.remove(&request)
    }
}
