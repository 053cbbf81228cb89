//! A file at its limit: values that are not packed count for their tenant, and deletions work.

use martlet_telemetry::{
    DAY, Limits, Point, PointRefusal, Retention, Selection, Settings, Storage, StorageError, Time,
};

use crate::crashes::{CHILD, run_and_kill};
use crate::model::BEGIN;
use crate::place::{Dice, TestStorage};
use crate::tenants::texts;

const FILE_BYTES: u64 = 4 << 20;
const DEVICES: i64 = 3;

/// With these, values are packed only because the file has little room.
fn limited(file_bytes: Option<u64>) -> Settings {
    Settings {
        gather: std::time::Duration::ZERO,
        file_bytes_max: file_bytes,
        ..Settings::default()
    }
}

/// A batch of a device of no tenant.
fn batch(dice: &mut Dice, number: i64) -> Vec<Point> {
    texts(dice, number % DEVICES, 0, BEGIN + 100 * number)
}

/// Number of values of each device after this number of batches.
fn counts(batches: i64) -> [u64; 3] {
    let of_device = |device| (0..batches).filter(move |number| number % DEVICES == device);
    [0, 1, 2].map(|device| 100 * of_device(device).count() as u64)
}

async fn stored(storage: &Storage) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, device) in counts.iter_mut().zip(0..) {
        *count = storage.count(device).await.unwrap();
    }
    counts
}

async fn delete(storage: &Storage, device: i64, until: Time) -> u64 {
    let selection = Selection::device(device);
    let deleted = storage.delete(selection, Time::MIN, until).await;
    deleted.expect("deletions work").values
}

fn is_full<T>(written: &Result<T, StorageError>) -> bool {
    matches!(written, Err(StorageError::Full { .. }))
}

#[tokio::test]
async fn a_tenant_whose_values_are_not_packed_does_not_fill_the_file() {
    let place = TestStorage::new("unpacked");
    let storage = place.open(limited(Some(FILE_BYTES))).await;
    let retention = Retention::of_all(Limits::default());
    let mut dice = Dice(21);
    let mut number = 0;
    let refused = loop {
        let written = storage.write(texts(&mut dice, 1, 5, BEGIN + 100 * number));
        let written = written
            .await
            .expect("it is refused before the file is full");
        if let Some(refused) = written.refused.first() {
            break refused.refusal;
        }
        number += 1;
    };
    assert_eq!(refused, PointRefusal::TenantBytes);
    let used = storage.tenant_bytes().unwrap().used[&5];
    assert!(
        (FILE_BYTES / 2..FILE_BYTES * 5 / 8).contains(&used),
        "{used} of {number} batches"
    );
    // The share holds from the start.
    storage.close().await.unwrap();
    let storage = place.open(limited(Some(FILE_BYTES))).await;
    let again = texts(&mut dice, 1, 5, BEGIN + 100 * number);
    let again = storage.write(again).await.unwrap();
    assert_eq!(again.refused[0].refusal, PointRefusal::TenantBytes);
    let full = storage.watch_full_tenants();
    assert!(full.borrow().contains(&5));
    for _ in 0..5 {
        let written = storage.write(texts(&mut dice, 2, 6, BEGIN)).await.unwrap();
        assert_eq!(written.stored, 100);
    }
    let deleted = delete(&storage, 1, Time::MAX).await;
    assert_eq!(deleted, 100 * u64::try_from(number).unwrap());
    storage.forget(retention.clone()).await.unwrap();
    assert!(!full.borrow().contains(&5));
    // What waits in the journal at the start counts, too.
    let again = texts(&mut dice, 1, 5, BEGIN);
    assert_eq!(storage.write(again).await.unwrap().stored, 100);
    storage.close().await.unwrap();
    let storage = place.open(limited(Some(FILE_BYTES))).await;
    storage.forget(retention).await.unwrap();
    let used = storage.tenant_bytes().unwrap().used;
    assert!(used[&5] > 50_000 && used[&6] > 50_000, "{used:?}");
    storage.close().await.unwrap();
}

/// Not a separate test: it writes until the file is full, and waits to be killed.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let location = martlet_telemetry::Location::File(path.into());
    let storage = Storage::open(location, limited(Some(FILE_BYTES)))
        .await
        .expect("it opens");
    let mut dice = Dice(22);
    for number in 0.. {
        let written = storage.write(batch(&mut dice, number)).await;
        if is_full(&written) {
            break;
        }
        written.expect("written");
        println!("acknowledged {number}");
    }
    println!("full");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn deletions_work_in_a_full_file_after_a_kill() {
    let place = TestStorage::new("full-and-killed");
    let last = run_and_kill(&place, "full_file::child", 1_000);
    assert!(30 < last && last < 100, "{last}");
    let storage = place.open(limited(Some(FILE_BYTES))).await;
    let mut counts = counts(last + 1);
    assert_eq!(stored(&storage).await, counts);
    let mut dice = Dice(23);
    let written = storage.write(batch(&mut dice, last + 1)).await;
    assert!(is_full(&written), "{written:?}");
    // Part of a day, and all.
    assert_eq!(delete(&storage, 0, BEGIN + 350).await, 150);
    assert_eq!(delete(&storage, 1, Time::MAX).await, counts[1]);
    (counts[0], counts[1]) = (counts[0] - 150, 0);
    assert_eq!(stored(&storage).await, counts);
    let again = texts(&mut dice, 1, 0, BEGIN + DAY);
    assert_eq!(storage.write(again).await.unwrap().stored, 100);
    storage.close().await.unwrap();
    let bytes = std::fs::metadata(place.file()).unwrap().len();
    assert!(bytes <= FILE_BYTES, "{bytes}");
    let storage = place.open(limited(Some(FILE_BYTES))).await;
    counts[1] = 100;
    assert_eq!(stored(&storage).await, counts);
    storage.close().await.unwrap();
}

#[tokio::test]
async fn deletions_work_where_the_limit_leaves_no_room_to_pack() {
    let place = TestStorage::new("above-limit");
    let storage = place.open(limited(None)).await;
    let mut dice = Dice(24);
    for number in 0..60 {
        storage.write(batch(&mut dice, number)).await.unwrap();
    }
    // None of it is packed.
    storage.close().await.unwrap();
    let storage = place.open(limited(Some(FILE_BYTES / 2))).await;
    assert_eq!(stored(&storage).await, counts(60));
    assert_eq!(delete(&storage, 0, Time::MAX).await, counts(60)[0]);
    let written = storage.write(batch(&mut dice, 60)).await;
    assert!(is_full(&written), "{written:?}");
    for device in [1, 2] {
        assert_eq!(delete(&storage, device, Time::MAX).await, counts(60)[1]);
    }
    storage.write(batch(&mut dice, 60)).await.unwrap();
    assert_eq!(stored(&storage).await, [100, 0, 0]);
    storage.close().await.unwrap();
}
