//! Output formats of messages in `martlet sub` and `rr`: `-F`, `-v`, `%j`.
//!
//! Responsible for mosquitto's format strings, which are parsed and checked before connecting, and
//! for applying one to a message and a time. Does not write anywhere.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use jiff::Zoned;
use martlet_client::{Message, MessageProperties};
use martlet_codec::QoS;
use martlet_control::text::harmless;

use super::json::Json;

/// Separators that may follow the field length of `%x`.
const HEX_SEPARATORS: &str = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// A parsed output format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
    /// Whether JSON is printed on several lines.
    pub(crate) pretty: bool,
    /// Whether messages are shown on a terminal, which nothing in them may control.
    pub(crate) is_shown: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field {
        letter: char,
        layout: Layout,
    },
    /// A conversion of strftime, without the percent sign.
    Time(char),
}

/// The part between `%` and the letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Layout {
    zeros: bool,
    left: bool,
    width: usize,
    precision: Option<usize>,
    separator: Option<char>,
}

/// A message that cannot be printed in its format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unprintable(pub(crate) String);

impl Format {
    /// Parses a format string.
    ///
    /// # Errors
    /// A line for the user.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            let piece = match char {
                '%' => parse_field(&mut chars)?,
                '@' => match next(&mut chars)? {
                    '@' => Piece::Text(b"@".to_vec()),
                    conversion => Piece::Time(conversion),
                },
                '\\' => Piece::Text(vec![parse_escape(next(&mut chars)?)?]),
                other => Piece::Text(other.to_string().into_bytes()),
            };
            match piece {
                Piece::Text(text) => literal.extend(text),
                other => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(other);
                }
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self {
            pieces,
            pretty: false,
            is_shown: false,
        })
    }

    /// Appends the message, received at `time`, to `out`.
    ///
    /// # Errors
    /// The payload does not have the form that the format needs; `out` is unchanged.
    pub(crate) fn apply(
        &self,
        message: &Message,
        time: &Zoned,
        out: &mut Vec<u8>,
    ) -> Result<(), Unprintable> {
        let start = out.len();
        for piece in &self.pieces {
            let result = match piece {
                Piece::Text(text) => {
                    out.extend_from_slice(text);
                    Ok(())
                }
                Piece::Time(conversion) => {
                    out.extend(strftime(time, *conversion).into_bytes());
                    Ok(())
                }
                Piece::Field { letter, layout } => {
                    let begin = out.len();
                    let done = self.apply_field(*letter, layout, message, time, out);
                    if self.is_shown {
                        let field = String::from_utf8_lossy(&out[begin..]);
                        let field = harmless(&field).into_owned();
                        out.truncate(begin);
                        out.extend_from_slice(field.as_bytes());
                    }
                    done
                }
            };
            if let Err(error) = result {
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    fn apply_field(
        &self,
        letter: char,
        layout: &Layout,
        message: &Message,
        time: &Zoned,
        out: &mut Vec<u8>,
    ) -> Result<(), Unprintable> {
        let properties = &message.properties;
        let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match letter {
            '%' => out.push(b'%'),
            't' => layout.put_text(&message.topic, out),
            'p' => layout.put(&message.payload, out),
            'q' => out.extend(message.qos.bits().to_string().bytes()),
            'r' => out.push(b'0' + u8::from(message.retain)),
            'l' => layout.put(message.payload.len().to_string().as_bytes(), out),
            'm' => {
                let packet_id = message.packet_id.map_or(0, |id| id.get());
                layout.put(packet_id.to_string().as_bytes(), out);
            }
            'x' | 'X' => layout.put_hex(&message.payload, letter == 'X', out),
            'd' => layout.put(double(message)?.as_bytes(), out),
            'f' => layout.put(float(message)?.as_bytes(), out),
            'j' => self.put_json(message, Json::string(lossy(&message.payload)), time, out),
            'J' => {
                let payload = Json::parse(&message.payload).ok_or_else(|| {
                    let topic = &message.topic;
                    Unprintable(format!(
                        "Message payload is not valid JSON on topic {topic}."
                    ))
                })?;
                self.put_json(message, payload, time, out);
            }
            'I' => layout.put(
                time.strftime("%Y-%m-%dT%H:%M:%S%z").to_string().as_bytes(),
                out,
            ),
            'U' => out.extend(strftime_text(time, "%s.%9f").into_bytes()),
            'A' => {
                let alias = properties.topic_alias.map(|alias| u32::from(alias.get()));
                layout.put(number(alias).as_bytes(), out);
            }
            'C' => layout.put_text(&text(&properties.content_type), out),
            'D' => out.extend(properties.correlation_data.as_deref().unwrap_or_default()),
            'E' => layout.put(number(properties.message_expiry_secs).as_bytes(), out),
            'F' => layout.put(
                number(properties.payload_format_utf8.map(u32::from)).as_bytes(),
                out,
            ),
            'P' => {
                let pairs = properties.user_properties.iter();
                let pairs: Vec<_> = pairs
                    .map(|(name, value)| format!("{name}:{value}"))
                    .collect();
                out.extend(pairs.join(" ").into_bytes());
            }
            'R' => layout.put_text(&text(&properties.response_topic), out),
            'S' => {
                let ids: Vec<_> = properties
                    .subscription_ids
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                layout.put(ids.join(" ").as_bytes(), out);
            }
            other => unreachable!("parse refuses %{other}"),
        }
        Ok(())
    }

    fn put_json(&self, message: &Message, payload: Json, time: &Zoned, out: &mut Vec<u8>) {
        let mut members = vec![
            (
                "tst".to_owned(),
                Json::string(strftime_text(time, "%Y-%m-%dT%H:%M:%S.%6f%z")),
            ),
            ("topic".to_owned(), Json::string(message.topic.as_str())),
            ("qos".to_owned(), Json::number(message.qos.bits())),
            ("retain".to_owned(), Json::number(u8::from(message.retain))),
            ("payloadlen".to_owned(), Json::number(message.payload.len())),
        ];
        if let (true, Some(id)) = (message.qos > QoS::AtMostOnce, message.packet_id) {
            members.push(("mid".to_owned(), Json::number(id)));
        }
        if !message.properties.is_empty() {
            members.push((
                "properties".to_owned(),
                json_properties(&message.properties),
            ));
        }
        members.push(("payload".to_owned(), payload));
        let json = Json::Object(members);
        out.extend(
            if self.pretty {
                json.pretty()
            } else {
                json.compact()
            }
            .into_bytes(),
        );
    }
}

fn json_properties(properties: &MessageProperties) -> Json {
    let mut members = Vec::new();
    let mut add = |name: &str, value: Option<Json>| {
        members.extend(value.map(|value| (name.to_owned(), value)));
    };
    for id in &properties.subscription_ids {
        add("subscription-identifier", Some(Json::number(id)));
    }
    add("topic-alias", properties.topic_alias.map(Json::number));
    add(
        "content-type",
        properties.content_type.as_deref().map(Json::string),
    );
    add(
        "response-topic",
        properties.response_topic.as_deref().map(Json::string),
    );
    let correlation_data = properties.correlation_data.as_deref();
    add(
        "correlation-data",
        correlation_data.map(|data| Json::string(lossy(data))),
    );
    if !properties.user_properties.is_empty() {
        let pairs = properties.user_properties.iter();
        let pairs = pairs.map(|(name, value)| (name.to_owned(), Json::string(value)));
        add("user-properties", Some(Json::Object(pairs.collect())));
    }
    let format = properties.payload_format_utf8.map(u8::from);
    add("payload-format-indicator", format.map(Json::number));
    add(
        "message-expiry-interval",
        properties.message_expiry_secs.map(Json::number),
    );
    Json::Object(members)
}

impl Layout {
    /// Appends text: truncated at the precision, padded with spaces.
    fn put_text(&self, text: &str, out: &mut Vec<u8>) {
        let end = self
            .precision
            .map_or(text.len(), |count| text.floor_char_boundary(count));
        let blanks = Self {
            zeros: false,
            ..self.clone()
        };
        blanks.put(&text.as_bytes()[..end], out);
    }

    /// Appends bytes, padded to the width.
    fn put(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let padding = self.width.saturating_sub(bytes.len());
        if self.left {
            out.extend_from_slice(bytes);
            out.extend(std::iter::repeat_n(b' ', padding));
        } else {
            let pad = if self.zeros { b'0' } else { b' ' };
            out.extend(std::iter::repeat_n(pad, padding));
            out.extend_from_slice(bytes);
        }
    }

    /// Appends hexadecimal digits, in fields whose length is the precision.
    fn put_hex(&self, bytes: &[u8], upper: bool, out: &mut Vec<u8>) {
        let mut digits = String::with_capacity(bytes.len() * 2);
        let field = self.precision.unwrap_or(0);
        for (index, nibble) in bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .enumerate()
        {
            if field > 0 && index > 0 && index % field == 0 {
                digits.push(self.separator.unwrap_or(' '));
            }
            let written = match upper {
                true => write!(digits, "{nibble:X}"),
                false => write!(digits, "{nibble:x}"),
            };
            written.expect("a String takes all that is written");
        }
        self.put(digits.as_bytes(), out);
    }
}

fn parse_field(chars: &mut Peekable<Chars<'_>>) -> Result<Piece, String> {
    let mut layout = Layout::default();
    loop {
        match chars.peek() {
            Some('0') => layout.zeros = true,
            Some('-') => layout.left = true,
            _ => break,
        }
        chars.next();
    }
    if let Some(width) = parse_number(chars)? {
        layout.width = width;
    }
    if chars.next_if_eq(&'.').is_some() {
        let precision = parse_number(chars)?;
        layout.precision = Some(precision.ok_or("Invalid format specifier '.'.")?);
        layout.separator = chars.next_if(|char| HEX_SEPARATORS.contains(*char));
    }
    let letter = next(chars)?;
    if layout.separator.is_some() && !matches!(letter, 'x' | 'X') {
        return Err(format!("Invalid format specifier '{letter}'."));
    }
    if letter == '%' {
        return Ok(Piece::Text(b"%".to_vec()));
    }
    if !"ACDEFIJPRSUXdfjlmpqrtx".contains(letter) {
        return Err(format!("Invalid format specifier '{letter}'."));
    }
    Ok(Piece::Field { letter, layout })
}

/// Parses a width, at most 10,000, so that a typing error does not exhaust memory.
fn parse_number(chars: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|char| char.to_digit(10)) {
        chars.next();
        let value = number.unwrap_or(0) * 10 + digit as usize;
        if value > 10_000 {
            return Err("Format width above 10000.".into());
        }
        number = Some(value);
    }
    Ok(number)
}

fn parse_escape(letter: char) -> Result<u8, String> {
    Ok(match letter {
        '\\' => b'\\',
        '0' => 0,
        'a' => 0x07,
        'e' => 0x1b,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        other => return Err(format!("Invalid escape specifier '{other}'.")),
    })
}

fn next(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    chars
        .next()
        .ok_or_else(|| "Incomplete format specifier.".to_owned())
}

/// One conversion of strftime; `N` is nanoseconds. An unknown conversion stays unchanged, as in the
/// C library.
fn strftime(time: &Zoned, conversion: char) -> String {
    match conversion {
        'N' => format!("{:09}", time.subsec_nanosecond()),
        'n' => "\n".into(),
        't' => "\t".into(),
        // Formats of the C locale.
        'c' => strftime_text(time, "%a %b %e %H:%M:%S %Y"),
        'x' => strftime_text(time, "%m/%d/%y"),
        'X' => strftime_text(time, "%H:%M:%S"),
        'r' => strftime_text(time, "%I:%M:%S %p"),
        // Printed unchanged: jiff would print fractions or zone names for them.
        'f' | 'Q' | 'q' | 'E' | 'O' => format!("%{conversion}"),
        other => {
            let format = format!("%{other}");
            match jiff::fmt::strtime::format(&format, time) {
                Ok(text) => text,
                Err(_) => format,
            }
        }
    }
}

fn strftime_text(time: &Zoned, format: &str) -> String {
    time.strftime(format).to_string()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn double(message: &Message) -> Result<String, Unprintable> {
    let bytes = message
        .payload
        .as_slice()
        .try_into()
        .map_err(|_| not_a_float(message, 8))?;
    Ok(f64::from_ne_bytes(bytes).to_string())
}

fn float(message: &Message) -> Result<String, Unprintable> {
    let bytes = message
        .payload
        .as_slice()
        .try_into()
        .map_err(|_| not_a_float(message, 4))?;
    Ok(f32::from_ne_bytes(bytes).to_string())
}

fn not_a_float(message: &Message, len: usize) -> Unprintable {
    let (got, topic) = (message.payload.len(), &message.topic);
    Unprintable(format!(
        "Message payload is not a float of {len} bytes but has {got} on topic {topic}."
    ))
}

#[cfg(test)]
mod tests {
    use martlet_codec::PacketId;

    use super::*;

    fn message() -> Message {
        let mut message = Message {
            topic: "f/1".into(),
            payload: "hé\"l\\l\to".into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: PacketId::new(1),
            ..Message::default()
        };
        let properties = &mut message.properties;
        properties.content_type = Some("text/pl".into());
        properties.correlation_data = Some(b"c\"d".to_vec());
        properties.message_expiry_secs = Some(1000);
        properties.payload_format_utf8 = Some(true);
        properties.response_topic = Some("re/sp".into());
        properties.subscription_ids = vec![7];
        properties.user_properties.push("k1", "v1");
        properties.user_properties.push("k2", "v 2");
        message
    }

    fn time() -> Zoned {
        let time: jiff::Timestamp = "2026-11-20T08:46:34.355003112Z".parse().unwrap();
        time.to_zoned(jiff::tz::TimeZone::UTC)
    }

    fn apply(format: &str) -> String {
        let mut out = Vec::new();
        Format::parse(format)
            .unwrap()
            .apply(&message(), &time(), &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The expected texts are the output of mosquitto_sub 2.0.11 for the same message.
    #[test]
    fn fields_print_what_mosquitto_prints() {
        let cases = [
            (
                "%t|%q|%r|%l|%m|%x|%X",
                "f/1|1|1|9|1|68c3a9226c5c6c096f|68C3A9226C5C6C096F",
            ),
            (
                "%C|%D|%E|%F|%A|%P|%R|%S|",
                "text/pl|c\"d|1000|1||k1:v1 k2:v 2|re/sp|7|",
            ),
            (
                "%20t|%-6t|%020t|%.2t|%10.2t",
                "                 f/1|f/1   |                 f/1|f/|        f/",
            ),
            ("%020p|", "00000000000hé\"l\\l\to|"),
            (
                "%5l|%05l|%-5l|%5m|%05m|%-5m|%5q|%05q|",
                "    9|00009|9    |    1|00001|1    |1|1|",
            ),
            (
                "%20C|%.2C|%10E|%010E|%10A|%10S|",
                "             text/pl|te|      1000|0000001000|          |         7|",
            ),
            (
                "a\\tb\\n\\\\c\\a\\r\\0\\v\\ed@@%%",
                "a\tb\n\\c\x07\r\0\x0b\x1bd@%",
            ),
        ];
        for (format, want) in cases {
            assert_eq!(apply(format), want, "{format}");
        }
    }

    #[test]
    fn times_print_what_strftime_prints_in_the_c_locale() {
        let format = "@Y-@m-@d @H:@M:@S @N @s @z @a @b @j @F @T @e @I @p @y @C @D @G @V @u @A @B";
        let want = "2026-11-20 08:46:34 355003112 1795164394 +0000 Fri Nov 324 2026-11-20 08:46:34 \
                    20 08 AM 26 20 11/20/26 2026 47 5 Friday November";
        assert_eq!(apply(format), want);
        let format = "@c|@x|@X|@h|@R|@r|@U|@W|@w|@g|@k|@l|@P|@O|@E|@q|@f";
        let want = "Fri Nov 20 08:46:34 2026|11/20/26|08:46:34|Nov|08:46|08:46:34 AM|46|46|5|26| 8|\
                    \u{20}8|am|%O|%E|%q|%f";
        assert_eq!(apply(format), want);
        assert_eq!(
            apply("%I|%U"),
            "2026-11-20T08:46:34+0000|1795164394.355003112"
        );
    }

    #[test]
    fn json_holds_all_of_the_message() {
        let want = concat!(
            r#"{"tst":"2026-11-20T08:46:34.355003+0000","topic":"f/1","qos":1,"retain":1,"#,
            r#""payloadlen":9,"mid":1,"properties":{"subscription-identifier":7,"#,
            r#""content-type":"text/pl","response-topic":"re/sp","correlation-data":"c\"d","#,
            r#""user-properties":{"k1":"v1","k2":"v 2"},"payload-format-indicator":1,"#,
            r#""message-expiry-interval":1000},"payload":"hé\"l\\l\to"}"#,
        );
        assert_eq!(apply("%j"), want);
    }

    #[test]
    fn a_payload_that_is_no_json_is_unprintable_with_capital_j() {
        let mut out = b"before".to_vec();
        let error = Format::parse("%t %J")
            .unwrap()
            .apply(&message(), &time(), &mut out);
        let want = "Message payload is not valid JSON on topic f/1.";
        assert_eq!(error, Err(Unprintable(want.into())));
        assert_eq!(out, b"before");
    }

    #[test]
    fn hexadecimal_digits_may_be_split_into_fields() {
        let mut message = message();
        message.payload = vec![0x00, 0x01, 0xff, 0x80];
        let mut out = Vec::new();
        let format = Format::parse("%.2x|%.2:X|%.4x").unwrap();
        format.apply(&message, &time(), &mut out).unwrap();
        assert_eq!(out, b"00 01 ff 80|00:01:FF:80|0001 ff80");
    }

    #[test]
    fn floats_are_read_from_their_bytes() {
        let mut message = message();
        message.payload = 1.5f64.to_ne_bytes().to_vec();
        let mut out = Vec::new();
        Format::parse("%d")
            .unwrap()
            .apply(&message, &time(), &mut out)
            .unwrap();
        assert_eq!(out, b"1.5");
        assert!(
            Format::parse("%f")
                .unwrap()
                .apply(&message, &time(), &mut out)
                .is_err()
        );
    }

    #[test]
    fn formats_that_are_not_valid_are_refused_with_mosquittos_words() {
        let cases = [
            ("%Z", "Invalid format specifier 'Z'."),
            ("%", "Incomplete format specifier."),
            ("@", "Incomplete format specifier."),
            ("%5", "Incomplete format specifier."),
            ("\\q", "Invalid escape specifier 'q'."),
        ];
        for (format, want) in cases {
            assert_eq!(Format::parse(format).unwrap_err(), want, "{format}");
        }
    }
}
