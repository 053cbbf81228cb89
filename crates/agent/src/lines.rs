//! Splits bytes into lines. A line ends with LF, which is not part of it.

/// Splits a stream of chunks into lines. A line that is too long is skipped and counted. The
/// splitter never buffers more than the longest permitted line.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    /// Longest line in bytes.
    bytes_max: usize,
    /// The beginning of an unfinished line.
    partial: Vec<u8>,
    /// Whether the rest of the current line is skipped because it is too long.
    skips: bool,
    /// Number of skipped lines.
    pub(crate) too_long: u64,
}

impl LineSplitter {
    /// Creates an empty splitter.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            partial: Vec::new(),
            skips: false,
            too_long: 0,
        }
    }

    /// Like [`LineSplitter::new`], but the first line is skipped. It has already been counted.
    pub(crate) fn skipping(bytes_max: usize) -> Self {
        Self {
            skips: true,
            ..Self::new(bytes_max)
        }
    }

    /// Takes bytes and passes on each line that ends in them, with the number of these bytes up to
    /// and including its end. Empty lines are included; `None`: the line was too long.
    pub(crate) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Option<&[u8]>, usize)) {
        let mut begin = 0;
        while let Some(len) = bytes[begin..].iter().position(|byte| *byte == b'\n') {
            let end = begin + len;
            self.add(&bytes[begin..end]);
            each((!self.skips).then_some(&self.partial), end + 1);
            self.begin_line();
            begin = end + 1;
        }
        self.add(&bytes[begin..]);
    }

    /// Ends the current line without a line end, and passes it on if there is one.
    pub(crate) fn finish(&mut self, each: impl FnOnce(&[u8])) {
        if !self.partial.is_empty() && !self.skips {
            each(&self.partial);
        }
        self.begin_line();
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.skips {
            return;
        }
        if self.partial.len() + bytes.len() > self.bytes_max {
            self.skips = true;
            self.too_long += 1;
            self.partial = Vec::new();
            return;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn begin_line(&mut self) {
        self.partial.clear();
        self.skips = false;
    }

    /// Whether there is an unfinished line.
    pub(crate) fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Whether the current line is too long.
    pub(crate) fn is_skipping(&self) -> bool {
        self.skips
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]], bytes_max: usize) -> (Vec<Vec<u8>>, u64) {
        let mut lines = LineSplitter::new(bytes_max);
        let mut found = Vec::new();
        for piece in pieces {
            lines.take(piece, |line, _| found.extend(line.map(<[u8]>::to_vec)));
        }
        lines.finish(|line| found.push(line.to_vec()));
        (found, lines.too_long)
    }

    #[test]
    fn lines_end_with_lf_and_the_last_one_without() {
        let (found, _) = all(&[b"a\n\nb", b"c\r\nd"], 10);
        assert_eq!(found, [&b"a"[..], b"", b"bc\r", b"d"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_the_next_one_is_whole() {
        let (found, too_long) = all(&[b"abcd", b"efgh\nok\nabcde"], 4);
        assert_eq!((found, too_long), (vec![b"ok".to_vec()], 2));
    }

    #[test]
    fn the_place_behind_a_line_counts_from_the_beginning_of_the_piece() {
        let mut lines = LineSplitter::new(10);
        let mut ends = Vec::new();
        lines.take(b"ab", |_, end| ends.push(end));
        lines.take(b"c\nd\ne", |_, end| ends.push(end));
        assert_eq!(ends, [2, 4]);
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_into_pieces_changes_no_line(
            bytes in prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 0..60),
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(all(&pieces, 5), all(&[&bytes], 5));
        }
    }
}
