//! Flipped bits in the file: no other value is served, and none is left out without an error.

use martlet_telemetry::{
    Order, Point, Range, SECOND, Selection, Settings, Storage, StorageError, Time, Value,
};

use crate::model::BEGIN;
use crate::place::{Dice, TestStorage};

const VALUES: i64 = 3_000;
const FLIPS: usize = 150;

fn points() -> Vec<Point> {
    let value = |index: i64| match index % 3 {
        0 => Value::Integer(index * 7919),
        1 => Value::Number(index as f64 / 7.0),
        _ => Value::Text(format!("state {index}").into()),
    };
    let point = |index: i64| Point {
        device: 1,
        tenant: 0,
        key: "level".into(),
        time: BEGIN + index * SECOND,
        origin: 0,
        value: value(index),
    };
    (0..VALUES).map(point).collect()
}

/// What is read of the file, or why it is not.
async fn read(place: &TestStorage) -> Result<Vec<(Time, Value)>, StorageError> {
    let storage = Storage::open(place.location(), Settings::default()).await?;
    let range = Range {
        selection: Selection::device(1),
        from: Time::MIN,
        until: Time::MAX,
        order: Order::OldestFirst,
        limit: 100_000,
        after: None,
    };
    let found = storage.range(&range).await;
    let _ = storage.close().await;
    let rows = found?.rows.into_iter();
    Ok(rows.map(|row| (row.time, row.value)).collect())
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_and_never_another_value() {
    let place = TestStorage::new("flip");
    let storage = place.open(Settings::default()).await;
    for some in points().chunks(100) {
        storage.write(some.to_vec()).await.unwrap();
    }
    storage.pack().await.unwrap();
    storage.close().await.unwrap();
    let whole = std::fs::read(place.file()).unwrap();
    let expected: Vec<(Time, Value)> = points().into_iter().map(|p| (p.time, p.value)).collect();
    assert_eq!(read(&place).await.unwrap(), expected);
    let mut dice = Dice(7);
    let (mut found, mut silent) = (0, Vec::new());
    for _ in 0..FLIPS {
        let at = dice.below(whole.len() as i64) as usize;
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << dice.below(8);
        std::fs::write(place.file(), &damaged).unwrap();
        for log in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{log}", place.file().display()));
        }
        match read(&place).await {
            Ok(values) if values == expected => {}
            Ok(values) => silent.push((at, values.len())),
            Err(_) => found += 1,
        }
    }
    assert_eq!(silent, []);
    assert!(found > FLIPS / 8, "{found}");
}
