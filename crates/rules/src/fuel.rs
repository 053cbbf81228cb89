//! What expressions may cost. Work is counted in units as it is done, without a clock, so that a
//! rule ends in the same way for the same message on each machine.
//!
//! A unit is a byte of a text that is looked at or copied. A value beside it is some, and so is an
//! operation. `matches` may look at each part of its pattern for each byte.

use std::cell::Cell;

use cel::ExecutionError;
use cel::common::value::{BuiltinRef, Val};

use crate::problem::Problem;

/// Units that a rule may use for a message. A release build does them in less than 100 ms.
pub const UNITS_MAX: u64 = 20_000_000;
/// Units that a rule may use for each further value of a message, even if all others are used up.
pub(crate) const UNITS_OF_VALUE: u64 = 10_000;
/// Units of the template for the id of a device.
pub(crate) const UNITS_OF_DEVICE: u64 = 20_000;

/// Units of an operation, without what it looks at.
pub(crate) const OPERATION: u64 = 40;
/// Units of a value, without its text.
const VALUE: u64 = 40;
/// Units of the name of a member, without its text.
const NAME: u64 = 4 * VALUE;

thread_local! {
    /// Units that were given.
    static GIVEN: Cell<u64> = const { Cell::new(UNITS_MAX) };
    /// Units that are left for what this thread evaluates; less than 0: they were not enough.
    static LEFT: Cell<i64> = const { Cell::new(UNITS_MAX as i64) };
}

/// Has what this thread evaluates next use this many units at most.
pub(crate) fn give(units: u64) {
    GIVEN.set(units);
    LEFT.set(i64::try_from(units).unwrap_or(i64::MAX));
}

/// Units that are left.
pub(crate) fn left() -> u64 {
    u64::try_from(LEFT.get()).unwrap_or(0)
}

/// Runs a part that may use this many units of those that are left.
pub(crate) fn at_most<T>(units: u64, part: impl FnOnce() -> T) -> T {
    let (given, all) = (GIVEN.get(), left());
    give(units.min(all));
    let result = part();
    let used = units.min(all).saturating_sub(left());
    give(all.saturating_sub(used));
    GIVEN.set(given);
    result
}

/// Units of something of this size.
pub(crate) fn of_size(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// Uses units.
///
/// # Errors
/// There are not as many. What is evaluated has no value then, whatever becomes of the error.
pub(crate) fn charge(units: u64) -> Result<(), ExecutionError> {
    let units = i64::try_from(units).unwrap_or(i64::MAX);
    let left = LEFT.get().saturating_sub(units);
    LEFT.set(left);
    match left < 0 {
        // The words for it are those of `check`.
        true => Err(ExecutionError::function_error("rule", "too much work")),
        false => Ok(()),
    }
}

/// Uses the units of a value, with all that is in it.
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

/// Uses the units of a text, or of bytes; anything else costs none.
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

/// Checks that the units were enough so far.
///
/// # Errors
/// They were not, in words.
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
