//! A naive model of the storage: a sorted map.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_telemetry::{
    DAY, Order, Point, Position, Range, Row, SECOND, Selection, Storage, Time, Value,
};

use crate::place::Dice;

/// Start of the times in tests, two days before clocks change in Europe: 2025-03-28T00:00:00Z.
pub(crate) const BEGIN: Time = 1_743_120_000 * SECOND;

pub(crate) const KEYS: [&str; 4] = ["temperature", "count", "door", "state"];

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) values: BTreeMap<(i64, Arc<str>, Time, i64), Value>,
}

impl Model {
    pub(crate) fn write(&mut self, points: &[Point]) {
        for point in points {
            let key = (
                point.device,
                Arc::clone(&point.key),
                point.time,
                point.origin,
            );
            self.values.insert(key, point.value.clone());
        }
    }

    pub(crate) fn rows(&self, range: &Range) -> Vec<Row> {
        let selection = &range.selection;
        let keys = selection.keys.as_ref();
        let mut rows: Vec<_> = self
            .values
            .iter()
            .filter(|((device, key, time, _), _)| {
                selection.devices.contains(device)
                    && keys.is_none_or(|keys| keys.iter().any(|wanted| **wanted == **key))
                    && (range.from..range.until).contains(time)
            })
            .map(|((device, key, time, origin), value)| Row {
                device: *device,
                key: Arc::clone(key),
                time: *time,
                origin: *origin,
                value: value.clone(),
            })
            .collect();
        let by_time = |row: &Row| (row.time, row.origin, row.device, Arc::clone(&row.key));
        match range.order {
            Order::BySeries => {}
            Order::OldestFirst => rows.sort_by_key(by_time),
            Order::NewestFirst => {
                rows.sort_by_key(by_time);
                rows.reverse();
            }
        }
        rows
    }

    pub(crate) fn delete(&mut self, selection: &Selection, from: Time, until: Time) -> usize {
        let before = self.values.len();
        let keys = selection.keys.as_ref();
        self.values.retain(|(device, key, time, _), _| {
            !(selection.devices.contains(device)
                && keys.is_none_or(|keys| keys.iter().any(|wanted| **wanted == **key))
                && (from..until).contains(time))
        });
        before - self.values.len()
    }

    pub(crate) fn latest(&self, devices: &[i64]) -> Vec<Row> {
        let all = Range {
            selection: Selection {
                devices: devices.to_vec(),
                keys: None,
            },
            from: Time::MIN,
            until: Time::MAX,
            order: Order::BySeries,
            limit: 1,
            after: None,
        };
        let mut latest: BTreeMap<(i64, Arc<str>), Row> = BTreeMap::new();
        for row in self.rows(&all) {
            latest.insert((row.device, Arc::clone(&row.key)), row);
        }
        latest.into_values().collect()
    }
}

/// Points of a few devices within a few days, some of them written twice or without a time.
pub(crate) fn points(dice: &mut Dice, count: usize) -> Vec<Point> {
    let point = |_| {
        let key = usize::try_from(dice.below(4)).expect("small");
        let value = match key {
            0 => {
                let whole = i32::try_from(dice.below(4000)).expect("small");
                Value::Number(f64::from(whole - 2000) / 100.0)
            }
            1 => Value::Integer(dice.below(1 << 40)),
            2 => Value::Bool(dice.below(2) == 1),
            _ => match dice.below(3) {
                0 => Value::Text(format!("state {}", dice.below(5)).into()),
                1 => Value::Json(format!("[{}]", dice.below(9)).into()),
                _ => Value::Integer(dice.below(100) - 50),
            },
        };
        let near = dice.below(4) > 0;
        Point {
            device: dice.below(3) + 1,
            tenant: 0,
            key: KEYS[key].into(),
            time: match near {
                true => BEGIN + dice.below(3 * 3600) * SECOND,
                false => BEGIN + dice.below(5 * DAY),
            },
            origin: match dice.below(10) {
                0 => dice.below(5) + 1,
                _ => 0,
            },
            value,
        }
    };
    (0..count).map(point).collect()
}

/// All pages of a result.
pub(crate) async fn all_pages(storage: &Storage, mut range: Range) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let page = storage.range(&range).await.expect("an answer");
        assert!(page.rows.len() <= range.limit);
        rows.extend(page.rows);
        match page.next {
            // As a client would pass it on.
            Some(next) => {
                let next: Position = next.to_string().parse().expect("a position");
                range.after = Some(next);
            }
            None => return rows,
        }
    }
}

/// A query for a part of the model's values.
pub(crate) fn question(dice: &mut Dice) -> Range {
    let from = BEGIN + dice.below(5 * DAY);
    let devices = (1..=3).filter(|_| dice.below(2) == 0).collect();
    let keys = KEYS.iter().filter(|_| dice.below(2) == 0);
    let keys = keys.map(|key| (*key).to_owned()).collect();
    Range {
        selection: Selection {
            devices,
            keys: (dice.below(3) > 0).then_some(keys),
        },
        from: match dice.below(3) {
            0 => BEGIN,
            _ => from,
        },
        until: from + dice.below(2 * DAY),
        order: match dice.below(3) {
            0 => Order::BySeries,
            1 => Order::OldestFirst,
            _ => Order::NewestFirst,
        },
        limit: usize::try_from(dice.below(700) + 1).expect("small"),
        after: None,
    }
}
