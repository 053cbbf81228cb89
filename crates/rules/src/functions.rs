//! The functions of expressions. Each is charged for before it is called: for the size of its
//! arguments, and of its pattern.

use std::sync::Arc;

use cel::common::types::{CelBool, CelInt};
use cel::common::value::{BuiltinRef, CowVal};
use cel::{Context, DeclarationError, ExecutionError, FunctionContext, Value};

use crate::arithmetic::{Operator, check_bytes, number};
use crate::fuel;
use crate::pattern::Patterns;
use crate::value::json_text;

/// Name of the function that replaces `matches`: its pattern is a number.
pub(crate) const MATCHES: &str = "@matches";

/// Name of the function that replaces `+` inside a macro: there texts would grow with each
/// element.
pub(crate) const ADD_NUMBERS: &str = "@add_numbers";

/// Name of the function that wraps a value before it is copied or compared.
pub(crate) const PAY: &str = "@pay";

/// Name of the function that wraps a value before its text is examined.
pub(crate) const PAY_TEXT: &str = "@pay_text";

/// Name of the function that wraps a container before a search in it: a list is searched.
pub(crate) const PAY_LIST: &str = "@pay_list";

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

/// Mean radius of the Earth, m (IUGG).
const EARTH_M: f64 = 6_371_008.8;

/// A function of expressions.
pub(crate) type Function = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        ) -> Result<CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

/// Adds a function with `N` arguments. Their sizes are charged.
fn add<const N: usize>(
    context: &mut Context<'_, '_>,
    name: &str,
    call: impl Fn([Value; N]) -> Result<Value, ExecutionError> + Send + Sync + 'static,
) -> Result<(), DeclarationError> {
    let function: Function = Box::new(move |called| {
        let mut values = [const { Value::Null }; N];
        if called.args.len() != N {
            return Err(called.error(format!("expected {N} values")));
        }
        for (value, argument) in values.iter_mut().zip(&called.args) {
            fuel::charge_value(argument.as_ref())?;
            *value = argument.as_ref().try_into()?;
        }
        Ok(CowVal::Owned(call(values)?.try_into()?))
    });
    context.add_function::<Function, Function>(name, function)
}

/// Adds a function that charges for its first argument by `charge`, and returns it.
fn add_paying(
    context: &mut Context<'_, '_>,
    name: &str,
    charge: fn(&CowVal<'_, '_>) -> Result<(), ExecutionError>,
) -> Result<(), DeclarationError> {
    let function: Function = Box::new(move |called| {
        let value = first(called)?;
        charge(&value)?;
        Ok(value)
    });
    context.add_function::<Function, Function>(name, function)
}

/// Takes the first argument of a function.
///
/// # Errors
/// There is no argument.
pub(crate) fn first<'context, 'call>(
    called: &mut FunctionContext<'context, 'call>,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    match called.args.is_empty() {
        true => Err(called.error("expected a value")),
        false => Ok(called.args.swap_remove(0)),
    }
}

/// Adds the functions that CEL lacks.
///
/// # Errors
/// CEL has a function of one of these names already.
pub(crate) fn add_to(
    context: &mut Context<'_, '_>,
    patterns: &Patterns,
) -> Result<(), DeclarationError> {
    add_paying(context, PAY, |value| fuel::charge_value(value.as_ref()))?;
    add_paying(context, PAY_TEXT, |value| fuel::charge_text(value.as_ref()))?;
    add_paying(context, PAY_LIST, |value| match value.as_builtin() {
        BuiltinRef::List(_) => fuel::charge_value(value.as_ref()),
        _ => Ok(()),
    })?;
    for (operator, _, name) in Operator::ALL {
        add(context, name, move |[left, right]| {
            operator.apply(&left, &right)
        })?;
    }
    add(context, ADD_NUMBERS, |[left, right]| {
        match (number(&left), number(&right)) {
            (Some(_), Some(_)) => Operator::Add.apply(&left, &right),
            _ => Err(failed("+", "inside of a macro it adds numbers alone")),
        }
    })?;
    add_matches(context, patterns.clone())?;
    add(context, "json", |[value]| {
        let text = json_text(&value);
        // The text may be longer than the value, because characters are escaped.
        fuel::charge(fuel::of_size(text.len()))?;
        check_bytes("json", text.len())?;
        Ok(Value::String(Arc::new(text)))
    })?;
    add(context, "lower", |[value]| match value {
        Value::String(text) => Ok(Value::String(Arc::new(text.to_lowercase()))),
        _ => Err(failed("lower", "expected a text")),
    })?;
    add(context, "abs", |[value]| {
        real("abs", &value).map(|one| Value::Float(one.abs()))
    })?;
    add(context, "round", |[value]| {
        real("round", &value).map(|one| Value::Float(one.round()))
    })?;
    add(context, "number", |[value]| to_number(&value))?;
    add(context, "distance", |[lat, lon, other_lat, other_lon]| {
        let from = (real("distance", &lat)?, real("distance", &lon)?);
        let to = (real("distance", &other_lat)?, real("distance", &other_lon)?);
        Ok(Value::Float(distance_m(from, to)))
    })?;
    add(context, "inside", |[lat, lon, corners]| {
        let (lat, lon) = (real("inside", &lat)?, real("inside", &lon)?);
        let corners = corners_of(&corners)?;
        Ok(Value::Bool(is_inside(lat, lon, &corners)))
    })?;
    Ok(())
}

/// `matches`: its arguments are a text, which is not copied, and the number of a pattern.
fn add_matches(context: &mut Context<'_, '_>, patterns: Patterns) -> Result<(), DeclarationError> {
    let function: Function = Box::new(move |called| {
        let pattern = called.args.get(1);
        let pattern = pattern.and_then(|one| one.downcast_ref::<CelInt>());
        let text = called.args.first().map(|one| one.as_builtin());
        let (Some(BuiltinRef::String(text)), Some(pattern)) = (text, pattern) else {
            return Err(failed("matches", "expected a text"));
        };
        let is_match = patterns.is_match(*pattern.inner(), text.inner())?;
        let is_match = is_match.ok_or_else(|| failed("matches", "there is no such pattern"))?;
        Ok(CowVal::owned(CelBool::from(is_match)))
    });
    context.add_function::<Function, Function>(MATCHES, function)
}

fn failed(function: &str, message: &str) -> ExecutionError {
    ExecutionError::function_error(function, message)
}

fn real(function: &str, value: &Value) -> Result<f64, ExecutionError> {
    number(value).ok_or_else(|| failed(function, "expected a number"))
}

/// A number, or a text with a number.
fn to_number(value: &Value) -> Result<Value, ExecutionError> {
    let found = match value {
        Value::String(text) => text.trim().parse().ok().filter(|one: &f64| one.is_finite()),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        other => number(other),
    };
    let found = found.map(Value::Float);
    found.ok_or_else(|| failed("number", "expected a number, or a text that is one"))
}

/// Metres between two points on the Earth, by their latitudes and longitudes in degrees. Haversine
/// formula; at most 0.6 % off, because the Earth is not a sphere.
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
/// that cross the 180th meridian are not supported.
fn is_inside(lat: f64, lon: f64, corners: &[(f64, f64)]) -> bool {
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
        assert!(is_inside(2.0, 5.0, &yard));
        assert!(is_inside(8.0, 1.0, &yard));
        assert!(!is_inside(8.0, 5.0, &yard));
        assert!(!is_inside(-1.0, 5.0, &yard));
        assert!(!is_inside(2.0, 11.0, &yard));
    }
}
