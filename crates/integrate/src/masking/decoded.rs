//! A text with its escapes decoded, and the source position of each byte.

use std::ops::Range;

/// Encodings in which a target may repeat a text, the outermost first. The unchanged text is
/// searched first.
const FORMS: &[&[Form]] = &[
    &[Form::Backslash],
    &[Form::Percent],
    &[Form::Query],
    &[Form::Html],
    &[Form::Backslash, Form::Backslash],
    &[Form::Backslash, Form::Percent],
    &[Form::Backslash, Form::Query],
    &[Form::Backslash, Form::Html],
    &[Form::Html, Form::Backslash],
    &[Form::Html, Form::Percent],
    &[Form::Percent, Form::Percent],
    &[Form::Percent, Form::Backslash],
];

/// Named HTML character references, and the numeric ones that libraries write.
const ENTITIES: &[(&[u8], u8)] = &[
    (b"&amp;", b'&'),
    (b"&lt;", b'<'),
    (b"&gt;", b'>'),
    (b"&quot;", b'"'),
    (b"&apos;", b'\''),
];
/// Longest numeric HTML character reference, with `&#` and `;`.
const ENTITY_BYTES_MAX: usize = 10;

#[derive(Clone, Copy)]
enum Form {
    /// Escapes of JSON and of programming languages: `\"`, `\/`, `\u0041`, `\x41`.
    Backslash,
    /// `%41`.
    Percent,
    /// `%41`, and `+` for a blank.
    Query,
    /// `&amp;`, `&#38;`, `&#x26;`.
    Html,
}

/// One escape at the beginning of a text.
enum Escape {
    /// This many bytes encode that character.
    Of(usize, char),
    /// This many bytes encode that byte.
    Byte(usize, u8),
    /// The text may be cut within an escape.
    Cut,
}

/// A text in one of its forms.
pub(super) struct Decoded {
    bytes: Vec<u8>,
    /// Source position of each byte, and the length of the source.
    begins: Vec<usize>,
}

impl Decoded {
    /// The unchanged text, and all decodings that differ from it.
    pub(super) fn all(text: &[u8], is_cut: bool) -> Vec<Self> {
        let plain = Self {
            bytes: text.to_vec(),
            begins: (0..=text.len()).collect(),
        };
        let decoded = FORMS.iter().filter_map(|forms| {
            let mut forms = forms.iter();
            let first = plain.decode(*forms.next()?, is_cut)?;
            forms.try_fold(first, |decoded, form| decoded.decode(*form, is_cut))
        });
        let decoded: Vec<Self> = decoded.collect();
        [plain].into_iter().chain(decoded).collect()
    }

    /// The bytes that are searched.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The range of the source from which these bytes were decoded.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.begins[range.start]..self.begins[range.end]
    }

    /// `None`: the text has no such escape.
    fn decode(&self, form: Form, is_cut: bool) -> Option<Self> {
        let (mut bytes, mut begins) = (Vec::new(), Vec::new());
        let (mut at, mut has_escape) = (0, false);
        while let Some(byte) = self.bytes.get(at) {
            let begin = self.begins[at];
            let escape = form.escape(&self.bytes[at..]);
            has_escape |= escape.is_some();
            let mut utf8 = [0; 4];
            let (length, stands_for) = match &escape {
                Some(Escape::Of(length, letter)) => {
                    (*length, letter.encode_utf8(&mut utf8).as_bytes())
                }
                Some(Escape::Byte(length, byte)) => (*length, std::slice::from_ref(byte)),
                Some(Escape::Cut) if is_cut => break,
                Some(Escape::Cut) | None => (1, std::slice::from_ref(byte)),
            };
            bytes.extend_from_slice(stands_for);
            begins.extend(std::iter::repeat_n(begin, stands_for.len()));
            at += length;
        }
        begins.push(*self.begins.last()?);
        has_escape.then_some(Self { bytes, begins })
    }
}

impl Form {
    fn escape(self, text: &[u8]) -> Option<Escape> {
        match (self, text.first()?) {
            (Self::Backslash, b'\\') => backslash(text),
            (Self::Query, b'+') => Some(Escape::Byte(1, b' ')),
            (Self::Percent | Self::Query, b'%') => match hex(text.get(1..)?, 2) {
                Digits::Of(number) => Some(Escape::Byte(3, u8::try_from(number).ok()?)),
                Digits::Cut => Some(Escape::Cut),
                Digits::None => None,
            },
            (Self::Html, b'&') => entity(text),
            _ => None,
        }
    }
}

fn backslash(text: &[u8]) -> Option<Escape> {
    let Some(kind) = text.get(1) else {
        return Some(Escape::Cut);
    };
    let digits = match kind {
        b'u' => 4,
        b'x' => 2,
        _ => {
            let stands_for = match kind {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            };
            return Some(Escape::Byte(2, stands_for));
        }
    };
    match hex(&text[2..], digits) {
        Digits::Of(byte) if digits == 2 => Some(Escape::Byte(4, u8::try_from(byte).ok()?)),
        Digits::Of(unit) => match char::from_u32(unit) {
            Some(letter) => Some(Escape::Of(6, letter)),
            None => surrogates(unit, &text[6..]),
        },
        Digits::Cut => Some(Escape::Cut),
        Digits::None => None,
    }
}

/// Decodes the second half of a surrogate pair.
fn surrogates(first: u32, rest: &[u8]) -> Option<Escape> {
    if rest.len() < 2 {
        return Some(Escape::Cut);
    }
    let second = match hex(rest.strip_prefix(b"\\u")?, 4) {
        Digits::Of(second) => second,
        Digits::Cut => return Some(Escape::Cut),
        Digits::None => return None,
    };
    let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    let letter = char::decode_utf16(units).next()?.ok()?;
    Some(Escape::Of(12, letter))
}

fn entity(text: &[u8]) -> Option<Escape> {
    let named = ENTITIES.iter().find(|(name, _)| text.starts_with(name));
    if let Some((name, byte)) = named {
        return Some(Escape::Byte(name.len(), *byte));
    }
    let within = &text[..text.len().min(ENTITY_BYTES_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b';') else {
        return (text.len() < ENTITY_BYTES_MAX).then_some(Escape::Cut);
    };
    let number = std::str::from_utf8(within[..end].strip_prefix(b"&#")?).ok()?;
    let number = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    Some(Escape::Of(end + 1, char::from_u32(number)?))
}

enum Digits {
    Of(u32),
    /// The text ends before the last digit.
    Cut,
    None,
}

/// Reads a number with this many hexadecimal digits.
fn hex(text: &[u8], digits: usize) -> Digits {
    let within = &text[..text.len().min(digits)];
    let mut number = 0;
    for byte in within {
        match char::from(*byte).to_digit(16) {
            Some(digit) => number = number * 16 + digit,
            None => return Digits::None,
        }
    }
    match within.len() == digits {
        true => Digits::Of(number),
        false => Digits::Cut,
    }
}
