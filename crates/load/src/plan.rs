//! Assignment of topics to publishers and of filters to subscribers.
//!
//! Responsible for the topics and filters of each scenario, and for the receivers of a topic's
//! messages: one subscriber, all, or any of a group. Sends nothing. MQTT 5.0 §4.7, §4.8.2.

use super::options::{Options, Scenario};

/// The subscribers that get the messages of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// One subscriber, whose number is the topic's number modulo the number of subscribers.
    One,
    /// Every subscriber.
    Everyone,
    /// Any one subscriber.
    Anyone,
}

/// The roles of a scenario. A topic's publisher has the topic's number modulo the number of
/// publishers.
pub(super) struct Plan {
    /// Number of publishers.
    pub(super) publisher_count: usize,
    /// The Topic Filters of each subscriber.
    pub(super) filters: Vec<Vec<String>>,
    /// The Topic Names for publishing.
    pub(super) topics: Vec<String>,
    /// The subscribers that get the messages.
    pub(super) audience: Audience,
    /// Whether a publisher uses its topics in pseudo-random order, as many devices would, and not
    /// in turn.
    pub(super) shuffled: bool,
}

impl Plan {
    /// The plan of a scenario with messages; `run` makes its topics unique.
    pub(super) fn new(options: &Options, run: &str) -> Self {
        let (clients, topic_count) = (options.clients(), options.topics());
        let scenario = options.scenario;
        let audience = match scenario {
            Scenario::FanOut | Scenario::Retained => Audience::Everyone,
            Scenario::Share => Audience::Anyone,
            _ => Audience::One,
        };
        let all = || vec![format!("bench/{run}/#")];
        let filters = match scenario {
            Scenario::FanIn => vec![vec![format!("bench/{run}/+")]],
            Scenario::FanOut => vec![vec![plain_topic(run, 0)]; clients],
            Scenario::Share => vec![vec![format!("$share/bench-{run}/bench/{run}/+")]; clients],
            Scenario::Retained => (0..clients).map(|_| all()).collect(),
            Scenario::Wildcards => (0..clients)
                .map(|client| vec![format!("bench/{run}/{client}/+")])
                .collect(),
            Scenario::Filters => (0..clients)
                .map(|client| {
                    let numbers = (client..topic_count).step_by(clients);
                    numbers.map(|number| mixed(run, number).1).collect()
                })
                .collect(),
            _ => (0..clients)
                .map(|client| vec![plain_topic(run, client)])
                .collect(),
        };
        let topic = |number: usize| match scenario {
            Scenario::Wildcards => format!("bench/{run}/{}/{}", number % clients, number / clients),
            Scenario::Filters => mixed(run, number).0,
            _ => plain_topic(run, number),
        };
        Self {
            publisher_count: options.publishers(),
            filters,
            topics: (0..topic_count).map(topic).collect(),
            audience,
            shuffled: matches!(scenario, Scenario::Wildcards | Scenario::Filters),
        }
    }

    /// Number of subscribers.
    pub(super) fn subscriber_count(&self) -> usize {
        self.filters.len()
    }
}

fn plain_topic(run: &str, number: usize) -> String {
    format!("bench/{run}/{number}")
}

/// A topic and the only filter that matches it; five kinds alternate.
fn mixed(run: &str, number: usize) -> (String, String) {
    match number % 5 {
        0 => {
            let exact = format!("bench/{run}/exact/{number}/state");
            (exact.clone(), exact)
        }
        1 => (
            format!("bench/{run}/last/{number}/state"),
            format!("bench/{run}/last/{number}/+"),
        ),
        2 => (
            format!("bench/{run}/rest/{number}/pump/state"),
            format!("bench/{run}/rest/{number}/#"),
        ),
        3 => (
            format!("bench/{run}/middle/site/{number}/state"),
            format!("bench/{run}/middle/+/{number}/state"),
        ),
        _ => (
            format!("bench/{run}/first/{number}/state"),
            format!("+/{run}/first/{number}/state"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use martlet_codec::{TopicFilter, TopicName};

    use super::*;
    use crate::options::tests::options;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::new(filter).expect("a filter");
        TopicName::new(topic).expect("a topic");
        let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
        loop {
            match (filter.next(), topic.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some(filter), Some(topic)) if filter == "+" || filter == topic => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn each_topic_is_matched_by_its_subscriber_alone() {
        for line in [
            "pipes --clients 7",
            "fan-in --clients 7",
            "wildcards --clients 7 --topics 40",
            "filters --clients 7 --topics 40",
            "offline --clients 7",
        ] {
            let plan = Plan::new(&options(line), "run");
            assert_eq!(plan.audience, Audience::One);
            for (number, topic) in plan.topics.iter().enumerate() {
                let filters = plan
                    .filters
                    .iter()
                    .enumerate()
                    .flat_map(|(index, filters)| {
                        let found = filters.iter().filter(|filter| matches(filter, topic));
                        found.map(move |_| index)
                    });
                let want = number % plan.subscriber_count();
                assert_eq!(filters.collect::<Vec<_>>(), [want], "{line} {topic}");
            }
        }
    }

    #[test]
    fn all_filters_are_subscribed_to_once() {
        let plan = Plan::new(&options("filters --clients 7 --topics 40"), "run");
        let mut filters: Vec<_> = plan.filters.concat();
        filters.sort();
        filters.dedup();
        assert_eq!(filters.len(), 40);
    }
}
