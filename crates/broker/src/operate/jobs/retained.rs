//! Retained messages to be looked through or taken away, and how far that has come.

use martlet_codec::{PublishProperties, TopicFilter};
use martlet_permission::TenantId;

use crate::command::RetainedQuery;
use crate::id::RecordNumber;
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::operate::step::{PAGE_BYTES, STEP_BYTES, Step};
use crate::report::{Answer, DeleteOutcome, RetainedInfo, RetainedPage};
use crate::time::Now;

/// Messages that a reading step takes; the store is locked for no longer.
const MESSAGES_PER_STEP: usize = 512;

/// Looks for retained messages.
#[derive(Debug)]
pub(crate) struct RetainedScan {
    query: RetainedQuery,
    /// Where to go on.
    after: Option<Box<str>>,
    page: RetainedPage,
    /// Bytes of what is on the page.
    page_bytes: usize,
}

impl RetainedScan {
    pub(crate) fn new(query: RetainedQuery) -> Self {
        Self {
            // A count begins at the beginning.
            after: query.after.clone().filter(|_| !query.count),
            page: RetainedPage {
                total: query.count.then_some(0),
                ..RetainedPage::default()
            },
            page_bytes: 0,
            query,
        }
    }

    pub(crate) fn step<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> Step {
        let (tenant, filter) = (self.query.tenant, &*self.query.filter);
        let mut next = None;
        if TopicFilter::new(filter).is_ok() {
            let (after, now_ms) = (self.after.as_deref(), cx.now.mono_ms);
            let found = cx.node.retained(|store| {
                store.page(tenant, filter, None, after, MESSAGES_PER_STEP, now_ms)
            });
            next = found.next;
            let mut bytes = 0;
            for message in &found.messages {
                bytes += self.found(message, cx.now);
                if bytes >= STEP_BYTES {
                    next = Some(message.topic().into());
                    break;
                }
            }
        }
        let has_all = self.page.more && !self.query.count;
        match next.filter(|_| !has_all) {
            Some(next) => {
                self.after = Some(next);
                Step::More
            }
            None => {
                let page = core::mem::take(&mut self.page);
                Step::Done(Answer::Retained(page), RecordNumber(0))
            }
        }
    }

    /// Answers how many bytes were looked at or copied.
    fn found(&mut self, message: &Message, now: Now) -> usize {
        let topic = message.topic();
        let search = self.query.search.as_ref();
        if search.is_some_and(|search| !search.finds(topic)) {
            return topic.len();
        }
        if let Some(total) = &mut self.page.total {
            *total += 1;
        }
        if self
            .query
            .after
            .as_deref()
            .is_some_and(|after| topic <= after)
        {
            return topic.len();
        }
        let payload = message.payload();
        let shown = payload.len().min(self.query.payload_bytes_max);
        let bytes = topic.len() + message.forwarded().len() + shown;
        let is_too_long = self.page_bytes + bytes > PAGE_BYTES && !self.page.messages.is_empty();
        if self.page.more || is_too_long || self.page.messages.len() >= self.query.limit {
            self.page.more = true;
            return topic.len();
        }
        self.page_bytes += bytes;
        // They were read when the message came: that cannot fail.
        let properties = PublishProperties::from_forwarded(message.forwarded()).unwrap_or_default();
        let pairs = properties.user_properties.iter();
        self.page.messages.push(RetainedInfo {
            topic: topic.into(),
            id: message.id(),
            qos: message.qos(),
            payload_is_utf8: properties.payload_format_utf8,
            content_type: properties.content_type.map(Into::into),
            response_topic: properties.response_topic.map(Into::into),
            correlation_data: properties.correlation_data.map(Into::into),
            user_properties: pairs
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            payload_bytes: payload.len(),
            payload: payload[..shown].into(),
            received_wall_ms: message.received_wall_ms(),
            expires_in_secs: message.publication().expiry_left_secs(now.mono_ms),
        });
        bytes
    }
}

/// Takes retained messages away.
#[derive(Debug)]
pub(crate) struct DeleteRetainedJob {
    pub(crate) tenant: TenantId,
    pub(crate) filter: Box<str>,
    pub(crate) after: Option<Box<str>>,
    pub(crate) deleted: u64,
    pub(crate) record: RecordNumber,
}

impl DeleteRetainedJob {
    pub(crate) fn new(tenant: TenantId, filter: Box<str>) -> Self {
        Self {
            tenant,
            filter,
            after: None,
            deleted: 0,
            record: RecordNumber(0),
        }
    }

    /// Answers that it has waited too long.
    pub(crate) fn given_up(&self) -> Answer {
        self.answer(DeleteOutcome::StoreSilent)
    }

    pub(crate) fn answer(&self, outcome: DeleteOutcome) -> Answer {
        let deleted = self.deleted;
        Answer::DeleteRetained { deleted, outcome }
    }
}
