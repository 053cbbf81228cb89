//! Which messages go in which request, and what follows from an answer.
//!
//! Messages of one publisher form a lane; without an order each message is one. Lanes are sent side
//! by side. With batches some lanes share a list: if a request of several messages fails at them,
//! they are sent one by one, so that one message holds up its own publisher alone.

use std::collections::HashSet;
use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::WebhookSettings;
use crate::each::Call;
use crate::sink::{Outcome, SinkMessage, by_publisher};

/// Delivers a batch by `send`, which sends messages in one request and answers for all of them.
pub(super) async fn deliver<F: Future<Output = Outcome>>(
    batch: &[SinkMessage],
    settings: &WebhookSettings,
    send: impl Fn(Vec<SinkMessage>) -> F,
) -> Vec<Outcome> {
    let lanes = match settings.keeps_order {
        true => by_publisher(batch),
        false => (0..batch.len()).map(|at| vec![at]).collect(),
    };
    let in_flight = settings.in_flight.max(1);
    let most = settings.batch_messages.max(1);
    let lists = match most {
        1 => lanes,
        _ => shared(lanes, in_flight.min(batch.len().div_ceil(most))),
    };
    let sending = Sending {
        batch,
        most,
        keeps_order: settings.keeps_order,
        call: Call::new(settings.stops_at_refusal),
        send,
    };
    let sent = stream::iter(lists).map(|list| sending.list(list));
    let mut sent = sent.buffer_unordered(in_flight);
    let mut outcomes = vec![Outcome::NotTried; batch.len()];
    while let Some(placed) = sent.next().await {
        for (at, outcome) in placed {
            outcomes[at] = outcome;
        }
    }
    outcomes
}

/// Lanes together in at most `count` lists of about the same length, each in the order of the
/// batch.
fn shared(mut lanes: Vec<Vec<usize>>, count: usize) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); count.max(1)];
    lanes.sort_by_key(|lane| std::cmp::Reverse(lane.len()));
    for lane in lanes {
        if let Some(shortest) = lists.iter_mut().min_by_key(|list| list.len()) {
            shortest.extend(lane);
        }
    }
    lists.retain(|list| !list.is_empty());
    lists.iter_mut().for_each(|list| list.sort_unstable());
    lists
}

/// One call of the sink.
struct Sending<'a, S> {
    batch: &'a [SinkMessage],
    /// Messages of one request, at most.
    most: usize,
    keeps_order: bool,
    call: Call,
    send: S,
}

impl<S: Fn(Vec<SinkMessage>) -> F, F: Future<Output = Outcome>> Sending<'_, S> {
    /// Sends the messages at these places one request after the other. Returns the outcomes.
    async fn list(&self, places: Vec<usize>) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(places.len());
        // Publishers of which nothing more may be sent in this call.
        let mut held_up = HashSet::new();
        let mut left = places.into_iter().peekable();
        while left.peek().is_some() {
            let sendable =
                |at: &usize| !self.keeps_order || !held_up.contains(&self.batch[*at].client_id());
            let some: Vec<usize> = left.by_ref().filter(sendable).take(self.most).collect();
            if some.is_empty() || self.call.is_over() {
                break;
            }
            let messages = some.iter().map(|at| self.batch[*at].clone());
            let outcome = (self.send)(messages.collect()).await;
            match (&*some, outcome) {
                (_, Outcome::Done) => {
                    self.call.goes_on(&Outcome::Done);
                    outcomes.extend(some.into_iter().map(|at| (at, Outcome::Done)));
                }
                ([at], outcome) => {
                    if !self.call.goes_on(&outcome) {
                        held_up.insert(self.batch[*at].client_id());
                    }
                    outcomes.push((*at, outcome));
                }
                (_, outcome) if is_about_a_message(&outcome) => {
                    self.one_by_one(&some, &mut held_up, &mut outcomes).await;
                }
                ([first, ..], outcome) => {
                    self.call.goes_on(&outcome);
                    outcomes.push((*first, outcome));
                    break;
                }
                ([], _) => break,
            }
        }
        outcomes
    }

    /// Sends messages that failed together: the target may have got them.
    async fn one_by_one<'b>(
        &'b self,
        places: &[usize],
        held_up: &mut HashSet<Option<&'b str>>,
        outcomes: &mut Vec<(usize, Outcome)>,
    ) {
        for at in places {
            let message = &self.batch[*at];
            if self.keeps_order && held_up.contains(&message.client_id()) {
                continue;
            }
            if self.call.is_over() {
                break;
            }
            let mut again = message.clone();
            again.repeated = true;
            let outcome = (self.send)(vec![again]).await;
            if !self.call.goes_on(&outcome) {
                held_up.insert(message.client_id());
            }
            outcomes.push((*at, outcome));
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
    use crate::networks::AllowedNetworks;
    use crate::secret::Template;
    use crate::sink::Publisher;

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

    /// The requests, and what became of the messages, if the target answers so to a request with
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
        let outcomes = deliver(&batch, settings, send).await;
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
        let expected = [failed(), Outcome::Done, Outcome::NotTried, Outcome::Done];
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
        assert!(outcomes[1..].iter().all(|one| *one == Outcome::NotTried));
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
