//! Retained messages, taken away.

use std::sync::Arc;

use martlet_codec::{QoS, ReasonCode, TopicFilter};

use crate::command::NewMessage;
use crate::id::RecordNumber;
use crate::node::{Cx, Node};
use crate::operate::jobs::retained::DeleteRetainedJob;
use crate::operate::step::Step;
use crate::report::DeleteOutcome;
use crate::shard::{Shard, StoreState};
use crate::work::RETAINED_TOPIC;

/// Topics that a deleting step clears.
const DELETED_PER_STEP: usize = 64;

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
        if self.store.state >= StoreState::Full {
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
