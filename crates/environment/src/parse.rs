//! The format of `.env`: names, values and quotes, like common libraries for such files.

/// Names and values of a `.env`, in their order. Lines without `=` are skipped. A BOM before the
/// first name, which some editors write, is ignored.
pub fn parse(text: &str) -> Vec<(String, String)> {
    without_bom(text)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), env_value(value.trim()).to_owned()))
        .collect()
}

/// Line and name of each variable in the text, in their order.
pub fn lines(text: &str) -> Vec<(usize, String)> {
    let lines = without_bom(text).lines().map(str::trim).zip(1..);
    let lines = lines.filter(|(line, _)| !line.starts_with('#'));
    lines
        .filter_map(|(line, number)| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, _) = line.split_once('=')?;
            Some((number, name.trim().to_owned()))
        })
        .collect()
}

/// Line and name of each variable whose value begins with a quote that is not closed. The value is
/// used as written, with the quote.
pub fn unclosed_quotes(text: &str) -> Vec<(usize, String)> {
    let lines = without_bom(text).lines().map(str::trim).zip(1..);
    let lines = lines.filter(|(line, _)| !line.starts_with('#'));
    lines
        .filter_map(|(line, number)| {
            let (name, value) = line
                .strip_prefix("export ")
                .unwrap_or(line)
                .split_once('=')?;
            let value = value.trim();
            let quote = value
                .chars()
                .next()
                .filter(|first| matches!(first, '"' | '\''))?;
            (value.matches(quote).count() == 1).then(|| (number, name.trim().to_owned()))
        })
        .collect()
}

fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The text in quotes, or else the text before a comment, like common libraries: a `#` inside a
/// word does not begin a comment.
fn env_value(text: &str) -> &str {
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let (value, behind) = text.strip_prefix(quote)?.split_once(quote)?;
        let behind = behind.trim_start();
        (behind.is_empty() || behind.starts_with('#')).then_some(value)
    });
    if let Some(value) = quoted {
        return value;
    }
    if text.starts_with('#') {
        return "";
    }
    let comment = text.match_indices('#').find(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_some_and(char::is_whitespace)
    });
    comment.map_or(text, |(at, _)| text[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bom_is_no_part_of_the_first_name() {
        let text = "\u{feff}A=\"1\nB=2";
        assert_eq!(parse(text)[0], ("A".to_owned(), "\"1".to_owned()));
        assert_eq!(unclosed_quotes(text), [(1, "A".to_owned())]);
        assert_eq!(parse("\u{feff}# c\nA=1").len(), 1);
        assert_eq!(lines("\u{feff}A=1"), [(1, "A".to_owned())]);
    }

    #[test]
    fn an_env_file_has_comments_quotes_and_exports() {
        let parsed = parse("# c\nA=1\nexport B=\"two words\"\n\nC='x'\n");
        let expected = [("A", "1"), ("B", "two words"), ("C", "x")];
        assert!(
            parsed
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .eq(expected)
        );
        let found = lines("# c\nA=1\nexport B=\"two words\"\n\nC='x'\n");
        let found: Vec<_> = found.iter().map(|(line, name)| (*line, &**name)).collect();
        assert_eq!(found, [(2, "A"), (3, "B"), (5, "C")]);
    }

    #[test]
    fn an_environment_file_may_have_comments_and_quotes() {
        let text = "A=true           # switch\nB='x # y' # z\nC=a#b\nexport D=\"q\"\nE=# none\nF=\"a\nG=it's";
        let expected = [
            ("A", "true"),
            ("B", "x # y"),
            ("C", "a#b"),
            ("D", "q"),
            ("E", ""),
            ("F", "\"a"),
            ("G", "it's"),
        ];
        let read = parse(text);
        let read: Vec<_> = read
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn quotes_that_are_not_closed_are_found() {
        let text = "A=\"x\"\n# B=\"\nC=it's\n\nexport D='half\nE=\"half # y\nF=\"x\" # \"z\n";
        let expected = [(5, "D".to_owned()), (6, "E".to_owned())];
        assert_eq!(unclosed_quotes(text), expected);
    }
}
