//! Refusals of PUBLISH packets: the answer, and the event.

use martlet_codec::ReasonCode;
use martlet_permission::{self, Actions, Limit, Refusal, RefusalCause};

use crate::event::Event;
use crate::event_interest::Wants;
use crate::id::RecordNumber;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shortened::shortened;

/// How a PUBLISH is answered.
pub(crate) struct PublishAnswer {
    pub(super) reason: ReasonCode,
    pub(super) record: RecordNumber,
}

impl PublishAnswer {
    /// Creates the answer to a PUBLISH that was taken and is not recorded.
    pub(crate) fn accepted() -> Self {
        Self {
            reason: ReasonCode::Success,
            record: RecordNumber(0),
        }
    }
}

impl Shard {
    /// v5 clients are told; towards v3 a refused message is acknowledged like any other, since
    /// 3.1.1 has no way to say no but closing [MQTT-3.1.1/3.3.5-2].
    pub(super) fn refused(&mut self, index: u32, reason: ReasonCode) -> PublishAnswer {
        let v5 = self.connections.at(index).version.is_v5();
        PublishAnswer {
            reason: if v5 { reason } else { ReasonCode::Success },
            record: RecordNumber(0),
        }
    }

    pub(crate) fn notify_publish_forbidden<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
    ) {
        self.notify_not_permitted(cx, session, topic, |why| why);
    }

    /// Notifies observers, likewise, of a Will that was due.
    pub(crate) fn notify_will_forbidden<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
    ) {
        self.notify_not_permitted(cx, session, topic, |why| {
            let cause = match why.cause {
                RefusalCause::ServerTopic | RefusalCause::SharedFilter => {
                    RefusalCause::WillOnServerTopic
                }
                _ => RefusalCause::WillForbidden,
            };
            Refusal::operators_only(cause, format!("it was its Will: {}", why.detail()))
        });
    }

    fn notify_not_permitted<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
        worded: impl FnOnce(Refusal) -> Refusal,
    ) {
        if self.is_observed(session, Wants::CONNECTIONS) {
            let why = worded(self.why_not_published(session, topic));
            self.notify_publish_refused(cx, session, topic, ReasonCode::NotAuthorized, why);
        }
    }

    fn why_not_published(&mut self, session: u32, topic: &str) -> Refusal {
        match martlet_permission::may_publish(topic) {
            false => martlet_permission::why_own(topic).into(),
            true => self.why_not(session, Actions::PUBLISH, topic),
        }
    }

    pub(super) fn notify_publish_refused<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
        reason: ReasonCode,
        why: Refusal,
    ) {
        if self.is_observed(session, Wants::CONNECTIONS) {
            let address = self.peer_of(session);
            cx.effects.notify(
                self.head_with_user(session).with_address(address),
                Event::PublishRefused {
                    topic: shortened(topic).into_owned(),
                    reason,
                    why,
                },
            );
        }
    }

    /// Notifies observers, likewise, for a limit of the client's listener or of the node.
    pub(super) fn notify_publish_beyond<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        topic: &str,
        reason: ReasonCode,
        limit: Limit,
    ) {
        let connection = self.sessions.at(session).connection();
        let why = match connection {
            Some(index) => self.refusal(index, limit.into()),
            None => self.reached(limit, None).refusal(),
        };
        self.notify_publish_refused(cx, session, topic, reason, why);
    }
}
