//! Calculations with values in buckets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use martlet_control::csv::{self, BYTE_ORDER_MARK};
use martlet_control::telemetry::{
    Aggregate, AggregatePosition, AggregateRow, Bucket, Fill, Function, QueryMemory, RowFormat,
    Selection, Unit, csv_line, csv_value, time_text,
};
use serde_json::{Map, Value, json};

use super::device::{keys_of, limit_of};
use super::export::format_of;
use super::of_node::telemetry_of;
use super::view::{id_of, json_of};
use crate::api::Api;
use crate::problem::Problem;

/// Rows of an export of buckets, at most: these are calculated before they are sent.
const EXPORT_MAX: usize = 100_000;
const SECOND: i64 = 1_000_000;

/// Units of lengths, and seconds of each.
const LENGTHS: [(char, i64); 5] = [
    ('s', 1),
    ('m', 60),
    ('h', 3_600),
    ('d', 86_400),
    ('w', 604_800),
];

/// The buckets of a query.
///
/// # Errors
/// They mean nothing.
pub(crate) fn bucket_of(text: &str, zone: Option<&str>) -> Result<Bucket, Problem> {
    if let Ok(unit) = text.parse::<Unit>() {
        // A plus of a query that is not written as %2B is a blank. No name has one.
        let zone = zone.map(|zone| zone.replace(' ', "+"));
        return Bucket::calendar(unit, zone.as_deref().unwrap_or("UTC"))
            .map_err(|error| Problem::of_query("zone", error.to_string()));
    }
    if zone.is_some() {
        let detail = "applies only to calendar units: use bucket=day, for example";
        return Err(Problem::of_query("zone", detail));
    }
    if text == "all" {
        return Ok(Bucket::Whole);
    }
    let length = LENGTHS.iter().find_map(|(unit, secs)| {
        let number: i64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*secs)?.checked_mul(SECOND)
    });
    match length {
        Some(length @ 1..) => Ok(Bucket::Fixed(length)),
        _ => {
            let detail = format!(
                "{text:?} is not a valid bucket: expected a length such as 30s, 15m, 1h or 7d, \
                 all, or minute, hour, day, week, month, quarter or year"
            );
            Err(Problem::of_query("bucket", detail))
        }
    }
}

fn functions_of(text: Option<&str>) -> Result<Vec<Function>, Problem> {
    let mut functions = Vec::new();
    for name in text.unwrap_or("avg").split(',').map(str::trim) {
        let function: Function = name
            .parse()
            .map_err(|error| Problem::of_query("functions", format!("{error}")))?;
        if !functions.contains(&function) {
            functions.push(function);
        }
    }
    Ok(functions)
}

fn fill_of(text: Option<&str>) -> Result<Fill, Problem> {
    match text {
        None => Ok(Fill::default()),
        Some(text) => text
            .parse()
            .map_err(|error| Problem::of_query("fill", format!("{error}"))),
    }
}

/// The parameters of buckets, as given in a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets {
    pub(super) keys: Option<String>,
    pub(super) bucket: String,
    pub(super) zone: Option<String>,
    pub(super) functions: Option<String>,
    pub(super) fill: Option<String>,
    pub(super) order: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) cursor: Option<String>,
    pub(super) format: Option<String>,
    pub(super) bom: Option<bool>,
}

/// The answer to a query with buckets.
///
/// # Errors
/// The query means nothing, or the values cannot be read.
pub(super) async fn answer(
    api: &Api,
    query: Buckets,
    ids: HashMap<i64, String>,
    from: i64,
    until: i64,
    memory: Arc<dyn QueryMemory>,
) -> Result<Response, Problem> {
    let mut devices: Vec<i64> = ids.keys().copied().collect();
    devices.sort_unstable();
    if query.order.is_some() {
        let detail = "buckets are always in the order of device, key and time";
        return Err(Problem::of_query("order", detail));
    }
    let format = format_of(query.format.as_deref())?;
    let bucket = query.bucket.as_str();
    let list = format!(
        "buckets {devices:?} {:?}",
        (
            &query.keys,
            bucket,
            &query.zone,
            &query.functions,
            &query.fill,
            from
        )
    );
    let after: Option<(i64, String, i64)> = api.cursors().key(&list, query.cursor.as_deref())?;
    let question = Aggregate {
        selection: Selection {
            devices,
            keys: keys_of(query.keys.as_deref())?,
        },
        from,
        until,
        bucket: bucket_of(bucket, query.zone.as_deref())?,
        functions: functions_of(query.functions.as_deref())?,
        fill: fill_of(query.fill.as_deref())?,
        limit: match format {
            None => limit_of(query.limit)?,
            Some(_) => EXPORT_MAX,
        },
        after: after.map(|(device, key, start)| AggregatePosition {
            device,
            key: key.into(),
            start,
        }),
    };
    let storage = telemetry_of(api)?.storage().await?;
    let of_query = storage.aggregate_within(&question, memory).await?;
    let found = of_query.rows;
    let names: Vec<&str> = question.functions.iter().map(|one| one.name()).collect();
    let (is_truncated, next) = (found.is_truncated(), found.next);
    let Some(format) = format else {
        let rows = found.rows.into_iter();
        let items: Vec<Value> = rows.map(|row| view(row, &names, &ids)).collect();
        let next = next.map(|next| {
            let key = (next.device, &*next.key, next.start);
            api.cursors().after_key(&list, &key)
        });
        let answer = json!({ "items": items, "truncated": is_truncated, "next": next });
        return Ok(Json(answer).into_response());
    };
    if is_truncated {
        let detail = format!(
            "there are more than {EXPORT_MAX} buckets: use longer ones, a shorter time range or \
             fewer devices"
        );
        return Err(Problem::of_query("bucket", detail));
    }
    let text = exported(format, found.rows, &names, &ids, query.bom == Some(true))?;
    let headers = [(header::CONTENT_TYPE, format.media_type())];
    Ok((headers, text).into_response())
}

/// A bucket as JSON.
fn view(row: AggregateRow, names: &[&str], ids: &HashMap<i64, String>) -> Value {
    let mut members = Map::new();
    members.insert("device".to_owned(), id_of(row.device, ids).into());
    members.insert("key".to_owned(), (*row.key).into());
    members.insert("time".to_owned(), time_text(row.start).into());
    for (name, value) in names.iter().zip(row.values) {
        let value = value.as_ref().map_or(Value::Null, json_of);
        members.insert((*name).to_owned(), value);
    }
    Value::Object(members)
}

fn exported(
    format: RowFormat,
    rows: Vec<AggregateRow>,
    names: &[&str],
    ids: &HashMap<i64, String>,
    has_bom: bool,
) -> Result<String, Problem> {
    let mut text = String::new();
    if format == RowFormat::LineProtocol {
        let detail = "line protocol has the values themselves: leave out `bucket`";
        return Err(Problem::of_query("format", detail));
    }
    if format == RowFormat::Csv {
        if has_bom {
            text.push(BYTE_ORDER_MARK);
        }
        let head = ["time", "device", "key"].into_iter();
        text.push_str(&csv_line(head.chain(names.iter().copied()).map(Cow::from)));
    }
    for row in rows {
        if format == RowFormat::Ndjson {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", view(row, names, ids));
            continue;
        }
        let device = id_of(row.device, ids);
        let head = [
            time_text(row.start).into(),
            csv::marked(&device),
            csv::marked(&row.key),
        ];
        let values = row.values.iter();
        let values = values.map(|value| value.as_ref().map_or(Cow::from(""), csv_value));
        text.push_str(&csv_line(head.into_iter().chain(values)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_lengths_and_units_of_the_calendar() {
        assert!(matches!(
            bucket_of("15m", None),
            Ok(Bucket::Fixed(900_000_000))
        ));
        assert!(matches!(bucket_of("all", None), Ok(Bucket::Whole)));
        let week = bucket_of("week", Some("Europe/Berlin"));
        assert!(matches!(week, Ok(Bucket::Calendar(Unit::Week, _))));
        assert!(matches!(
            bucket_of("day", None),
            Ok(Bucket::Calendar(Unit::Day, _))
        ));
        for (text, zone) in [
            ("", None),
            ("0s", None),
            ("-1h", None),
            ("1y", None),
            ("99999999999999w", None),
            ("1h", Some("UTC")),
            ("day", Some("Europe/Nowhere")),
        ] {
            assert!(bucket_of(text, zone).is_err(), "{text} {zone:?}");
        }
    }

    #[test]
    fn functions_are_named_once_each() {
        let names = |text| {
            let all = functions_of(text).map(|all| all.iter().map(|one| one.name()).collect());
            all.map(|all: Vec<&str>| all.join(","))
        };
        assert_eq!(names(None).unwrap(), "avg");
        assert_eq!(names(Some("max, min,max")).unwrap(), "max,min");
        assert!(names(Some("median")).is_err());
    }
}
