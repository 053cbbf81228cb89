//! Messages that parts hold back.

use std::sync::Arc;

use martlet_codec::{QoS, TopicFilter, TopicName};
use martlet_fault::{self as fault, Fault};
use martlet_permission::TenantId;

use crate::command::NewMessage;
use crate::id::SessionEpoch;

/// Messages that a part holds back.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Session of the part.
    pub(crate) part: SessionEpoch,
    /// Tenant of the messages; none is all tenants.
    pub(crate) tenant: Option<TenantId>,
    /// Topic Filters.
    pub(crate) filters: Arc<[Box<str>]>,
    /// QoS 0 messages too.
    pub(crate) keeps_qos0: bool,
    /// Messages with hops do not wait, see
    /// [`OnFull::HoldFromOutside`](super::OnFull::HoldFromOutside).
    pub(crate) passes_on: bool,
}

impl Hold {
    fn takes(&self, tenant: TenantId, topic: TopicName<'_>, qos: QoS) -> bool {
        let matches =
            |filter: &str| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic));
        self.tenant.is_none_or(|own| own == tenant)
            && (qos > QoS::AtMostOnce || self.keeps_qos0)
            && (self.filters.iter().any(|filter| matches(filter)) || fault::is(Fault::HoldTakesAll))
    }
}

/// Parts of all shards that hold publishers back.
#[derive(Debug, Default)]
pub(crate) struct Holds(pub(super) Vec<Hold>);

impl Holds {
    /// Whether any part does.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// A part of another shard holds publishers back.
    pub(crate) fn add(&mut self, hold: Hold) {
        self.0.push(hold);
    }

    /// Whether a client's message of this topic waits.
    pub(super) fn hold_topic(&self, tenant: TenantId, topic: TopicName<'_>, qos: QoS) -> bool {
        self.0.iter().any(|hold| hold.takes(tenant, topic, qos))
    }

    /// Whether a message of the node waits that this part publishes, or none. It does not wait for
    /// that part itself, which does not get it.
    pub(crate) fn hold(
        &self,
        part: Option<SessionEpoch>,
        tenant: TenantId,
        message: &NewMessage,
    ) -> bool {
        let passes = |hold: &Hold| Some(hold.part) == part || hold.passes_on && message.hops > 0;
        let mut others = self.0.iter().filter(|hold| !passes(hold));
        TopicName::new(&message.topic)
            .is_ok_and(|topic| others.any(|hold| hold.takes(tenant, topic, message.qos)))
    }
}
