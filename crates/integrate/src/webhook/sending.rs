//! Distributes messages over requests, and handles the answers.
//!
//! One request per publisher is in flight; without ordering, any messages are sent in parallel. A
//! request may have a list of messages. If it fails at one of them, they are sent one by one, so
//! that a bad message delays only its own publisher. Each answer makes room for the next request:
//! a slow request delays only its publishers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::settings::WebhookSettings;
use crate::each::Call;
use crate::feed::{SinkMessages, Ticket};
use crate::order::OrderKey;
use crate::outcome::Outcome;
use crate::sink_message::SinkMessage;

/// Messages of one request.
type List = Vec<(Ticket, SinkMessage)>;

/// Delivers messages by `send`, which sends messages in one request and returns the outcome of
/// all.
pub(super) async fn deliver<F: Future<Output = Outcome>>(
    feed: &mut SinkMessages,
    settings: &WebhookSettings,
    send: impl Fn(Vec<SinkMessage>) -> F,
) {
    let sending = Sending {
        call: Call::new(settings.stops_at_refusal),
        keeps_order: settings.keeps_order,
        send,
    };
    let mut waiting = UnsentMessages {
        most: settings.batch_messages.max(1),
        keeps_order: settings.keeps_order,
        ..UnsentMessages::default()
    };
    let in_flight = settings.in_flight.max(1);
    let mut under_way = FuturesUnordered::new();
    let mut is_over = false;
    loop {
        while let Some((ticket, message)) = feed.take() {
            waiting.add(ticket, message);
        }
        while !is_over
            && under_way.len() < in_flight
            && let Some(list) = waiting.next(under_way.is_empty())
        {
            is_over = sending.call.is_over();
            if !is_over {
                under_way.push(sending.request(list));
            }
        }
        tokio::select! {
            biased;
            answered = under_way.next() => match answered {
                Some(answered) => waiting.answered(answered, feed),
                None => return,
            },
            () = feed.more() => {}
        }
    }
}

/// Messages that are not yet sent.
#[derive(Default)]
struct UnsentMessages {
    /// Maximum number of messages of one request.
    most: usize,
    keeps_order: bool,
    /// All of them, if order is not kept.
    loose: VecDeque<(Ticket, SinkMessage)>,
    /// By publisher, or whatever the order of the sink says, if order is kept.
    publishers: HashMap<OrderKey<'static>, Publisher>,
    /// Publishers with a message that may be sent now.
    ready: VecDeque<OrderKey<'static>>,
    /// Number of messages of these publishers.
    ready_messages: usize,
}

/// Waiting messages of one publisher.
#[derive(Default)]
struct Publisher {
    messages: VecDeque<(Ticket, SinkMessage)>,
    state: PublisherState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PublisherState {
    /// A message of it may be sent.
    #[default]
    Ready,
    /// A request with messages of it is in flight.
    UnderWay,
    /// Nothing more of it is sent in this call.
    HeldUp,
}

impl UnsentMessages {
    fn add(&mut self, ticket: Ticket, message: SinkMessage) {
        if !self.keeps_order {
            return self.loose.push_back((ticket, message));
        }
        let key = message.order_key().into_owned();
        let publisher = self.publishers.entry(key.clone()).or_default();
        if publisher.state == PublisherState::Ready {
            self.ready_messages += 1;
            if publisher.messages.is_empty() {
                self.ready.push_back(key);
            }
        }
        publisher.messages.push_back((ticket, message));
    }

    /// Messages of the next request; `None` if none may be sent now. While others are in flight, a
    /// request has the maximum number.
    fn next(&mut self, is_first: bool) -> Option<List> {
        let sendable = match self.keeps_order {
            true => self.ready_messages,
            false => self.loose.len(),
        };
        if sendable == 0 || sendable < self.most && !is_first {
            return None;
        }
        if !self.keeps_order {
            let count = self.most.min(sendable);
            return Some(self.loose.drain(..count).collect());
        }
        let mut list = List::new();
        while list.len() < self.most
            && let Some(name) = self.ready.pop_front()
        {
            let Some(publisher) = self.publishers.get_mut(&name) else {
                continue;
            };
            publisher.state = PublisherState::UnderWay;
            self.ready_messages -= publisher.messages.len();
            let count = publisher.messages.len().min(self.most - list.len());
            list.extend(publisher.messages.drain(..count));
        }
        list.sort_unstable_by_key(|(ticket, _)| *ticket);
        Some(list)
    }

    /// Handles the answer of a request.
    fn answered(&mut self, answered: RequestResult, feed: &mut SinkMessages) {
        let RequestResult {
            list,
            outcomes,
            held_up,
        } = answered;
        for (ticket, outcome) in outcomes {
            feed.tell(ticket, outcome);
        }
        if !self.keeps_order {
            return;
        }
        for (_, message) in &list {
            let key = message.order_key().into_owned();
            let Some(publisher) = self.publishers.get_mut(&key) else {
                continue;
            };
            if publisher.state != PublisherState::UnderWay {
                continue;
            }
            if held_up.contains(&key) {
                publisher.state = PublisherState::HeldUp;
            } else if publisher.messages.is_empty() {
                self.publishers.remove(&key);
            } else {
                publisher.state = PublisherState::Ready;
                self.ready_messages += publisher.messages.len();
                self.ready.push_back(key);
            }
        }
    }
}

/// Result of a request.
struct RequestResult {
    list: List,
    /// Outcomes of the messages that were tried.
    outcomes: Vec<(Ticket, Outcome)>,
    /// Publishers of which nothing more is sent in this call.
    held_up: HashSet<OrderKey<'static>>,
}

/// One call of the sink.
struct Sending<S> {
    call: Call,
    keeps_order: bool,
    send: S,
}

impl<S: Fn(Vec<SinkMessage>) -> F, F: Future<Output = Outcome>> Sending<S> {
    /// Sends messages in one request; one by one if it fails with several.
    async fn request(&self, list: List) -> RequestResult {
        let messages = list.iter().map(|(_, message)| message.clone());
        let outcome = (self.send)(messages.collect()).await;
        let mut answered = RequestResult {
            outcomes: Vec::with_capacity(list.len()),
            list,
            held_up: HashSet::new(),
        };
        let RequestResult {
            list,
            outcomes,
            held_up,
        } = &mut answered;
        match (&**list, outcome) {
            (_, Outcome::Done) => {
                self.call.goes_on(&Outcome::Done);
                outcomes.extend(list.iter().map(|(ticket, _)| (*ticket, Outcome::Done)));
            }
            ([(ticket, message)], outcome) => {
                if !self.call.goes_on(&outcome) {
                    held_up.insert(message.order_key().into_owned());
                }
                outcomes.push((*ticket, outcome));
            }
            (list, outcome) if is_about_a_message(&outcome) => {
                self.one_by_one(list, held_up, outcomes).await;
            }
            (list, outcome) => {
                self.call.goes_on(&outcome);
                let others = list.iter().skip(1);
                let others = others.map(|(ticket, _)| (*ticket, Outcome::SentWithOthers));
                let first = list.first().map(|(ticket, _)| (*ticket, outcome));
                outcomes.extend(first.into_iter().chain(others));
                let keys = list.iter().map(|(_, one)| one.order_key().into_owned());
                held_up.extend(keys);
            }
        }
        answered
    }

    /// Sends messages that failed together: the target may have received them.
    async fn one_by_one(
        &self,
        list: &[(Ticket, SinkMessage)],
        held_up: &mut HashSet<OrderKey<'static>>,
        outcomes: &mut Vec<(Ticket, Outcome)>,
    ) {
        for (ticket, message) in list {
            let key = message.order_key().into_owned();
            if self.keeps_order && held_up.contains(&key) {
                outcomes.push((*ticket, Outcome::SentWithOthers));
                continue;
            }
            if self.call.is_over() {
                // A message that comes again must precede all later ones of its publisher.
                held_up.insert(key);
                outcomes.push((*ticket, Outcome::SentWithOthers));
                continue;
            }
            let mut again = message.clone();
            again.repeated = true;
            let outcome = (self.send)(vec![again]).await;
            if !self.call.goes_on(&outcome) {
                held_up.insert(key);
            }
            outcomes.push((*ticket, outcome));
        }
    }
}

/// Whether one of several messages may be the cause of an outcome.
fn is_about_a_message(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Refused(_) | Outcome::FailedAtMessage(_) | Outcome::NoAnswer(_)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::feed::deliver_batch;
    use crate::networks::AllowedNetworks;
    use crate::secret::Template;
    use crate::sink_message::Publisher;

    fn settings(batch_messages: usize, keeps_order: bool) -> WebhookSettings {
        WebhookSettings {
            url: Template::parse("http://localhost").expect("a template"),
            method: "POST".to_owned(),
            headers: Vec::new(),
            timeout: std::time::Duration::from_secs(1),
            in_flight: 2,
            format: super::super::Format::Json,
            batch_messages,
            keeps_order,
            signing_key: None,
            stops_at_refusal: false,
            allowed: AllowedNetworks::default(),
        }
    }

    /// `a1` is the first message of the publisher a.
    fn batch(names: &[&str]) -> Vec<SinkMessage> {
        let message = |name: &&str| {
            let publisher = Publisher {
                client_id: Some(name[..1].to_owned()),
                ..Publisher::default()
            };
            SinkMessage::example(name, b"").published_by(publisher)
        };
        names.iter().map(message).collect()
    }

    /// The requests and the outcomes of the messages, if the target answers this to a request with
    /// this message.
    async fn delivered(
        names: &[&str],
        settings: &WebhookSettings,
        answer: impl Fn(&str) -> Outcome,
    ) -> (Vec<String>, Vec<Outcome>) {
        let requests = Mutex::new(Vec::new());
        let send = |messages: Vec<SinkMessage>| {
            let names: Vec<&str> = messages.iter().map(SinkMessage::topic).collect();
            requests.lock().expect("a lock").push(names.join(" "));
            let mut answers = names.iter().map(|name| answer(name));
            let failed = answers.find(|outcome| *outcome != Outcome::Done);
            std::future::ready(failed.unwrap_or(Outcome::Done))
        };
        let batch = batch(names);
        let deliver = async |feed: &mut SinkMessages| deliver(feed, settings, send).await;
        let outcomes = deliver_batch(&batch, deliver).await;
        (requests.into_inner().expect("a lock"), outcomes)
    }

    #[tokio::test]
    async fn messages_share_requests_and_each_publisher_keeps_its_order() {
        let names = ["a1", "b1", "a2", "a3", "b2", "c1"];
        let (requests, outcomes) = delivered(&names, &settings(3, true), |_| Outcome::Done).await;
        assert_eq!(requests, ["a1 a2 a3", "b1 b2 c1"]);
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done));
    }

    #[tokio::test]
    async fn a_message_that_fails_in_a_list_holds_up_its_publisher_alone() {
        let names = ["a1", "b1", "a2", "b2"];
        let failed = || Outcome::FailedAtMessage("500".to_owned());
        let answer = |name: &str| match name {
            "a1" => failed(),
            _ => Outcome::Done,
        };
        let mut settings = settings(10, true);
        settings.in_flight = 1;
        let (requests, outcomes) = delivered(&names, &settings, answer).await;
        assert_eq!(requests, ["a1 b1 a2 b2", "a1", "b1", "b2"]);
        let again = Outcome::SentWithOthers;
        let expected = [failed(), Outcome::Done, again, Outcome::Done];
        assert_eq!(outcomes, expected);
    }

    #[tokio::test]
    async fn one_refused_message_of_a_list_is_found() {
        let names = ["a1", "a2", "a3"];
        let refused = || Outcome::Refused("422".to_owned());
        let answer = |name: &str| match name {
            "a2" => refused(),
            _ => Outcome::Done,
        };
        let (_, outcomes) = delivered(&names, &settings(10, true), answer).await;
        assert_eq!(outcomes, [Outcome::Done, refused(), Outcome::Done]);
    }

    #[tokio::test]
    async fn a_target_that_is_down_is_asked_once() {
        let names = ["a1", "a2", "a3", "a4"];
        let down = || Outcome::Failed("503".to_owned());
        let (requests, outcomes) = delivered(&names, &settings(2, true), |_| down()).await;
        assert_eq!(requests, ["a1 a2"]);
        assert_eq!(outcomes[0], down());
        // It is unknown whether the target received the second one.
        let (again, untried) = (Outcome::SentWithOthers, Outcome::NotTried);
        assert_eq!(outcomes[1..], [again, untried.clone(), untried]);
    }

    #[tokio::test]
    async fn without_an_order_nothing_holds_up_another_message() {
        let names = ["a1", "a2", "a3"];
        let answer = |name: &str| match name {
            "a1" => Outcome::FailedAtMessage("500".to_owned()),
            _ => Outcome::Done,
        };
        let (requests, outcomes) = delivered(&names, &settings(1, false), answer).await;
        assert_eq!(requests.len(), 3);
        assert_eq!(outcomes[1..], [Outcome::Done, Outcome::Done]);
    }
}
