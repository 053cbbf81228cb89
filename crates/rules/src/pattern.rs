//! Patterns of `matches`: compiled once, and kept while an expression uses them.

use std::sync::{Arc, PoisonError, RwLock};

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::fuel;

/// Maximum bytes of a pattern of `matches`.
pub const PATTERN_BYTES_MAX: usize = 256;
/// Maximum number of patterns of all expressions of an evaluator.
const PATTERNS_MAX: usize = 10_000;
/// Maximum bytes of a compiled pattern, and of its cache.
const COMPILED_BYTES_MAX: usize = 1 << 18;
/// Units per byte of text, for each part of a pattern.
const UNITS_OF_PART: u64 = 3;
/// Number of ranges of a character class that cost as much as a part of a pattern.
const RANGES_OF_PART: usize = 16;

/// A compiled pattern.
#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Units per byte of text.
    units: u64,
}

/// Patterns by their numbers in syntax trees.
#[derive(Debug, Default)]
struct Slots {
    all: Vec<Option<Arc<Pattern>>>,
    free: Vec<usize>,
}

/// Patterns of all expressions of an evaluator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns(Arc<RwLock<Slots>>);

/// A pattern in use by an expression. The pattern is removed with its handle.
#[derive(Debug)]
pub(crate) struct PatternHandle {
    patterns: Patterns,
    at: usize,
}

impl PatternHandle {
    /// Returns the pattern's number.
    pub(crate) fn number(&self) -> i64 {
        self.at as i64
    }
}

impl Drop for PatternHandle {
    fn drop(&mut self) {
        let mut slots = self
            .patterns
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.all.get_mut(self.at) {
            *slot = None;
            slots.free.push(self.at);
        }
    }
}

impl Patterns {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is invalid or too large; the reason.
    pub(crate) fn add(&self, pattern: &str) -> Result<PatternHandle, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!(
                "a pattern has {} bytes, expected {PATTERN_BYTES_MAX} at most",
                pattern.len()
            ));
        }
        let none = |error: String| {
            let last = error.lines().last().unwrap_or_default();
            format!("the pattern {pattern:?} is not valid: {last}")
        };
        let regex = RegexBuilder::new(pattern)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .build();
        let regex = regex.map_err(|error| none(error.to_string()))?;
        let parsed = regex_syntax::parse(pattern).map_err(|error| none(error.to_string()))?;
        let units = parts_of(&parsed).saturating_mul(UNITS_OF_PART);
        let pattern = Arc::new(Pattern { regex, units });
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = slots.free.pop() {
            slots.all[at] = Some(pattern);
            drop(slots);
            return Ok(self.held(at));
        }
        if slots.all.len() >= PATTERNS_MAX {
            return Err("all rules together have too many patterns".to_owned());
        }
        slots.all.push(Some(pattern));
        let at = slots.all.len() - 1;
        drop(slots);
        Ok(self.held(at))
    }

    fn held(&self, at: usize) -> PatternHandle {
        PatternHandle {
            patterns: self.clone(),
            at,
        }
    }

    /// Whether a text matches the pattern with this number; `None`: there is no such pattern.
    ///
    /// # Errors
    /// It costs too much.
    pub(crate) fn is_match(
        &self,
        number: i64,
        text: &str,
    ) -> Result<Option<bool>, cel::ExecutionError> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(number).ok();
        let pattern = at.and_then(|at| slots.all.get(at)?.clone());
        drop(slots);
        let Some(pattern) = pattern else {
            return Ok(None);
        };
        // An empty text costs too.
        let bytes = fuel::of_size(text.len()).saturating_add(1);
        fuel::charge(bytes.saturating_mul(pattern.units))?;
        Ok(Some(pattern.regex.is_match(text)))
    }
}

/// Number of parts of a pattern that may be tried for each byte of a text: each character, times
/// its repetitions.
fn parts_of(pattern: &Hir) -> u64 {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => fuel::of_size(literal.0.len()),
        HirKind::Class(Class::Unicode(class)) => of_ranges(class.ranges().len()),
        HirKind::Class(Class::Bytes(class)) => of_ranges(class.ranges().len()),
        HirKind::Repetition(repeated) => {
            let times = repeated
                .max
                .unwrap_or(repeated.min)
                .max(repeated.min)
                .max(1);
            let each = parts_of(&repeated.sub).saturating_add(1);
            each.saturating_mul(u64::from(times))
        }
        HirKind::Capture(capture) => parts_of(&capture.sub).saturating_add(2),
        HirKind::Concat(all) => sum(all),
        HirKind::Alternation(all) => sum(all).saturating_add(fuel::of_size(all.len())),
    }
}

fn of_ranges(ranges: usize) -> u64 {
    1 + fuel::of_size(ranges / RANGES_OF_PART)
}

fn sum(all: &[Hir]) -> u64 {
    all.iter().map(parts_of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pattern: &str) -> u64 {
        parts_of(&regex_syntax::parse(pattern).unwrap())
    }

    #[test]
    fn a_pattern_has_as_many_parts_as_it_has_signs_when_all_are_repeated() {
        assert_eq!(parts("pump"), 4);
        assert_eq!(parts("^pump-[0-9]+$"), 1 + 5 + 2 + 1);
        assert!((230..500).contains(&parts("a[ab]{230}[cd]")));
        assert!((400..1_500).contains(&parts("((ab){10}){20}")));
        assert!(parts("((a{1000}){1000}){1000}") > 1_000_000_000);
        assert!(parts("") > 0);
    }

    #[test]
    fn a_pattern_is_forgotten_with_its_expression() {
        let patterns = Patterns::default();
        let (first, second) = (patterns.add("a").unwrap(), patterns.add("b").unwrap());
        let number = first.number();
        drop(first);
        assert_eq!(patterns.is_match(number, "a"), Ok(None));
        assert_eq!(patterns.is_match(second.number(), "b"), Ok(Some(true)));
        let third = patterns.add("c").unwrap();
        assert_eq!(third.number(), number);
        assert_eq!(patterns.is_match(number, "a"), Ok(Some(false)));
    }
}
