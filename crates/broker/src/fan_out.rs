//! Messages for more receivers than one turn can serve.
//!
//! A message whose topic matches few subscriptions is routed at once. One that matches more than
//! [`WorkLimits::matches`](crate::WorkLimits) is *fanned out*: its receivers are gathered and
//! served over several turns, in shares, while other clients go on. Its publisher waits meanwhile:
//! of one publisher a message is routed here only when the one before it has reached everybody, so
//! that the order of its messages is kept [MQTT-4.6.0-6]. A publisher of another shard is asked to
//! wait.
//!
//! Between two turns anything may happen to the receivers. The walk over the topic index goes on at
//! a filter, not at a place in memory; of what was gathered before a subscription changed, each
//! is looked up again before it is served (`serve`).

mod serve;
pub(crate) mod under_way;

use std::collections::VecDeque;

use crate::effect::ShardMessage;
use crate::fan_out::under_way::{Delivery, FanOut, Receivers};
use crate::id::{SessionAddress, SessionId};
use crate::node::{Cx, Node};
use crate::shard::Shard;

impl Shard {
    /// Fans a message out, behind those of the same publisher.
    pub(crate) fn fan_out<N: Node>(&mut self, cx: &mut Cx<'_, N>, delivery: Delivery) {
        let publisher = delivery.message.publication().publisher;
        if let Some(publisher) = publisher {
            if let Some(behind) = self.router.fan_outs.behind.get_mut(&publisher) {
                behind.push_back(delivery);
                return;
            }
            self.router
                .fan_outs
                .behind
                .insert(publisher, VecDeque::new());
        }
        self.router.fan_outs.queue.push_back(FanOut {
            publisher,
            current: delivery,
            receivers: Receivers::default(),
            receipts: 0,
        });
        self.hold_publisher(cx, publisher, true);
    }

    /// A publisher waits, or need not any more.
    fn hold_publisher<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publisher: Option<SessionAddress>,
        on: bool,
    ) {
        let Some(publisher) = publisher else {
            return;
        };
        if publisher.shard == self.id {
            return self.publisher_held(publisher.session, on);
        }
        if let Some(batch) = cx.effects.batches.get_mut(usize::from(publisher.shard.0)) {
            let session = publisher.session;
            batch.push(ShardMessage::HoldPublisher { session, on });
        }
    }

    /// A message of one of our clients is being fanned out on some shard, or that is over.
    pub(crate) fn publisher_held(&mut self, session: SessionId, on: bool) {
        let held = &mut self.router.fan_outs.held;
        if on {
            *held.entry(session).or_default() += 1;
            return;
        }
        let Some(shards) = held.get_mut(&session) else {
            return;
        };
        *shards -= 1;
        if *shards > 0 {
            return;
        }
        held.remove(&session);
        let index = self.sessions.live(session);
        let connection = index.and_then(|index| self.sessions.at(index).connection());
        if let Some(connection) = connection {
            self.queue_input(connection);
        }
    }
}
