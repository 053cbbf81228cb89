//! JSON objects and arrays, and single values.

use serde::de::IgnoredAny;
use serde_json::Number;

use super::collected::{Collected, Timed};
use super::decoder::{SECRET_MEMBER, TIMES};
use super::marks::Marks;
use super::ordered::{Json, Members, take};
use super::rejection::Rejection;
use super::time::{TimeUnit, of_integer, of_number, of_text, shown};
use crate::Value;

/// Prefix of the keys of `metadata` members.
const METADATA: &str = "meta_";

/// Members with values.
struct MemberGroup {
    /// Name of the member that has them; none: they are the object's own.
    name: Option<&'static str>,
    /// Prefix of their keys.
    prefix: &'static str,
    members: Members,
}

pub(super) fn read(text: &str, out: &mut Collected<'_>) -> Result<(), Rejection> {
    match text.trim_matches(BLANKS).strip_prefix('[') {
        Some(rest) => read_items(rest, out),
        None => read_item(text, out),
    }
}

/// Whitespace that JSON ignores.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Reads the items of an array, after its bracket. They are parsed one by one, so that a payload
/// with too many values is rejected before the rest is in memory.
fn read_items(text: &str, out: &mut Collected<'_>) -> Result<(), Rejection> {
    let mut rest = text;
    if rest.trim_start_matches(BLANKS) == "]" {
        return Ok(());
    }
    for number in 1.. {
        let end = end_of_item(rest.as_bytes());
        let (item, behind) = rest.split_at(end.unwrap_or(rest.len()));
        out.read_part(
            |rejection| rejection.in_item(number),
            |out| read_item(item, out),
        )?;
        match behind.strip_prefix(',') {
            Some(others) => rest = others,
            None if behind == "]" => break,
            None if behind.is_empty() => {
                return Err(Rejection::NotJson("the list has no end".to_owned()));
            }
            None => {
                return Err(Rejection::NotJson(
                    "there is more after the list".to_owned(),
                ));
            }
        }
    }
    Ok(())
}

/// End of an item of an array: the comma or bracket that follows it.
fn end_of_item(json: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut marks = Marks::of(json);
    marks.find_map(|(at, mark)| {
        match mark {
            b'[' | b'{' => depth += 1,
            b',' | b']' if depth == 0 => return Some(at),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        None
    })
}

fn read_item(text: &str, out: &mut Collected<'_>) -> Result<(), Rejection> {
    match parse(text, out)? {
        Json::Object(members) => read_object(members, out),
        other => Err(Rejection::NotObject(kind(&other))),
    }
}

/// JSON lines; empty ones are skipped.
pub(super) fn read_lines(text: &str, out: &mut Collected<'_>) -> Result<(), Rejection> {
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        out.read_part(|rejection| rejection.in_line(at + 1), |out| read(line, out))?;
    }
    Ok(())
}

/// Key of a payload that is a single value.
const VALUE: &str = "value";

/// A payload with a single value. Text that is neither JSON nor nearly a number is a text value.
pub(super) fn read_value(text: &str, out: &mut Collected<'_>) -> Result<(), Rejection> {
    let bare = text.trim_matches(is_around_number);
    let json = match parse(bare, out) {
        Err(Rejection::NotJson(_)) => match nearly_number(bare)? {
            Some(number) => Json::Number(number),
            None => Json::String(text.to_owned()),
        },
        // A text and its quotation marks are JSON, with blanks around it at most.
        Ok(json) if !matches!(json, Json::Number(_)) => parse(text, out).unwrap_or(json),
        parsed => parsed?,
    };
    let timed = out.timed(None)?;
    match value_of(VALUE, json, out)? {
        Some(value) => out.put(VALUE.to_owned(), timed, value),
        None => Ok(()),
    }
}

/// Blanks, control characters and byte order marks, which devices send before or after a number.
fn is_around_number(letter: char) -> bool {
    letter.is_control() || letter.is_whitespace() || letter == '\u{feff}'
}

/// A number that JSON does not know, such as `+5`, `.5` or `5.`; none: it is a text, such as a
/// number with leading zeros.
fn nearly_number(text: &str) -> Result<Option<Number>, Rejection> {
    let digits = text.trim_start_matches(['+', '-']);
    let mut first = digits.bytes();
    if let (Some(b'0'), Some(b'0'..=b'9')) = (first.next(), first.next()) {
        return Ok(None);
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(Some(whole.into()));
    }
    if is_whole(digits) {
        return Err(Rejection::TooLarge {
            key: VALUE.to_owned(),
            digits: shown(text),
        });
    }
    let Ok(number) = text.parse::<f64>() else {
        return Ok(None);
    };
    match Number::from_f64(number) {
        Some(number) => Ok(Some(number)),
        None => Err(Rejection::NotFinite(VALUE.to_owned())),
    }
}

/// Mark before a number that cannot be stored as it is. No stored text has it.
const MARK: char = '\0';

/// Whether a text is digits alone.
fn is_whole(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a number of JSON is an integer without fraction and exponent.
fn is_integer(number: &str) -> bool {
    is_whole(number.strip_prefix('-').unwrap_or(number))
}

/// Whether a number cannot be stored: it is an integer that does not fit in 64 bits, or is larger
/// than any float.
fn is_too_large(number: &str) -> bool {
    match is_integer(number) {
        true => number.parse::<i64>().is_err(),
        false => number.parse::<f64>().is_ok_and(f64::is_infinite),
    }
}

/// JSON in which each number that [`is_too_large`] is a text that begins with [`MARK`]: the parser
/// would round it, or reject all. `None`: it has none.
fn with_marked_numbers(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let (mut at, mut is_text) = (0, false);
    let mut marked = String::new();
    let mut copied = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if is_text => at += 1,
            b'"' => is_text = !is_text,
            b'-' | b'0'..=b'9' if !is_text => {
                let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                let number = &json[at..at + length];
                if is_too_large(number) {
                    marked.push_str(&json[copied..at]);
                    marked.push_str(&format!("\"\\u0000{number}\""));
                    copied = at + length;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    (copied > 0).then(|| marked + &json[copied..])
}

/// A number that [`is_too_large`], in a value or in one of its parts.
fn marked_number(json: &Json) -> Option<&str> {
    match json {
        Json::String(text) => text
            .strip_prefix(MARK)
            .filter(|number| is_too_large(number)),
        Json::Array(items) => items.iter().find_map(marked_number),
        Json::Object(members) => members.iter().find_map(|(_, json)| marked_number(json)),
        _ => None,
    }
}

fn parse(text: &str, out: &Collected<'_>) -> Result<Json, Rejection> {
    out.decoder.limits.check_parts(text.as_bytes())?;
    // It differs in nothing but the texts.
    let marked = marked_numbers(text).and_then(|marked| serde_json::from_str(&marked).ok());
    match marked {
        Some(json) => Ok(json),
        None => serde_json::from_str(text).map_err(|error| {
            let whole = error.to_string();
            let own = format!(" at line {} column {}", error.line(), error.column());
            let why = whole.strip_suffix(&own).unwrap_or(&whole);
            let place = out.place_in_text(text, &error);
            Rejection::NotJson(format!("{why}{place}{}", mistake(text, &error)))
        }),
    }
}

/// JSON in which numbers that cannot be stored are marked: parsers would round them. The values are
/// rejected as if the numbers stood there. None: it has none, or is no JSON.
pub fn marked_numbers(json: &str) -> Option<String> {
    let marked = with_marked_numbers(json)?;
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    Some(marked)
}

/// Bytes of the longest word for what is no number, `infinity`, and its sign.
const WORD_BYTES_MAX: usize = 9;

/// A mistake that programs often make when they write JSON, as the end of a sentence.
fn mistake(text: &str, error: &serde_json::Error) -> &'static str {
    // The column is that of the first letter of the wrong word, or of one after it.
    let line = text.lines().nth(error.line().saturating_sub(1));
    let begin = error.column().saturating_sub(WORD_BYTES_MAX);
    let before = line
        .and_then(|line| line.as_bytes().get(begin..))
        .unwrap_or_default();
    let found = before
        .iter()
        .take(2 * WORD_BYTES_MAX)
        .map(u8::to_ascii_lowercase);
    let found: Vec<u8> = found.collect();
    let mut words = found.split(|byte| !byte.is_ascii_alphanumeric());
    let is_no_number = words.any(|word| matches!(word, b"nan" | b"inf" | b"infinity"));
    if text.ends_with('\0') {
        "; it ends with a zero byte: the length of the payload is one too large"
    } else if text.contains('\'') && !text.contains('"') {
        "; texts and keys of JSON are in double quotation marks"
    } else if is_no_number {
        "; JSON has no NaN and no infinity: leave such a value out"
    } else {
        ""
    }
}

fn read_object(mut members: Members, out: &mut Collected<'_>) -> Result<(), Rejection> {
    let own_time = take_time(&mut members, out)?;
    let timed = out.timed(own_time)?;
    for group in groups(members, out) {
        match group.name {
            Some(name) => out.read_part(
                |rejection| rejection.in_member(name),
                |out| read_group(group.prefix, group.members, timed, out),
            )?,
            None => read_group(group.prefix, group.members, timed, out)?,
        }
    }
    Ok(())
}

fn read_group(
    prefix: &str,
    members: Members,
    timed: Timed,
    out: &mut Collected<'_>,
) -> Result<(), Rejection> {
    for (name, json) in members {
        if out.decoder.ignores(&name) {
            continue;
        }
        let context = MemberContext { timed, depth: 0 };
        let mut holders = out.decoder.holders.iter();
        match (holders.find(|holder| *holder.name == name), json) {
            (Some(holder), Json::Object(held)) => out.read_part(
                |rejection| rejection.in_member(&name),
                |out| put_members(holder.prefix, "_", held, context, out),
            )?,
            (_, json) => {
                let between = out.decoder.flatten.then_some(".");
                put_member(prefix, &name, between, json, context, out)?;
            }
        }
    }
    Ok(())
}

/// Removes the time from an object and returns it.
fn take_time(members: &mut Members, out: &Collected<'_>) -> Result<Option<i64>, Rejection> {
    let unit = out.decoder.time_unit;
    let mut found = None;
    let own = out.decoder.time_member.as_deref();
    let usual = TIMES.into_iter().filter(|_| own.is_none());
    for name in own.into_iter().chain(usual) {
        let Some(json) = take(members, name) else {
            continue;
        };
        // Both may exist; neither is a value.
        if found.is_some() {
            continue;
        }
        found = time_of(&json, unit).map_err(|rejection| rejection.in_member(name))?;
    }
    Ok(found)
}

/// The time in a member; none: it is `null`.
fn time_of(json: &Json, unit: TimeUnit) -> Result<Option<i64>, Rejection> {
    match json {
        Json::Null => Ok(None),
        Json::String(text) if text.starts_with(MARK) => {
            Err(Rejection::BadTime(shown(text.trim_start_matches(MARK))))
        }
        Json::Number(number) => {
            let micros = match number.as_i64() {
                Some(whole) => of_integer(whole, unit),
                None => number.as_f64().and_then(|number| of_number(number, unit)),
            };
            let bad = || Rejection::BadTime(number.to_string());
            micros.ok_or_else(bad).map(Some)
        }
        Json::String(text) => of_text(text, unit).map(Some),
        other => Err(Rejection::BadTime(shown(
            &other.clone().text_without(SECRET_MEMBER),
        ))),
    }
}

/// The values of an object: those of `data` and `metadata`, of `values`, or all of its members.
fn groups(mut members: Members, out: &mut Collected<'_>) -> Vec<MemberGroup> {
    let names = ["data", "values"];
    let has_values = |name: &&str| {
        let mut all = members.iter();
        all.any(|(own, json)| *own == *name && matches!(json, Json::Object(_)))
    };
    let Some(name) = names.into_iter().find(has_values) else {
        return vec![MemberGroup {
            name: None,
            prefix: "",
            members,
        }];
    };
    let mut groups = Vec::new();
    for (name, prefix) in [(name, ""), ("metadata", METADATA)] {
        if let Some(Json::Object(members)) = take(&mut members, name) {
            groups.push(MemberGroup {
                name: Some(name),
                prefix,
                members,
            });
        }
    }
    for (name, _) in members {
        out.ignore(name);
    }
    groups
}

/// The time of a member, and its nesting depth.
#[derive(Clone, Copy, Debug)]
struct MemberContext {
    timed: Timed,
    depth: usize,
}

/// Adds a member, whose key is its name after the prefix.
fn put_member(
    prefix: &str,
    name: &str,
    between: Option<&str>,
    json: Json,
    place: MemberContext,
    out: &mut Collected<'_>,
) -> Result<(), Rejection> {
    out.read_part(
        |rejection| rejection.in_member(name),
        |out| put(format!("{prefix}{name}"), between, json, place, out),
    )
}

/// Adds a value. `between`: separator of names if each member of an object is a value; `None`: the
/// object is one value.
fn put(
    key: String,
    between: Option<&str>,
    json: Json,
    place: MemberContext,
    out: &mut Collected<'_>,
) -> Result<(), Rejection> {
    match (between, json) {
        (Some(between), Json::Object(members)) => {
            let max = out.decoder.limits.depth;
            if place.depth >= max {
                out.leave_out(Rejection::TooDeep { key, max });
                return Ok(());
            }
            let depth = place.depth + 1;
            let prefix = format!("{key}{between}");
            put_members(
                &prefix,
                between,
                members,
                MemberContext { depth, ..place },
                out,
            )
        }
        (_, json) => {
            let value = value_of(&key, json, out);
            let put = value.and_then(|value| match value {
                Some(value) => out.put(key, place.timed, value),
                None => Ok(()),
            });
            match put {
                Err(rejection) if rejection.is_of_value() => {
                    out.leave_out(rejection);
                    Ok(())
                }
                put => put,
            }
        }
    }
}

/// Adds each member of an object.
fn put_members(
    prefix: &str,
    between: &str,
    members: Members,
    place: MemberContext,
    out: &mut Collected<'_>,
) -> Result<(), Rejection> {
    for (name, json) in members {
        if out.decoder.ignores(&name) {
            continue;
        }
        put_member(prefix, &name, Some(between), json, place, out)?;
    }
    Ok(())
}

/// A value; `None` for `null`, which means no value.
fn value_of(key: &str, json: Json, out: &Collected<'_>) -> Result<Option<Value>, Rejection> {
    if let Some(number) = marked_number(&json) {
        let key = key.to_owned();
        return Err(match is_integer(number) {
            true => Rejection::TooLarge {
                key,
                digits: shown(number),
            },
            false => Rejection::NotFinite(key),
        });
    }
    Ok(Some(match json {
        Json::Null => return Ok(None),
        Json::Bool(flag) => Value::Bool(flag),
        Json::String(text) if text.contains('\0') => {
            return Err(Rejection::ZeroByte(key.to_owned()));
        }
        Json::String(text) => Value::Text(text.into()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Integer(whole),
            (None, Some(number)) if number.is_finite() => Value::Number(number),
            _ => return Err(Rejection::NotFinite(key.to_owned())),
        },
        json => {
            let max = out.decoder.limits.depth;
            if depth_of(&json) > max {
                let key = key.to_owned();
                return Err(Rejection::TooDeep { key, max });
            }
            Value::Json(json.text_without(SECRET_MEMBER).into())
        }
    }))
}

/// Nesting depth; the parser allows 128.
fn depth_of(json: &Json) -> usize {
    let below = match json {
        Json::Object(members) => members.iter().map(|(_, json)| depth_of(json)).max(),
        Json::Array(items) => items.iter().map(depth_of).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
