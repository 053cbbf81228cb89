//! Compares the messages received by each subscriber with those sent.
//!
//! Responsible for detecting loss, duplicates and wrong order by the numbers in the messages, for
//! any kind of audience. Has no packets. MQTT 5.0 §4.3, §4.6.

use super::gathering::Gathering;
use super::plan::{Audience, Plan};
use super::sequence::{Arrival, Sequence};

/// Received messages.
pub(super) struct Arrivals {
    audience: Audience,
    topic_count: usize,
    subscriber_count: usize,
    /// Sequences by topic; for `Everyone` by subscriber and topic.
    sequences: Vec<Sequence>,
    /// For `Anyone`: by topic.
    gatherings: Vec<Gathering>,
    /// For `Anyone`: the number after the last one, by subscriber and topic.
    next: Vec<u64>,
}

impl Arrivals {
    /// Creates an empty state.
    pub(super) fn new(plan: &Plan) -> Self {
        let (topic_count, subscriber_count) = (plan.topics.len(), plan.subscriber_count());
        let product = topic_count * subscriber_count;
        let (sequences, gatherings, next) = match plan.audience {
            Audience::One => (topic_count, 0, 0),
            Audience::Everyone => (product, 0, 0),
            Audience::Anyone => (0, topic_count, product),
        };
        Self {
            audience: plan.audience,
            topic_count,
            subscriber_count,
            sequences: (0..sequences).map(|_| Sequence::default()).collect(),
            gatherings: (0..gatherings).map(|_| Gathering::default()).collect(),
            next: vec![0; next],
        }
    }

    /// Records that message `number` of a topic arrived at a subscriber. Returns `None` if it is
    /// not for that subscriber.
    #[inline]
    pub(super) fn record(
        &mut self,
        subscriber: usize,
        topic: usize,
        number: u64,
    ) -> Option<Arrival> {
        match self.audience {
            Audience::One if topic % self.subscriber_count != subscriber => None,
            Audience::One => Some(self.sequences[topic].record(number)),
            Audience::Everyone => {
                let sequence = &mut self.sequences[subscriber * self.topic_count + topic];
                Some(sequence.record(number))
            }
            Audience::Anyone => Some(self.record_of_anyone(subscriber, topic, number)),
        }
    }

    /// Number of missing deliveries when `sent` messages of each topic were sent.
    pub(super) fn lost(&self, sent: &[u64]) -> u64 {
        let sequences = self.sequences.iter().zip(sent.iter().cycle());
        let gatherings = self.gatherings.iter().zip(sent);
        sequences.map(|(it, sent)| it.lost(*sent)).sum::<u64>()
            + gatherings.map(|(it, sent)| it.lost(*sent)).sum::<u64>()
    }

    fn record_of_anyone(&mut self, subscriber: usize, topic: usize, number: u64) -> Arrival {
        if !self.gatherings[topic].record(number) {
            return Arrival::Repeated;
        }
        let next = &mut self.next[subscriber * self.topic_count + topic];
        if number < *next {
            return Arrival::Overtaken;
        }
        *next = number + 1;
        Arrival::New { skipped: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    fn arrivals(line: &str) -> Arrivals {
        Arrivals::new(&Plan::new(&options(line), "run"))
    }

    const NEW: Option<Arrival> = Some(Arrival::New { skipped: 0 });

    #[test]
    fn a_message_at_another_than_its_subscriber_is_noticed() {
        let mut arrivals = arrivals("pipes --clients 3");
        assert_eq!(arrivals.record(1, 1, 0), NEW);
        assert_eq!(arrivals.record(2, 1, 0), None);
    }

    #[test]
    fn everyone_must_get_it() {
        let mut arrivals = arrivals("fan-out --clients 2");
        assert_eq!(arrivals.record(0, 0, 0), NEW);
        assert_eq!(arrivals.lost(&[1]), 1);
        assert_eq!(arrivals.record(1, 0, 0), NEW);
        assert_eq!(arrivals.lost(&[1]), 0);
    }

    #[test]
    fn in_a_group_one_gets_it_and_each_in_order() {
        let mut arrivals = arrivals("share --clients 2");
        assert_eq!(arrivals.record(0, 0, 1), NEW);
        assert_eq!(arrivals.record(1, 0, 0), NEW);
        assert_eq!(arrivals.record(1, 0, 1), Some(Arrival::Repeated));
        assert_eq!(arrivals.record(0, 0, 3), NEW);
        assert_eq!(arrivals.record(0, 0, 2), Some(Arrival::Overtaken));
        assert_eq!(arrivals.lost(&[5]), 1);
    }
}
