//! Writes are committed together.

use std::time::Duration;

use futures_util::future::join_all;
use martlet_telemetry::{Point, SECOND, Settings, Value};
use sqlx::{Connection as _, SqliteConnection};

use crate::model::BEGIN;
use crate::place::TestStorage;

const WRITES: i64 = 64;

#[tokio::test]
async fn writes_that_come_together_are_one_batch() {
    let place = TestStorage::new("batches");
    let settings = Settings {
        gather: Duration::from_millis(250),
        ..Settings::default()
    };
    let storage = place.open(settings).await;
    let point = |device: i64| Point {
        device,
        tenant: 0,
        key: "level".into(),
        time: BEGIN + SECOND,
        origin: 0,
        value: Value::Integer(device),
    };
    let writes = (0..WRITES).map(|device| storage.write(vec![point(device)]));
    for written in join_all(writes).await {
        written.expect("written");
    }
    // A batch is a row of the journal.
    let url = format!("sqlite://{}?mode=ro", place.file().display());
    let mut on = SqliteConnection::connect(&url).await.expect("it opens");
    let rows = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM journal");
    let batches = rows.fetch_one(&mut on).await.expect("a number");
    assert!((1..=2).contains(&batches), "{batches} batches");
    storage.close().await.expect("it closes");
}
