//! The share of a tenant of all series, and of the bytes.

use std::time::Duration;

use martlet_permission::Share;
use martlet_telemetry::{
    DAY, Limits, Point, PointRefusal, Retention, Selection, Settings, Storage, Time, Value,
};

use crate::deletions::{now, ten_days};
use crate::model::BEGIN;
use crate::place::{Dice, TestStorage, small};

/// Whether a value of this device, tenant and key is stored.
async fn stores(storage: &Storage, device: i64, tenant: u32, key: &str) -> bool {
    let point = Point {
        device,
        tenant,
        key: key.into(),
        time: BEGIN,
        origin: 0,
        value: Value::Integer(1),
    };
    let written = storage.write(vec![point]).await.unwrap();
    let refusal = written.refused.first().map(|refused| refused.refusal);
    assert!(matches!(refusal, None | Some(PointRefusal::TenantSeries)));
    refusal.is_none()
}

#[tokio::test]
async fn a_tenant_has_its_share_of_the_series() {
    check_share(&TestStorage::new("tenants")).await;
}

pub(crate) async fn check_share(place: &TestStorage) {
    let settings = Settings {
        series_max: 20,
        tenant_share: Share::percent(20),
        ..small()
    };
    let storage = place.open(settings.clone()).await;
    for (device, key) in [(1, "a"), (1, "b"), (1, "c"), (2, "a")] {
        assert!(stores(&storage, device, 5, key).await);
    }
    assert!(!stores(&storage, 2, 5, "b").await);
    // Neither known series nor other tenants are refused: these have a share of the rest, and none
    // has no limit but that of all.
    assert!(stores(&storage, 2, 5, "a").await);
    for key in ["a", "b", "c"] {
        assert!(stores(&storage, 3, 6, key).await);
    }
    assert!(!stores(&storage, 3, 6, "d").await);
    for key in ["a", "b", "c", "d"] {
        assert!(stores(&storage, 4, 0, key).await);
    }
    let counted = storage.series_by_tenant().await.unwrap();
    assert_eq!(
        counted.into_iter().collect::<Vec<_>>(),
        [(0, 4), (5, 4), (6, 3)]
    );
    storage.close().await.unwrap();
    // Series of before a restart count too.
    let storage = place.open(settings).await;
    assert!(!stores(&storage, 2, 5, "b").await);
    // What is deleted makes room: others have 7 now, and 2 of the 13 that these leave are free.
    let selection = Selection::device(1).keys(["a", "b", "c"]);
    let deleted = storage.delete(selection, Time::MIN, Time::MAX).await;
    assert_eq!(deleted.unwrap().values, 3);
    assert!(stores(&storage, 2, 5, "b").await && !stores(&storage, 2, 5, "c").await);
    assert_eq!(storage.series_by_tenant().await.unwrap()[&5], 2);
    // A device that has moved counts for its new tenant, once it has sent a value, new or not.
    assert!(stores(&storage, 2, 6, "b").await);
    assert!(stores(&storage, 1, 5, "a").await && !stores(&storage, 2, 6, "c").await);
    storage.close().await.unwrap();
}

/// 100 texts of 512 bytes.
pub(crate) fn texts(dice: &mut Dice, device: i64, tenant: u32, time: Time) -> Vec<Point> {
    let texts = (0..100).map(|place| {
        let text: String = (0..32).map(|_| format!("{:016x}", dice.next())).collect();
        (place, Value::Text(text.into()))
    });
    let point = |(place, value)| Point {
        device,
        tenant,
        key: "text".into(),
        time: time + place,
        origin: 0,
        value,
    };
    texts.map(point).collect()
}

/// Writes texts of a device of tenant 5 until they are refused. Returns how many were stored.
async fn fill(storage: &Storage, dice: &mut Dice, retention: &Retention) -> usize {
    // Never in the past while the test runs.
    let begin = now() + 2 * DAY;
    for batch in 0..40_i64 {
        let texts = texts(dice, 1, 5, begin + 100 * batch);
        let written = storage.write(texts).await.unwrap();
        if let Some(refused) = written.refused.first() {
            assert_eq!(refused.refusal, PointRefusal::TenantBytes);
            assert_eq!((written.refused.len(), written.stored), (100, 0));
            return 100 * usize::try_from(batch).unwrap();
        }
        storage.pack().await.unwrap();
        storage.forget(retention.clone()).await.unwrap();
    }
    panic!("nothing is refused");
}

#[tokio::test]
async fn a_tenant_has_its_share_of_the_file() {
    let place = TestStorage::new("full-tenant");
    let settings = Settings {
        file_bytes_max: Some(1 << 20),
        ..small()
    };
    let storage = place.open(settings).await;
    let mut dice = Dice(11);
    let retention = Retention::of_all(Limits::default());
    let stored = fill(&storage, &mut dice, &retention).await;
    assert!((600..=1000).contains(&stored), "{stored} are half of it");
    let bytes = storage.tenant_bytes().unwrap();
    assert_eq!(bytes.limit, 1 << 20);
    assert!(
        (512 << 10..700 << 10).contains(&bytes.used[&5]),
        "{bytes:?}"
    );
    // All of a whole is refused, known series too. Others may write.
    let whole = storage.write_whole(texts(&mut dice, 1, 5, 0)).await;
    assert_eq!(whole.unwrap().stored, 0);
    for (device, tenant) in [(2, 6), (3, 0)] {
        let written = storage.write(texts(&mut dice, device, tenant, BEGIN));
        assert_eq!(written.await.unwrap().stored, 100);
    }
    // What is deleted makes room soon.
    let selection = Selection::device(1);
    storage
        .delete(selection, Time::MIN, Time::MAX)
        .await
        .unwrap();
    let mut tries = 0..1000;
    while storage
        .write(texts(&mut dice, 1, 5, BEGIN))
        .await
        .unwrap()
        .stored
        == 0
    {
        assert!(tries.next().is_some(), "the tenant is full for good");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    storage.close().await.unwrap();
}

#[tokio::test]
async fn a_tenant_has_its_share_of_what_retention_keeps() {
    check_share_of_kept(&TestStorage::new("kept"), 100_000).await;
}

/// `bytes` is the limit for all; ten days of a device take more.
pub(crate) async fn check_share_of_kept(place: &TestStorage, bytes: u64) {
    let storage = place.open(small()).await;
    let mut dice = Dice(12);
    let limits = Limits {
        age: None,
        bytes: Some(bytes),
    };
    let retention = Retention::of_all(limits);
    let mut days = ten_days(1);
    days.retain(|point| point.time < now() - DAY);
    let count = days.len() as u64;
    for point in &mut days {
        point.tenant = 5;
    }
    storage.write(days).await.unwrap();
    storage.pack().await.unwrap();
    let deleted = storage.forget(retention.clone()).await.unwrap().values;
    assert!((1..count / 2).contains(&deleted), "{deleted} of {count}");
    // The tenant has nearly all of the limit, and may go on: these days give way.
    fill(&storage, &mut dice, &retention).await;
    let used = storage.tenant_bytes().unwrap();
    assert_eq!(used.limit, bytes);
    assert!(used.used[&5] >= bytes / 2, "{used:?}");
    let written = storage.write(texts(&mut dice, 2, 6, BEGIN)).await.unwrap();
    assert_eq!(written.stored, 100);
    storage.close().await.unwrap();
}

#[tokio::test]
async fn the_tenant_of_a_device_is_forgotten_with_its_values() {
    let place = TestStorage::new("forgotten-tenants");
    let storage = place.open(small()).await;
    assert!(stores(&storage, 1, 5, "a").await && stores(&storage, 1, 5, "b").await);
    assert!(stores(&storage, 2, 5, "a").await);
    storage.close().await.unwrap();
    assert_eq!(tenants(&place).await, [(1, 5), (2, 5)]);
    let storage = place.open(small()).await;
    for (selection, left) in [
        (Selection::device(1).keys(["a"]), 2),
        (Selection::device(1), 1),
        (Selection::device(2), 0),
    ] {
        storage
            .delete(selection, Time::MIN, Time::MAX)
            .await
            .unwrap();
        assert_eq!(tenants(&place).await.len(), left);
    }
    storage.close().await.unwrap();
}

/// The devices of tenants in the file.
async fn tenants(place: &TestStorage) -> Vec<(i64, i64)> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.file());
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let sql = "SELECT device, tenant FROM tenants ORDER BY device";
    sqlx::query_as(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap()
}
