mod order;
mod script;
mod streaming;

use std::time::Duration;

use martlet_broker::{PartOutcome, PartRefusal, TenantId};
use martlet_codec::ReasonCode;
use script::{Scripted, Step, state_until};

use super::caller::CallRuntime;
use super::{Activity, Command, OnReject, Settings};
use crate::host::SavedState;

const WITHIN: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        batch_messages: 4,
        ..Settings::new("test", "one", vec!["plant/#".into()])
    }
}

fn numbers(calls: &[script::Call]) -> Vec<Vec<u64>> {
    let of = |call: &script::Call| call.iter().map(|(number, _)| *number).collect();
    calls.iter().map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn messages_are_delivered_in_batches_and_settled_then() {
    let node = Scripted::new([Step::Done]);
    let handle = node.start(settings()).await;
    let spec = node.world().specs[0].clone();
    assert_eq!(
        (&*spec.client_id, spec.tenant),
        ("$integration/test/one@0", TenantId(0))
    );
    assert_eq!((spec.session_expiry_secs, spec.credit), (u32::MAX, 4));
    node.hand_over(1..=6);
    node.until(|world| world.settled.len() == 6).await;
    assert_eq!(numbers(&node.calls()), [vec![1, 2, 3, 4], vec![5, 6]]);
    assert_eq!(node.done(), [1, 2, 3, 4, 5, 6]);
    let state = state_until(&handle, |state| state.in_hand == 0).await;
    assert_eq!(state.activity, Activity::Running);
    assert_eq!((state.counts.delivered, state.counts.repeated), (6, 0));
    assert_eq!((state.failure, state.oldest_received_ms), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_by_bytes_and_one_message_may_be_larger() {
    let node = Scripted::new([Step::Done]);
    let small = Settings {
        batch_bytes: 1,
        ..settings()
    };
    let _handle = node.start(small).await;
    node.hand_over(1..=2);
    node.until(|world| world.settled.len() == 2).await;
    assert_eq!(numbers(&node.calls()), [[1], [2]]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_done_is_sent_again_in_order_and_marked() {
    let node = Scripted::new([Step::FailAfter(2), Step::FailAfter(0), Step::Done]);
    let handle = node.start(settings()).await;
    node.hand_over(1..=4);
    let state = state_until(&handle, |state| state.activity == Activity::Retrying).await;
    assert_eq!(node.done(), [1, 2]);
    assert_eq!(state.failure.unwrap().error, "no route");
    assert_eq!(state.oldest_received_ms, Some(999_000));
    node.until(|world| world.settled.len() == 4).await;
    let first = vec![(1, false), (2, false), (3, false), (4, false)];
    // The third message was handed over and failed; the fourth had no outcome.
    let second = vec![(3, true), (4, false)];
    assert_eq!(node.calls(), [first, second.clone(), second]);
    assert_eq!(node.done(), [1, 2, 3, 4]);
    let state = state_until(&handle, |state| state.failure.is_none()).await;
    assert_eq!(
        (state.counts.failed_attempts, state.counts.repeated),
        (2, 1)
    );
    assert_eq!(state.last_error.unwrap().0, "no route");
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_grow_to_the_longest() {
    let node = Scripted::new([Step::FailAfter(0)]);
    let _handle = node.start(settings()).await;
    let begun = tokio::time::Instant::now();
    node.hand_over([1]);
    node.until(|world| world.calls.len() == 8).await;
    // 0.5 + 1 + 2 + 4 + 8 + 16 + 32 s.
    let secs = begun.elapsed().as_secs_f32();
    assert!((63.0..64.0).contains(&secs), "{secs}");
    node.until(|world| world.calls.len() == 10).await;
    let secs = begun.elapsed().as_secs_f32();
    assert!((183.0..184.5).contains(&secs), "{secs}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_has_failed_and_commands_are_obeyed_meanwhile() {
    let node = Scripted::new([Step::Hang, Step::Done]);
    let handle = node.start(settings()).await;
    node.hand_over([1]);
    node.until(|world| world.calls.len() == 1).await;
    let begun = tokio::time::Instant::now();
    handle.command(Command::Pause, WITHIN).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
    let state = state_until(&handle, |state| state.failure.is_some()).await;
    assert!(begun.elapsed() >= Duration::from_secs(29));
    assert_eq!(state.failure.unwrap().error, "no answer within 30 s");
    handle.command(Command::Resume, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 1).await;
    assert_eq!(node.calls()[1], [(1, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_is_a_dead_letter_and_stops_nothing() {
    let node = Scripted::new([Step::Refuse(vec![2])]);
    let handle = node.start(settings()).await;
    node.hand_over(1..=5);
    node.until(|world| world.settled.len() == 5).await;
    assert_eq!((node.done(), node.refused()), (vec![1, 3, 4, 5], vec![2]));
    assert_eq!(node.refusals(), [PartRefusal::Rejected]);
    let letter = node.world().letters[&1].clone();
    assert_eq!(
        (letter.head.message_id, &*letter.head.reason),
        (2, "too large")
    );
    assert_eq!(
        (&*letter.head.topic, &*letter.payload),
        ("plant/1", &b"21.5"[..])
    );
    let counts = state_until(&handle, |state| state.in_hand == 0)
        .await
        .counts;
    assert_eq!((counts.refused, counts.dead_letters), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_is_settled_only_when_its_letter_is_stored() {
    let node = Scripted::new([Step::Refuse(vec![1])]);
    node.world().store_error = Some("disk full".to_owned());
    let handle = node.start(settings()).await;
    node.hand_over(1..=8);
    node.until(|world| world.settled.len() == 7).await;
    let state = state_until(&handle, |state| state.failure.is_some()).await;
    assert_eq!((state.in_hand, node.refused()), (1, vec![]));
    assert!(state.failure.unwrap().error.contains("disk full"));
    node.world().store_error = None;
    node.until(|world| world.settled.len() == 8).await;
    assert_eq!((node.refused(), node.world().letters.len()), (vec![1], 1));
    // The message was not handed to the sink again.
    assert_eq!(numbers(&node.calls()), [[1, 2, 3, 4], [5, 6, 7, 8]]);
}

#[tokio::test(start_paused = true)]
async fn on_reject_stop_stops_before_the_message_until_it_is_resumed() {
    let node = Scripted::new([Step::Refuse(vec![3]), Step::Done]);
    let stops = || Settings {
        on_reject: OnReject::Stop,
        ..settings()
    };
    let handle = node.start(stops()).await;
    node.hand_over(1..=6);
    let state = state_until(&handle, |state| state.activity == Activity::Stopped).await;
    let why = state.stopped_because.unwrap();
    assert!(
        why.contains("too large") && why.contains("plant/1"),
        "{why}"
    );
    node.until(|world| matches!(world.saved, SavedState::Stopped(_)))
        .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((node.done(), node.calls().len()), (vec![1, 2, 4], 1));
    assert!(node.world().letters.is_empty());
    // The state survives a restart.
    assert!(handle.stop(WITHIN).await);
    let handle = node.start(stops()).await;
    node.hand_over([3, 5, 6]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        (handle.state().activity, node.calls().len()),
        (Activity::Stopped, 1)
    );
    handle.command(Command::Resume, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 6).await;
    assert_eq!(node.done(), [1, 2, 4, 3, 5, 6]);
    assert_eq!(node.world().saved, SavedState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_message_at_which_the_sink_panics_is_refused_in_the_end() {
    let node = Scripted::new([Step::PanicAt(2)]);
    let handle = node.start(settings()).await;
    node.hand_over(1..=5);
    node.until(|world| world.settled.len() == 5).await;
    assert_eq!((node.done(), node.refused()), (vec![1, 3, 4, 5], vec![2]));
    assert_eq!(node.refusals(), [PartRefusal::Failed]);
    let reason = node.world().letters[&1].head.reason.clone();
    assert_eq!(reason, "the sink panicked: at 2 (3 times at this message)");
    let calls = numbers(&node.calls());
    assert_eq!(
        calls[..5],
        [vec![1, 2, 3, 4], vec![1], vec![2], vec![2], vec![2]]
    );
    assert!(handle.state().last_error.unwrap().0.contains("panicked"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_messages_back_also_over_a_restart() {
    let node = Scripted::new([Step::Done]);
    let handle = node.start(settings()).await;
    handle.command(Command::Pause, WITHIN).await.unwrap();
    node.hand_over([1]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let state = handle.state();
    assert_eq!((state.activity, state.in_hand), (Activity::Paused, 1));
    assert!(handle.stop(WITHIN).await);
    assert_eq!(handle.state().activity, Activity::Ended);
    let handle = node.start(settings()).await;
    node.hand_over_at(1, true, 999_000);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(node.calls().is_empty());
    handle.command(Command::Resume, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 1).await;
    assert_eq!(node.calls(), [[(1, true)]]);
    assert_eq!(handle.state().counts.repeated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_cannot_be_saved_holds_and_says_so() {
    let node = Scripted::new([Step::Done]);
    node.world().store_error = Some("disk full".to_owned());
    let handle = node.start(settings()).await;
    let told = handle.command(Command::Pause, WITHIN).await.unwrap_err();
    assert!(told.to_string().contains("a restart undoes it"), "{told}");
    assert_eq!(handle.state().activity, Activity::Paused);
}

#[tokio::test(start_paused = true)]
async fn a_drain_delivers_what_waits_and_pauses_then() {
    let node = Scripted::new([Step::Slow(Duration::from_secs(1))]);
    let handle = node.start(settings()).await;
    node.world().waiting = vec![6];
    node.hand_over(1..=4);
    handle.command(Command::Drain, WITHIN).await.unwrap();
    assert_eq!(handle.state().activity, Activity::Draining);
    node.until(|world| world.settled.len() == 4).await;
    // The rest of the queue comes later: the drain waits for it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.state().activity, Activity::Draining);
    node.hand_over(5..=6);
    node.until(|world| world.settled.len() == 6).await;
    node.world().waiting = vec![0];
    state_until(&handle, |state| state.activity == Activity::Paused).await;
    assert!(matches!(node.world().saved, SavedState::Paused(_)));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_the_first_message_that_came_after_it() {
    let node = Scripted::new([Step::Done]);
    let handle = node.start(settings()).await;
    handle.command(Command::Pause, WITHIN).await.unwrap();
    node.hand_over([1]);
    node.hand_over_at(2, false, 1_000_001);
    handle.command(Command::Drain, WITHIN).await.unwrap();
    state_until(&handle, |state| state.activity == Activity::Paused).await;
    assert_eq!(node.done(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_ended_is_attached_again_and_its_messages_come_again() {
    let node = Scripted::new([Step::FailAfter(1), Step::Done]);
    let handle = node.start(settings()).await;
    node.hand_over(1..=2);
    node.until(|world| world.settled.len() == 1).await;
    node.end_part();
    let state = state_until(&handle, |state| state.activity == Activity::Starting).await;
    assert_eq!(state.in_hand, 0);
    assert!(state.failure.is_some());
    node.until(|world| world.specs.len() == 2).await;
    node.hand_over_at(2, true, 999_000);
    node.until(|world| world.settled.len() == 2).await;
    assert_eq!(node.done(), [1, 2]);
    state_until(&handle, |state| state.activity == Activity::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_not_granted_is_told_and_tried_again() {
    let node = Scripted::new([Step::Done]);
    node.world().granted = vec![ReasonCode::QuotaExceeded];
    let handle = node.start_only(settings());
    let state = state_until(&handle, |state| state.failure.is_some()).await;
    let error = state.failure.unwrap().error;
    assert!(error.contains("plant/#"), "{error}");
    assert_eq!(state.activity, Activity::Starting);
    node.world().granted = vec![ReasonCode::GrantedQoS1];
    state_until(&handle, |state| state.activity == Activity::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_team_that_does_not_exist_yet_is_waited_for() {
    let node = Scripted::new([Step::Done]);
    node.world().team = None;
    let of_team = Settings {
        tenant: "plant".into(),
        ..settings()
    };
    let handle = node.start_only(of_team);
    let state = state_until(&handle, |state| state.failure.is_some()).await;
    assert!(state.failure.unwrap().error.contains("no team \"plant\""));
    node.world().team = Some(TenantId(9));
    state_until(&handle, |state| state.tenant == Some(TenantId(9))).await;
    node.until(|world| world.is_attached).await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_sent_again_and_removed_when_they_are_taken() {
    let steps = [Step::Refuse(vec![1, 2]), Step::Refuse(vec![2]), Step::Done];
    let node = Scripted::new(steps);
    let handle = node.start(settings()).await;
    node.hand_over(1..=2);
    node.until(|world| world.letters.len() == 2).await;
    let again = Command::SendAgain(vec![1, 2, 77]);
    handle.command(again, WITHIN).await.unwrap();
    node.until(|world| world.letters.len() == 1).await;
    assert_eq!(node.calls()[1], [(1, true), (2, true)]);
    assert_eq!(node.world().letters[&2].head.refusals, 2);
    let counts = handle.state().counts;
    assert_eq!((counts.delivered, counts.refused), (1, 3));
    // Settled messages are not settled again.
    assert_eq!(node.world().settled.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_the_delivery_and_detaches() {
    let node = Scripted::new([Step::Slow(Duration::from_secs(2))]);
    let handle = node.start(settings()).await;
    node.hand_over(1..=5);
    node.until(|world| world.calls.len() == 1).await;
    assert!(handle.stop(Duration::from_secs(10)).await);
    assert_eq!(node.done(), [1, 2, 3, 4]);
    assert!(!node.world().is_attached);
    let told = handle.command(Command::Pause, WITHIN).await;
    assert_eq!(told, Err(super::CommandError::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_stop_breaks_off_a_delivery_that_hangs() {
    let node = Scripted::new([Step::Hang]);
    let handle = node.start(settings()).await;
    node.hand_over([1]);
    node.until(|world| world.calls.len() == 1).await;
    assert!(!handle.stop(Duration::from_secs(5)).await);
    state_until(&handle, |state| state.activity == Activity::Ended).await;
    assert!(node.done().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_test_tells_whether_the_target_can_be_reached() {
    let node = Scripted::new([Step::FailAfter(0)]);
    let handle = node.start(settings()).await;
    handle.command(Command::Test, WITHIN).await.unwrap();
    node.hand_over([1]);
    state_until(&handle, |state| state.activity == Activity::Retrying).await;
    node.world().test_error = Some("no route".to_owned());
    let told = handle.command(Command::Test, WITHIN).await.unwrap_err();
    assert_eq!(told.to_string(), "no route");
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_what_the_node_says_of_the_queue_and_what_is_in_hand() {
    let node = Scripted::new([Step::FailAfter(0), Step::FailAfter(0)]);
    let handle = node.start(settings()).await;
    node.hand_over([1, 2]);
    node.tell_queue(12, None);
    state_until(&handle, |state| state.lag == Some(14)).await;
    node.tell_queue(0, None);
    state_until(&handle, |state| state.lag == Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn the_age_is_that_of_the_oldest_message_of_all_lanes_and_queues() {
    let node = Scripted::new([Step::FailAfter(0)]);
    node.world().shards = 2;
    let handle = node.start(settings()).await;
    node.hand_over_by(0, 1, false, 700_000);
    node.hand_over_by(1, 2, false, 500_000);
    state_until(&handle, |state| state.oldest_received_ms == Some(500_000)).await;
    node.tell_queue(12, Some(300_000));
    state_until(&handle, |state| state.oldest_received_ms == Some(300_000)).await;
}

#[tokio::test(start_paused = true)]
async fn clients_whose_messages_wait_are_named_of_each_lane() {
    let node = Scripted::new([Step::FailAfter(0)]);
    node.world().shards = 2;
    let handle = node.start(settings()).await;
    handle.command(Command::Pause, WITHIN).await.unwrap();
    (1..=500).for_each(|number| node.hand_over_of(0, number, "busy"));
    node.hand_over_of(1, 501, "pump-1");
    let state = state_until(&handle, |state| state.in_hand == 501).await;
    assert_eq!(state.clients_waiting, ["busy", "pump-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_what_waits_in_each_lane_and_leaves_what_is_newer() {
    let node = Scripted::new([Step::Done]);
    node.world().shards = 2;
    let handle = node.start(settings()).await;
    handle.command(Command::Pause, WITHIN).await.unwrap();
    node.world().waiting = vec![1, 3];
    // The first message in hand arrived after the drain, by the other lane.
    node.hand_over_by(0, 1, false, 1_000_001);
    node.hand_over_by(1, 2, false, 999_000);
    handle.command(Command::Drain, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 1).await;
    assert_eq!(node.done(), [2]);
    node.world().waiting = vec![1, 2];
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.state().activity, Activity::Draining);
    node.hand_over_by(1, 3, false, 999_001);
    node.hand_over_by(1, 4, false, 1_000_002);
    node.world().waiting = vec![1, 1];
    state_until(&handle, |state| state.activity == Activity::Paused).await;
    assert_eq!(node.done(), [2, 3]);
    handle.command(Command::Resume, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 4).await;
    assert_eq!(node.done(), [2, 3, 1, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_keeps_the_order_of_a_lane_though_the_clock_was_set_back() {
    let node = Scripted::new([Step::Done]);
    node.world().shards = 2;
    let handle = node.start(settings()).await;
    handle.command(Command::Pause, WITHIN).await.unwrap();
    node.hand_over_by(0, 1, false, 1_000_500);
    node.hand_over_by(1, 2, false, 1_000_500);
    node.hand_over_by(0, 3, false, 999_000);
    handle.command(Command::Drain, WITHIN).await.unwrap();
    state_until(&handle, |state| state.activity == Activity::Paused).await;
    assert_eq!(node.done(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_not_taken_holds_up_no_message() {
    let node = Scripted::new([Step::Refuse(vec![1]), Step::FailAt(1)]);
    let handle = node.start(settings()).await;
    node.hand_over([1]);
    node.until(|world| world.letters.len() == 1).await;
    let again = Command::SendAgain(vec![1]);
    handle.command(again, WITHIN).await.unwrap();
    node.until(|world| world.calls.len() == 3).await;
    let begun = tokio::time::Instant::now();
    node.hand_over(2..=9);
    node.until(|world| world.settled.len() == 9).await;
    assert!(begun.elapsed() < Duration::from_millis(100));
    let state = handle.state();
    assert_eq!(
        (state.activity, state.sending_again),
        (Activity::Running, 1)
    );
    assert_eq!(state.last_error.unwrap().0, "no route");
    node.world().script = [Step::Done].into();
    node.until(|world| world.letters.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_at_which_the_sink_panics_stays_one() {
    let steps = [Step::Refuse(vec![1, 2]), Step::PanicAt(1)];
    let node = Scripted::new(steps);
    let handle = node.start(settings()).await;
    node.hand_over(1..=2);
    node.until(|world| world.letters.len() == 2).await;
    let again = Command::SendAgain(vec![1, 2]);
    handle.command(again, WITHIN).await.unwrap();
    node.until(|world| world.letters.len() == 1).await;
    state_until(&handle, |state| state.sending_again == 0).await;
    let letter = node.world().letters[&1].clone();
    assert!(letter.head.reason.contains("panicked"), "{letter:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_dead_letter_store_is_over_when_it_works_again() {
    let node = Scripted::new([Step::Refuse(vec![1])]);
    let handle = node.start(settings()).await;
    node.hand_over([1]);
    node.until(|world| world.letters.len() == 1).await;
    node.world().store_error = Some("disk full".to_owned());
    let again = Command::SendAgain(vec![1]);
    handle.command(again.clone(), WITHIN).await.unwrap();
    state_until(&handle, |state| state.failure.is_some()).await;
    node.world().store_error = None;
    handle.command(again, WITHIN).await.unwrap();
    state_until(&handle, |state| state.failure.is_none()).await;
    assert_eq!(handle.state().activity, Activity::Running);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_always_panics_turns_few_messages_into_dead_letters() {
    let node = Scripted::new([Step::Panic]);
    let handle = node.start(settings()).await;
    node.hand_over(1..=8);
    tokio::time::sleep(Duration::from_secs(36_000)).await;
    assert_eq!(node.world().letters.len(), 3);
    assert_eq!((node.done(), handle.state().in_hand), (vec![], 5));
    node.world().script = [Step::Done].into();
    node.until(|world| world.settled.len() == 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_stopped_it_can_be_skipped() {
    let node = Scripted::new([Step::Refuse(vec![2])]);
    let stops = Settings {
        on_reject: OnReject::Stop,
        ..settings()
    };
    let handle = node.start(stops).await;
    node.hand_over(1..=4);
    state_until(&handle, |state| state.activity == Activity::Stopped).await;
    handle.command(Command::Resume, WITHIN).await.unwrap();
    state_until(&handle, |state| state.activity == Activity::Stopped).await;
    handle.command(Command::Skip, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 4).await;
    assert_eq!((node.done(), node.refused()), (vec![1, 3, 4], vec![2]));
    assert_eq!(node.world().letters.len(), 1);
    assert_eq!(node.world().saved, SavedState::Running);
    // Only once.
    node.world().script = [Step::Refuse(vec![5])].into();
    node.hand_over([5]);
    state_until(&handle, |state| state.activity == Activity::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_team_that_gets_another_tenant_is_followed() {
    let node = Scripted::new([Step::Done]);
    let of_team = Settings {
        tenant: "plant".into(),
        ..settings()
    };
    let handle = node.start(of_team).await;
    state_until(&handle, |state| state.activity == Activity::Running).await;
    node.world().team = Some(TenantId(9));
    node.until(|world| world.specs.len() == 2).await;
    assert_eq!(node.world().specs[1].tenant, TenantId(9));
    state_until(&handle, |state| state.activity == Activity::Running).await;
}

/// In real time, because virtual time does not advance while another thread sleeps.
#[tokio::test]
async fn a_sink_that_blocks_its_thread_holds_up_nothing_else() {
    let node = Scripted::new([Step::Block(Duration::from_secs(2)), Step::Done]);
    let limited = Settings {
        deliver_within: Duration::from_millis(10),
        ..settings()
    };
    let place = CallRuntime::for_sink(&limited.client_id());
    let handle = node.start_at(limited, place);
    node.until(|world| world.is_attached).await;
    node.hand_over(1..=2);
    node.until(|world| world.calls.len() == 1).await;
    let begun = std::time::Instant::now();
    handle.command(Command::Pause, WITHIN).await.unwrap();
    handle.command(Command::Resume, WITHIN).await.unwrap();
    let told = handle.command(Command::Test, WITHIN).await.unwrap_err();
    assert!(told.to_string().contains("blocks its thread"), "{told}");
    let state = state_until(&handle, |state| state.failure.is_some()).await;
    let error = state.failure.unwrap().error;
    assert!(error.contains("blocks its thread"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{begun:?}");
    // When it returns it is called again; the result of the blocked call is unknown.
    node.until(|world| world.settled.len() == 2).await;
    assert_eq!(node.calls()[1], [(1, true), (2, true)]);
    assert!(handle.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_sink_that_blocks() {
    let node = Scripted::new([Step::Block(Duration::from_secs(30))]);
    let place = CallRuntime::for_sink(&settings().client_id());
    let handle = node.start_at(settings(), place);
    node.until(|world| world.is_attached).await;
    node.hand_over([1]);
    node.until(|world| world.calls.len() == 1).await;
    let begun = std::time::Instant::now();
    assert!(!handle.stop(Duration::from_millis(50)).await);
    state_until(&handle, |state| state.activity == Activity::Ended).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_team_that_gets_a_tenant_is_found_at_once_when_the_runner_is_told() {
    let node = Scripted::new([Step::Done]);
    node.world().team = None;
    let of_team = Settings {
        tenant: "plant".into(),
        ..settings()
    };
    let handle = node.start_only(of_team);
    let is_late =
        |state: &super::State| state.failure.as_ref().is_some_and(|one| one.attempts == 6);
    state_until(&handle, is_late).await;
    node.world().team = Some(TenantId(9));
    let begun = tokio::time::Instant::now();
    handle.command(Command::Retry, WITHIN).await.unwrap();
    state_until(&handle, |state| state.activity == Activity::Running).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_message_at_which_the_target_always_fails_becomes_a_dead_letter() {
    let node = Scripted::new([Step::ErrorAt(2)]);
    let three = Settings {
        max_attempts: 3,
        ..settings()
    };
    let handle = node.start(three).await;
    node.hand_over(1..=4);
    node.until(|world| world.settled.len() == 4).await;
    assert_eq!((node.done(), node.refused()), (vec![1, 3, 4], vec![2]));
    let letters: Vec<_> = node.world().letters.values().cloned().collect();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].head.reason, "status 500 (3 attempts)");
    // Sent again, it is refused at the first error, with the new reason.
    handle
        .command(Command::SendAgain(vec![1]), WITHIN)
        .await
        .unwrap();
    node.until(|world| world.letters[&1].head.refusals == 2)
        .await;
    assert_eq!(node.world().letters[&1].head.reason, "status 500");
    state_until(&handle, |state| state.sending_again == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_at_all_messages_turns_few_of_them_into_dead_letters() {
    let node = Scripted::new([Step::Error]);
    let handle = node.start(settings()).await;
    node.hand_over(1..=8);
    let is_late = |state: &super::State| state.counts.failed_attempts > 50;
    state_until(&handle, is_late).await;
    assert_eq!(node.refused(), [1, 2, 3]);
    node.world().script = [Step::Done].into();
    node.until(|world| world.settled.len() == 8).await;
    assert_eq!(node.done(), [4, 5, 6, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_message_at_which_the_sink_fails_holds_up_its_publisher_alone() {
    let node = Scripted::new([Step::FailAtOnly(1)]);
    let handle = node.start(settings()).await;
    node.hand_over_of(0, 1, "pump-1");
    node.hand_over_of(0, 2, "pump-1");
    node.hand_over_of(0, 3, "pump-2");
    state_until(&handle, |state| state.counts.failed_attempts == 1).await;
    // While it waits, other messages are handed over at once.
    let begun = tokio::time::Instant::now();
    (4..=20).for_each(|number| node.hand_over_of(0, number, "pump-2"));
    node.until(|world| world.settled.len() == 18).await;
    assert!(begun.elapsed() < Duration::from_millis(100));
    let state = handle.state();
    assert_eq!(state.failure.unwrap().error, "status 500");
    assert_eq!((state.activity, state.in_hand), (Activity::Retrying, 2));
    // It is dropped after its attempts, and the next one is sent.
    node.until(|world| world.settled.len() == 20).await;
    assert_eq!((node.refused(), node.done().last()), (vec![1], Some(&2)));
    let state = state_until(&handle, |state| state.activity == Activity::Running).await;
    assert_eq!(state.failure, None);
}

#[tokio::test(start_paused = true)]
async fn an_operator_gives_up_a_message_at_which_the_sink_fails() {
    let node = Scripted::new([Step::FailAtOnly(1)]);
    let without_end = Settings {
        max_attempts: 0,
        ..settings()
    };
    let handle = node.start(without_end).await;
    let nothing = handle.command(Command::Skip, WITHIN).await;
    assert!(nothing.is_err());
    node.hand_over(1..=2);
    state_until(&handle, |state| state.counts.failed_attempts > 2).await;
    handle.command(Command::Skip, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 2).await;
    assert_eq!((node.refused(), node.done()), (vec![1], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_sink_is_called_is_seen_in_the_state() {
    let node = Scripted::new([Step::Hang]);
    let handle = node.start(settings()).await;
    node.hand_over([1]);
    state_until(&handle, |state| state.in_hand == 1).await;
    node.hand_over(2..=100);
    let begun = tokio::time::Instant::now();
    state_until(&handle, |state| state.in_hand == 100).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(node.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_stops_a_sink_that_stops_at_refusals_and_skips_the_message_then() {
    let node = Scripted::new([Step::ErrorAt(2)]);
    let stops = Settings {
        on_reject: OnReject::Stop,
        max_attempts: 2,
        ..settings()
    };
    let handle = node.start(stops).await;
    node.hand_over(1..=3);
    for _ in 0..5 {
        state_until(&handle, |state| state.activity == Activity::Stopped).await;
        handle.command(Command::Resume, WITHIN).await.unwrap();
    }
    state_until(&handle, |state| state.activity == Activity::Stopped).await;
    handle.command(Command::Skip, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 3).await;
    assert_eq!((node.done(), node.refused()), (vec![1, 3], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn a_message_in_hand_that_is_too_old_is_dropped_whether_the_sink_fails_or_is_paused() {
    let node = Scripted::new([Step::Error]);
    let mut aging = settings();
    aging.queue.age_max_secs = 60;
    let handle = node.start(aging.clone()).await;
    let begun = tokio::time::Instant::now();
    // One has waited in the queue for 50 seconds already.
    node.hand_over_at(1, false, 950_000);
    node.hand_over_at(2, false, 1_000_000);
    node.until(|world| world.settled.len() == 1).await;
    assert_eq!(node.world().settled, [(1, PartOutcome::TooOld)]);
    assert!((10..12).contains(&begun.elapsed().as_secs()), "{begun:?}");
    handle.command(Command::Pause, WITHIN).await.unwrap();
    node.until(|world| world.settled.len() == 2).await;
    assert_eq!(node.world().settled[1], (2, PartOutcome::TooOld));
    assert!((60..62).contains(&begun.elapsed().as_secs()), "{begun:?}");
    let state = state_until(&handle, |state| state.in_hand == 0).await;
    assert_eq!(state.counts.dead_letters, 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_failing_message_takes_no_places_of_others() {
    let node = Scripted::new([Step::FailAtOnly(1)]);
    let handle = node.start(settings()).await;
    node.hand_over_of(0, 1, "pump-1");
    node.hand_over_of(0, 2, "pump-2");
    node.until(|world| world.credit == Some(8)).await;
    (3..=7).for_each(|number| node.hand_over_of(0, number, "pump-1"));
    node.until(|world| world.credit == Some(12)).await;
    // After they are delivered, the credit is as before.
    node.until(|world| world.settled.len() == 7).await;
    node.until(|world| world.credit == Some(4)).await;
    state_until(&handle, |state| state.in_hand == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_with_all_places_behind_it_lets_others_come() {
    let node = Scripted::new([Step::FailAtOnly(1)]);
    let handle = node.start(settings()).await;
    (1..=4).for_each(|number| node.hand_over_of(0, number, "pump-1"));
    // Messages of other publishers show whether the target is down.
    node.until(|world| world.credit == Some(8)).await;
    (5..=8).for_each(|number| node.hand_over_of(0, number, "pump-2"));
    node.until(|world| world.settled.len() == 4).await;
    assert_eq!(node.done(), [5, 6, 7, 8]);
    state_until(&handle, |state| state.in_hand == 4).await;
}
