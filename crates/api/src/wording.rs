//! Errors of a body or a query, in words for its sender: for a member what was expected and what
//! came, without positions in a text that programs have generated.

/// Error of a body or a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Worded {
    /// Description of what was expected, and what came.
    pub(crate) detail: String,
    /// The member that is missing, unknown or there twice; none: it is about the value.
    pub(crate) member: Option<String>,
}

impl Worded {
    fn of_value(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            member: None,
        }
    }

    fn of_member(member: &str, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            member: Some(member.to_owned()),
        }
    }
}

/// The words for an error of serde's. What is not known is reported as it is.
pub(crate) fn worded(text: &str) -> Worded {
    let text = without_position(text);
    if let Some((name, rest)) = member_of(text, "unknown field `") {
        return Worded::of_member(
            name,
            match rest.strip_prefix(", expected ") {
                Some(known) => format!("unknown field; expected {}", plain(known)),
                None => "unknown field; none is expected".to_owned(),
            },
        );
    }
    if let Some((name, rest)) = member_of(text, "unknown variant `") {
        let known = rest.strip_prefix(", expected ").unwrap_or(rest);
        let detail = format!("expected {}, and found {name:?}", plain(known));
        return Worded::of_value(detail);
    }
    if let Some((name, _)) = member_of(text, "missing field `") {
        return Worded::of_member(name, "the field is missing");
    }
    if let Some((name, _)) = member_of(text, "duplicate field `") {
        return Worded::of_member(name, "the field occurs more than once");
    }
    let of_value = ["invalid type: ", "invalid value: "].into_iter();
    let of_value = of_value.filter_map(|begin| text.strip_prefix(begin));
    if let Some((came, expected_kind)) = of_value
        .filter_map(|rest| rest.rsplit_once(", expected "))
        .next()
    {
        let detail = format!(
            "expected {}, and found {}",
            expected(expected_kind),
            found(came)
        );
        return Worded::of_value(detail);
    }
    if let Some((length, expected_kind)) = text
        .strip_prefix("invalid length ")
        .and_then(|rest| rest.split_once(", expected "))
    {
        let expected_kind = expected(expected_kind);
        let detail = match expected_kind.starts_with("an object") {
            // The members of an object may stand in an array, for all that its reader knows.
            true => format!("expected {expected_kind}, and found an array"),
            false => format!("expected {expected_kind}, and found {length} of them"),
        };
        return Worded::of_value(detail);
    }
    Worded::of_value(match text {
        "invalid digit found in string" => "expected a whole number",
        "cannot parse integer from empty string" => "expected a whole number, and found nothing",
        "number too large to fit in target type" => "the number is too large",
        "number too small to fit in target type" => "the number is too small",
        "provided string was not `true` or `false`" => "expected true or false",
        text => text,
    })
}

fn without_position(text: &str) -> &str {
    match text.rsplit_once(" at line ") {
        Some((before, position)) if position.contains(" column ") => before,
        _ => text,
    }
}

/// The name after this beginning, and what follows. A name may have the quote in it: the last one
/// before the words that serde goes on with is its end.
fn member_of<'t>(text: &'t str, begin: &str) -> Option<(&'t str, &'t str)> {
    let rest = text.strip_prefix(begin)?;
    let end = match rest
        .find("`, expected ")
        .or_else(|| rest.find("`, there are no "))
    {
        Some(end) => end,
        None => rest.rfind('`')?,
    };
    Some((&rest[..end], &rest[end + 1..]))
}

/// Without the quotes around names.
fn plain(names: &str) -> String {
    names.replace('`', "")
}

fn expected(text: &str) -> String {
    let is_struct = text.starts_with("struct ") || text == "a map" || text == "internally tagged";
    match text {
        _ if is_struct => "an object",
        "a sequence" => "an array",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "unit" => "null",
        text => text,
    }
    .to_owned()
}

fn found(text: &str) -> String {
    let quoted = |begin: &str| text.strip_prefix(begin)?.strip_suffix('`');
    if let Some(number) = quoted("integer `").or_else(|| quoted("floating point `")) {
        return format!("the number {number}");
    }
    if let Some(value) = quoted("boolean `") {
        return value.to_owned();
    }
    if let Some(text) = text.strip_prefix("string ") {
        return format!("the text {text}");
    }
    match text {
        "map" => "an object",
        "sequence" => "an array",
        "unit value" | "null" => "null",
        text => text,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_expected_and_what_came_is_told_without_positions() {
        for (text, expected) in [
            (
                "invalid type: integer `7`, expected a string at line 1 column 20",
                "expected a string, and found the number 7",
            ),
            (
                "invalid type: map, expected a sequence at line 1 column 2",
                "expected an array, and found an object",
            ),
            (
                "invalid type: null, expected struct Body at line 1 column 4",
                "expected an object, and found null",
            ),
            (
                "invalid value: integer `-1`, expected u32 at line 1 column 9",
                "expected a whole number from 0 on, and found the number -1",
            ),
            (
                "invalid type: string \"a, expected b\", expected a boolean",
                "expected true or false, and found the text \"a, expected b\"",
            ),
            (
                "unknown variant `x`, expected `events` or `panel`",
                "expected events or panel, and found \"x\"",
            ),
            (
                "invalid length 0, expected struct Body with 3 elements at line 1 column 2",
                "expected an object, and found an array",
            ),
            ("invalid digit found in string", "expected a whole number"),
            ("something else", "something else"),
        ] {
            assert_eq!(worded(text), Worded::of_value(expected), "{text}");
        }
    }

    #[test]
    fn a_member_is_named() {
        for (text, member, expected) in [
            (
                "unknown field `a`b`, expected `id` or `name` at line 1 column 5",
                "a`b",
                "unknown field; expected id or name",
            ),
            (
                "unknown field `x`, there are no fields",
                "x",
                "unknown field; none is expected",
            ),
            (
                "missing field `id` at line 1 column 2",
                "id",
                "the field is missing",
            ),
            (
                "duplicate field `limit`",
                "limit",
                "the field occurs more than once",
            ),
        ] {
            assert_eq!(worded(text), Worded::of_member(member, expected), "{text}");
        }
    }
}
