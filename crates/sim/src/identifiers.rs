//! Subscription Identifiers of a client, as small numbers: the one for each SUBSCRIBE, and sets of
//! them. On the wire they are spread over all lengths of their encoding.

/// The highest number; after it, numbers start again.
const NUMBERS: u32 = 60;
/// Factor for every second number, so that some identifiers take four bytes.
const SPREAD: u32 = 4_000_000;

/// The number after another one, for the next SUBSCRIBE.
pub fn next_number(number: u32) -> u32 {
    number % NUMBERS + 1
}

/// The Subscription Identifier for a number; 0 is none.
pub fn on_wire(number: u32) -> Option<u32> {
    let spread = if number.is_multiple_of(2) { SPREAD } else { 1 };
    (number > 0).then_some(number * spread)
}

/// A set of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identifiers(u64);

impl Identifiers {
    /// The set of one number; 0 is none.
    pub fn one(number: u32) -> Self {
        Self((1 << number) & !1)
    }

    /// The set in a PUBLISH; `None` if it contains an identifier that no SUBSCRIBE can have used.
    pub fn from_wire(identifiers: impl Iterator<Item = u32>) -> Option<Self> {
        let number = |identifier: u32| {
            let mut numbers = 1..=NUMBERS;
            numbers.find(|number| on_wire(*number) == Some(identifier))
        };
        let numbers: Option<Vec<u32>> = identifiers.map(number).collect();
        let sets = numbers?.into_iter().map(Self::one);
        Some(sets.fold(Self::default(), Self::with))
    }

    /// The union of both sets.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this set includes the other one.
    pub fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Number of elements.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The numbers, in order.
    pub fn numbers(self) -> Vec<u32> {
        (1..=NUMBERS).filter(|n| self.0 >> n & 1 == 1).collect()
    }
}
