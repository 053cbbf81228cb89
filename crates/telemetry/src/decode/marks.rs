//! Structural characters of JSON, found without parsing.

/// Commas, brackets and braces of a JSON text that are not in a string, with their offsets.
pub(super) struct Marks<'a> {
    json: std::iter::Enumerate<std::slice::Iter<'a, u8>>,
}

impl<'a> Marks<'a> {
    pub(super) fn of(json: &'a [u8]) -> Self {
        Self {
            json: json.iter().enumerate(),
        }
    }

    /// Skips to the end of a string, after its first quote.
    fn pass_string(&mut self) {
        while let Some((_, byte)) = self.json.next() {
            match byte {
                b'\\' => drop(self.json.next()),
                b'"' => return,
                _ => {}
            }
        }
    }
}

impl Iterator for Marks<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        loop {
            match self.json.next()? {
                (_, b'"') => self.pass_string(),
                (at, mark @ (b',' | b'[' | b']' | b'{' | b'}')) => return Some((at, *mark)),
                _ => {}
            }
        }
    }
}

/// Approximate number of values, lists and objects of a JSON text: counts their beginnings.
pub(super) fn count_parts(json: &[u8]) -> usize {
    let begins = |(_, mark): &(usize, u8)| matches!(mark, b'[' | b'{' | b',');
    Marks::of(json).filter(begins).count()
}
