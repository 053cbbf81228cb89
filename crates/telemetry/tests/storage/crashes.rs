//! Acknowledged values survive kill -9, and deleted values stay deleted.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use martlet_telemetry::{
    Location, Order, Point, Range, SECOND, Selection, Settings, Storage, Time, Value,
};

use crate::model::{BEGIN, Model};
use crate::place::{TestStorage, small};

/// Set in the child process to be killed: the file that it writes.
pub(crate) const CHILD: &str = "MARTLET_TELEMETRY_CHILD";
const DEVICES: i64 = 7;

enum Step {
    Write(Vec<Point>),
    Delete(Selection),
}

/// The action of the process at a step, and its device.
fn step(number: i64) -> (i64, Step) {
    let device = number % DEVICES;
    if number % 5 == 4 {
        return (device, Step::Delete(Selection::device(device)));
    }
    let point = |index: i64| Point {
        device,
        tenant: 0,
        key: "level".into(),
        // Each step overwrites half of the values of an earlier one.
        time: BEGIN + (number / DEVICES * 150 + index) * SECOND,
        origin: 0,
        value: Value::Integer(number * 1000 + index),
    };
    (device, Step::Write((0..300).map(point).collect()))
}

/// Not a separate test: it writes until it is killed.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let settings = Settings {
        memory_bytes_max: 128 << 10,
        ..small()
    };
    let location = Location::File(path.into());
    let storage = Storage::open(location, settings).await.expect("it opens");
    for number in 0.. {
        match step(number).1 {
            Step::Write(points) => drop(storage.write(points).await.expect("written")),
            Step::Delete(selection) => {
                let deleted = storage.delete(selection, Time::MIN, Time::MAX).await;
                deleted.expect("deleted");
            }
        }
        println!("acknowledged {number}");
    }
}

/// Runs such a process until it has acknowledged this number of steps or writes `full`, and kills
/// it. Returns the last step.
pub(crate) fn run_and_kill(place: &TestStorage, child: &str, steps: usize) -> i64 {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["--exact", child, "--nocapture"])
        .env(CHILD, place.file())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let mut last = -1;
    for line in output.lines() {
        let line = line.expect("text");
        if let Some((_, number)) = line.split_once("acknowledged ") {
            last = number.parse().expect("a number");
        }
        if last + 1 == i64::try_from(steps).expect("small") || line == "full" {
            // Output up to its end is read too.
            child.kill().expect("killed");
        }
    }
    child.wait().expect("it ended");
    last
}

#[tokio::test]
async fn acknowledged_values_survive_a_kill_and_deleted_ones_stay_deleted() {
    for steps in [3, 44, 91, 200] {
        let place = TestStorage::new("kill");
        let last = run_and_kill(&place, "crashes::child", steps);
        assert!(last + 1 >= i64::try_from(steps).unwrap(), "{last}");
        let mut model = Model::default();
        for number in 0..=last {
            match step(number).1 {
                Step::Write(points) => model.write(&points),
                Step::Delete(selection) => drop(model.delete(&selection, Time::MIN, Time::MAX)),
            }
        }
        let storage = place.open(small()).await;
        for device in 0..DEVICES {
            // The unacknowledged step may or may not have taken effect.
            if device == step(last + 1).0 {
                continue;
            }
            let range = Range {
                selection: Selection::device(device),
                from: Time::MIN,
                until: Time::MAX,
                order: Order::OldestFirst,
                limit: 1_000_000,
                after: None,
            };
            let rows = storage.range(&range).await.unwrap().rows;
            assert_eq!(
                rows,
                model.rows(&range),
                "device {device} after step {last}"
            );
            let count = storage.count(device).await.unwrap();
            assert_eq!(count, rows.len() as u64);
        }
    }
}
