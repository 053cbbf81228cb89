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

/// Returns what is read of the file, or why it is not.
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

fn text_of(device: i64, at: i64, text: &str) -> Point {
    Point {
        device,
        tenant: 0,
        key: "state".into(),
        time: BEGIN + at * SECOND,
        origin: 0,
        value: Value::Text(text.into()),
    }
}

/// Flips a bit of this text in the file.
fn flip(place: &TestStorage, text: &str) {
    let mut bytes = std::fs::read(place.file()).unwrap();
    let found: Vec<usize> = (0..bytes.len() - text.len())
        .filter(|at| bytes[*at..].starts_with(text.as_bytes()))
        .collect();
    for at in &found {
        bytes[*at] ^= 1;
    }
    assert!(!found.is_empty());
    std::fs::write(place.file(), bytes).unwrap();
}

/// The texts of a device in a span of seconds, or why they are not read.
async fn texts(
    storage: &Storage,
    device: i64,
    span: std::ops::Range<i64>,
) -> Result<Vec<String>, StorageError> {
    let range = Range {
        selection: Selection::device(device),
        from: BEGIN + span.start * SECOND,
        until: BEGIN + span.end * SECOND,
        order: Order::OldestFirst,
        limit: 100,
        after: None,
    };
    let rows = storage.range(&range).await?.rows.into_iter();
    Ok(rows
        .map(|row| match row.value {
            Value::Text(text) => text.to_string(),
            other => panic!("{other:?}"),
        })
        .collect())
}

#[tokio::test]
async fn a_damaged_row_of_the_journal_costs_its_own_values_and_is_named() {
    let place = TestStorage::new("journal");
    let storage = place.open(Settings::default()).await;
    for (at, text) in [(0, "first"), (1, "second"), (2, "third")] {
        storage.write(vec![text_of(1, at, text)]).await.unwrap();
    }
    storage.close().await.unwrap();
    flip(&place, "second");
    let storage = place.open(Settings::default()).await;
    assert_eq!(texts(&storage, 1, 0..9).await.unwrap(), ["first", "third"]);
    let damage = storage.damage().first().to_vec();
    assert_eq!(storage.damage().count(), 1);
    assert!(damage[0].starts_with("row 2 of the journal"), "{damage:?}");
    // What comes next is stored and packed as always.
    storage.write(vec![text_of(1, 3, "fourth")]).await.unwrap();
    storage.pack().await.unwrap();
    storage.close().await.unwrap();
    let storage = place.open(Settings::default()).await;
    let found = texts(&storage, 1, 0..9).await.unwrap();
    assert_eq!(found, ["first", "third", "fourth"]);
    storage.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_block_stops_neither_its_series_nor_others() {
    let place = TestStorage::new("block");
    let storage = place.open(Settings::default()).await;
    let first = (0..3).map(|at| text_of(1, at, &format!("damaged {at}")));
    storage.write(first.collect()).await.unwrap();
    storage.write(vec![text_of(2, 0, "other")]).await.unwrap();
    storage.pack().await.unwrap();
    storage.close().await.unwrap();
    flip(&place, "damaged 1");
    let storage = place.open(Settings::default()).await;
    // Later ones, one between those of the block, and one of another series.
    for point in [
        text_of(1, 10, "later"),
        text_of(1, 1, "again"),
        text_of(2, 1, "more"),
    ] {
        storage.write(vec![point]).await.unwrap();
        storage.pack().await.unwrap();
    }
    assert_eq!(
        storage.damage().count(),
        1,
        "{:?}",
        storage.damage().first()
    );
    assert!(storage.damage().first()[0].starts_with("the block of series 1 at"));
    assert_eq!(texts(&storage, 2, 0..99).await.unwrap(), ["other", "more"]);
    assert_eq!(texts(&storage, 1, 5..99).await.unwrap(), ["later"]);
    let error = texts(&storage, 1, 0..99).await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    // To delete its day is to accept the loss.
    let all = storage.delete(Selection::device(1), Time::MIN, Time::MAX);
    all.await.unwrap();
    storage.write(vec![text_of(1, 20, "new")]).await.unwrap();
    assert_eq!(texts(&storage, 1, 0..99).await.unwrap(), ["new"]);
    storage.close().await.unwrap();
}
