//! The lanes of a part of the node, one per shard, presented to a task as one. A part that takes
//! the messages of all shards in one order has a single one. Their events wait in a channel, whose
//! size is bounded by their credit.

use std::collections::BTreeMap;
use std::fmt;
use std::vec;

use martlet_broker::{
    Delivery, LaneOrder, PartEvent, PartLine, PartOutcome, PartOutlet, PartQueueState, PartReach,
    PartSpec, Settlement, lane_name, start_of,
};
use martlet_codec::{PacketId, ReasonCode};
use tokio::sync::mpsc;

/// Token by which a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    lane: usize,
    token: PacketId,
}

impl Token {
    /// Index of the lane that delivered the message, see [`Lanes::client_id`].
    pub(crate) fn lane(self) -> usize {
        self.lane
    }
}

/// Event of a part.
#[derive(Debug)]
pub enum LaneEvent {
    /// All its lanes are attached. For each subscription, whether it was granted.
    Attached(Vec<ReasonCode>),
    /// A message. Messages of one publisher come in order.
    Delivery(Token, Delivery),
    /// The combined state of its queues.
    Queue(PartQueueState),
    /// The part is no longer attached and gets no more events.
    Ended {
        /// As a client would receive it.
        reason: ReasonCode,
        /// The reason as text.
        why: &'static str,
    },
}

/// Passes a lane to the node.
type Attach = Box<dyn Fn(PartSpec, Box<dyn PartOutlet>) -> Box<dyn PartLine> + Send + Sync>;

/// A part whose lanes are attached or being attached. Dropping it detaches them.
pub struct Lanes {
    lanes: Vec<Lane>,
    /// Attaches what an earlier attachment has left, once the lanes that get new messages are
    /// attached: until then it takes messages that no other lane takes. `None` after that.
    attach_left_over: Option<Attach>,
    /// Terms of its lanes.
    spec: PartSpec,
    sender: mpsc::UnboundedSender<(usize, Vec<PartEvent>)>,
    order: LaneOrder<Delivery>,
    told: mpsc::UnboundedReceiver<(usize, Vec<PartEvent>)>,
    /// Events of a lane in one tick that are not yet processed.
    taken: (usize, vec::IntoIter<PartEvent>),
    granted: Option<Vec<ReasonCode>>,
    /// Number of deliveries in `order` that the last reported state of the queue includes.
    waiting_told: usize,
    /// Bytes that the queues of all lanes may have together; 0: the limit of clients.
    bytes_max: u64,
    /// Unsettled deliveries that each lane may have, besides the lent ones.
    credit: u16,
    has_ended: bool,
}

#[derive(Debug)]
struct Lane {
    /// Client Identifier of its session.
    client_id: String,
    /// `None` before a lane that is left over is attached, and after it has ended.
    line: Option<Box<dyn PartLine>>,
    /// Whether it is not among the lanes of this attachment: then it is emptied and ends.
    is_left_over: bool,
    is_attached: bool,
    queue: Option<PartQueueState>,
    /// Bytes that its queue may have.
    bytes_max: u64,
    /// Unsettled deliveries that it may have.
    credit: u16,
}

/// Passes on the events of a lane. After the task has ended, events are dropped; the part is then
/// being detached.
struct LaneOutlet {
    place: usize,
    told: mpsc::UnboundedSender<(usize, Vec<PartEvent>)>,
}

impl PartOutlet for LaneOutlet {
    fn notify(&mut self, event: PartEvent) {
        self.notify_all(vec![event]);
    }

    fn notify_all(&mut self, events: Vec<PartEvent>) {
        let _ = self.told.send((self.place, events));
    }
}

/// A lane gets a new share of the bytes when it changes by this fraction (1/n) of the total.
const LEAST_CHANGE_PART: u64 = 64;
/// Spare bytes of a lane beyond its content, regardless of the others: this fraction (1/n) of its
/// even share.
const SPARE_PART: u64 = 16;

/// Divides `all` bytes among lanes with these contents. Each gets its content and a little more;
/// the rest goes to the fullest lanes, as they have the publishers. If there is not enough, the
/// fullest lanes give.
fn shares(held: &[u64], all: u64) -> Vec<u64> {
    let count = held.len().max(1) as u64;
    let spare = all / count / SPARE_PART;
    let wanted: Vec<u64> = held.iter().map(|held| held.saturating_add(spare)).collect();
    let sum: u128 = wanted.iter().map(|wanted| u128::from(*wanted)).sum();
    if sum <= u128::from(all) {
        let free = u128::from(all) - sum;
        let more = |wanted: u64| match sum {
            0 => (free / u128::from(count)) as u64,
            sum => (free * u128::from(wanted) / sum) as u64,
        };
        return wanted.iter().map(|wanted| wanted + more(*wanted)).collect();
    }
    let mut rising = wanted.clone();
    rising.sort_unstable();
    let (mut left, mut lanes, mut level) = (all, count, 0);
    for wanted in rising {
        level = left / lanes;
        if wanted > level {
            break;
        }
        left -= wanted;
        lanes -= 1;
    }
    wanted.iter().map(|wanted| (*wanted).min(level)).collect()
}

impl Lanes {
    /// Attaches a part by `attach`, which passes a lane to the node: `count` lanes with this
    /// `spec`, which has the name, and the credit and bounds of all lanes together. A part that
    /// reaches the whole node has one. Then attaches old sessions of the part that are not among
    /// these lanes, until they are empty.
    pub fn attach(
        spec: &PartSpec,
        count: u16,
        sessions: &[String],
        attach: impl Fn(PartSpec, Box<dyn PartOutlet>) -> Box<dyn PartLine> + Send + Sync + 'static,
    ) -> Self {
        let count = if spec.reach.is_lane() {
            count.max(1)
        } else {
            1
        };
        let current: Vec<String> = match spec.reach.is_lane() {
            true => (0..count)
                .map(|lane| lane_name(&spec.client_id, lane))
                .collect(),
            false => vec![spec.client_id.to_string()],
        };
        let left_over = sessions.iter().filter(|name| !current.contains(name));
        let names = current.iter().map(|name| (name, false));
        let names = names.chain(left_over.map(|name| (name, true)));
        let (sender, told) = mpsc::unbounded_channel();
        let credit = (spec.credit / count).max(1);
        let lanes = names.map(|(name, is_left_over)| Lane {
            client_id: name.clone(),
            line: None,
            is_left_over,
            is_attached: false,
            queue: None,
            // Until all lanes have reported their contents: a lane keeps what it had.
            bytes_max: spec.queue.bytes_max,
            credit,
        });
        let lanes: Vec<Lane> = lanes.collect();
        let mut attached = Self {
            credit,
            order: LaneOrder::new(lanes.len()),
            lanes,
            attach_left_over: None,
            spec: spec.clone(),
            sender,
            told,
            taken: (0, Vec::new().into_iter()),
            granted: None,
            waiting_told: 0,
            bytes_max: spec.queue.bytes_max,
            has_ended: false,
        };
        attached.attach_lanes(&attach, false);
        attached.attach_left_over = Some(Box::new(attach));
        attached
    }

    /// Passes the lanes to the node that get new messages, or those that are left over.
    fn attach_lanes(
        &mut self,
        attach: &impl Fn(PartSpec, Box<dyn PartOutlet>) -> Box<dyn PartLine>,
        is_left_over: bool,
    ) {
        let lanes = self.lanes.iter_mut().enumerate();
        for (place, lane) in lanes.filter(|(_, lane)| lane.is_left_over == is_left_over) {
            let mut spec = self.spec.clone();
            spec.client_id = lane.client_id.as_str().into();
            spec.credit = lane.credit;
            if is_left_over {
                spec.subscriptions.clear();
                // A session that is emptied is attached as a lane, whatever it was.
                spec.reach = match spec.reach {
                    PartReach::LaneOfAllTenants => PartReach::LaneOfAllTenants,
                    _ => PartReach::Lane,
                };
            }
            let outlet = LaneOutlet {
                place,
                told: self.sender.clone(),
            };
            lane.line = Some(attach(spec, Box::new(outlet)));
        }
    }

    /// Client Identifier of the session of a lane.
    pub(crate) fn client_id(&self, lane: usize) -> Option<&str> {
        self.lanes.get(lane).map(|lane| &*lane.client_id)
    }

    /// The next event of the part; `None` after [`LaneEvent::Ended`], or if the node has stopped.
    /// No event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<LaneEvent> {
        loop {
            if let Some(told) = self.next_now() {
                return Some(told);
            }
            if self.has_ended {
                return None;
            }
            let (lane, events) = self.told.recv().await?;
            self.taken = (lane, events.into_iter());
        }
    }

    /// The next event, if one is available already.
    pub fn next_now(&mut self) -> Option<LaneEvent> {
        loop {
            if self.has_ended {
                return None;
            }
            if let Some((lane, delivery)) = self.order.pop() {
                let token = delivery.token;
                return Some(LaneEvent::Delivery(Token { lane, token }, delivery));
            }
            let (lane, events) = &mut self.taken;
            let Some(event) = events.next() else {
                let waiting = self.order.waiting_count();
                if self.waiting_told != waiting {
                    self.waiting_told = waiting;
                    return Some(LaneEvent::Queue(self.queue()));
                }
                let (lane, events) = self.told.try_recv().ok()?;
                self.taken = (lane, events.into_iter());
                continue;
            };
            let lane = *lane;
            if let Some(told) = self.take(lane, event) {
                return Some(told);
            }
        }
    }

    fn take(&mut self, place: usize, event: PartEvent) -> Option<LaneEvent> {
        let lane = self.lanes.get_mut(place)?;
        match event {
            PartEvent::Attached { granted, .. } => {
                lane.is_attached = true;
                if !lane.is_left_over {
                    self.granted.get_or_insert(granted);
                }
                let mut current = self.lanes.iter().filter(|lane| !lane.is_left_over);
                if current.all(|lane| lane.is_attached)
                    && let Some(attach) = self.attach_left_over.take()
                {
                    self.attach_lanes(&attach, true);
                }
                let all = self.lanes.iter().all(|lane| lane.is_attached);
                return all.then(|| LaneEvent::Attached(self.granted.clone().unwrap_or_default()));
            }
            PartEvent::Delivery(delivery) => {
                let run = start_of(delivery.message.id().0);
                self.order.push(place, run, delivery);
            }
            PartEvent::Run { oldest, is_present } => {
                // Everything it gets from now on was received in the current run.
                let oldest = if is_present { u32::MAX } else { oldest };
                self.order.set_oldest_run(place, oldest);
                if lane.is_left_over && is_present {
                    // It is empty, and gets no more messages.
                    if let Some(line) = lane.line.take() {
                        line.end();
                    }
                    lane.queue = None;
                }
            }
            PartEvent::Queue(queue) => {
                lane.queue = Some(queue);
                self.divide_bytes();
                return Some(LaneEvent::Queue(self.queue()));
            }
            // It does not publish.
            PartEvent::Published { .. } | PartEvent::Receipt(_) | PartEvent::Receivers { .. } => {}
            PartEvent::Ended { reason, why } if lane.line.is_some() => {
                self.has_ended = true;
                return Some(LaneEvent::Ended { reason, why });
            }
            PartEvent::Ended { .. } => {}
        }
        None
    }

    /// Divides the bytes of the queues among the lanes that get messages, by their contents.
    fn divide_bytes(&mut self) {
        let bytes = |lane: &Lane| lane.queue.map_or(0, |queue| queue.bytes);
        let (left_over, current): (Vec<&mut Lane>, Vec<&mut Lane>) =
            self.lanes.iter_mut().partition(|lane| lane.is_left_over);
        if self.bytes_max == 0 || current.iter().any(|lane| lane.queue.is_none()) {
            return;
        }
        let of_left_over: u64 = left_over.iter().map(|lane| bytes(lane)).sum();
        let all = self.bytes_max.saturating_sub(of_left_over);
        let held: Vec<u64> = current.iter().map(|lane| bytes(lane)).collect();
        let least_change = self.bytes_max / LEAST_CHANGE_PART;
        for (lane, share) in current.into_iter().zip(shares(&held, all)) {
            let share = share.max(1);
            if lane.bytes_max.abs_diff(share) > least_change
                && let Some(line) = &lane.line
            {
                lane.bytes_max = share;
                line.set_queue_bytes(share);
            }
        }
    }

    /// The combined state of the queues of all lanes, plus the deliveries that wait until messages
    /// of an earlier run of the node are settled.
    fn queue(&self) -> PartQueueState {
        let mut sum = PartQueueState {
            bytes_max: self.bytes_max,
            ..PartQueueState::default()
        };
        for queue in self.lanes.iter().filter_map(|lane| lane.queue) {
            sum.messages += queue.messages;
            sum.bytes += queue.bytes;
            let oldest = sum.oldest_wall_ms.into_iter().chain(queue.oldest_wall_ms);
            sum.oldest_wall_ms = oldest.min();
            sum.holds |= queue.holds;
            sum.dropped += queue.dropped;
            sum.expired += queue.expired;
        }
        sum.messages += self.order.waiting_count() as u64;
        let waiting = self.order.waiting();
        let waiting = waiting.map(|delivery| delivery.message.received_wall_ms());
        sum.oldest_wall_ms = waiting.chain(sum.oldest_wall_ms).min();
        sum
    }

    /// Sets the number of unsettled deliveries per lane, at least one.
    pub(crate) fn set_credit(&mut self, credit: u16) {
        if credit.max(1) != self.credit {
            self.credit = credit.max(1);
            self.lend_places(&BTreeMap::new());
        }
    }

    /// Sets additional credit per lane, for deliveries that are not settled soon. Lanes not listed
    /// have none.
    pub(crate) fn lend_places(&mut self, lent: &BTreeMap<usize, u16>) {
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let lent = lent.get(&place).copied().unwrap_or(0);
            // In steps: a change by single messages is not worth a call.
            let steps = lent.div_ceil(self.credit);
            let credit = self.credit.saturating_mul(steps.saturating_add(1));
            if lane.credit != credit
                && let Some(line) = &lane.line
            {
                lane.credit = credit;
                line.set_credit(credit);
            }
        }
    }

    /// Answers deliveries.
    pub fn settle_all(&self, settled: impl IntoIterator<Item = (Token, PartOutcome)>) {
        let mut of_lanes: Vec<Vec<Settlement>> = vec![Vec::new(); self.lanes.len()];
        for (Token { lane, token }, outcome) in settled {
            if let Some(settlements) = of_lanes.get_mut(lane) {
                settlements.push(Settlement { token, outcome });
            }
        }
        for (lane, settlements) in self.lanes.iter().zip(of_lanes) {
            if let Some(line) = lane.line.as_ref().filter(|_| !settlements.is_empty()) {
                line.settle(settlements);
            }
        }
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn empty_lanes_have_even_shares() {
        assert_eq!(shares(&[0, 0, 0, 0], 4_000), [1_000; 4]);
    }

    #[test]
    fn the_lane_that_fills_gets_most_of_what_is_free() {
        let mut held = [0; 4];
        let mut share = 0;
        for _ in 0..20 {
            let shares = shares(&held, 4_000_000);
            assert!(shares.iter().sum::<u64>() <= 4_000_000, "{shares:?}");
            share = shares[0];
            held[0] = share / 4 * 3;
        }
        assert!(share > 3_500_000, "{share}");
    }

    #[test]
    fn a_lane_that_begins_to_fill_takes_from_those_that_hold_most() {
        let mut held = [3_000, 1_000, 0, 0];
        for _ in 0..200 {
            let shares = shares(&held, 4_000);
            assert!(shares.iter().sum::<u64>() <= 4_000, "{shares:?}");
            // All lanes get messages all the time.
            held.copy_from_slice(&shares);
        }
        assert!(
            held.iter().all(|held| (900..=1_100).contains(held)),
            "{held:?}"
        );
    }
}
