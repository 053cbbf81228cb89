//! Cost limits of expressions. Work is counted in units as it is done, without a clock, so that a
//! rule has the same result for the same message on each machine.
//!
//! A unit is a byte of text that is examined or copied. Other values and operations cost several
//! units. `matches` may examine each part of its pattern for each byte.

use std::cell::Cell;

use cel::ExecutionError;
use cel::common::value::{BuiltinRef, Val};

use crate::problem::Problem;

/// Maximum units of a rule for a message. A release build needs less than 100 ms for them.
pub const UNITS_MAX: u64 = 20_000_000;
/// Units of a rule for each further value of a message, even after all others are used up.
pub(crate) const UNITS_OF_VALUE: u64 = 10_000;
/// Units of the template for the id of a device.
pub(crate) const UNITS_OF_DEVICE: u64 = 20_000;

/// Units of an operation, without its operands.
pub(crate) const OPERATION: u64 = 40;
/// Units of a value, without its text.
const VALUE: u64 = 40;
/// Units of the name of a member, without its text.
const NAME: u64 = 4 * VALUE;

thread_local! {
    /// Units of the current limit.
    static GIVEN: Cell<u64> = const { Cell::new(UNITS_MAX) };
    /// Units left for the evaluation on this thread; less than 0: the limit was exceeded.
    static LEFT: Cell<i64> = const { Cell::new(UNITS_MAX as i64) };
}

/// Limits the next evaluation on this thread to this many units.
pub(crate) fn give(units: u64) {
    GIVEN.set(units);
    LEFT.set(i64::try_from(units).unwrap_or(i64::MAX));
}

/// Units that are left.
pub(crate) fn left() -> u64 {
    u64::try_from(LEFT.get()).unwrap_or(0)
}

/// Runs a part with at most this many of the units that are left.
pub(crate) fn at_most<T>(units: u64, part: impl FnOnce() -> T) -> T {
    let (given, all) = (GIVEN.get(), left());
    give(units.min(all));
    let result = part();
    let used = units.min(all).saturating_sub(left());
    give(all.saturating_sub(used));
    GIVEN.set(given);
    result
}

/// Units for this size.
pub(crate) fn of_size(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// Charges units.
///
/// # Errors
/// There are not enough. The evaluation then has no value, however the error is handled.
pub(crate) fn charge(units: u64) -> Result<(), ExecutionError> {
    let units = i64::try_from(units).unwrap_or(i64::MAX);
    let left = LEFT.get().saturating_sub(units);
    LEFT.set(left);
    match left < 0 {
        // The error text of `check` is used instead.
        true => Err(ExecutionError::function_error("rule", "too much work")),
        false => Ok(()),
    }
}

/// Charges the units of a value and its contents.
///
/// # Errors
/// As [`charge`].
pub(crate) fn charge_value(value: &dyn Val) -> Result<(), ExecutionError> {
    match value.as_builtin() {
        BuiltinRef::String(text) => charge(VALUE.saturating_add(of_size(text.inner().len()))),
        BuiltinRef::Bytes(bytes) => charge(VALUE.saturating_add(of_size(bytes.inner().len()))),
        BuiltinRef::List(items) => {
            charge(VALUE)?;
            let mut items = items.inner().iter();
            items.try_for_each(|item| charge_value(&**item))
        }
        BuiltinRef::Map(members) => {
            charge(VALUE)?;
            let mut members = members.inner().iter();
            members.try_for_each(|(name, value)| {
                charge_text(name.inner())?;
                charge(NAME)?;
                charge_value(&**value)
            })
        }
        _ => charge(VALUE),
    }
}

/// Charges the units of a text or byte string; other values cost nothing.
///
/// # Errors
/// As [`charge`].
pub(crate) fn charge_text(value: &dyn Val) -> Result<(), ExecutionError> {
    match value.as_builtin() {
        BuiltinRef::String(text) => charge(of_size(text.inner().len())),
        BuiltinRef::Bytes(bytes) => charge(of_size(bytes.inner().len())),
        _ => Ok(()),
    }
}

/// Checks that the units have been enough so far.
///
/// # Errors
/// They were not, with the reason.
pub(crate) fn check() -> Result<(), Problem> {
    match LEFT.get() < 0 {
        false => Ok(()),
        true => Err(Problem::Failed(format!(
            "the expressions are too much work for one message: they have used {} units, which are \
             bytes that they look at and make, for `matches` times the length of the pattern; use \
             them on shorter texts and lists, with simpler patterns, or fewer of them",
            GIVEN.get()
        ))),
    }
}
