//! Runs the expression library. It may panic; users of this crate catch that.

/// Runs parts of rules.
pub trait Guard: Send + Sync {
    /// Runs a part of the rule with this index in a set. If it fails, it is not run again for the
    /// message.
    ///
    /// # Errors
    /// It panicked, or is not run; the reason.
    fn run(&self, rule: usize, part: &mut dyn FnMut()) -> Result<(), String>;
}

/// Catches nothing: a panic unwinds into the caller.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unguarded;

impl Guard for Unguarded {
    fn run(&self, _: usize, part: &mut dyn FnMut()) -> Result<(), String> {
        part();
        Ok(())
    }
}

/// Runs a part and returns its result.
///
/// # Errors
/// As [`Guard::run`].
pub(crate) fn run<T>(
    guard: &dyn Guard,
    rule: usize,
    part: impl FnOnce() -> T,
) -> Result<T, String> {
    let (mut part, mut result) = (Some(part), None);
    guard.run(rule, &mut || result = part.take().map(|part| part()))?;
    result.ok_or_else(|| "it was not evaluated".to_owned())
}
