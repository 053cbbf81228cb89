//! Tables as text with commas (RFC 4180).

use std::borrow::Cow;
use std::io::Read as _;

use ::csv::{QuoteStyle, ReaderBuilder, StringRecord, Terminator, WriterBuilder};
use martlet_text_file::text_without_bom;

/// The last row of what is read: a quotation that does not end swallows it.
const END: &str = "\u{1}end";

/// Rows of fields, with the number of the line in which each begins. Rows without anything in them
/// are none. A line ends with LF, CRLF or CR.
///
/// # Errors
/// A quotation that does not end, or that something stands behind; with the line of its row.
pub fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let text = text_without_bom(text);
    let mut reader = ReaderBuilder::new();
    let reader = reader.has_headers(false).flexible(true);
    let end = format!("\n{END}");
    let mut reader = reader.from_reader(text.as_bytes().chain(end.as_bytes()));
    let (mut rows, mut record) = (Vec::new(), StringRecord::new());
    let mut lines = LineCounter::of(text);
    while reader
        .read_record(&mut record)
        .map_err(|error| error.to_string())?
    {
        let at = record.position().map_or(0, |position| position.byte());
        let begin = lines.until(usize::try_from(at).unwrap_or_default());
        if record.iter().eq([END]) {
            return Ok(rows);
        }
        if record.iter().any(|field| field.contains(END)) {
            return Err(format!("line {begin}: a quote is not closed"));
        }
        let row = text.get(lines.counted..).unwrap_or_default();
        if let Some(letter) = behind_quotation(row, record.len()) {
            return Err(format!("line {begin}: {letter:?} after a closing quote"));
        }
        if record.iter().any(|field| !field.trim().is_empty()) {
            rows.push((begin, record.iter().map(str::to_owned).collect()));
        }
    }
    Ok(rows)
}

/// Letter that stands behind a quotation in the fields at the beginning of a text, and is no comma
/// and no end of a line. The crate would add it to the field.
fn behind_quotation(text: &str, fields: usize) -> Option<char> {
    let mut letters = text.chars().peekable();
    for field in 1..=fields {
        if letters.next_if_eq(&'"').is_some() {
            while let Some(letter) = letters.next() {
                // A quotation mark within a quotation is doubled.
                if letter == '"' && letters.next_if_eq(&'"').is_none() {
                    break;
                }
            }
            match letters.peek() {
                None | Some(',' | '\r' | '\n') => {}
                letter => return letter.copied(),
            }
        }
        if field < fields {
            letters.find(|letter| *letter == ',');
        }
    }
    None
}

/// The lines of a text, counted from one row to the next.
struct LineCounter<'a> {
    text: &'a str,
    /// Bytes that were counted.
    counted: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn of(text: &'a str) -> Self {
        let (counted, line) = (0, 1);
        Self {
            text,
            counted,
            line,
        }
    }

    /// The line of the row that begins at this byte, or behind empty lines there.
    fn until(&mut self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let empty = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
        let passed = self.text.get(self.counted..at + empty).unwrap_or_default();
        let crs = passed.matches('\r').count() - passed.matches("\r\n").count();
        self.line += crs + passed.matches('\n').count();
        self.counted = at + empty;
        self.line
    }
}

/// Beginning of a file whose reader would take it for another encoding, such as Excel.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// How lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// As RFC 4180 has it, for files that go elsewhere.
    CrLf,
    /// As programs of a shell expect it, which would take a CR for a part of the last field.
    Lf,
}

/// A row as a line. What a spreadsheet would take for a formula is marked as text, as others may
/// have written it.
pub fn line<'a>(fields: impl IntoIterator<Item = &'a str>, end: LineEnd) -> String {
    let fields: Vec<Cow<'_, str>> = fields.into_iter().map(marked).collect();
    exact_line(fields.iter().map(|field| &**field), end)
}

/// A field, marked as text if a spreadsheet would take it for a formula.
pub fn marked(field: &str) -> Cow<'_, str> {
    match is_marked(field) {
        true => format!("'{field}").into(),
        false => field.into(),
    }
}

/// Row as a line, where each letter counts, as of a password.
pub fn exact_line<'a>(fields: impl IntoIterator<Item = &'a str>, end: LineEnd) -> String {
    let terminator = match end {
        LineEnd::CrLf => Terminator::CRLF,
        LineEnd::Lf => Terminator::Any(b'\n'),
    };
    let mut writer = WriterBuilder::new();
    let writer = writer
        .terminator(terminator)
        .quote_style(QuoteStyle::Necessary);
    let mut writer = writer.from_writer(Vec::new());
    // Nothing fails in memory, and what was text is text.
    let _ = writer.write_record(fields);
    let line = writer.into_inner().unwrap_or_default();
    String::from_utf8(line).unwrap_or_default()
}

/// A field without the mark that [`line()`] gives to what would be a formula.
pub fn unmarked(field: &str) -> &str {
    let rest = field.strip_prefix('\'').filter(|rest| is_marked(rest));
    rest.unwrap_or(field)
}

/// Whether it would be a formula, or looks as one that is marked.
fn is_marked(field: &str) -> bool {
    let text = field.trim_start_matches('\'');
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Texts in one field, with `;` between them.
pub fn list<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let all = all.into_iter();
    let escaped = all.map(|one| one.replace('\\', "\\\\").replace(';', "\\;"));
    escaped.collect::<Vec<_>>().join(";")
}

/// The texts in such a field: a `\` before `;` or `\` has that stand for itself.
pub fn unlisted(field: &str) -> Vec<String> {
    let (mut all, mut one) = (Vec::new(), String::new());
    let mut letters = field.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some(&escaped @ (';' | '\\'))) => {
                one.push(escaped);
                letters.next();
            }
            (';', _) => all.push(std::mem::take(&mut one)),
            _ => one.push(letter),
        }
    }
    all.push(one);
    let all = all.iter().map(|one| one.trim());
    all.filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let fields = ["a", "", "b,c", "say \"hi\"", "two\nlines", "a\r\nb", " d "];
        for end in [LineEnd::CrLf, LineEnd::Lf] {
            let text = format!("{}{}", line(fields, end), line(["x"], end));
            let rows = read(&text).expect("it was written so");
            assert_eq!(rows[0], (1, fields.map(str::to_owned).to_vec()));
            assert_eq!(rows[1], (4, vec!["x".to_owned()]));
        }
    }

    #[test]
    fn lines_end_as_their_writer_likes() {
        let expected = [["id", "name"], ["a", "b"], ["c", "d"]];
        let expected = expected.map(|row| row.map(str::to_owned).to_vec());
        for end in ["\n", "\r\n", "\r"] {
            for begin in ["", "\u{feff}", end] {
                let rows = ["id,name", "\"a\",\"b\"", "", ",", "c,d"].join(end);
                let text = format!("{begin}{rows}{end}");
                let rows = read(&text).expect("a table");
                let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
                assert_eq!(rows, expected, "{text:?}");
            }
        }
    }

    #[test]
    fn a_formula_is_text() {
        assert_eq!(line(["=1+1"], LineEnd::Lf), "'=1+1\n");
        assert_eq!(unmarked("'=1+1"), "=1+1");
        assert_eq!(unmarked("'tis"), "'tis");
        for field in [
            "=1", "'=1", "''=1", "'", "'x", "-", "@a", "\tx", "\rx", "a=1",
        ] {
            let rows = read(&line([field], LineEnd::Lf)).expect("it was written so");
            assert_eq!(unmarked(&rows[0].1[0]), field);
        }
    }

    #[test]
    fn a_field_holds_a_list() {
        let all = ["a", "b;c", "d\\", "\\;", "=e"];
        assert_eq!(unlisted(&list(all)), all.map(str::to_owned));
        assert_eq!(unlisted(" a ; b\\c ;; "), ["a", "b\\c"]);
        assert!(unlisted(&list([])).is_empty());
    }

    #[test]
    fn what_is_no_table_is_told_with_its_line() {
        for (text, line) in [
            ("a\n\"b", "line 2"),
            ("a\n\n\"b\"c", "line 3"),
            ("a,\"b\"\"c\"d,e\nf", "line 1"),
            ("a\n\n\"b\nc,d", "line 3"),
            ("a\r\r\"b\nc", "line 3"),
            ("a,\"b\n", "line 1"),
        ] {
            let why = read(text).expect_err("it is none");
            assert!(why.starts_with(line), "{why}");
        }
        let rows = vec![(3, vec!["5\" pipe".to_owned(), "b".to_owned()])];
        assert_eq!(read("\n\r\n5\" pipe,b"), Ok(rows));
        assert_eq!(read("\u{feff}\r\n\n"), Ok(Vec::new()));
    }
}
