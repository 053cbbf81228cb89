//! A sink that takes new messages while it delivers others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::script::{Scripted, Step, state_until};
use super::{WITHIN, settings};
use crate::feed::{SinkMessages, Ticket};
use crate::outcome::Outcome;
use crate::runner::caller::CallRuntime;
use crate::runner::{Activity, Command, Handle, OnReject, Runner, Settings};
use crate::sink::Sink;
use crate::sink_message::SinkMessage;

/// An order of the test to the sink.
enum Order {
    /// Report this outcome for the message of this number.
    Say(u64, Outcome),
    /// Return.
    Return,
    Panic,
}

/// Messages of each call: number, and whether it was repeated.
type Calls = Arc<Mutex<Vec<Vec<(u64, bool)>>>>;

struct Streaming {
    orders: Arc<tokio::sync::Mutex<UnboundedReceiver<Order>>>,
    calls: Calls,
}

impl Sink for Streaming {
    async fn deliver(&mut self, _: &[SinkMessage]) -> Vec<Outcome> {
        unreachable!("it takes messages one by one")
    }

    async fn deliver_from(&mut self, feed: &mut SinkMessages) {
        self.calls.lock().unwrap().push(Vec::new());
        let mut tickets = BTreeMap::<u64, Ticket>::new();
        let mut orders = self.orders.lock().await;
        loop {
            while let Some((ticket, message)) = feed.take() {
                tickets.insert(message.id(), ticket);
                let mut calls = self.calls.lock().unwrap();
                let call = calls.last_mut().unwrap();
                call.push((message.id(), message.repeated()));
            }
            tokio::select! {
                () = feed.more() => {}
                order = orders.recv() => match order {
                    Some(Order::Say(number, outcome)) => feed.tell(tickets[&number], outcome),
                    Some(Order::Panic) => panic!("at once"),
                    Some(Order::Return) | None => return,
                }
            }
        }
    }

    async fn test(&mut self) -> Result<(), String> {
        Ok(())
    }
}

struct Rig {
    node: Scripted,
    handle: Handle,
    orders: UnboundedSender<Order>,
    calls: Calls,
}

impl Rig {
    async fn start(settings: Settings) -> Self {
        let node = Scripted::new([Step::Done]);
        let (orders, told) = unbounded_channel();
        let (told, calls) = (Arc::new(tokio::sync::Mutex::new(told)), Calls::default());
        let of_sink = Arc::clone(&calls);
        let make = move || Streaming {
            orders: Arc::clone(&told),
            calls: Arc::clone(&of_sink),
        };
        let place = CallRuntime::Here(tokio::runtime::Handle::current());
        let handle = Runner::start_at(settings, make, Arc::new(node.clone()), place);
        node.until(|world| world.is_attached).await;
        Self {
            node,
            handle,
            orders,
            calls,
        }
    }

    fn say(&self, number: u64, outcome: Outcome) {
        self.orders.send(Order::Say(number, outcome)).unwrap();
    }

    /// Waits until the sink has received these messages in its calls.
    async fn handed(&self, expected: &[&[u64]]) {
        let calls = Arc::clone(&self.calls);
        let numbers = || -> Vec<Vec<u64>> {
            let calls = calls.lock().unwrap();
            let of = |call: &Vec<(u64, bool)>| call.iter().map(|(number, _)| *number).collect();
            calls.iter().map(of).collect()
        };
        self.node.until(|_| numbers() == expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_settled_and_makes_room_while_another_message_hangs() {
    let rig = Rig::start(settings()).await;
    rig.node.hand_over(1..=6);
    rig.handed(&[&[1, 2, 3, 4]]).await;
    rig.say(3, Outcome::Done);
    rig.say(2, Outcome::Done);
    rig.handed(&[&[1, 2, 3, 4, 5, 6]]).await;
    assert_eq!(rig.node.done(), [2, 3]);
    let state = state_until(&rig.handle, |state| state.counts.delivered == 2).await;
    assert_eq!((state.activity, state.in_hand), (Activity::Running, 4));
    // Messages that arrive during the call are part of it.
    for number in [1, 4, 5, 6] {
        rig.say(number, Outcome::Done);
    }
    rig.node.hand_over(7..=7);
    rig.handed(&[&[1, 2, 3, 4, 5, 6, 7]]).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_nothing_more_is_handed_over_and_the_rest_comes_again() {
    let rig = Rig::start(settings()).await;
    rig.node.hand_over(1..=6);
    rig.handed(&[&[1, 2, 3, 4]]).await;
    rig.say(1, Outcome::Done);
    rig.say(2, Outcome::Failed("no route".to_owned()));
    rig.say(4, Outcome::Done);
    rig.orders.send(Order::Return).unwrap();
    let again: &[u64] = &[2, 3, 5, 6];
    rig.handed(&[&[1, 2, 3, 4], again]).await;
    assert_eq!(rig.node.done(), [1, 4]);
    let repeated: Vec<bool> = rig.calls.lock().unwrap()[1]
        .iter()
        .map(|one| one.1)
        .collect();
    assert_eq!(repeated, [true, false, false, false]);
    assert_eq!(rig.handle.state().counts.failed_attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_repeats_what_was_not_done_alone() {
    let rig = Rig::start(settings()).await;
    rig.node.hand_over(1..=4);
    rig.handed(&[&[1, 2, 3, 4]]).await;
    rig.say(1, Outcome::Done);
    rig.say(3, Outcome::Done);
    rig.orders.send(Order::Panic).unwrap();
    rig.handed(&[&[1, 2, 3, 4], &[2]]).await;
    assert_eq!(rig.node.done(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn refused_messages_do_not_end_a_call_and_become_dead_letters_behind_it() {
    let rig = Rig::start(settings()).await;
    rig.node.hand_over(1..=5);
    rig.handed(&[&[1, 2, 3, 4]]).await;
    rig.say(1, Outcome::Refused("never".to_owned()));
    rig.handed(&[&[1, 2, 3, 4, 5]]).await;
    rig.orders.send(Order::Return).unwrap();
    rig.node.until(|world| world.letters.len() == 1).await;
    assert_eq!(rig.node.refused(), [1]);
    assert_eq!(rig.handle.state().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_stops_at_refusals_gets_nothing_behind_one() {
    let rig = Rig::start(Settings {
        on_reject: OnReject::Stop,
        ..settings()
    })
    .await;
    rig.node.hand_over(1..=5);
    rig.handed(&[&[1, 2, 3, 4]]).await;
    rig.say(1, Outcome::Refused("never".to_owned()));
    rig.orders.send(Order::Return).unwrap();
    state_until(&rig.handle, |state| state.activity == Activity::Stopped).await;
    rig.handed(&[&[1, 2, 3, 4]]).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_what_is_handed_over() {
    let rig = Rig::start(settings()).await;
    rig.node.hand_over(1..=6);
    rig.handed(&[&[1, 2, 3, 4]]).await;
    rig.handle.command(Command::Pause, WITHIN).await.unwrap();
    rig.say(1, Outcome::Done);
    rig.node.until(|world| world.settled.len() == 1).await;
    rig.orders.send(Order::Return).unwrap();
    state_until(&rig.handle, |state| state.in_hand == 5).await;
    rig.handed(&[&[1, 2, 3, 4]]).await;
}
