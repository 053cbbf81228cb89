//! Events about changes of the tables, as messages on `$events/KIND`. Each is written to the outbox
//! in the transaction of its change, so that a crash loses none. The task of alarms publishes what
//! is in the outbox. Events of other kinds become messages after they have happened
//! ([`crate::feed::publish_events`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use martlet_broker::{EventHead, TenantId};
use martlet_registry::{MessagesOfChanges, OutboxRow, TableChange};
use tokio::sync::Notify;

use crate::control::Control;
use crate::event::{NodeEvent, NodeNotice};
use crate::feed::{PublishedKinds, event_topic, payload_of};
use crate::wall_clock::{now_ms, now_signed_ms, unsigned};

/// The outbox of a node, for those who write to it.
pub struct EventOutbox {
    control: Arc<Control>,
    node: String,
    /// Kinds of events that are published.
    kinds: Option<PublishedKinds>,
    last_number: AtomicI64,
    /// The transaction under way has written messages.
    is_written: AtomicBool,
    /// There are messages that their publisher has not seen.
    has_news: AtomicBool,
    /// The publisher has something to do.
    pub(crate) wake: Notify,
}

impl EventOutbox {
    /// The outbox of the node of this name, for events of these kinds.
    pub fn new(control: Arc<Control>, node: &str, kinds: Option<PublishedKinds>) -> Self {
        Self {
            control,
            node: node.to_owned(),
            kinds: kinds.and_then(|kinds| kinds.of_tables()),
            last_number: AtomicI64::new(0),
            is_written: AtomicBool::new(false),
            has_news: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// The number of the next message.
    pub(crate) fn next_number(&self) -> i64 {
        let at = now_signed_ms().saturating_mul(1_000);
        let next = |last: i64| Some(at.max(last + 1));
        let order = Ordering::Relaxed;
        let last = self.last_number.fetch_update(order, order, next);
        last.map_or(at, |last| at.max(last + 1))
    }

    /// The tables have messages up to this number.
    pub(crate) fn restore(&self, last_number: i64) {
        self.last_number.fetch_max(last_number, Ordering::Relaxed);
    }

    /// The message about an event; none: events of its kind are not published.
    pub(crate) fn message(&self, notice: NodeNotice) -> Option<OutboxRow> {
        let kind = notice.event.kind();
        self.kinds.as_ref().filter(|kinds| kinds.has(kind))?;
        let number = self.next_number();
        let (tenant, hops) = (notice.head.tenant.0, notice.event.hops());
        let who = self.control.presence.source_of(&notice);
        let payload = payload_of(notice, who, &self.node, unsigned(number), now_ms())?;
        Some(OutboxRow {
            node: self.node.clone(),
            number,
            tenant,
            subject: kind.name().to_owned(),
            topic: event_topic(kind),
            payload,
            hops,
        })
    }

    /// A transaction has ended. If it was committed, its messages can be published.
    pub(crate) fn ended(&self, is_committed: bool) {
        if self.is_written.swap(false, Ordering::Relaxed) && is_committed {
            self.has_news.store(true, Ordering::Release);
            self.wake.notify_one();
        }
    }

    /// Whether messages were written since the last call.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::Acquire)
    }
}

impl MessagesOfChanges for EventOutbox {
    fn message(&self, change: TableChange<'_>) -> Option<OutboxRow> {
        let message = self.message(notice_of(change));
        if message.is_some() {
            self.is_written.store(true, Ordering::Relaxed);
        }
        message
    }
}

/// The event about a change of the tables.
pub(crate) fn notice_of(change: TableChange<'_>) -> NodeNotice {
    let (tenant, device, event) = match change {
        TableChange::Twin {
            tenant,
            device,
            side,
            version,
            hops,
        } => {
            let event = NodeEvent::TwinChanged {
                side,
                version,
                hops,
            };
            (tenant, device, event)
        }
        TableChange::Inactive(device) => {
            let event = NodeEvent::DeviceInactive {
                last_message_ms: unsigned(device.last_message_ms),
                after_secs: device.after_secs,
            };
            (device.tenant, &*device.id, event)
        }
        TableChange::Active(device) => {
            let last_message_ms = unsigned(device.last_message_ms);
            let event = NodeEvent::DeviceActive { last_message_ms };
            (device.tenant, &*device.id, event)
        }
    };
    NodeNotice::new(EventHead::new(TenantId(tenant), device), event)
}

impl std::fmt::Debug for EventOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventOutbox").finish_non_exhaustive()
    }
}
