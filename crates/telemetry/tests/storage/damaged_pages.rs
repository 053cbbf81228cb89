//! Damage of pages that SQLite reads without an error: values that are missing are named.

use martlet_telemetry::{
    Order, Point, Range, SECOND, Selection, Settings, Storage, StorageError, Time, Value,
};
use sqlx::Connection as _;

use crate::model::BEGIN;
use crate::place::{PAGE, TestStorage};

const DEVICES: i64 = 30;
const VALUES: i64 = 60;

fn point(device: i64, key: &str, index: i64) -> Point {
    Point {
        device,
        tenant: 0,
        key: key.into(),
        time: BEGIN + index * SECOND,
        origin: 0,
        value: Value::Text(format!("{index} of many of {device} {}", "text ".repeat(9)).into()),
    }
}

/// A closed file with values of many devices, in blocks or in the journal, and its bytes.
async fn filled(name: &str, packs: bool) -> (TestStorage, Vec<u8>) {
    let place = TestStorage::new(name);
    let storage = place.open(Settings::default()).await;
    for index in 0..VALUES {
        let points = (1..=DEVICES).map(|device| point(device, "state", index));
        storage.write(points.collect()).await.unwrap();
    }
    if packs {
        storage.pack().await.unwrap();
    }
    assert_eq!(storage.check().await.unwrap(), Vec::<String>::new());
    assert_eq!(storage.damage().count(), 0);
    storage.close().await.unwrap();
    let whole = std::fs::read(place.file()).unwrap();
    (place, whole)
}

/// The number of values from a second on.
async fn count(storage: &Storage, from: i64) -> Result<usize, StorageError> {
    let range = Range {
        selection: Selection {
            devices: (1..=DEVICES).collect(),
            keys: None,
        },
        from: BEGIN + from * SECOND,
        until: Time::MAX,
        order: Order::OldestFirst,
        limit: 100_000,
        after: None,
    };
    Ok(storage.range(&range).await?.rows.len())
}

/// The damage that the check finds must name a table, and must be in the damage of the storage.
async fn check_names(storage: &Storage, table: &str) {
    let found = storage.check().await.unwrap();
    assert!(
        found[0].contains(&format!("the table `{table}`")),
        "{found:?}"
    );
    let damage = storage.damage();
    assert!(damage.hides_values());
    assert!(damage.first().contains(&found[0]), "{damage:?}");
}

const ALL: usize = (DEVICES * VALUES) as usize;

#[tokio::test]
async fn a_flipped_bit_in_the_number_of_blocks_of_a_page_is_found() {
    let (place, whole) = filled("block-count", true).await;
    let leaves = place.leaves("blocks").await;
    let mut silent = 0;
    for page in leaves.iter().step_by(leaves.len() / 8) {
        let mut damaged = whole.clone();
        damaged[(page - 1) * PAGE + 4] ^= 1;
        place.put(&damaged);
        let storage = place.open(Settings::default()).await;
        let hides = matches!(count(&storage, 0).await, Ok(found) if found < ALL);
        silent += usize::from(hides);
        check_names(&storage, "blocks").await;
        storage.close().await.unwrap();
    }
    assert!(silent > 0, "SQLite itself has named all of it");
}

#[tokio::test]
async fn a_page_of_blocks_that_is_a_copy_of_another_one_is_found() {
    let (place, whole) = filled("copied-page", true).await;
    let leaves = place.leaves("blocks").await;
    for pair in leaves.windows(2).step_by(leaves.len() / 8) {
        let mut damaged = whole.clone();
        let (first, second) = ((pair[0] - 1) * PAGE, (pair[1] - 1) * PAGE);
        damaged.copy_within(first..first + PAGE, second);
        place.put(&damaged);
        let storage = place.open(Settings::default()).await;
        check_names(&storage, "blocks").await;
        storage.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_block_that_its_time_hides_from_queries_is_found() {
    let (place, _) = filled("time-of-block", true).await;
    let mut on = place.sql().await;
    let later = "UPDATE blocks SET last_time = time WHERE series = 3 AND time = \
                 (SELECT min(time) FROM blocks WHERE series = 3)";
    sqlx::raw_sql(later).execute(&mut on).await.unwrap();
    on.close().await.unwrap();
    let storage = place.open(Settings::default()).await;
    // Without an error: the row says that all of the block is before this time.
    assert!(count(&storage, 1).await.unwrap() < ALL - DEVICES as usize);
    let found = storage.check().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("the block of series 3 at"),
        "{found:?}"
    );
    assert_eq!(storage.damage().first(), found);
    storage.close().await.unwrap();
}

#[tokio::test]
async fn damaged_pages_of_the_journal_are_found_when_it_is_read() {
    let (place, whole) = filled("journal-count", false).await;
    let leaves = place.leaves("journal").await;
    let mut opened = 0;
    for page in leaves.iter().step_by(leaves.len() / 8) {
        let mut damaged = whole.clone();
        damaged[(page - 1) * PAGE + 4] ^= 1;
        place.put(&damaged);
        let storage = match Storage::open(place.location(), Settings::default()).await {
            Ok(storage) => storage,
            // SQLite itself has named it.
            Err(StorageError::Damaged { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        opened += 1;
        let damage = storage.damage();
        assert!(damage.hides_values());
        assert!(
            damage.first()[0].contains("the table `journal`"),
            "{damage:?}"
        );
        storage.close().await.unwrap();
    }
    assert!(opened > 0);
}

#[tokio::test]
async fn a_file_that_is_too_short_is_named() {
    for packs in [true, false] {
        let (place, mut whole) = filled("short", packs).await;
        let table = if packs { "blocks" } else { "journal" };
        // The last page of the table is the last one of the file.
        let last = place.leaves(table).await.into_iter().max().unwrap();
        whole.truncate(last * PAGE - 777);
        place.put(&whole);
        match Storage::open(place.location(), Settings::default()).await {
            Ok(storage) => {
                storage.check().await.unwrap();
                assert!(storage.damage().count() > 0, "{table}");
                storage.close().await.unwrap();
            }
            Err(error) => assert!(matches!(error, StorageError::Damaged { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn damage_that_a_query_meets_is_told_to_who_watches() {
    let (place, mut whole) = filled("empty-page", true).await;
    let page = place.leaves("blocks").await[3];
    whole[(page - 1) * PAGE..page * PAGE].fill(0);
    place.put(&whole);
    let storage = place.open(Settings::default()).await;
    let mut watched = storage.watch_damage();
    let error = count(&storage, 0).await.unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    watched.changed().await.unwrap();
    assert!(watched.borrow().first()[0].starts_with("pages of the file ("));
    storage.close().await.unwrap();
}

#[tokio::test]
async fn a_check_ends_when_the_storage_is_closed() {
    let (place, _) = filled("closed-check", true).await;
    let storage = place.open(Settings::default()).await;
    storage.write(vec![point(1, "state", 999)]).await.unwrap();
    let (checked, closed) = tokio::join!(storage.check(), storage.close());
    closed.unwrap();
    let error = checked.unwrap_err();
    assert!(matches!(error, StorageError::Closed), "{error}");
    // The writer's connection was the last one, so that the log is in the file.
    assert!(!place.file().with_extension("db-wal").exists());
}

#[tokio::test]
async fn numbers_of_series_that_are_used_up_are_an_error() {
    let (place, _) = filled("sequence", true).await;
    let mut on = place.sql().await;
    let last = "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'series'";
    sqlx::raw_sql(last).execute(&mut on).await.unwrap();
    on.close().await.unwrap();
    let storage = place.open(Settings::default()).await;
    let error = storage.write(vec![point(1, "new", 1)]).await.unwrap_err();
    assert!(error.to_string().contains("`sqlite_sequence`"), "{error}");
    storage.write(vec![point(1, "state", 999)]).await.unwrap();
    assert_eq!(count(&storage, 0).await.unwrap(), ALL + 1);
    storage.close().await.unwrap();
}
