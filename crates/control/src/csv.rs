//! Tables as text with commas (RFC 4180).

/// Rows of fields, with the number of the line in which each begins. Rows without anything in them
/// are none. A line ends with LF, CRLF or CR.
///
/// # Errors
/// A quotation that does not end, or that something stands behind; with the line.
pub fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Vec::new();
    let (mut row, mut field) = (Vec::new(), String::new());
    let (mut line, mut begun) = (1, 1);
    let (mut is_quoted, mut was_quoted) = (false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, is_quoted) {
            ('"', true) if letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            ('"', true) => (is_quoted, was_quoted) = (false, true),
            (_, true) => {
                let is_crlf = letter == '\r' && letters.peek() == Some(&'\n');
                line += usize::from(matches!(letter, '\n' | '\r') && !is_crlf);
                field.push(letter);
            }
            ('"', false) if field.is_empty() && !was_quoted => is_quoted = true,
            (',', false) => {
                row.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            ('\r', false) if letters.peek() == Some(&'\n') => {}
            ('\n' | '\r', false) => {
                end_row(&mut rows, &mut row, &mut field, begun);
                line += 1;
                (begun, was_quoted) = (line, false);
            }
            (_, false) if was_quoted => {
                return Err(format!("line {line}: {letter:?} stands behind a quotation"));
            }
            (_, false) => field.push(letter),
        }
    }
    if is_quoted {
        return Err(format!("line {begun}: a quotation begins and does not end"));
    }
    end_row(&mut rows, &mut row, &mut field, begun);
    Ok(rows)
}

fn end_row(
    rows: &mut Vec<(usize, Vec<String>)>,
    row: &mut Vec<String>,
    field: &mut String,
    begun: usize,
) {
    row.push(std::mem::take(field));
    let row = std::mem::take(row);
    if row.iter().any(|field| !field.trim().is_empty()) {
        rows.push((begun, row));
    }
}

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
    let marked = |field: &str| match is_marked(field) {
        true => format!("'{field}"),
        false => field.to_owned(),
    };
    let fields: Vec<String> = fields.into_iter().map(marked).collect();
    exact_line(fields.iter().map(String::as_str), end)
}

/// The same, where each letter counts, as of a password.
pub fn exact_line<'a>(fields: impl IntoIterator<Item = &'a str>, end: LineEnd) -> String {
    let mut line = String::new();
    for (at, field) in fields.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        match field.contains([',', '"', '\n', '\r']) {
            true => line.push_str(&format!("\"{}\"", field.replace('"', "\"\""))),
            false => line.push_str(field),
        }
    }
    line.push_str(match end {
        LineEnd::CrLf => "\r\n",
        LineEnd::Lf => "\n",
    });
    line
}

/// A field without the mark that [`line()`] gives to what would be a formula.
pub fn unmarked(field: &str) -> &str {
    let rest = field.strip_prefix('\'').filter(|rest| is_marked(rest));
    rest.unwrap_or(field)
}

/// It would be a formula, or looks as one that is marked.
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
        for (text, line) in [("a\n\"b", "line 2"), ("a\n\n\"b\"c", "line 3")] {
            let why = read(text).expect_err("it is none");
            assert!(why.starts_with(line), "{why}");
        }
        assert_eq!(read("\u{feff}\r\n\n"), Ok(Vec::new()));
    }
}
