//! The format of `.env`: names, values and quotes, as python-dotenv and Compose read them.

use std::iter::Peekable;
use std::path::Path;
use std::str::CharIndices;

use martlet_text_file::text_without_bom;

/// A variable that a `.env` sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Line of the name.
    pub line: usize,
    /// The name.
    pub name: String,
    /// The value, without quotes and with `${…}` replaced.
    pub value: String,
    /// The value begins with a quote that is not closed, and is used as written, with the quote.
    pub is_unclosed: bool,
    /// Variables that the value refers to and that are not set. They are replaced by nothing.
    pub unset: Vec<String>,
}

/// Most skipped lines that a warning names.
const NAMED_MAX: usize = 8;

/// Warning about lines of a `.env` that set nothing; none: there are none.
pub fn warning_of_skipped(path: &Path, lines: &[usize]) -> Option<String> {
    let named: Vec<String> = lines.iter().take(NAMED_MAX).map(usize::to_string).collect();
    let word = match lines.len() {
        0 => return None,
        1 => "line",
        _ => "lines",
    };
    let more = if lines.len() > NAMED_MAX { ", …" } else { "" };
    Some(format!(
        "{}, {word} {}{more}: skipped, expected NAME=VALUE",
        path.display(),
        named.join(", ")
    ))
}

/// Contents of a `.env`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Variables, in their order. The last one of a name applies.
    pub assignments: Vec<Assignment>,
    /// Lines that set nothing, and are neither blank nor a comment.
    pub skipped: Vec<usize>,
}

/// Reads the text of a `.env`. `get` returns the variables of the process, which take precedence in
/// `${NAME}`.
pub fn parse(text: &str, get: impl Fn(&str) -> Option<String>) -> Parsed {
    let text = text_without_bom(text);
    let Parsed {
        assignments: mut all,
        mut skipped,
    } = Parsed::default();
    let (mut at, mut line) = (0, 1);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.lines().next().unwrap_or_default();
        let mut taken = rest.find('\n').map_or(rest.len(), |end| end + 1);
        if let Some((name, value)) = split(first) {
            let begins_at = first.len() - value.len();
            let read = read_value(&rest[begins_at..]);
            if let Value::Quoted { length, .. } = read {
                // A quoted value may have several lines.
                let end = begins_at + length;
                taken = rest[end..]
                    .find('\n')
                    .map_or(rest.len(), |more| end + more + 1);
            }
            let known = |name: &str| {
                let before = all.iter().rev().find(|known| known.name == name);
                get(name).or_else(|| before.map(|known| known.value.clone()))
            };
            all.push(assignment(line, name, read, known));
        } else if !is_empty(first) && get(without_export(first).trim_end()).is_none() {
            skipped.push(line);
        }
        line += rest[..taken].matches('\n').count();
        at += taken;
    }
    Parsed {
        assignments: all,
        skipped,
    }
}

/// Whether a line is blank, or a comment.
fn is_empty(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn without_export(line: &str) -> &str {
    let line = line.trim_start();
    match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => line,
    }
}

/// Name and rest of a line that sets a variable. The rest begins with the value. `NAME: value` is
/// the form of Compose alone.
fn split(line: &str) -> Option<(&str, &str)> {
    if is_empty(line) {
        return None;
    }
    let (name, value) = without_export(line).split_once(['=', ':'])?;
    let name = name.trim();
    let bare = name
        .strip_prefix('\'')
        .and_then(|name| name.strip_suffix('\''));
    let name = bare.unwrap_or(name);
    let is_letter = |letter: char| letter.is_alphanumeric() || "_.-[]".contains(letter);
    let is_one = !name.is_empty() && name.chars().all(is_letter);
    is_one.then_some((name, value.trim_start()))
}

enum Value<'a> {
    /// In quotes; only text in double quotes may refer to variables.
    Quoted {
        text: String,
        refers: bool,
        /// Length with both quotes.
        length: usize,
    },
    Plain(&'a str),
    Unclosed(&'a str),
}

fn read_value(text: &str) -> Value<'_> {
    let line = text.lines().next().unwrap_or_default();
    let Some(quote) = text
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))
    else {
        return Value::Plain(line);
    };
    let quoted = read_quoted(text, quote);
    // What follows on the line is a comment, or the quote is a part of the value.
    let quoted = quoted.filter(|(_, length)| {
        let behind = text[*length..]
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start();
        behind.is_empty() || behind.starts_with('#')
    });
    match quoted {
        Some((text, length)) => Value::Quoted {
            text,
            refers: quote == '"',
            length,
        },
        None if line.matches(quote).count() == 1 => Value::Unclosed(line),
        None => Value::Plain(line),
    }
}

/// The text between the quote at the beginning and the next one, and the length of both quotes and
/// what is between them. In single quotes only `\'` and `\\` are escapes.
fn read_quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut letters: Peekable<CharIndices<'_>> = text.char_indices().peekable();
    letters.next();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return Some((value, at + 1));
        }
        let escaped = letters
            .peek()
            .map(|(_, next)| *next)
            .filter(|_| letter == '\\');
        let replaced = match escaped {
            Some('\\') => Some('\\'),
            Some(next) if next == quote => Some(quote),
            Some(next) if quote == '"' => match next {
                'n' => Some('\n'),
                'r' => Some('\r'),
                't' => Some('\t'),
                '\'' => Some('\''),
                _ => None,
            },
            _ => None,
        };
        if replaced.is_some() {
            letters.next();
        }
        value.push(replaced.unwrap_or(letter));
    }
    None
}

fn assignment(
    line: usize,
    name: &str,
    read: Value<'_>,
    known: impl Fn(&str) -> Option<String>,
) -> Assignment {
    let mut unset = Vec::new();
    let is_unclosed = matches!(read, Value::Unclosed(_));
    let value = match read {
        Value::Quoted {
            text, refers: true, ..
        } => expand(&text, known, &mut unset),
        Value::Quoted { text, .. } => text,
        Value::Plain(text) | Value::Unclosed(text) => {
            expand(without_comment(text), known, &mut unset)
        }
    };
    Assignment {
        line,
        name: name.to_owned(),
        value,
        is_unclosed,
        unset,
    }
}

/// The text before a comment: a `#` inside a word does not begin one.
fn without_comment(text: &str) -> &str {
    let text = text.trim();
    if text.starts_with('#') {
        return "";
    }
    let comment = text.match_indices('#').find(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_some_and(char::is_whitespace)
    });
    comment.map_or(text, |(at, _)| text[..at].trim_end())
}

/// Replaces `${NAME}` and `${NAME:-DEFAULT}`. Everything else, such as `${secret:NAME}` and
/// `$NAME`, stays as it is, because passwords contain dollar signs.
fn expand(text: &str, known: impl Fn(&str) -> Option<String>, unset: &mut Vec<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        rest = after;
        let reference = after.split_once('}');
        let parts = reference.map(|(inner, behind)| match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default), behind),
            None => (inner, None, behind),
        });
        match parts.filter(|(name, ..)| is_name(name)) {
            Some((name, default, behind)) => {
                let value = known(name).filter(|value| default.is_none() || !value.is_empty());
                if value.is_none() && default.is_none() {
                    unset.push(name.to_owned());
                }
                expanded.push_str(value.as_deref().or(default).unwrap_or_default());
                rest = behind;
            }
            None => expanded.push_str("${"),
        }
    }
    expanded.push_str(rest);
    expanded
}

fn is_name(text: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    !text.is_empty()
        && text.chars().all(is_letter)
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let get = |name: &str| (name == "HOME").then(|| "/srv/x".to_owned());
        let all = parse(text, get).assignments.into_iter();
        all.map(|found| (found.name, found.value)).collect()
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = values(text);
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn an_environment_file_has_comments_quotes_and_exports() {
        check(
            "# c\nA=1\nexport B=\"two words\"\n\n export\tC='x'\nexported=y\nno value\n= z\n",
            &[
                ("A", "1"),
                ("B", "two words"),
                ("C", "x"),
                ("exported", "y"),
            ],
        );
        check(
            "A=true           # switch\nB='x # y' # z\nC=a#b\nE=# none\nF=\"a\nG=it's\n H = h \nI=\"a\"b\n'J'=j",
            &[
                ("A", "true"),
                ("B", "x # y"),
                ("C", "a#b"),
                ("E", ""),
                ("F", "\"a"),
                ("G", "it's"),
                ("H", "h"),
                ("I", "\"a\"b"),
                ("J", "j"),
            ],
        );
    }

    #[test]
    fn a_line_may_have_a_colon_as_compose_reads_it_and_others_are_named() {
        check(
            "A: 1\nexport B : 'x y' # z\nC:d\nD=http://h:1\nE: http://h=1\n'F': f\nG:\n",
            &[
                ("A", "1"),
                ("B", "x y"),
                ("C", "d"),
                ("D", "http://h:1"),
                ("E", "http://h=1"),
                ("F", "f"),
                ("G", ""),
            ],
        );
        let text =
            "\n# c\nALONE\n HOME \nexport HOME\nset A=1\n= z\nA=\"x\n y z\"\nno value\nB=2\n";
        let found = parse(text, |name| (name == "HOME").then(String::new));
        assert_eq!(found.skipped, [3, 6, 7, 10]);
        let warning = warning_of_skipped(Path::new("/x/.env"), &found.skipped);
        let expected = "/x/.env, lines 3, 6, 7, 10: skipped, expected NAME=VALUE";
        assert_eq!(warning.as_deref(), Some(expected));
        assert_eq!(warning_of_skipped(Path::new("/x/.env"), &[]), None);
        let names: Vec<_> = found.assignments.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["A", "B"]);
    }

    #[test]
    fn lines_may_end_as_in_windows_and_begin_with_a_byte_order_mark() {
        check(
            "\u{feff}A=1\r\nB=\"2\"\r\n# c\r\nC='3'",
            &[("A", "1"), ("B", "2"), ("C", "3")],
        );
        check("\u{feff}# c\r\nA=\r\nB=x\r\n", &[("A", ""), ("B", "x")]);
    }

    #[test]
    fn quotes_have_escapes_and_several_lines() {
        check(
            "A=\"a\\nb \\\"c\\\" \\\\ \\x\"\nB='it\\'s \\n'\nC=\\n\nD=\"one\ntwo # 2\" # c\nE=e",
            &[
                ("A", "a\nb \"c\" \\ \\x"),
                ("B", "it's \\n"),
                ("C", "\\n"),
                ("D", "one\ntwo # 2"),
                ("E", "e"),
            ],
        );
        let lines = parse("A=\"one\ntwo\"\nB=1", |_| None).assignments;
        assert_eq!(
            lines.iter().map(|found| found.line).collect::<Vec<_>>(),
            [1, 3]
        );
    }

    #[test]
    fn variables_are_replaced_but_not_in_single_quotes() {
        check(
            "A=a\nB=${A}-${HOME}\nC=\"${A}\"\nD='${A}'\nE=${NONE:-x y}\nF=${secret:S}$A pa$$\nG=${A:-b}\nH=${",
            &[
                ("A", "a"),
                ("B", "a-/srv/x"),
                ("C", "a"),
                ("D", "${A}"),
                ("E", "x y"),
                ("F", "${secret:S}$A pa$$"),
                ("G", "a"),
                ("H", "${"),
            ],
        );
        let found = parse("A=x${NONE}y", |_| None).assignments;
        assert_eq!(found[0].value, "xy");
        assert_eq!(found[0].unset, ["NONE"]);
    }

    #[test]
    fn quotes_that_are_not_closed_are_found() {
        let text = "A=\"x\"\n# B=\"\nC=it's\n\nexport D='half\nF=\"x\" # z\nE=\"half # y\n";
        let found = parse(text, |_| None).assignments;
        let unclosed = found.iter().filter(|found| found.is_unclosed);
        let unclosed: Vec<_> = unclosed.map(|found| (found.line, &*found.name)).collect();
        assert_eq!(unclosed, [(5, "D"), (7, "E")]);
        assert_eq!(found[2].value, "'half");
    }
}
