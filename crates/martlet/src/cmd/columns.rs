//! Output of lists as text: a line of headers, columns as wide as their contents, and a sentence on
//! standard error if the list is empty.

use martlet_control::text::printable;

use crate::cmd::print::errln;

/// Space between two columns.
const GAP: &str = "  ";

/// Formats a list with these headers; a header that begins with `>` is for a column of numbers.
/// `none` is printed if there are no rows. Empty fields become a dash, so that each line has all
/// columns, except in the last column, which may contain any text.
pub(crate) fn columns<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    none: &str,
) -> String {
    let names = headers.map(|header| header.trim_start_matches('>').to_owned());
    let field = |at: usize, text: String| match text.is_empty() && at + 1 < N {
        true => "-".to_owned(),
        false => printable(&text),
    };
    let rows = rows.into_iter().map(|row| {
        let mut at = 0..;
        row.map(|text| field(at.next().unwrap_or_default(), text))
    });
    let rows: Vec<[String; N]> = std::iter::once(names).chain(rows).collect();
    if rows.len() == 1 {
        errln!("{none}");
        return String::new();
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|at| width(at).unwrap_or_default());
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, field) in row.iter().enumerate() {
            let width = widths[at];
            line.push_str(if at == 0 { "" } else { GAP });
            match headers[at].starts_with('>') {
                true => line.push_str(&format!("{field:>width$}")),
                false => line.push_str(&format!("{field:<width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Truncates a text to this number of characters; a truncated text ends with `…`.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.chars().nth(most) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

/// A last line about items missing in a list of `total`; empty if it is complete.
pub(crate) fn left_out(shown: usize, total: u64) -> String {
    match total > shown as u64 {
        true => format!("{shown} of {total} (--limit N shows more)\n"),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(cut("äbcd", 4), "äbcd");
        assert_eq!(cut("äbcde", 4), "äbc…");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let row = |fields: [&str; 3]| fields.map(str::to_owned);
        let text = columns(
            ["NAME", ">COUNT", "TEXT"],
            [row(["a-long-name", "7", ""]), row(["b", "", "c d"])],
            "There is nothing.",
        );
        assert_eq!(
            text,
            "NAME         COUNT  TEXT\na-long-name      7\nb                -  c d\n"
        );
    }
}
