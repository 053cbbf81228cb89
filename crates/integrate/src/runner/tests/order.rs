//! Which messages wait behind one that is tried again, by the order of the sink.

use martlet_broker::PartReach;

use super::script::{Scripted, Step, state_until};
use super::settings;
use crate::order::Order;
use crate::runner::Settings;

/// Messages of two users over three clients: number, client, user and topic.
const MESSAGES: [(u16, &str, Option<&str>, &str); 6] = [
    (1, "pump-1", Some("pump"), "a"),
    (2, "pump-2", Some("pump"), "b"),
    (3, "fan-1", Some("fan"), "a"),
    (4, "pump-1", Some("pump"), "c"),
    (5, "fan-1", Some("fan"), "b"),
    // Not the user `pump`: its name is not checked.
    (6, "pump", None, "d"),
];

/// The messages that are delivered while the sink fails at the first one.
async fn delivered_before_the_first(order: Order) -> Vec<u16> {
    let node = Scripted::new([Step::FailAtOnly(1)]);
    let in_order = Settings {
        order,
        ..settings()
    };
    let handle = node.start(in_order).await;
    for (number, client, user, topic) in MESSAGES {
        node.hand_over_by_user(0, number, client, user, topic);
    }
    state_until(&handle, |state| state.counts.failed_attempts > 0).await;
    let done = node.done();
    node.world().script = [Step::Done].into();
    node.until(|world| world.settled.len() == MESSAGES.len())
        .await;
    let after = node.done().split_off(done.len());
    assert!(after.is_sorted(), "{after:?}");
    done
}

#[tokio::test(start_paused = true)]
async fn the_key_of_the_sink_says_what_waits_behind_a_message_that_is_tried_again() {
    let others = delivered_before_the_first(Order::Publisher).await;
    assert_eq!(others, [2, 3, 5, 6]);
    let others = delivered_before_the_first(Order::User).await;
    assert_eq!(others, [3, 5, 6]);
    let others = delivered_before_the_first(Order::Topic).await;
    assert_eq!(others, [2, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_in_order_of_users_has_one_queue_and_empties_those_of_its_lanes() {
    let node = Scripted::new([Step::Done]);
    let in_order = Settings {
        order: Order::User,
        ..settings()
    };
    node.start(in_order.clone()).await;
    let world = node.world();
    let [one_queue] = &world.specs[..] else {
        panic!("{:?}", world.specs);
    };
    assert_eq!(*one_queue.client_id, *in_order.client_id());
    assert_eq!(one_queue.reach, PartReach::NodeAfterLanes);
    assert_eq!(world.left_over, [format!("{}@0", in_order.client_id())]);
}
