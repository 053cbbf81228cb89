//! A part of the node as a task sees it. What it is told waits in a channel; how much that can be
//! is bounded by its credit.

use martlet_broker::{
    PartEvent, PartLine, PartOutcome, PartOutlet, PartPublish, PartSpec, Settlement,
};
use martlet_codec::PacketId;
use tokio::sync::mpsc;

/// A part that is attached, or about to be. Dropping it detaches it.
#[derive(Debug)]
pub struct Part {
    line: Box<dyn PartLine>,
    told: mpsc::UnboundedReceiver<PartEvent>,
}

impl Part {
    /// Attaches a part by `attach`, which gives it to the node.
    pub fn attach(
        spec: PartSpec,
        attach: impl FnOnce(PartSpec, Box<dyn PartOutlet>) -> Box<dyn PartLine>,
    ) -> Self {
        let (outlet, told) = mpsc::unbounded_channel();
        let outlet = move |event| {
            // After the task has ended nothing is taken; the part is being detached then.
            let _ = outlet.send(event);
        };
        let line = attach(spec, Box::new(outlet));
        Self { line, told }
    }

    /// What the part is told next; none after [`PartEvent::Ended`]. Nothing is lost if the future
    /// is dropped.
    pub async fn next(&mut self) -> Option<PartEvent> {
        self.told.recv().await
    }

    /// The next event that is there already.
    pub fn next_now(&mut self) -> Option<PartEvent> {
        self.told.try_recv().ok()
    }

    /// Answers one delivery.
    pub fn settle(&self, token: PacketId, outcome: PartOutcome) {
        self.settle_all(vec![Settlement { token, outcome }]);
    }

    /// Publishes a message, which is answered by [`PartEvent::Published`].
    pub fn publish(&self, publish: PartPublish) {
        self.line.publish(publish);
    }

    /// Answers several deliveries at once.
    pub fn settle_all(&self, settlements: Vec<Settlement>) {
        self.line.settle(settlements);
    }
}
