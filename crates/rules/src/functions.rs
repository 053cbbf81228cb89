//! The functions that expressions have. What each costs is bounded by the size of its arguments.

use std::sync::{Arc, PoisonError, RwLock};

use cel::{Context, DeclarationError, ExecutionError, Value};
use regex::Regex;

use crate::arithmetic::{Operator, check_bytes, number};
use crate::value::{bytes_of, json_text};

/// Patterns of `matches`, by the numbers that stand for them in the syntax tree.
pub(crate) type Patterns = Arc<RwLock<Vec<Regex>>>;

/// Name of the function that `matches` becomes: its pattern is a number.
pub(crate) const MATCHES: &str = "@matches";

/// Name of the function that `+` becomes inside of a macro: texts would grow with each element.
pub(crate) const ADD_NUMBERS: &str = "@add_numbers";

/// Names of functions that may be called.
pub(crate) const FUNCTIONS: &[&str] = &[
    "abs",
    "bytes",
    "contains",
    "distance",
    "double",
    "endsWith",
    "inside",
    "int",
    "json",
    "lower",
    "matches",
    "number",
    "round",
    "size",
    "startsWith",
    "string",
];

/// Bytes that a value takes for each sign of its text, at most.
const BYTES_OF_SIGN: usize = 24;

/// Mean radius of the Earth, m (IUGG).
const EARTH_M: f64 = 6_371_008.8;

/// Adds the functions that CEL lacks.
///
/// # Errors
/// CEL has got one of these names.
pub(crate) fn add_to(
    context: &mut Context<'_, '_>,
    patterns: &Patterns,
) -> Result<(), DeclarationError> {
    for (operator, _, name) in Operator::ALL {
        context.add_function(name, move |left: Value, right: Value| {
            operator.apply(&left, &right)
        })?;
    }
    context.add_function(ADD_NUMBERS, |left: Value, right: Value| {
        match (number(&left), number(&right)) {
            (Some(_), Some(_)) => Operator::Add.apply(&left, &right),
            _ => Err(failed("+", "inside of a macro it adds numbers alone")),
        }
    })?;
    let patterns = Arc::clone(patterns);
    context.add_function(MATCHES, move |text: Arc<String>, pattern: i64| {
        let patterns = patterns.read().unwrap_or_else(PoisonError::into_inner);
        let pattern = usize::try_from(pattern)
            .ok()
            .and_then(|at| patterns.get(at));
        let pattern = pattern.ok_or_else(|| failed("matches", "there is no such pattern"))?;
        Ok::<Value, ExecutionError>(Value::Bool(pattern.is_match(&text)))
    })?;
    context.add_function("json", |value: Value| {
        // Each `json` of a `json` may double the text: it is not made if it is large already.
        check_bytes("json", bytes_of(&value) / BYTES_OF_SIGN)?;
        let text = json_text(&value);
        check_bytes("json", text.len())?;
        Ok::<Value, ExecutionError>(Value::String(Arc::new(text)))
    })?;
    context.add_function("lower", |text: Arc<String>| text.to_lowercase())?;
    context.add_function("abs", |value: Value| {
        real("abs", &value).map(|one| Value::Float(one.abs()))
    })?;
    context.add_function("round", |value: Value| {
        real("round", &value).map(|one| Value::Float(one.round()))
    })?;
    context.add_function("number", |value: Value| to_number(&value))?;
    context.add_function(
        "distance",
        |lat: Value, lon: Value, other_lat: Value, other_lon: Value| {
            let from = (real("distance", &lat)?, real("distance", &lon)?);
            let to = (real("distance", &other_lat)?, real("distance", &other_lon)?);
            Ok::<Value, ExecutionError>(Value::Float(distance_m(from, to)))
        },
    )?;
    context.add_function("inside", |lat: Value, lon: Value, corners: Value| {
        let point = (real("inside", &lat)?, real("inside", &lon)?);
        let corners = corners_of(&corners)?;
        Ok::<Value, ExecutionError>(Value::Bool(is_inside(point, &corners)))
    })?;
    Ok(())
}

fn failed(function: &str, message: &str) -> ExecutionError {
    ExecutionError::function_error(function, message)
}

fn real(function: &str, value: &Value) -> Result<f64, ExecutionError> {
    number(value).ok_or_else(|| failed(function, "expected a number"))
}

/// A number, or a text that is one.
fn to_number(value: &Value) -> Result<Value, ExecutionError> {
    let found = match value {
        Value::String(text) => text.trim().parse().ok().filter(|one: &f64| one.is_finite()),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        other => number(other),
    };
    let found = found.map(Value::Float);
    found.ok_or_else(|| failed("number", "expected a number, or a text that is one"))
}

/// Metres between two points on the Earth, by their latitudes and longitudes in degrees. The
/// haversine formula; at most 0.6 % off, since the Earth is no sphere.
fn distance_m(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (lat, other_lat) = (from.0.to_radians(), to.0.to_radians());
    let half_lat = (other_lat - lat) / 2.0;
    let half_lon = (to.1 - from.1).to_radians() / 2.0;
    let chord = half_lat.sin().powi(2) + lat.cos() * other_lat.cos() * half_lon.sin().powi(2);
    2.0 * EARTH_M * chord.clamp(0.0, 1.0).sqrt().asin()
}

/// Corners of a polygon: `[[lat, lon], …]`.
fn corners_of(value: &Value) -> Result<Vec<(f64, f64)>, ExecutionError> {
    let expected = || failed("inside", "expected at least three corners [lat, lon]");
    let Value::List(corners) = value else {
        return Err(expected());
    };
    let corners = corners.iter().map(|corner| match corner {
        Value::List(pair) => match pair.as_slice() {
            [lat, lon] => Some((number(lat)?, number(lon)?)),
            _ => None,
        },
        _ => None,
    });
    let corners: Option<Vec<(f64, f64)>> = corners.collect();
    corners
        .filter(|corners| corners.len() >= 3)
        .ok_or_else(expected)
}

/// Whether a point is in a polygon: a ray to the east crosses an odd number of its edges. Polygons
/// that cross the 180th meridian are none.
fn is_inside((lat, lon): (f64, f64), corners: &[(f64, f64)]) -> bool {
    let ends = corners.iter().cycle().skip(1);
    let edges = corners.iter().zip(ends);
    let crossings = edges.filter(|((lat_a, lon_a), (lat_b, lon_b))| {
        (*lat_a > lat) != (*lat_b > lat)
            && lon < (lon_b - lon_a) * (lat - lat_a) / (lat_b - lat_a) + lon_a
    });
    crossings.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_an_atlas() {
        let (berlin, paris) = ((52.520_08, 13.404_95), (48.856_61, 2.352_22));
        let metres = distance_m(berlin, paris);
        assert!((metres - 877_500.0).abs() < 3_000.0, "{metres}");
        assert_eq!(distance_m(berlin, berlin), 0.0);
        let half = distance_m((0.0, 0.0), (0.0, 180.0));
        assert!(
            (half - std::f64::consts::PI * EARTH_M).abs() < 1.0,
            "{half}"
        );
    }

    #[test]
    fn points_are_inside_a_polygon_or_not() {
        let yard = [
            (0.0, 0.0),
            (0.0, 10.0),
            (10.0, 10.0),
            (5.0, 5.0),
            (10.0, 0.0),
        ];
        assert!(is_inside((2.0, 5.0), &yard));
        assert!(is_inside((8.0, 1.0), &yard));
        assert!(!is_inside((8.0, 5.0), &yard));
        assert!(!is_inside((-1.0, 5.0), &yard));
        assert!(!is_inside((2.0, 11.0), &yard));
    }
}
