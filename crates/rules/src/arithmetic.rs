//! Arithmetic with mixed numbers. CEL has no mixed arithmetic: `payload.count * 2` would be an
//! error, because numbers of JSON are floating point here.

use std::sync::Arc;

use cel::{ExecutionError, Value};

/// Maximum bytes of a text or byte string produced by an expression.
pub(crate) const MADE_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of elements of a list produced by `+`.
const MADE_ELEMENTS_MAX: usize = 100_000;

/// Checks the size of a produced value.
///
/// # Errors
/// It is too large.
pub(crate) fn check_bytes(function: &str, bytes: usize) -> Result<(), ExecutionError> {
    check_size(function, bytes, MADE_BYTES_MAX, "bytes")
}

fn check_size(function: &str, size: usize, most: usize, unit: &str) -> Result<(), ExecutionError> {
    match size > most {
        true => Err(ExecutionError::function_error(
            function,
            format!("the result has {size} {unit}, expected {most} at most"),
        )),
        false => Ok(()),
    }
}

/// An operator of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// All operators, with their names in the syntax tree and those of the functions that replace
    /// them. User-written names cannot contain `@`.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Add, "_+_", "@add"),
        (Self::Subtract, "_-_", "@subtract"),
        (Self::Multiply, "_*_", "@multiply"),
        (Self::Divide, "_/_", "@divide"),
        (Self::Remainder, "_%_", "@remainder"),
    ];

    /// The result for two values.
    ///
    /// # Errors
    /// The divisor is zero, the result is out of range, or the types are not supported.
    pub(crate) fn apply(self, left: &Value, right: &Value) -> Result<Value, ExecutionError> {
        match (self, left, right) {
            (Self::Add, Value::String(one), Value::String(other)) => {
                check_bytes("+", one.len() + other.len())?;
                Ok(Value::String(Arc::new(format!("{one}{other}"))))
            }
            (Self::Add, Value::List(one), Value::List(other)) => {
                check_size("+", one.len() + other.len(), MADE_ELEMENTS_MAX, "elements")?;
                let all = one.iter().chain(other.iter()).cloned().collect();
                Ok(Value::List(Arc::new(all)))
            }
            (Self::Add, Value::Bytes(one), Value::Bytes(other)) => {
                check_bytes("+", one.len() + other.len())?;
                Ok(Value::Bytes(Arc::new([&one[..], &other[..]].concat())))
            }
            (_, Value::Int(one), Value::Int(other)) => self.whole(*one, *other),
            (_, Value::UInt(one), Value::UInt(other)) => {
                match (i64::try_from(*one), i64::try_from(*other)) {
                    (Ok(one), Ok(other)) => self.whole(one, other),
                    _ => self.with_fraction(*one as f64, *other as f64),
                }
            }
            _ => match (number(left), number(right)) {
                (Some(one), Some(other)) => self.with_fraction(one, other),
                _ => Err(ExecutionError::no_such_overload("arithmetic", Vec::new())),
            },
        }
    }

    fn whole(self, one: i64, other: i64) -> Result<Value, ExecutionError> {
        let result = match self {
            Self::Add => one.checked_add(other),
            Self::Subtract => one.checked_sub(other),
            Self::Multiply => one.checked_mul(other),
            Self::Divide | Self::Remainder if other == 0 => {
                return Err(ExecutionError::DivisionByZero(Value::Int(one)));
            }
            Self::Divide => one.checked_div(other),
            Self::Remainder => one.checked_rem(other),
        };
        let overflow = ExecutionError::Overflow("arithmetic", Value::Int(one), Value::Int(other));
        result.map(Value::Int).ok_or(overflow)
    }

    fn with_fraction(self, one: f64, other: f64) -> Result<Value, ExecutionError> {
        let result = match self {
            Self::Add => one + other,
            Self::Subtract => one - other,
            Self::Multiply => one * other,
            // Infinity would exceed every threshold.
            Self::Divide | Self::Remainder if other == 0.0 => {
                return Err(ExecutionError::DivisionByZero(Value::Float(one)));
            }
            Self::Divide => one / other,
            Self::Remainder => one % other,
        };
        let overflow =
            || ExecutionError::Overflow("arithmetic", Value::Float(one), Value::Float(other));
        Some(result)
            .filter(|result| result.is_finite())
            .map(Value::Float)
            .ok_or_else(overflow)
    }
}

/// A number of any kind.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::UInt(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// A number for display: a long one in scientific notation.
pub(crate) fn short(number: f64) -> String {
    /// Maximum characters of a number in plain notation.
    const SIGNS_MAX: usize = 20;
    let text = number.to_string();
    match text.len() > SIGNS_MAX {
        true => format!("{number:e}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_numbers_mix_and_nothing_divides_by_zero() {
        let (two, half) = (Value::Int(2), Value::Float(0.5));
        let apply = |operator: Operator, one: &Value, other: &Value| operator.apply(one, other);
        assert_eq!(
            apply(Operator::Multiply, &half, &two),
            Ok(Value::Float(1.0))
        );
        assert_eq!(apply(Operator::Add, &two, &two), Ok(Value::Int(4)));
        for zero in [Value::Int(0), Value::Float(0.0), Value::Float(-0.0)] {
            for operator in [Operator::Divide, Operator::Remainder] {
                for one in [&two, &half] {
                    let result = apply(operator, one, &zero);
                    assert!(
                        matches!(result, Err(ExecutionError::DivisionByZero(_))),
                        "{result:?}"
                    );
                }
            }
        }
        let large = Value::Float(f64::MAX);
        assert!(apply(Operator::Multiply, &large, &large).is_err());
        assert!(apply(Operator::Add, &Value::Int(i64::MAX), &two).is_err());
        assert!(apply(Operator::Subtract, &Value::Bool(true), &two).is_err());
    }
}
