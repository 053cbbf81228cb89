//! Deletion, retention, backup, and a full file.

use std::sync::Arc;
use std::time::Duration;

use martlet_telemetry::{
    DAY, Limits, Location, Order, Point, Range, Retention, SECOND, Selection, Settings, Storage,
    StorageError, Time, Value,
};

use crate::model::{Model, points};
use crate::place::{Dice, TestStorage, small};

fn all(devices: &[i64]) -> Range {
    Range {
        selection: Selection {
            devices: devices.to_vec(),
            keys: None,
        },
        from: Time::MIN,
        until: Time::MAX,
        order: Order::BySeries,
        limit: 1_000_000,
        after: None,
    }
}

#[tokio::test]
async fn deleted_values_do_not_come_back_after_a_restart() {
    check_deletion(&TestStorage::new("deleted")).await;
}

pub(crate) async fn check_deletion(place: &TestStorage) {
    let storage = place.open(small()).await;
    let mut dice = Dice(7);
    let mut model = Model::default();
    let points = points(&mut dice, 3000);
    model.write(&points);
    storage.write(points).await.unwrap();
    let counts = [1, 2, 3].map(|device| {
        let rows = model.rows(&all(&[device]));
        (device, rows.len() as u64)
    });
    for (device, count) in counts {
        assert_eq!(storage.count(device).await.unwrap(), count);
    }
    let selection = Selection::device(1).keys(["door"]);
    let expected = model.delete(&selection, Time::MIN, Time::MAX);
    let deleted = storage
        .delete(selection, Time::MIN, Time::MAX)
        .await
        .unwrap();
    assert_eq!(deleted.values, expected as u64);
    assert!(expected > 0);
    storage.close().await.unwrap();
    let storage = place.open(small()).await;
    let range = all(&[1, 2, 3]);
    assert_eq!(
        storage.range(&range).await.unwrap().rows,
        model.rows(&range)
    );
    let keys = storage.keys(1).await.unwrap();
    assert_eq!(keys, ["count", "state", "temperature"].map(Arc::from));
}

pub(crate) fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_micros()).expect("it fits")
}

/// One value per minute for ten days until now.
pub(crate) fn ten_days(device: i64) -> Vec<Point> {
    ten_days_of(device, 0)
}

fn ten_days_of(device: i64, tenant: u32) -> Vec<Point> {
    let begin = now() - 10 * DAY;
    let point = |minute: i64| Point {
        device,
        tenant,
        key: "noise".into(),
        time: begin + minute * 60 * SECOND,
        origin: 0,
        value: Value::Integer(minute.wrapping_mul(0x9e37_79b9_7f4a)),
    };
    (0..14_400).map(point).collect()
}

#[tokio::test]
async fn values_are_kept_by_age_and_bytes_of_their_class() {
    // About eight bytes per value.
    let before = check_retention(&TestStorage::new("retention"), 40_000).await;
    assert!(before.1 < before.0, "{before:?}");
}

/// Bytes before and after. `bytes` is the limit for a device that has 14,400 values.
pub(crate) async fn check_retention(place: &TestStorage, bytes: u64) -> (u64, u64) {
    let storage = place.open(small()).await;
    for device in 1..=4 {
        storage.write(ten_days(device)).await.unwrap();
    }
    storage.pack().await.unwrap();
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let retention = Retention {
        classes: vec![
            Limits {
                age: days(3),
                bytes: None,
            },
            Limits {
                age: None,
                bytes: Some(bytes),
            },
        ],
        // Devices 1 and 2 have a class each, 3 and 4 have none.
        class_of: Arc::new(|device| usize::try_from(device - 1).ok().filter(|class| *class < 2)),
    };
    let before = storage.bytes().await.unwrap();
    let deleted = storage.forget(retention.clone()).await.unwrap();
    let mut counts = Vec::new();
    for device in 1..=4 {
        counts.push(storage.count(device).await.unwrap());
    }
    assert_eq!(deleted.values, 4 * 14_400 - counts.iter().sum::<u64>());
    // The day that contains the three-day limit is kept completely.
    assert!((3 * 1440..=4 * 1440).contains(&counts[0]), "{counts:?}");
    assert!((1440..=9 * 1440).contains(&counts[1]), "{counts:?}");
    assert_eq!(counts[2..], [14_400, 14_400]);
    assert_eq!(storage.forget(retention).await.unwrap().values, 0);
    (before, storage.bytes().await.unwrap())
}

#[tokio::test]
async fn a_quiet_tenant_keeps_its_days_beside_a_loud_one() {
    check_tenants(&TestStorage::new("quiet"), 60_000).await;
}

/// `bytes` is the limit for all; a loud device has about twice as many.
pub(crate) async fn check_tenants(place: &TestStorage, bytes: u64) {
    let storage = place.open(small()).await;
    storage.write(ten_days_of(1, 5)).await.unwrap();
    // Each tenth value. Devices without a tenant are like a tenant.
    for (device, tenant) in [(2, 6), (3, 0)] {
        let few = ten_days_of(device, tenant).into_iter().step_by(10);
        storage.write(few.collect()).await.unwrap();
    }
    storage.pack().await.unwrap();
    let limits = Limits {
        age: None,
        bytes: Some(bytes),
    };
    let deleted = storage.forget(Retention::of_all(limits)).await.unwrap();
    assert_eq!(storage.count(2).await.unwrap(), 1440);
    assert_eq!(storage.count(3).await.unwrap(), 1440);
    let left = storage.count(1).await.unwrap();
    assert!((1440..=6 * 1440).contains(&left), "{left} left");
    assert_eq!(deleted.values, 14_400 - left);
}

#[tokio::test]
async fn a_series_of_which_all_packed_days_are_too_old_keeps_its_new_values() {
    let place = TestStorage::new("new-values");
    let storage = place.open(Settings::default()).await;
    let point = |time| Point {
        device: 1,
        tenant: 0,
        key: "a".into(),
        time,
        origin: 0,
        value: Value::Integer(1),
    };
    storage.write(vec![point(now() - 10 * DAY)]).await.unwrap();
    storage.pack().await.unwrap();
    storage.write(vec![point(now())]).await.unwrap();
    let limits = Limits {
        age: Some(Duration::from_secs(86_400)),
        bytes: None,
    };
    let forgotten = storage.forget(Retention::of_all(limits)).await.unwrap();
    assert_eq!(forgotten.values, 1);
    assert_eq!(storage.range(&all(&[1])).await.unwrap().rows.len(), 1);
    storage.close().await.unwrap();
    let storage = place.open(Settings::default()).await;
    assert_eq!(storage.range(&all(&[1])).await.unwrap().rows.len(), 1);
}

/// Retention by age and by bytes, while all values are only in memory.
#[tokio::test]
async fn values_that_are_not_packed_yet_are_deleted_too() {
    let limits = |age, bytes| Retention::of_all(Limits { age, bytes });
    let three_days = Some(Duration::from_secs(3 * 86_400));
    for retention in [limits(three_days, None), limits(None, Some(40_000))] {
        let place = TestStorage::new("not-packed");
        let storage = place.open(Settings::default()).await;
        storage.write(ten_days(1)).await.unwrap();
        let deleted = storage.forget(retention.clone()).await.unwrap().values;
        let left = storage.count(1).await.unwrap();
        assert!((1440..=9 * 1440).contains(&left), "{left} left");
        assert_eq!(deleted, 14_400 - left);
        storage.close().await.unwrap();
        let storage = place.open(Settings::default()).await;
        assert_eq!(storage.count(1).await.unwrap(), left);
        assert_eq!(storage.forget(retention).await.unwrap().values, 0);
    }
}

#[tokio::test]
async fn a_backup_is_whole_while_values_are_written() {
    let place = TestStorage::new("backup");
    let storage = place.open(small()).await;
    let mut dice = Dice(3);
    let mut model = Model::default();
    let before = points(&mut dice, 2000);
    model.write(&before);
    storage.write(before).await.unwrap();
    let copy = place.file().with_extension("copy");
    let writing = async {
        for _ in 0..20 {
            storage.write(points(&mut dice, 100)).await.unwrap();
        }
    };
    let (copied, ()) = tokio::join!(storage.backup_to(&copy), writing);
    copied.expect("a copy");
    let again = storage.backup_to(&copy).await;
    assert!(matches!(again, Err(StorageError::File { .. })), "{again:?}");
    let copy = Storage::open(Location::File(copy), small()).await.unwrap();
    let found = copy.range(&all(&[1, 2, 3])).await.unwrap().rows;
    assert!(found.len() >= model.values.len());
}

#[tokio::test]
async fn without_room_nothing_is_acknowledged_and_later_it_goes_on() {
    let place = TestStorage::new("full");
    let settings = Settings {
        file_bytes_max: Some(1 << 20),
        ..small()
    };
    let storage = place.open(settings).await;
    let mut stored = Vec::new();
    let mut device = 0;
    let told = loop {
        device += 1;
        match storage.write(ten_days(device)).await {
            Ok(_) => stored.push(device),
            Err(error) => break error,
        }
        assert!(device < 100, "the file is never full");
    };
    assert!(matches!(told, StorageError::Full { .. }), "{told}");
    for device in &stored {
        assert_eq!(storage.count(*device).await.unwrap(), 14_400);
    }
    storage
        .delete(Selection::device(stored[0]), Time::MIN, Time::MAX)
        .await
        .expect("deleting makes room");
    storage
        .write(ten_days(device))
        .await
        .expect("there is room again");
    assert_eq!(storage.count(device).await.unwrap(), 14_400);
}

#[tokio::test]
async fn other_files_are_refused() {
    let place = TestStorage::new("other");
    std::fs::write(
        place.file(),
        "this is a text, and long enough to be looked at".repeat(9),
    )
    .unwrap();
    let opened = Storage::open(Location::File(place.file()), small()).await;
    let told = opened.map(drop).unwrap_err();
    assert!(matches!(told, StorageError::Damaged { .. }), "{told}");
    assert!(told.to_string().contains("telemetry.db"), "{told}");
}

#[tokio::test]
async fn one_storage_has_a_file() {
    let place = TestStorage::new("locked");
    let storage = place.open(small()).await;
    let told = Storage::open(place.location(), small())
        .await
        .map(drop)
        .unwrap_err();
    assert!(told.to_string().contains("another process"), "{told}");
    storage.close().await.unwrap();
    place.open(small()).await;
}
