//! Values in scripts: converts words to numbers, bytes or pairs, and compares expected words with
//! the values in a packet.
//!
//! Implements the forms of words (quotes, `hex:`, repetition, variables, ranges, alternatives). The
//! fields of packets are elsewhere.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer of any width, or a flag.
    Number(u64),
    /// Text or bytes.
    Bytes(Vec<u8>),
    /// A User Property: name and value.
    Pair(Vec<u8>, Vec<u8>),
}

/// Type of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Number`].
    Number,
    /// [`Value::Bytes`].
    Bytes,
    /// [`Value::Pair`].
    Pair,
}

/// Variables of a running script, by name.
pub type Variables = HashMap<String, Value>;

/// A word of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Text, with the escapes of quoted words.
    pub text: String,
    /// Whether it is quoted: then only escapes and `${…}` have a special meaning.
    pub quoted: bool,
}

impl Word {
    /// An unquoted word.
    pub fn plain(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            quoted: false,
        }
    }

    /// The variable, if the whole word is one: `$` and lower-case letters, digits or `_`.
    pub fn variable(&self) -> Option<&str> {
        let name = self.text.strip_prefix('$').filter(|_| !self.quoted)?;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (!name.is_empty() && name.chars().all(fits)).then_some(name)
    }

    /// The value of the word for a field of type `kind`.
    ///
    /// # Errors
    /// Unbound variables, and words that are not of that type.
    pub fn value(&self, kind: Kind, variables: &Variables) -> Result<Value, String> {
        if let Some(name) = self.variable() {
            let bound = variables.get(name);
            return bound
                .cloned()
                .ok_or_else(|| format!("${name} is not bound yet"));
        }
        match kind {
            Kind::Number => number(&interpolate(&self.text, variables)?).map(Value::Number),
            Kind::Bytes => self.bytes(variables).map(Value::Bytes),
            Kind::Pair => {
                let bytes = self.bytes(variables)?;
                let colon = bytes.iter().position(|byte| *byte == b':');
                let colon = colon.ok_or_else(|| format!("`{}` is not name:value", self.text))?;
                Ok(Value::Pair(
                    bytes[..colon].to_vec(),
                    bytes[colon + 1..].to_vec(),
                ))
            }
        }
    }

    fn bytes(&self, variables: &Variables) -> Result<Vec<u8>, String> {
        let text = interpolate(&self.text, variables)?;
        if self.quoted {
            return unescape(&text);
        }
        if let Some(digits) = text.strip_prefix("hex:") {
            return hex(digits);
        }
        if let Some((unit, count)) = text.rsplit_once('*')
            && !unit.is_empty()
            && let Ok(count) = count.parse()
        {
            return Ok(unit.as_bytes().repeat(count));
        }
        Ok(text.into_bytes())
    }

    /// Compares the word with the value in a packet; `None` is an absent field. An unbound variable
    /// is set to the value.
    ///
    /// # Errors
    /// The expected value as text.
    pub fn matches(&self, actual: Option<&Value>, variables: &mut Variables) -> Result<(), String> {
        let plain = (!self.quoted).then_some(self.text.as_str());
        let Some(actual) = actual else {
            return match plain {
                Some("-") => Ok(()),
                _ => Err("is absent".to_owned()),
            };
        };
        match plain {
            Some("-") => return Err("is present".to_owned()),
            Some("*") => return Ok(()),
            _ => {}
        }
        if let Some(name) = self.variable()
            && !variables.contains_key(name)
        {
            variables.insert(name.to_owned(), actual.clone());
            return Ok(());
        }
        if let (Value::Number(actual), None) = (actual, self.variable()) {
            let text = interpolate(&self.text, variables)?;
            for alternative in text.split('|') {
                let (low, high) = alternative
                    .split_once("..")
                    .unwrap_or((alternative, alternative));
                if (number(low)?..=number(high)?).contains(actual) {
                    return Ok(());
                }
            }
            return Err(format!("is {actual}"));
        }
        let kind = match actual {
            Value::Number(_) => Kind::Number,
            Value::Bytes(_) => Kind::Bytes,
            Value::Pair(..) => Kind::Pair,
        };
        match self.value(kind, variables)? == *actual {
            true => Ok(()),
            false => Err(format!("is {}", render(actual))),
        }
    }
}

/// The value in the notation of scripts.
pub(crate) fn render(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Bytes(bytes) => render_bytes(bytes),
        Value::Pair(name, value) => {
            let joined = [name.as_slice(), b":", value.as_slice()].concat();
            render_bytes(&joined)
        }
    }
}

/// Runs of one byte longer than this are rendered as `x*N`.
const RUN_MIN: usize = 24;

fn render_bytes(bytes: &[u8]) -> String {
    if let Some(first) = bytes.first()
        && bytes.len() >= RUN_MIN
        && first.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte == first)
    {
        return format!("{}*{}", char::from(*first), bytes.len());
    }
    let Ok(text) = core::str::from_utf8(bytes) else {
        let mut digits = "hex:".to_owned();
        for byte in bytes {
            let _ = write!(digits, "{byte:02x}");
        }
        return digits;
    };
    let special = |c: char| c.is_whitespace() || c.is_control() || "\"\\;,&*$|".contains(c);
    if text.is_empty() || text.contains(special) || text.starts_with("hex:") {
        let mut quoted = "\"".to_owned();
        for c in text.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                '\n' => quoted.push_str("\\n"),
                c if c.is_control() && (c as u32) < 0x80 => {
                    let _ = write!(quoted, "\\x{:02x}", c as u32);
                }
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        return quoted;
    }
    text.to_owned()
}

/// Replaces `${name}` by the values of variables.
fn interpolate(text: &str, variables: &Variables) -> Result<String, String> {
    let mut rest = text;
    let mut done = String::new();
    while let Some(start) = rest.find("${") {
        let Some(len) = rest[start..].find('}') else {
            break;
        };
        let name = &rest[start + 2..start + len];
        let bound = variables
            .get(name)
            .ok_or_else(|| format!("${name} is not bound yet"))?;
        done.push_str(&rest[..start]);
        match bound {
            Value::Number(number) => done.push_str(&number.to_string()),
            Value::Bytes(bytes) => done.push_str(&String::from_utf8_lossy(bytes)),
            Value::Pair(..) => return Err(format!("${name} is a pair")),
        }
        rest = &rest[start + len + 1..];
    }
    done.push_str(rest);
    Ok(done)
}

/// Parses a decimal or `0x…` number, or the word `max`: 4294967295.
///
/// # Errors
/// Any other text.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if text == "max" => return Ok(u64::from(u32::MAX)),
        None if text == "true" => return Ok(1),
        None if text == "false" => return Ok(0),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not a number"))
}

/// Parses hexadecimal digits, two per byte.
///
/// # Errors
/// Any other text.
pub(crate) fn hex(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{digits}` is not hexadecimal");
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

/// Decodes a quoted text: `\"`, `\\`, `\n`, `\r`, `\t`, `\0` and `\xNN`.
///
/// # Errors
/// Other escapes.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next() {
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                bytes.extend(hex(&digits)?);
            }
            Some(c @ ('"' | '\\')) => bytes.push(c as u8),
            other => return Err(format!("unknown escape {other:?}")),
        }
    }
    Ok(bytes)
}
