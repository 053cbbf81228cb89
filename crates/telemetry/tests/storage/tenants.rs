//! The share of a tenant of all series.

use martlet_permission::Share;
use martlet_telemetry::{Point, PointRefusal, Selection, Settings, Storage, Time, Value};

use crate::model::BEGIN;
use crate::place::{TestStorage, small};

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
