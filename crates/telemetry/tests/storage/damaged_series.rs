//! Flipped bits in the table of series and its index: no value is served as one of another device
//! or key, and none is left out without a finding.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;

use martlet_telemetry::{
    Order, Point, Range, SECOND, Selection, Settings, Storage, StorageError, Time, Value,
};
use sqlx::Connection as _;

use crate::model::BEGIN;
use crate::place::{Dice, PAGE, TestStorage};

const DEVICES: i64 = 40;
const KEYS: i64 = 4;
const FLIPS: usize = 100;
const INDEX: &str = "sqlite_autoindex_series_1";

/// Long keys, so that the trees have several pages.
fn key(number: i64) -> String {
    format!("{number} {}", "of many keys ".repeat(7))
}

fn point(device: i64, key: &str, number: i64) -> Point {
    Point {
        device,
        tenant: 0,
        key: key.into(),
        time: BEGIN + number * SECOND,
        origin: 0,
        value: Value::Integer(device * 1_000 + number),
    }
}

type Values = BTreeMap<(i64, String), Vec<Value>>;

/// All values of all devices, and of some numbers that a flipped bit may lead to.
async fn values(storage: &Storage) -> Result<Values, StorageError> {
    let mut values = Values::new();
    let range = Range {
        selection: Selection {
            devices: (0..=DEVICES + 64).collect(),
            keys: None,
        },
        from: Time::MIN,
        until: Time::MAX,
        order: Order::OldestFirst,
        limit: 100_000,
        after: None,
    };
    for row in storage.range(&range).await?.rows {
        let key = (row.device, row.key.to_string());
        values.entry(key).or_default().push(row.value);
    }
    Ok(values)
}

fn written() -> Vec<Point> {
    let keys = |device| (0..KEYS).map(move |number| point(device, &key(number), number));
    (1..=DEVICES).flat_map(keys).collect()
}

/// A closed file with values in blocks.
async fn filled(name: &str) -> (TestStorage, Values) {
    let place = TestStorage::new(name);
    let storage = place.open(Settings::default()).await;
    storage.write(written()).await.unwrap();
    storage.pack().await.unwrap();
    let found = values(&storage).await.unwrap();
    assert_eq!(found.len(), written().len());
    assert_eq!(storage.damage().count(), 0);
    storage.close().await.unwrap();
    (place, found)
}

/// Flips bits in a table or index. Each is without effect, or it is named and mended.
async fn check_flips(of: &str, seed: u64) {
    let (place, expected) = filled("flipped-series").await;
    let pages = place.pages(of).await;
    assert!(pages.len() > 2, "{pages:?}");
    let whole = std::fs::read(place.file()).unwrap();
    let mut dice = Dice(seed);
    let mut mended = 0;
    for _ in 0..FLIPS {
        let page = pages[dice.below(pages.len() as i64) as usize];
        // Many flips hit the header of the page and the places of its cells.
        let end = [64, PAGE as i64][dice.below(2) as usize];
        let at = (page - 1) * PAGE + dice.below(end) as usize;
        let bit = dice.below(8);
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << bit;
        place.put(&damaged);
        let storage = place.open(Settings::default()).await;
        let found = values(&storage).await.unwrap();
        let said = storage.damage().first().to_vec();
        assert_eq!(found, expected, "byte {at}, bit {bit}: {said:?}");
        storage.write(written()).await.unwrap();
        assert_eq!(storage.damage().first(), said);
        storage.close().await.unwrap();
        if said.is_empty() {
            continue;
        }
        mended += 1;
        assert!(said[0].contains("the table `series`"), "{said:?}");
        let storage = place.open(Settings::default()).await;
        assert_eq!(values(&storage).await.unwrap(), expected);
        assert_eq!(
            storage.damage().count(),
            0,
            "{:?}",
            storage.damage().first()
        );
        let copy = place.file().with_extension("copy");
        storage.backup_to(&copy).await.unwrap();
        std::fs::remove_file(copy).unwrap();
        storage.close().await.unwrap();
    }
    assert!(mended > FLIPS / 2, "{mended}");
}

#[tokio::test]
async fn a_flipped_bit_in_the_table_of_series_is_mended_from_its_index() {
    check_flips("series", 3).await;
}

#[tokio::test]
async fn a_flipped_bit_in_the_index_of_series_is_mended_from_the_table() {
    check_flips(INDEX, 5).await;
}

/// Places of a text in the file, on some pages.
fn places(place: &TestStorage, text: &str, pages: &[usize]) -> Vec<usize> {
    let bytes = std::fs::read(place.file()).unwrap();
    let starts = pages.iter().map(|page| (page - 1) * PAGE);
    let all = starts.flat_map(|start| start..start + PAGE - text.len());
    let found = all.filter(|at| bytes[*at..].starts_with(text.as_bytes()));
    found.collect()
}

fn flip_at(place: &TestStorage, at: &[usize]) {
    assert!(!at.is_empty());
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).open(place.file()).unwrap();
    for at in at {
        let mut byte = [0];
        file.read_exact_at(&mut byte, *at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 1], *at as u64).unwrap();
    }
}

#[tokio::test]
async fn a_series_that_is_damaged_in_both_copies_is_named_and_not_served() {
    let (place, _) = filled("lost-series").await;
    let storage = place.open(Settings::default()).await;
    storage.write(vec![point(7, "lost", 1)]).await.unwrap();
    storage.pack().await.unwrap();
    let mut expected = values(&storage).await.unwrap();
    storage.close().await.unwrap();
    let mut all = place.pages("series").await;
    all.extend(place.pages(INDEX).await);
    let at = places(&place, "lost", &all);
    assert_eq!(at.len(), 2);
    flip_at(&place, &at);
    let storage = place.open(Settings::default()).await;
    let lost = (7, "lost".to_owned());
    expected.remove(&lost).unwrap();
    assert_eq!(values(&storage).await.unwrap(), expected);
    let said = storage.damage().first().to_vec();
    assert_eq!(storage.damage().count(), 1, "{said:?}");
    let number = DEVICES * KEYS + 1;
    let row = format!("row {number} of the table `series`, with device 7 and key \"most\"");
    assert!(said[0].starts_with(&row), "{said:?}");
    // New values have a series of their own.
    storage.write(vec![point(7, "lost", 2)]).await.unwrap();
    expected.insert(lost, vec![Value::Integer(7_002)]);
    storage.close().await.unwrap();
    let storage = place.open(Settings::default()).await;
    assert_eq!(values(&storage).await.unwrap(), expected);
    assert_eq!(storage.damage().count(), 0);
    storage.close().await.unwrap();
    let mut on = place.sql().await;
    let kept = sqlx::query_scalar::<_, i64>("SELECT id FROM damaged_series");
    assert_eq!(kept.fetch_all(&mut on).await.unwrap(), [number]);
}

#[tokio::test]
async fn damage_of_a_series_while_the_file_is_open_is_an_error_that_names_it() {
    let (place, mut expected) = filled("open-series").await;
    let storage = place.open(Settings::default()).await;
    storage.write(vec![point(7, "lost", 1)]).await.unwrap();
    storage.pack().await.unwrap();
    storage.close().await.unwrap();
    expected.insert((7, "lost".to_owned()), vec![Value::Integer(7_001)]);
    let index = place.pages(INDEX).await;
    let at = places(&place, "lost", &index);
    let storage = place.open(Settings::default()).await;
    flip_at(&place, &at);
    let error = values(&storage).await.unwrap_err();
    let named = format!("series {}", DEVICES * KEYS + 1);
    assert!(error.to_string().contains(&named), "{error}");
    assert!(storage.damage().first()[0].contains(&named));
    let others = storage.latest(&Selection::device(6)).await.unwrap();
    assert_eq!(others.len(), usize::try_from(KEYS).unwrap());
    storage.close().await.unwrap();
    let storage = place.open(Settings::default()).await;
    assert_eq!(values(&storage).await.unwrap(), expected);
    assert_eq!(storage.damage().count(), 1);
    storage.close().await.unwrap();
}

/// Gives the file the table of series of programs before checksums.
async fn make_old(place: &TestStorage) {
    let mut on = place.sql().await;
    let old = "BEGIN; CREATE TABLE old (id INTEGER PRIMARY KEY AUTOINCREMENT, \
               device INTEGER NOT NULL, key TEXT NOT NULL, UNIQUE (device, key)); \
               INSERT INTO old SELECT id, device, key FROM series; DROP TABLE series; \
               ALTER TABLE old RENAME TO series; COMMIT";
    sqlx::raw_sql(old).execute(&mut on).await.unwrap();
    on.close().await.unwrap();
}

#[tokio::test]
async fn a_file_from_before_checksums_gets_them() {
    let (place, mut expected) = filled("old-series").await;
    make_old(&place).await;
    for _ in 0..2 {
        let storage = place.open(Settings::default()).await;
        assert_eq!(values(&storage).await.unwrap(), expected);
        assert_eq!(
            storage.damage().count(),
            0,
            "{:?}",
            storage.damage().first()
        );
        storage.write(vec![point(7, "lost", 1)]).await.unwrap();
        storage.close().await.unwrap();
        expected.insert((7, "lost".to_owned()), vec![Value::Integer(7_001)]);
    }
    // Which of two copies without checksums is right is unknown.
    make_old(&place).await;
    let index = place.pages(INDEX).await;
    flip_at(&place, &places(&place, "lost", &index));
    let storage = place.open(Settings::default()).await;
    expected.remove(&(7, "lost".to_owned()));
    assert_eq!(values(&storage).await.unwrap(), expected);
    assert_eq!(
        storage.damage().count(),
        2,
        "{:?}",
        storage.damage().first()
    );
    storage.close().await.unwrap();
}
