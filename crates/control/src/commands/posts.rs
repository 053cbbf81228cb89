//! Parts that publish to devices, one for each tenant that has some, and the messages of commands
//! whose receipts are due.

use std::collections::HashMap;

use martlet_broker::{
    NewMessage, PartEvent, PartId, PartLine, PartOutcome, PartOutlet, PartPublish, PartQueueLimits,
    PartReach, PartSpec, PartSubscription, Receipt, ReceiptOutcome, Settlement, TenantId,
};
use martlet_codec::{PacketId, RetainHandling};
use martlet_registry::CommandStep;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::control::Control;

/// Answers that a part may have and not have settled.
const CREDIT: u16 = 4_096;
/// Maximum number of remembered messages. For others the tables have the command.
const MESSAGES_MAX: usize = 100_000;
/// Bytes of one of them, approximately.
const MESSAGE_BYTES: usize = 160;

/// The events of a part of one tick, with its tenant and the number of its attachment.
pub(crate) type PartEvents = (u32, u64, Vec<PartEvent>);

/// A part that is attached, or about to be.
struct AnswerPart {
    /// Number of its attachment.
    attachment: u64,
    line: Box<dyn PartLine>,
    is_attached: bool,
}

/// The parts of a node.
pub(crate) struct Posts {
    lines: HashMap<u32, AnswerPart>,
    /// Number of the last attachment.
    last: u64,
    client_id: &'static str,
    session_expiry_secs: u32,
    filters: Vec<String>,
    sender: UnboundedSender<PartEvents>,
    receiver: UnboundedReceiver<PartEvents>,
}

impl Posts {
    /// The parts have this Client Identifier and Session Expiry Interval, and subscribe to these
    /// filters.
    pub(crate) fn new(
        client_id: &'static str,
        session_expiry_secs: u32,
        filters: Vec<String>,
    ) -> Self {
        let (sender, receiver) = unbounded_channel();
        Self {
            lines: HashMap::new(),
            last: 0,
            client_id,
            session_expiry_secs,
            filters,
            sender,
            receiver,
        }
    }

    /// Attaches the part of a tenant, unless it is.
    pub(crate) fn attach(&mut self, control: &Control, tenant: u32) {
        if self.lines.contains_key(&tenant) {
            return;
        }
        self.last += 1;
        let subscription = |filter: &String| PartSubscription {
            filter: filter.as_str().into(),
            identifier: 0,
            retain_handling: RetainHandling::DoNotSend,
        };
        let spec = PartSpec {
            id: PartId::default(),
            tenant: TenantId(tenant),
            client_id: self.client_id.into(),
            identity: None,
            subscriptions: self.filters.iter().map(subscription).collect(),
            credit: CREDIT,
            session_expiry_secs: self.session_expiry_secs,
            keeps_qos0: true,
            queue: PartQueueLimits::default(),
            reach: PartReach::Node,
        };
        let outlet = Outlet {
            tenant,
            attachment: self.last,
            to: self.sender.clone(),
        };
        let line = control.shards.attach(spec, Box::new(outlet));
        let line = AnswerPart {
            attachment: self.last,
            line,
            is_attached: false,
        };
        self.lines.insert(tenant, line);
    }

    /// The part of a tenant is attached: from now on it publishes.
    pub(crate) fn attached(&mut self, tenant: u32, attachment: u64) {
        let line = self.lines.get_mut(&tenant);
        if let Some(line) = line.filter(|line| line.attachment == attachment) {
            line.is_attached = true;
        }
    }

    /// The part of a tenant has ended: it is attached again when it is needed.
    pub(crate) fn forget(&mut self, tenant: u32, attachment: u64) {
        let line = self.lines.get(&tenant);
        if line.is_some_and(|line| line.attachment == attachment) {
            self.lines.remove(&tenant);
        }
    }

    /// Publishes a message for a command, with receipts. Returns whether the part is attached:
    /// before that it gets no receipts, and a device may acknowledge at once.
    pub(crate) fn publish(&self, tenant: u32, number: i64, message: NewMessage) -> bool {
        let line = self.lines.get(&tenant).filter(|line| line.is_attached);
        let Some(line) = line else {
            return false;
        };
        line.line.publish(PartPublish {
            number: number.cast_unsigned(),
            message,
            receipts: true,
        });
        true
    }

    /// Settles what a part was delivered.
    pub(crate) fn settle(&self, tenant: u32, attachment: u64, tokens: Vec<PacketId>) {
        let line = self.lines.get(&tenant);
        if let Some(line) = line.filter(|line| line.attachment == attachment) {
            let done = |token| Settlement {
                token,
                outcome: PartOutcome::Done,
            };
            line.line.settle(tokens.into_iter().map(done).collect());
        }
    }

    /// The next events of a part. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<PartEvents> {
        self.receiver.recv().await
    }

    /// Events that are there already.
    pub(crate) fn next_now(&mut self) -> Option<PartEvents> {
        self.receiver.try_recv().ok()
    }
}

struct Outlet {
    tenant: u32,
    attachment: u64,
    to: UnboundedSender<PartEvents>,
}

impl PartOutlet for Outlet {
    fn notify(&mut self, event: PartEvent) {
        self.notify_all(vec![event]);
    }

    fn notify_all(&mut self, events: Vec<PartEvent>) {
        // After the task has ended nothing is taken.
        let _ = self.to.send((self.tenant, self.attachment, events));
    }
}

/// A message of a command, until its device has it.
#[derive(Debug)]
struct Posted {
    number: i64,
    device: String,
    /// Receivers that are known, less receipts.
    left: i64,
    are_all_known: bool,
}

/// Messages whose receipts are due, by their names.
#[derive(Debug, Default)]
pub(super) struct Messages(HashMap<u64, Posted>);

/// The outcome in a receipt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReceiptMeaning {
    /// A step of the command of this number.
    Step(i64, CommandStep),
    /// The receipt may be a step of a command that the tables know by this message.
    Unknown(CommandStep),
    /// Nothing about the device.
    Nothing,
}

impl Messages {
    /// Approximate number of bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.len() * MESSAGE_BYTES
    }

    /// A message was published for a command of this device.
    pub(super) fn add(&mut self, message: u64, number: i64, device: &str) {
        if self.0.len() < MESSAGES_MAX {
            let posted = Posted {
                number,
                device: device.to_owned(),
                left: 0,
                are_all_known: false,
            };
            self.0.insert(message, posted);
        }
    }

    /// The command that a message was published for.
    pub(super) fn number(&self, message: u64) -> Option<i64> {
        self.0.get(&message).map(|posted| posted.number)
    }

    /// All receivers of a message are known. Returns the command if the device is certainly none.
    pub(super) fn receivers(&mut self, message: u64, receivers: u64) -> Option<i64> {
        let posted = self.0.get_mut(&message)?;
        posted.left += i64::try_from(receivers).unwrap_or(i64::MAX);
        posted.are_all_known = true;
        self.forget_unreached(message)
    }

    /// A receiver's end of a message.
    pub(super) fn receipt(&mut self, receipt: &Receipt) -> ReceiptMeaning {
        let message = receipt.message.0;
        let step = step_of(receipt);
        let Some(posted) = self.0.get_mut(&message) else {
            return ReceiptMeaning::Unknown(step);
        };
        if *posted.device == *receipt.receiver {
            let number = posted.number;
            self.0.remove(&message);
            return ReceiptMeaning::Step(number, step);
        }
        posted.left -= 1;
        match self.forget_unreached(message) {
            Some(number) => ReceiptMeaning::Step(number, CommandStep::NoReceiver { again: false }),
            None => ReceiptMeaning::Nothing,
        }
    }

    fn forget_unreached(&mut self, message: u64) -> Option<i64> {
        let posted = self.0.get(&message)?;
        if !posted.are_all_known || posted.left > 0 {
            return None;
        }
        self.0.remove(&message).map(|posted| posted.number)
    }
}

fn step_of(receipt: &Receipt) -> CommandStep {
    use martlet_broker::DropReason::{PacketTooLarge, RefusedByReceiver};
    match receipt.outcome {
        ReceiptOutcome::Acknowledged => CommandStep::Delivered,
        ReceiptOutcome::Refused(reason) => {
            CommandStep::Refused(format!("the device refused the message: {}", reason.name()))
        }
        // It would be dropped again.
        ReceiptOutcome::Dropped(reason @ (PacketTooLarge | RefusedByReceiver)) => {
            CommandStep::Refused(format!("the message was dropped: {}", reason.meaning()))
        }
        ReceiptOutcome::Dropped(_) => CommandStep::Dropped,
        ReceiptOutcome::Expired => CommandStep::Expired,
        ReceiptOutcome::Sent => CommandStep::SentAtQos0,
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::MessageId;

    use super::*;

    fn receipt(receiver: &str, outcome: ReceiptOutcome) -> Receipt {
        Receipt {
            message: MessageId(7),
            receiver: receiver.into(),
            outcome,
        }
    }

    #[test]
    fn only_what_the_device_does_is_a_step() {
        let mut messages = Messages::default();
        messages.add(7, 1, "pump");
        let monitor = receipt("monitor", ReceiptOutcome::Acknowledged);
        assert_eq!(messages.receipt(&monitor), ReceiptMeaning::Nothing);
        assert_eq!(messages.receivers(7, 2), None);
        let device = receipt("pump", ReceiptOutcome::Acknowledged);
        let delivered = ReceiptMeaning::Step(1, CommandStep::Delivered);
        assert_eq!(messages.receipt(&device), delivered);
        assert_eq!(
            messages.receipt(&device),
            ReceiptMeaning::Unknown(CommandStep::Delivered)
        );
    }

    #[test]
    fn a_message_that_only_others_receive_has_not_reached_the_device() {
        let mut messages = Messages::default();
        messages.add(7, 1, "pump");
        assert_eq!(messages.receivers(7, 1), None);
        let monitor = receipt("monitor", ReceiptOutcome::Sent);
        let unreached = ReceiptMeaning::Step(1, CommandStep::NoReceiver { again: false });
        assert_eq!(messages.receipt(&monitor), unreached);
        messages.add(7, 2, "pump");
        assert_eq!(messages.receivers(7, 0), Some(2));
        assert_eq!(messages.memory_bytes(), 0);
    }
}
