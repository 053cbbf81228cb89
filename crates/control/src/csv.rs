//! Tables as text with commas (RFC 4180).

/// Rows of fields, with the number of the line in which each begins. Empty lines are none.
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
                line += usize::from(letter == '\n');
                field.push(letter);
            }
            ('"', false) if field.is_empty() && !was_quoted => is_quoted = true,
            (',', false) => {
                row.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            ('\r', false) if letters.peek() == Some(&'\n') => {}
            ('\n', false) => {
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
    let field = std::mem::take(field);
    if !row.is_empty() || !field.trim().is_empty() {
        row.push(field);
        rows.push((begun, std::mem::take(row)));
    }
}

/// A row as a line. What a spreadsheet would take for a formula is marked as text, as others may
/// have written it.
pub fn line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let marked = |field: &str| match is_formula(field) {
        true => format!("'{field}"),
        false => field.to_owned(),
    };
    let fields: Vec<String> = fields.into_iter().map(marked).collect();
    exact_line(fields.iter().map(String::as_str))
}

/// The same, where each letter counts, as of a password.
pub fn exact_line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
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
    line.push_str("\r\n");
    line
}

/// A field without the mark that [`line()`] gives to what would be a formula.
pub fn unmarked(field: &str) -> &str {
    let rest = field.strip_prefix('\'').filter(|rest| is_formula(rest));
    rest.unwrap_or(field)
}

fn is_formula(field: &str) -> bool {
    field.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let fields = ["a", "", "b,c", "say \"hi\"", "two\nlines", " d "];
        let text = format!("{}{}", line(fields), line(["x"]));
        let rows = read(&text).expect("it was written so");
        assert_eq!(rows[0], (1, fields.map(str::to_owned).to_vec()));
        assert_eq!(rows[1], (3, vec!["x".to_owned()]));
    }

    #[test]
    fn a_formula_is_text() {
        assert_eq!(line(["=1+1"]), "'=1+1\r\n");
        assert_eq!(unmarked("'=1+1"), "=1+1");
        assert_eq!(unmarked("'tis"), "'tis");
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
