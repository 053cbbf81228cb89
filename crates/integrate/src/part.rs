//! A part of the node, for use by a task. Its events wait in a channel, whose size is bounded by
//! its credit.

use martlet_broker::{
    PartEvent, PartLine, PartOutcome, PartOutlet, PartPublish, PartSpec, Settlement,
};
use martlet_codec::PacketId;
use tokio::sync::mpsc;

/// A part that is attached or being attached. Dropping it detaches it.
#[derive(Debug)]
pub struct Part {
    line: Box<dyn PartLine>,
    told: mpsc::UnboundedReceiver<PartEvent>,
}

impl Part {
    /// Attaches a part by `attach`, which passes it to the node.
    pub fn attach(
        spec: PartSpec,
        attach: impl FnOnce(PartSpec, Box<dyn PartOutlet>) -> Box<dyn PartLine>,
    ) -> Self {
        let (outlet, told) = mpsc::unbounded_channel();
        let outlet = move |event| {
            // After the task has ended, events are dropped; the part is then being detached.
            let _ = outlet.send(event);
        };
        let line = attach(spec, Box::new(outlet));
        Self { line, told }
    }

    /// The next event of the part; `None` after [`PartEvent::Ended`]. No event is lost if the
    /// future is dropped.
    pub async fn next(&mut self) -> Option<PartEvent> {
        self.told.recv().await
    }

    /// The next event, if one is available already.
    pub fn next_now(&mut self) -> Option<PartEvent> {
        self.told.try_recv().ok()
    }

    /// Publishes a message. Answered with [`PartEvent::Published`].
    pub fn publish(&self, publish: PartPublish) {
        self.line.publish(publish);
    }

    /// Answers one delivery.
    pub fn settle(&self, token: PacketId, outcome: PartOutcome) {
        self.settle_all(vec![Settlement { token, outcome }]);
    }

    /// Answers several deliveries at once.
    pub fn settle_all(&self, settlements: Vec<Settlement>) {
        self.line.settle(settlements);
    }
}
