//! Retained messages, looked through and taken away.

use std::sync::Arc;

use martlet_codec::{PublishProperties, QoS, ReasonCode, TopicFilter};
use martlet_permission::TenantId;

use super::{PAGE_BYTES, STEP_BYTES, Step};
use crate::command::{NewMessage, RetainedQuery};
use crate::id::RecordNumber;
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::report::{Answer, DeleteOutcome, RetainedInfo, RetainedPage};
use crate::shard::{Shard, StoreState};
use crate::time::Now;
use crate::work::RETAINED_TOPIC;

/// Messages that a reading step takes; the store is locked for no longer.
const MESSAGES_PER_STEP: usize = 512;
/// Topics that a deleting step clears.
const DELETED_PER_STEP: usize = 64;

/// Looks for retained messages.
#[derive(Debug)]
pub(super) struct RetainedScan {
    query: RetainedQuery,
    /// Where to go on.
    after: Option<Box<str>>,
    page: RetainedPage,
    /// Bytes of what is on the page.
    page_bytes: usize,
}

impl RetainedScan {
    pub(super) fn new(query: RetainedQuery) -> Self {
        Self {
            // Who counts begins at the beginning.
            after: query.after.clone().filter(|_| !query.count),
            page: RetainedPage {
                total: query.count.then_some(0),
                ..RetainedPage::default()
            },
            page_bytes: 0,
            query,
        }
    }

    pub(super) fn step<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> Step {
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
pub(super) struct DeleteRetainedJob {
    tenant: TenantId,
    filter: Box<str>,
    after: Option<Box<str>>,
    deleted: u64,
    record: RecordNumber,
}

impl DeleteRetainedJob {
    pub(super) fn new(tenant: TenantId, filter: Box<str>) -> Self {
        Self {
            tenant,
            filter,
            after: None,
            deleted: 0,
            record: RecordNumber(0),
        }
    }

    /// It has waited too long.
    pub(super) fn given_up(&self) -> Answer {
        self.answer(DeleteOutcome::StoreSilent)
    }

    fn answer(&self, outcome: DeleteOutcome) -> Answer {
        let deleted = self.deleted;
        Answer::DeleteRetained { deleted, outcome }
    }
}

impl Shard {
    pub(super) fn delete_retained_step<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        job: &mut DeleteRetainedJob,
    ) -> Step {
        if TopicFilter::new(&job.filter).is_err() {
            let outcome = DeleteOutcome::Refused(ReasonCode::TopicFilterInvalid);
            return Step::Done(job.answer(outcome), RecordNumber(0));
        }
        if self.store_state() >= StoreState::Full {
            return Step::Done(job.answer(DeleteOutcome::StoreFull), job.record);
        }
        let (tenant, after, now_ms) = (job.tenant, job.after.as_deref(), cx.now.mono_ms);
        let page = cx.node.retained(|store| {
            store.page(tenant, &job.filter, None, after, DELETED_PER_STEP, now_ms)
        });
        self.work.add(page.steps as u64 * RETAINED_TOPIC);
        let nobody: Arc<str> = "".into();
        for message in &page.messages {
            let clearing = NewMessage {
                topic: message.topic().into(),
                qos: QoS::AtLeastOnce,
                retain: true,
                ..NewMessage::default()
            };
            let (outcome, record) = self.publish_for_operator(cx, tenant, &nobody, &clearing);
            if outcome.reason.is_error() {
                let outcome = DeleteOutcome::Refused(outcome.reason);
                return Step::Done(job.answer(outcome), job.record);
            }
            job.deleted += 1;
            job.record = job.record.max(record);
        }
        match page.next {
            Some(next) => {
                job.after = Some(next);
                Step::More
            }
            None => Step::Done(job.answer(DeleteOutcome::Deleted), job.record),
        }
    }
}
