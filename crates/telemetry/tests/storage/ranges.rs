//! Writing, reading and paging, compared with the model.

use martlet_telemetry::{
    Order, Point, PointRefusal, Range, Refused, Selection, Settings, Time, Value,
};

use crate::model::{BEGIN, KEYS, Model, all_pages, points, question};
use crate::place::{Dice, TestStorage, small};

#[tokio::test]
async fn what_is_written_out_of_order_is_read_as_a_sorted_map_has_it() {
    check_against_the_model(&TestStorage::new("order"), 40).await;
}

pub(crate) async fn check_against_the_model(place: &TestStorage, rounds: i64) {
    let mut storage = place.open(small()).await;
    let mut dice = Dice(26);
    let mut model = Model::default();
    for round in 0..rounds {
        let points = points(&mut dice, 500);
        model.write(&points);
        let written = storage.write(points).await.expect("written");
        assert_eq!((written.stored, written.refused.len()), (500, 0));
        for _ in 0..5 {
            let range = question(&mut dice);
            let expected = model.rows(&range);
            assert_eq!(
                all_pages(&storage, range.clone()).await,
                expected,
                "{range:?}"
            );
        }
        let selection = Selection {
            devices: vec![3, 1, 2, 1, 9],
            keys: None,
        };
        assert_eq!(
            storage.latest(&selection).await.unwrap(),
            model.latest(&[1, 2, 3])
        );
        match round % 10 {
            3 => storage.pack().await.expect("packed"),
            // As after a crash: without closing it.
            7 => {
                storage.close().await.expect("closed");
                storage = place.open(small()).await;
            }
            _ => {}
        }
    }
    let mut keys: Vec<_> = KEYS.iter().map(ToString::to_string).collect();
    keys.sort();
    let found = storage.keys(1).await.unwrap();
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        keys
    );
    assert_eq!(storage.devices(i64::MIN, 2).await.unwrap(), [1, 2]);
    assert_eq!(storage.devices(2, 2).await.unwrap(), [3]);
}

#[tokio::test]
async fn values_that_arrive_backwards_and_in_one_instant_are_kept() {
    check_backwards(&TestStorage::new("backwards"), 20).await;
}

pub(crate) async fn check_backwards(place: &TestStorage, rounds: i64) {
    let storage = place.open(small()).await;
    let mut model = Model::default();
    let all = Range {
        selection: Selection::device(7),
        from: Time::MIN,
        until: Time::MAX,
        order: Order::OldestFirst,
        limit: 3000,
        after: None,
    };
    for round in (0..rounds).rev() {
        let point = |index: i64| Point {
            device: 7,
            tenant: 0,
            key: "noise".into(),
            // All values of a round have the same time, and different message ids.
            time: BEGIN + round * 1_000_000,
            origin: index + 1,
            value: Value::Number((round * 1000 + index) as f64 / 7.0),
        };
        let points: Vec<_> = (0..100).rev().map(point).collect();
        model.write(&points);
        storage.write(points).await.expect("written");
        storage.pack().await.expect("packed");
        assert_eq!(storage.range(&all).await.unwrap().rows, model.rows(&all));
    }
}

#[tokio::test]
async fn points_that_can_never_be_stored_are_refused_one_by_one() {
    check_refusals(&TestStorage::new("refused")).await;
}

pub(crate) async fn check_refusals(place: &TestStorage) {
    let settings = Settings {
        keys_per_device_max: 2,
        text_bytes_max: 5,
        ..small()
    };
    let storage = place.open(settings).await;
    let point = |key: &str, value| Point {
        device: 1,
        tenant: 0,
        key: key.into(),
        time: BEGIN,
        origin: 0,
        value,
    };
    let long = "k".repeat(300);
    let points = vec![
        point("a", Value::Integer(1)),
        point("b", Value::Number(f64::NAN)),
        point(&long, Value::Integer(1)),
        point("b", Value::Text("123456".into())),
        Point {
            time: Time::MAX,
            ..point("b", Value::Integer(1))
        },
        point("b", Value::Text("a\0c".into())),
        point("c", Value::Integer(1)),
    ];
    let refused = |index, refusal| Refused { index, refusal };
    let written = storage.write(points).await.unwrap();
    assert_eq!(written.stored, 2);
    assert_eq!(
        written.refused,
        [
            refused(1, PointRefusal::NotFinite),
            refused(2, PointRefusal::KeyLength),
            refused(3, PointRefusal::TextLength),
            refused(4, PointRefusal::Time),
            refused(6, PointRefusal::TooManyKeys),
        ]
    );
    let rows = storage.latest(&Selection::device(1)).await.unwrap();
    let values: Vec<_> = rows.into_iter().map(|row| row.value).collect();
    assert_eq!(
        values,
        [Value::Integer(1), Value::Text("a\u{fffd}c".into())]
    );
}

#[tokio::test]
async fn memory_is_given_back_when_values_are_packed() {
    let place = TestStorage::new("memory");
    let storage = place.open(Settings::default()).await;
    assert_eq!(storage.memory_bytes(), 0);
    storage.write(points(&mut Dice(4), 1000)).await.unwrap();
    assert!(
        storage.memory_bytes() > 1000 * 24,
        "{}",
        storage.memory_bytes()
    );
    storage.pack().await.unwrap();
    assert_eq!(storage.memory_bytes(), 0);
}
