//! Many values that arrive out of order, with all kinds of queries compared with the model.
//!
//! 100,000 values, or the number in the variable; `bench/back-fill` runs it with ten million.

use std::io::{IsTerminal as _, Write as _};

use martlet_telemetry::{Order, Point, Range, SECOND, Selection, Settings, Storage, Time, Value};

use crate::aggregates;
use crate::model::{BEGIN, KEYS, Model, all_pages, question};
use crate::place::{Dice, TestStorage, small};

/// A prime number: multiples of it modulo another number visit all numbers below that.
const STRIDE: i64 = 7_368_787;
/// Points of one call.
const CALL: i64 = 10_000;
const DEVICES: i64 = 3;

fn values() -> i64 {
    let given = std::env::var("MARTLET_TELEMETRY_VALUES").ok();
    given.map_or(100_000, |given| given.parse().expect("a number of values"))
}

/// Shows progress on a terminal.
fn show(what: &str, done: i64, all: i64) {
    if std::io::stderr().is_terminal() {
        let percent = done * 100 / all.max(1);
        let filled = "#".repeat(usize::try_from(percent / 4).unwrap_or(0));
        eprint!("\r{what:<10} [{filled:<25}] {percent:>3} %");
        let _ = std::io::stderr().flush();
        if done >= all {
            eprintln!();
        }
    }
}

/// Number of queries of one comparison.
const QUESTIONS: i64 = 10;

/// The value at a position in time order. All series have values at all times, ten seconds apart.
fn point(place: i64, round: i64) -> Point {
    let series = place % (DEVICES * 4);
    let key = usize::try_from(series % 4).expect("small");
    let slot = place / (DEVICES * 4);
    let mixed = (place ^ (round << 40)).wrapping_mul(0x9e37_79b9_7f4a);
    Point {
        device: series / 4 + 1,
        tenant: 0,
        key: KEYS[key].into(),
        time: BEGIN + slot * 10 * SECOND,
        origin: 0,
        value: match key {
            0 => Value::Number(f64::from(i32::try_from(mixed.rem_euclid(5000)).unwrap()) / 100.0),
            1 => Value::Integer(place + round),
            2 => Value::Bool(mixed % 2 == 0),
            _ => Value::Integer(mixed.rem_euclid(10)),
        },
    }
}

async fn compare(storage: &Storage, model: &Model, dice: &mut Dice, count: i64, until: Time) {
    for question_number in 0..QUESTIONS {
        show("comparing", question_number, QUESTIONS);
        let mut range = question(dice);
        // At any time in the whole span.
        let shift = dice.below((until - BEGIN).max(1)) / SECOND * SECOND;
        range.from += shift;
        range.until += shift;
        range.limit = 5_000;
        let expected = model.rows(&range);
        assert_eq!(
            all_pages(storage, range.clone()).await,
            expected,
            "{range:?}"
        );
        aggregates::compare_one(storage, model, dice, until).await;
    }
    show("comparing", QUESTIONS, QUESTIONS);
    let mut found = 0;
    for device in 1..=DEVICES {
        found += storage.count(device).await.unwrap();
    }
    assert_eq!(found, count.unsigned_abs());
    let devices = (1..=DEVICES).collect();
    let selection = Selection {
        devices,
        keys: None,
    };
    let latest = storage.latest(&selection).await.unwrap();
    assert_eq!(latest, model.latest(&selection.devices));
}

#[tokio::test]
async fn back_filled_values_are_those_of_the_model() {
    let count = values();
    let settings = match count > 1_000_000 {
        true => Settings::default(),
        false => small(),
    };
    let place = TestStorage::new("back-fill");
    let storage = place.open(settings).await;
    let mut model = Model::default();
    let mut dice = Dice(10);
    let until = point(count, 0).time;
    for first in (0..count).step_by(CALL.unsigned_abs().try_into().unwrap()) {
        let places = (first..(first + CALL).min(count)).map(|index| index * STRIDE % count);
        let mut points: Vec<_> = places.map(|place| point(place, 0)).collect();
        // A tenth replaces existing values, or is replaced later.
        let again = (0..CALL / 10).map(|_| point(dice.below(count), first + 1));
        points.extend(again);
        model.write(&points);
        storage.write(points).await.expect("written");
        show("writing", (first + CALL).min(count), count);
    }
    let count = i64::try_from(model.values.len()).unwrap();
    compare(&storage, &model, &mut dice, count, until).await;
    storage.pack().await.expect("packed");
    compare(&storage, &model, &mut dice, count, until).await;
    let everything = Range {
        selection: Selection::device(2),
        from: Time::MIN,
        until: Time::MAX,
        order: Order::NewestFirst,
        limit: 100_000,
        after: None,
    };
    assert_eq!(
        all_pages(&storage, everything.clone()).await,
        model.rows(&everything)
    );
}
