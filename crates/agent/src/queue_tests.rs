use super::*;
use martlet_store::SimDisk;

const LARGE: Limits = Limits {
    messages: 10_000,
    bytes: 1 << 20,
};

fn open(disk: &SimDisk, limits: Limits) -> Queue<SimDisk> {
    let (queue, report) = Queue::open(disk.clone(), limits, 7).expect("opens");
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    queue
}

fn push(queue: &mut Queue<SimDisk>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        queue.push("t", number.to_string().as_bytes(), None);
    }
}

fn numbers(messages: &[Queued]) -> Vec<u32> {
    let text = |message: &Queued| String::from_utf8(message.payload.clone()).unwrap();
    messages
        .iter()
        .map(|message| text(message).parse().unwrap())
        .collect()
}

fn all(queue: &mut Queue<SimDisk>) -> Vec<u32> {
    numbers(&queue.take(usize::MAX, u64::MAX))
}

#[test]
fn messages_come_out_in_their_order_and_only_once() {
    let mut queue = open(&SimDisk::new(1), LARGE);
    push(&mut queue, 0..10);
    assert!(queue.take(10, 100).is_empty(), "nothing is committed");
    queue.commit().unwrap();
    assert_eq!(numbers(&queue.take(3, u64::MAX)), [0, 1, 2]);
    assert_eq!(numbers(&queue.take(100, 3)), [3, 4]);
    assert_eq!(all(&mut queue), [5, 6, 7, 8, 9]);
    assert!(queue.take(1, 1).is_empty());
}

#[test]
fn a_message_stays_over_crashes_until_its_end_is_committed() {
    let disk = SimDisk::new(2);
    let mut queue = open(&disk, LARGE);
    push(&mut queue, 0..5);
    queue.commit().unwrap();
    let taken = queue.take(3, u64::MAX);
    queue.end(taken[0].id, End::Acknowledged);
    queue.commit().unwrap();
    queue.end(taken[1].id, End::Acknowledged);
    drop(queue);
    disk.crash(1);
    let mut queue = open(&disk, LARGE);
    assert_eq!((queue.messages(), queue.bytes()), (4, 8));
    assert_eq!(all(&mut queue), [1, 2, 3, 4]);
}

#[test]
fn what_ended_is_not_handed_out_before_its_record_is_written() {
    let mut queue = open(&SimDisk::new(3), LARGE);
    push(&mut queue, 0..2);
    queue.commit().unwrap();
    let first = queue.take(1, u64::MAX).remove(0);
    queue.end(first.id, End::Acknowledged);
    queue.end(first.id, End::Acknowledged);
    queue.give_back(first.id);
    assert_eq!(queue.counts().acknowledged, 1);
    assert_eq!(all(&mut queue), [1]);
}

#[test]
fn what_is_given_back_is_the_first_again() {
    let mut queue = open(&SimDisk::new(4), LARGE);
    push(&mut queue, 0..4);
    queue.commit().unwrap();
    let taken = queue.take(3, u64::MAX);
    queue.give_back(taken[1].id);
    assert_eq!(all(&mut queue), [1, 3]);
}

#[test]
fn a_full_queue_drops_the_oldest_that_was_not_handed_out() {
    let limits = Limits {
        messages: 4,
        bytes: 1_000,
    };
    let disk = SimDisk::new(5);
    let mut queue = open(&disk, limits);
    push(&mut queue, 0..3);
    queue.commit().unwrap();
    assert_eq!(numbers(&queue.take(1, u64::MAX)), [0]);
    push(&mut queue, 3..7);
    queue.commit().unwrap();
    assert_eq!((queue.counts().dropped, queue.messages()), (3, 4));
    assert_eq!(all(&mut queue), [4, 5, 6]);
    drop(queue);
    disk.crash(1);
    assert_eq!(all(&mut open(&disk, limits)), [0, 4, 5, 6]);
}

#[test]
fn the_limit_of_bytes_holds_too() {
    let limits = Limits {
        messages: 100,
        bytes: 50,
    };
    let mut queue = open(&SimDisk::new(6), limits);
    for letter in ["a", "b", "c"] {
        queue.push("t", letter.repeat(24).as_bytes(), None);
    }
    queue.commit().unwrap();
    let left = queue.take(10, u64::MAX);
    assert_eq!(left.len(), 2);
    assert!(left[0].payload.starts_with(b"b"));
    assert_eq!(queue.bytes(), 50);
}

#[test]
fn a_line_and_the_place_behind_it_survive_together_or_not_at_all() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mut queue = open(&disk, LARGE);
        for number in 1..=20_u32 {
            let text = number.to_string();
            queue.push("t", text.as_bytes(), Some((9, text.as_bytes())));
            if number == 12 {
                queue.commit().unwrap();
            }
        }
        // Written but not synced before the power failure.
        queue.write().unwrap();
        drop(queue);
        disk.crash(seed);
        let mut queue = open(&disk, LARGE);
        let left = all(&mut queue);
        let count = left.len() as u32;
        assert!(
            count >= 12 && left.iter().copied().eq(1..=count),
            "{left:?}"
        );
        let states = queue.states(StateKind::File);
        assert_eq!(states, [(9, count.to_string().into_bytes())]);
    }
}

#[test]
fn ids_are_never_used_again() {
    let disk = SimDisk::new(8);
    let mut queue = open(&disk, LARGE);
    push(&mut queue, 0..3);
    queue.commit().unwrap();
    let last = queue.take(3, u64::MAX).pop().unwrap();
    for id in 1..=last.id {
        queue.end(id, End::Acknowledged);
    }
    queue.close().unwrap();
    let mut queue = open(&disk, LARGE);
    push(&mut queue, 0..1);
    queue.commit().unwrap();
    assert!(queue.take(1, 100)[0].id > last.id);
}

#[test]
fn a_full_disk_loses_nothing_that_was_committed_and_goes_on_when_there_is_room() {
    let disk = SimDisk::new(9);
    let mut queue = open(
        &disk,
        Limits {
            bytes: 1 << 30,
            ..LARGE
        },
    );
    disk.set_capacity(Some(disk.used() + (3 << 20)));
    let payload = vec![b'x'; 100_000];
    let mut committed = 0;
    for _ in 0..200 {
        queue.push("t", &payload, None);
        match queue.commit() {
            Ok(()) => committed = queue.messages(),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                break;
            }
        }
    }
    assert!((5..200).contains(&committed), "{committed}");
    disk.set_capacity(None);
    queue.commit().unwrap();
    assert_eq!(queue.messages(), committed + 1);
    drop(queue);
    disk.crash(3);
    let queue = open(
        &disk,
        Limits {
            bytes: 1 << 30,
            ..LARGE
        },
    );
    assert_eq!(queue.messages(), committed + 1);
}

#[test]
fn a_queue_that_overflows_for_long_takes_little_space() {
    let limits = Limits {
        messages: 1_000,
        bytes: 1 << 20,
    };
    let disk = SimDisk::new(10);
    let mut queue = open(&disk, limits);
    let mut largest = 0;
    for round in 0..600 {
        for _ in 0..100 {
            queue.push("t", &[b'x'; 500], None);
        }
        queue.commit().unwrap();
        queue.housekeep().unwrap();
        if round % 10 == 0 {
            largest = largest.max(disk.used());
        }
    }
    // 30 MB were written in total.
    assert_eq!(queue.messages(), 1_000);
    assert!(largest < 12 << 20, "{largest}");
    queue.rest().unwrap();
    while queue.housekeep().unwrap() {}
    assert!(disk.used() < 6 << 20, "{}", disk.used());
}

#[test]
fn messages_that_an_earlier_run_may_have_sent_are_marked() {
    let disk = SimDisk::new(11);
    let mut queue = open(&disk, LARGE);
    let in_flight = IN_FLIGHT_MAX as u32;
    push(&mut queue, 0..in_flight + 5);
    queue.commit().unwrap();
    let taken = queue.take(usize::MAX, u64::MAX);
    assert!(taken.iter().all(|message| !message.sent_before));
    queue.end(taken[0].id, End::Acknowledged);
    queue.commit().unwrap();
    drop(queue);
    disk.crash(1);
    let mut queue = open(&disk, LARGE);
    push(&mut queue, 0..1);
    queue.commit().unwrap();
    let taken = queue.take(usize::MAX, u64::MAX);
    let marked = taken.iter().take_while(|message| message.sent_before);
    // No more than that was sent at once.
    assert_eq!(marked.count(), IN_FLIGHT_MAX);
    assert!(!taken[IN_FLIGHT_MAX].sent_before);
}

#[test]
fn each_bit_that_flips_in_a_closed_queue_is_reported_or_costs_a_counted_message() {
    let disk = SimDisk::new(8);
    let mut queue = open(&disk, LARGE);
    push(&mut queue, 100..110);
    queue.commit().unwrap();
    queue.close().unwrap();
    let sound = disk.duplicate();
    let logs = || -> Vec<(String, usize)> {
        let files = Disk::list(&sound).unwrap();
        let files = files.into_iter().map(|(name, _)| name);
        let length = |name: &String| {
            sound.contents(name).map_or(0, |all| {
                all.iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1)
            })
        };
        files.map(|name| (name.clone(), length(&name))).collect()
    };
    let mut damaged = 0;
    for (name, length) in logs() {
        for offset in (0..length as u64).step_by(13) {
            let disk = sound.duplicate();
            assert!(disk.flip(&name, offset, 3));
            let Ok((mut queue, report)) = Queue::open(disk, LARGE, 7) else {
                continue;
            };
            let found = all(&mut queue);
            let is_whole = found == (100..110).collect::<Vec<u32>>();
            let is_named = !report.damage.is_empty() || queue.counts().damaged > 0;
            assert!(is_whole || is_named, "{name} at {offset}: {found:?}");
            // No message is changed.
            assert!(found.iter().all(|number| (100..110).contains(number)));
            damaged += queue.counts().damaged;
        }
    }
    assert!(damaged > 0);
}
