//! Aggregates per bucket, compared with the model, with and without roll-ups.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use martlet_telemetry::{
    Aggregate, AggregateRow, Bucket, DAY, Fill, Function, HOUR, MINUTE, Order, Point, Range, Row,
    SECOND, Selection, Storage, Time, Unit, Value,
};

use crate::model::{BEGIN, KEYS, Model, points};
use crate::place::{Dice, TestStorage, small};

/// Start of the bucket of a time, by the simplest algorithm.
fn naive_start(bucket: &Bucket, from: Time, time: Time) -> Time {
    let (unit, zone) = match bucket {
        Bucket::Whole => return from,
        Bucket::Fixed(length) => return time - time.rem_euclid(*length),
        Bucket::Calendar(unit, zone) => (unit, zone),
    };
    let at = Timestamp::from_microsecond(time).unwrap();
    let date = zone.to_datetime(at).date();
    let month = |month| Date::new(date.year(), month, 1).unwrap();
    let first = match unit {
        // The zones of these tests differ from UTC by whole hours.
        Unit::Minute => return time - time.rem_euclid(MINUTE),
        Unit::Hour => return time - time.rem_euclid(HOUR),
        Unit::Day => date,
        Unit::Week => {
            let days = i64::from(date.weekday().to_monday_zero_offset());
            date - days.days()
        }
        Unit::Month => month(date.month()),
        Unit::Quarter => month((date.month() - 1) / 3 * 3 + 1),
        Unit::Year => month(1),
    };
    let midnight = first.to_zoned(zone.clone()).unwrap();
    midnight.timestamp().as_microsecond()
}

fn naive_value(function: Function, rows: &[Row], before: Option<&Row>) -> Option<Value> {
    let numbers: Vec<f64> = rows.iter().filter_map(|row| row.value.number()).collect();
    let timed = |row: &Row| Some((row.time, row.value.number()?));
    let percentile = |part: f64| {
        let mut sorted = numbers.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len().checked_sub(1)? as f64) * part;
        let low = *sorted.get(place.floor() as usize)?;
        let high = *sorted.get(place.ceil() as usize)?;
        Some(low + (high - low) * place.fract())
    };
    let change = || {
        let last = rows.iter().rev().find_map(timed)?;
        let first = before
            .and_then(timed)
            .or_else(|| rows.iter().find_map(timed))?;
        Some((last.0 - first.0, last.1 - first.1))
    };
    // Whole numbers stay exact, where all are whole.
    let of_number = rows.iter().filter(|row| row.value.number().is_some());
    let whole: Option<Vec<i64>> = of_number
        .map(|row| match row.value {
            Value::Integer(whole) => Some(whole),
            _ => None,
        })
        .collect();
    let whole = whole.filter(|all| !all.is_empty());
    let exact = whole.and_then(|all| match function {
        Function::Min => all.iter().copied().min(),
        Function::Max => all.iter().copied().max(),
        Function::Sum => all.iter().try_fold(0_i64, |sum, one| sum.checked_add(*one)),
        _ => None,
    });
    if let Some(exact) = exact {
        return Some(Value::Integer(exact));
    }
    let number = match function {
        Function::Count => return Some(Value::Integer(rows.len() as i64)),
        Function::First => return rows.first().map(|row| row.value.clone()),
        Function::Last => return rows.last().map(|row| row.value.clone()),
        Function::Avg if numbers.is_empty() => None,
        Function::Avg => Some(numbers.iter().sum::<f64>() / numbers.len() as f64),
        Function::Min => numbers.iter().copied().min_by(f64::total_cmp),
        Function::Max => numbers.iter().copied().max_by(f64::total_cmp),
        Function::Sum => (!numbers.is_empty()).then(|| numbers.iter().sum()),
        Function::P50 => percentile(0.5),
        Function::P95 => percentile(0.95),
        Function::Delta => change().map(|(_, amount)| amount),
        Function::Rate => change()
            .filter(|(time, _)| *time > 0)
            .map(|(time, amount)| amount / (time as f64 / SECOND as f64)),
    };
    number.map(Value::Number)
}

/// Without filling of empty buckets.
fn naive(model: &Model, of: &Aggregate) -> Vec<AggregateRow> {
    let all = |from, until| Range {
        selection: of.selection.clone(),
        from,
        until,
        order: Order::BySeries,
        limit: 1,
        after: None,
    };
    let mut buckets: BTreeMap<(i64, Arc<str>, Time), Vec<Row>> = BTreeMap::new();
    for row in model.rows(&all(of.from, of.until)) {
        let start = naive_start(&of.bucket, of.from, row.time);
        let key = (row.device, Arc::clone(&row.key), start);
        buckets.entry(key).or_default().push(row);
    }
    // The last number of each series so far.
    let mut before: BTreeMap<(i64, Arc<str>), Row> = BTreeMap::new();
    let mut keep = |row: &Row| {
        if row.value.number().is_some() {
            before.insert((row.device, Arc::clone(&row.key)), row.clone());
        }
    };
    model
        .rows(&all(Time::MIN, of.from))
        .iter()
        .for_each(&mut keep);
    let mut rows = Vec::new();
    for ((device, key, start), of_bucket) in buckets {
        let previous = before.get(&(device, Arc::clone(&key)));
        let functions = of.functions.iter();
        let values = functions.map(|function| naive_value(*function, &of_bucket, previous));
        let values = values.collect();
        for row in of_bucket {
            if row.value.number().is_some() {
                before.insert((row.device, Arc::clone(&row.key)), row);
            }
        }
        rows.push(AggregateRow {
            device,
            key,
            start,
            values,
        });
    }
    rows
}

/// Sums may differ in their last digits, because they are added in a different order. Of numbers of
/// which some are whole, the smallest and the largest may be either.
fn is_near(a: &Option<Value>, b: &Option<Value>) -> bool {
    use Value::{Integer, Number};
    let number = |value: &Option<Value>| value.as_ref().and_then(Value::number);
    match (a, b) {
        (Some(Number(_)), Some(Number(_) | Integer(_))) | (Some(Integer(_)), Some(Number(_))) => {
            let (a, b) = (number(a).unwrap(), number(b).unwrap());
            (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
        }
        _ => a == b,
    }
}

fn assert_near(found: &[AggregateRow], expected: &[AggregateRow], of: &Aggregate) {
    assert_eq!(found.len(), expected.len(), "{of:?}");
    for (found, expected) in found.iter().zip(expected) {
        let place = |row: &AggregateRow| (row.device, Arc::clone(&row.key), row.start);
        assert_eq!(place(found), place(expected), "{of:?}");
        let mut values = found.values.iter().zip(&expected.values);
        assert!(
            values.all(|(a, b)| is_near(a, b)),
            "{found:?} {expected:?} {of:?}"
        );
    }
}

async fn all_pages(storage: &Storage, mut of: Aggregate) -> Vec<AggregateRow> {
    let mut rows = Vec::new();
    loop {
        let page = storage.aggregate(&of).await.expect("an answer");
        assert!(page.rows.len() <= of.limit);
        rows.extend(page.rows);
        match page.next {
            Some(next) => of.after = Some(next),
            None => return rows,
        }
    }
}

fn question(dice: &mut Dice) -> Aggregate {
    let zone = |name| TimeZone::get(name).unwrap();
    let bucket = match dice.below(12) {
        0 => Bucket::Whole,
        1 => Bucket::Fixed(7 * SECOND),
        2 => Bucket::Fixed(MINUTE),
        3 => Bucket::Fixed(15 * MINUTE),
        4 => Bucket::Fixed(DAY),
        5 => Bucket::Calendar(Unit::Hour, zone("America/New_York")),
        6 => Bucket::Calendar(Unit::Day, zone("Australia/Lord_Howe")),
        7 => Bucket::Calendar(Unit::Day, zone("Europe/Berlin")),
        8 => Bucket::Calendar(Unit::Day, zone("America/New_York")),
        9 => Bucket::Calendar(Unit::Week, zone("Europe/Berlin")),
        10 => Bucket::Calendar(Unit::Month, zone("Asia/Kolkata")),
        _ => Bucket::Calendar(Unit::Quarter, TimeZone::UTC),
    };
    let unit = [1, MINUTE, HOUR, DAY][usize::try_from(dice.below(4)).unwrap()];
    let from = BEGIN - DAY + dice.below(3 * DAY) / unit * unit;
    let exact = dice.below(3) == 0;
    let functions = Function::ALL.into_iter().map(|(function, _)| function);
    let chosen = functions.filter(|function| {
        let needs_all = matches!(function, Function::P50 | Function::P95);
        !needs_all || exact
    });
    Aggregate {
        selection: Selection {
            devices: (1..=3).filter(|_| dice.below(3) > 0).collect(),
            keys: (dice.below(2) == 0).then(|| vec![KEYS[0].to_owned(), KEYS[2].to_owned()]),
        },
        from,
        until: from + dice.below(8 * DAY) / unit * unit,
        bucket,
        functions: chosen.collect(),
        fill: Fill::Omit,
        limit: usize::try_from(dice.below(2000) + 50).unwrap(),
        after: None,
    }
}

#[tokio::test]
async fn sums_per_bucket_are_those_of_the_model_whatever_was_rolled_up_meanwhile() {
    check_against_the_model(&TestStorage::new("sums"), 12).await;
}

/// Compares the result of a query for a part of the time before `until`.
pub(crate) async fn compare_one(storage: &Storage, model: &Model, dice: &mut Dice, until: Time) {
    let mut of = question(dice);
    let shift = dice.below((until - BEGIN).max(1)) / DAY * DAY;
    of.from += shift;
    of.until += shift;
    let found = all_pages(storage, of.clone()).await;
    assert_near(&found, &naive(model, &of), &of);
}

pub(crate) async fn check_against_the_model(place: &TestStorage, rounds: i64) {
    let storage = place.open(small()).await;
    let mut dice = Dice(1);
    let mut model = Model::default();
    for round in 0..rounds {
        let points = points(&mut dice, 4000);
        model.write(&points);
        storage.write(points).await.expect("written");
        if round % 3 == 1 {
            // Late values of later rounds make existing roll-ups invalid.
            storage.pack().await.expect("packed");
        }
        if round % 4 == 3 {
            let from = BEGIN + dice.below(2 * DAY);
            let selection = Selection::device(dice.below(3) + 1);
            let until = from + dice.below(DAY);
            let expected = model.delete(&selection, from, until);
            let deleted = storage.delete(selection, from, until).await.unwrap();
            assert_eq!(deleted.values, expected as u64);
        }
        for _ in 0..12 {
            let of = question(&mut dice);
            assert_near(
                &all_pages(&storage, of.clone()).await,
                &naive(&model, &of),
                &of,
            );
        }
    }
}

fn hourly(hour: i64, value: Value) -> Point {
    Point {
        device: 1,
        tenant: 0,
        key: "level".into(),
        time: BEGIN + hour * HOUR + 5 * MINUTE,
        origin: 0,
        value,
    }
}

#[tokio::test]
async fn gaps_are_filled_as_asked_for() {
    let place = TestStorage::new("gaps");
    let storage = place.open(small()).await;
    let number = |hour, value| hourly(hour, Value::Number(value));
    storage
        .write(vec![number(1, 10.0), number(4, 40.0)])
        .await
        .unwrap();
    let mut of = Aggregate {
        selection: Selection::device(1),
        from: BEGIN,
        until: BEGIN + 6 * HOUR,
        bucket: Bucket::Fixed(HOUR),
        functions: vec![Function::Avg, Function::Count],
        fill: Fill::Omit,
        limit: 2,
        after: None,
    };
    let none = None;
    let some = Some;
    for (fill, expected) in [
        (Fill::Null, [none, some(10.0), none, none, some(40.0), none]),
        (
            Fill::Previous,
            [
                none,
                some(10.0),
                some(10.0),
                some(10.0),
                some(40.0),
                some(40.0),
            ],
        ),
        (
            Fill::Linear,
            [none, some(10.0), some(20.0), some(30.0), some(40.0), none],
        ),
    ] {
        of.fill = fill;
        let rows = all_pages(&storage, of.clone()).await;
        let values: Vec<_> = rows
            .iter()
            .map(|row| row.values[0].as_ref().and_then(Value::number))
            .collect();
        assert_eq!(values, expected, "{fill:?}");
        let counts: Vec<_> = rows
            .iter()
            .filter_map(|row| row.values[1].clone())
            .collect();
        assert_eq!(counts, [0, 1, 0, 0, 1, 0].map(Value::Integer));
        let starts: Vec<_> = rows.iter().map(|row| (row.start - BEGIN) / HOUR).collect();
        assert_eq!(starts, [0, 1, 2, 3, 4, 5]);
    }
    of.fill = Fill::Omit;
    assert_eq!(all_pages(&storage, of).await.len(), 2);
}

#[tokio::test]
async fn the_changes_of_all_buckets_add_up() {
    let place = TestStorage::new("changes");
    let storage = place.open(small()).await;
    // A meter that is read each hour, and counts 100 per hour.
    let points = (0..48).map(|hour| hourly(hour, Value::Integer(hour * 100)));
    storage.write(points.collect()).await.unwrap();
    let of = Aggregate {
        selection: Selection::device(1),
        from: BEGIN + DAY,
        until: BEGIN + 2 * DAY,
        bucket: Bucket::Fixed(HOUR),
        functions: vec![Function::Delta, Function::Rate],
        fill: Fill::Omit,
        limit: 100,
        after: None,
    };
    let rows = storage.aggregate(&of).await.unwrap().rows;
    assert_eq!(rows.len(), 24);
    for row in rows {
        let expected = [
            Some(Value::Number(100.0)),
            Some(Value::Number(100.0 / 3600.0)),
        ];
        assert_eq!(row.values, expected);
    }
}
