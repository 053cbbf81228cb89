//! The order in which what the lanes of a part have is taken.

use std::collections::VecDeque;

/// Deliveries of the lanes of a part, in an order that keeps the messages of each publisher in
/// theirs: within a lane as they come, and those of an earlier run of the node before those of a
/// later one, whichever lane has them.
#[derive(Debug)]
pub struct LaneOrder<T> {
    lanes: Vec<WaitingDeliveries<T>>,
    /// The lane that is looked at first, so that each has its turn.
    next: usize,
}

#[derive(Debug)]
struct WaitingDeliveries<T> {
    /// The lane has no message of an earlier run; none is unknown.
    oldest_run: Option<u32>,
    /// With the run that each came in.
    deliveries: VecDeque<(u32, T)>,
}

impl<T> LaneOrder<T> {
    /// The order of this number of lanes. Nothing is taken until it is known of each lane from
    /// which run of the node its oldest message is.
    pub fn new(lanes: usize) -> Self {
        let lanes = (0..lanes).map(|_| WaitingDeliveries {
            oldest_run: None,
            deliveries: VecDeque::new(),
        });
        Self {
            lanes: lanes.collect(),
            next: 0,
        }
    }

    /// A lane has no message of an earlier run than this; `u32::MAX` if it has none but of the
    /// present run, or has ended.
    pub fn set_oldest_run(&mut self, lane: usize, run: u32) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.oldest_run = Some(run);
        }
    }

    /// A lane has got a message that came in in this run.
    pub fn push(&mut self, lane: usize, run: u32, delivery: T) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.deliveries.push_back((run, delivery));
        }
    }

    /// Deliveries that have not been taken.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        let of_lanes = self.lanes.iter().map(|lane| &lane.deliveries);
        of_lanes.flatten().map(|(_, delivery)| delivery)
    }

    /// Number of deliveries that have not been taken.
    pub fn waiting_count(&self) -> usize {
        self.lanes.iter().map(|lane| lane.deliveries.len()).sum()
    }

    /// The next delivery that may be taken, with its lane; none if there is none, or it has to
    /// wait until another lane has no message of an earlier run.
    pub fn pop(&mut self) -> Option<(usize, T)> {
        let oldest = self.lanes.iter().map(|lane| lane.oldest_run).min()??;
        let count = self.lanes.len();
        for place in (self.next..count).chain(0..self.next) {
            let deliveries = &mut self.lanes[place].deliveries;
            if deliveries.front().is_some_and(|(run, _)| *run <= oldest)
                && let Some((_, delivery)) = deliveries.pop_front()
            {
                self.next = (place + 1) % count;
                return Some((place, delivery));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(order: &mut LaneOrder<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| order.pop().map(|(_, delivery)| delivery)).collect()
    }

    #[test]
    fn what_came_in_in_an_earlier_run_comes_first_from_all_lanes() {
        let mut order = LaneOrder::new(2);
        order.push(0, 2, "later");
        order.push(1, 1, "earlier");
        order.set_oldest_run(0, 2);
        assert!(taken(&mut order).is_empty(), "the other lane is unknown");
        order.set_oldest_run(1, 1);
        assert_eq!(taken(&mut order), ["earlier"]);
        order.push(1, 2, "later too");
        assert!(taken(&mut order).is_empty(), "it is not settled");
        assert_eq!(order.waiting_count(), 2);
        assert_eq!(order.waiting().count(), 2);
        order.set_oldest_run(1, 2);
        let mut rest = taken(&mut order);
        rest.sort_unstable();
        assert_eq!(rest, ["later", "later too"]);
    }

    #[test]
    fn each_lane_keeps_its_order_and_has_its_turn() {
        let mut order = LaneOrder::new(2);
        order.set_oldest_run(0, 1);
        order.set_oldest_run(1, 1);
        for delivery in ["a1", "a2", "a3"] {
            order.push(0, 1, delivery);
        }
        order.push(1, 1, "b1");
        assert_eq!(taken(&mut order), ["a1", "b1", "a2", "a3"]);
    }

    #[test]
    fn a_lane_that_has_ended_holds_nothing_up() {
        let mut order = LaneOrder::new(2);
        order.push(0, 7, "a");
        order.set_oldest_run(0, 7);
        order.set_oldest_run(1, u32::MAX);
        assert_eq!(taken(&mut order), ["a"]);
    }
}
