//! The part of the runner, with its lanes, and its session in the node.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{PartId, PartOutcome, PartReach, PartSpec, PartSubscription};
use martlet_codec::{ReasonCode, RetainHandling};

use super::super::clock::within;
use super::super::giving_up::Failures;
use super::super::settings::ALL_TENANTS;
use super::super::unsettled_message::UnsettledMessage;
use super::attachment::Attachment;
use super::retry::{Retry, RetryTarget};
use super::{Core, SAVED_WITHIN};
use crate::feed::Ticket;
use crate::lanes::{LaneEvent, Lanes, Token};
use crate::sink_message::SinkMessage;

/// Interval of checks whether the tenant of the team has changed.
const TENANT_LOOKS_EVERY: Duration = Duration::from_secs(2);

impl Core {
    pub(in super::super) async fn attach_if_due(&mut self) {
        let is_detached = matches!(self.attachment, Attachment::Detached);
        if !is_detached || !self.to_node.is_due(self.clock.now()) {
            return;
        }
        self.tenant = self.host.tenant(&self.settings.tenant);
        let Some(tenant) = self.tenant else {
            let why = self.host.why_no_tenant(&self.settings.tenant);
            return self.fail(RetryTarget::Node, why);
        };
        let sessions = within(
            &*self.clock,
            SAVED_WITHIN,
            self.host.sessions(tenant, &self.client_id),
        )
        .await;
        let Some(Some(sessions)) = sessions else {
            let why = "the node does not say which sessions it has";
            return self.fail(RetryTarget::Node, why.to_owned());
        };
        let sessions: Vec<String> = sessions.into_iter().map(|one| one.client_id).collect();
        let filters = self.settings.filters.iter();
        let spec = PartSpec {
            // The node assigns the ids of parts.
            id: PartId::default(),
            tenant,
            client_id: Arc::clone(&self.client_id),
            subscriptions: filters
                .map(|filter| PartSubscription {
                    filter: filter.clone(),
                    identifier: 0,
                    // It takes new messages, not retained ones again.
                    retain_handling: RetainHandling::DoNotSend,
                })
                .collect(),
            credit: self.settings.batch_messages,
            session_expiry_secs: u32::MAX,
            keeps_qos0: self.settings.keeps_qos0,
            queue: self.settings.queue,
            identity: None,
            reach: match (self.settings.order, &*self.settings.tenant) {
                (_, ALL_TENANTS) => PartReach::LaneOfAllTenants,
                (order, _) if order.needs_one_queue() => PartReach::NodeAfterLanes,
                _ => PartReach::Lane,
            },
        };
        let (count, host) = (self.host.shards(), Arc::clone(&self.host));
        let attach = move |spec, outlet| host.attach(spec, outlet);
        let lanes = Lanes::attach(&spec, count, &sessions, attach);
        self.attachment = Attachment::Attaching(lanes);
    }

    /// Detaches if its team has another tenant than at the attachment: after a team is removed and
    /// added again.
    pub(in super::super) fn look_at_tenant_if_due(&mut self) {
        let now = self.clock.now();
        if !self.settings.is_of_team() || self.look_at_tenant > now {
            return;
        }
        self.look_at_tenant = now + TENANT_LOOKS_EVERY;
        let is_attached = matches!(self.attachment, Attachment::Attached(_));
        if is_attached && self.host.tenant(&self.settings.tenant) != self.tenant {
            self.queue = None;
            self.detached("its team has another tenant now");
        }
    }

    /// Processes all available events.
    pub(in super::super) fn take_ready(&mut self) {
        if let Some(told) = self.deferred.take() {
            self.take(told);
        }
        while let Some(told) = self.attachment.event_now() {
            self.take(Some(told));
        }
    }

    /// Processes events of the node during a call of the sink: new messages, and the state of the
    /// queue. All others are deferred until the call is over: until then, the positions of the
    /// messages that were handed to the sink must not change.
    pub(in super::super) fn take_while_called(&mut self, mut told: Option<LaneEvent>) {
        while let Some(LaneEvent::Delivery(..) | LaneEvent::Queue(_)) = told {
            self.take(told);
            told = match self.attachment.event_now() {
                None => return,
                next => next,
            };
        }
        self.deferred = Some(told);
    }

    pub(super) fn take(&mut self, told: Option<LaneEvent>) {
        match told {
            Some(LaneEvent::Attached(granted)) => self.attached(&granted),
            Some(LaneEvent::Delivery(token, delivery)) => self.held.push_back(UnsettledMessage {
                token,
                too_old_at: self.too_old_at(delivery.age_ms),
                message: self.with_team(SinkMessage::delivered(delivery, self.settings.order)),
                panics: 0,
                failures: Failures::default(),
                ticket: Ticket(0),
            }),
            Some(LaneEvent::Queue(queue)) => self.queue = Some(queue),
            Some(LaneEvent::Ended { why, .. }) => self.detached(why),
            None => self.detached("the node stops"),
        }
    }

    /// A message with the team that owns its tenant.
    pub(in super::super) fn with_team(&self, message: SinkMessage) -> SinkMessage {
        match &*self.settings.tenant {
            "" => message,
            ALL_TENANTS => {
                let team = self.host.team_of(message.tenant());
                message.with_team(team, true)
            }
            _ => message.with_team(Some(Arc::clone(&self.settings.tenant)), false),
        }
    }

    fn attached(&mut self, granted: &[ReasonCode]) {
        let filters = self.settings.filters.iter().zip(granted);
        let mut refused = filters.filter(|(_, reason)| reason.is_error());
        if let Some((filter, reason)) = refused.next() {
            let error = format!("the filter {filter:?} is not granted: {}", reason.name());
            self.attachment = Attachment::Detached;
            return self.fail(RetryTarget::Node, error);
        }
        let before = std::mem::replace(&mut self.attachment, Attachment::Detached);
        if let Attachment::Attaching(lanes) | Attachment::Attached(lanes) = before {
            self.attachment = Attachment::Attached(lanes);
        }
        self.succeed(RetryTarget::Node);
    }

    /// Messages in hand come again with the next attachment.
    fn detached(&mut self, why: &str) {
        self.attachment = Attachment::Detached;
        self.held.clear();
        self.refused.clear();
        self.alone = 0;
        self.waiting.clear();
        self.lends_places = false;
        self.to_messages = Retry::default();
        self.fail(
            RetryTarget::Node,
            format!("not attached to the node: {why}"),
        );
    }

    pub(super) fn settle(&self, settled: Vec<(Token, PartOutcome)>) {
        if let Attachment::Attached(lanes) = &self.attachment {
            lanes.settle_all(settled);
        }
    }
}
