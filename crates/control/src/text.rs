//! Text from outside, such as Client Identifiers and topics, as it is shown to people: on a
//! terminal, and in a command that they may paste into a shell.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Text that does nothing to a terminal: what controls it, turns the direction of writing or is not
/// to be seen stands there escaped.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_shown(letter) {
            true => shown.push(letter),
            false => shown.extend(letter.escape_unicode()),
        }
    }
    shown
}

/// Text of several lines that does nothing to a terminal and may be JSON: line breaks and tabs are
/// left, and the escapes are those of JSON.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    let may_stay = |letter: char| is_shown(letter) || matches!(letter, '\n' | '\t');
    if text.bytes().all(is_plain) || text.chars().all(may_stay) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match may_stay(letter) {
            true => shown.push(letter),
            false => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(shown)
}

/// Characters that are encoded in one segment of a path or in a value of a query (RFC 3986, 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Text as one segment of a path or a value of a query.
pub fn in_path(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Text as it is typed in a shell: one word, whatever is in it, and safe to print. What cannot be
/// shown is written `$'\x1b'`, as bash, zsh, ksh and busybox read it.
pub fn typed(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:@%+,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if text.chars().all(is_shown) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = String::from("$'");
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => word.extend(['\\', letter]),
            _ if is_shown(letter) => word.push(letter),
            _ => {
                // By bytes, which no locale changes; with three digits, so that one that follows is
                // no part of it.
                let mut utf8 = [0; 4];
                for byte in letter.encode_utf8(&mut utf8).bytes() {
                    word.push_str(&format!("\\{byte:03o}"));
                }
            }
        }
    }
    word.push('\'');
    word
}

/// Names as they are typed behind the options of a command. What begins with a dash is no option.
pub fn typed_names(names: &[&str]) -> String {
    let is_option = |name: &&str| name.starts_with('-') && *name != "-";
    let mut words: Vec<String> = names.iter().map(|name| typed(name)).collect();
    if let Some(at) = names.iter().position(is_option) {
        words.insert(at, "--".to_owned());
    }
    words.join(" ")
}

/// Whether a host, as URLs and addresses have it, is the machine itself.
pub fn is_loopback(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// An address of a connection. With port 0, as behind a proxy, only the host.
pub(crate) fn address((ip, port): (IpAddr, u16)) -> String {
    match (ip, port) {
        (IpAddr::V6(ip), 0) => format!("[{ip}]"),
        (ip, 0) => ip.to_string(),
        (ip, port) => SocketAddr::new(ip, port).to_string(),
    }
}

/// A URL without what is secret in it: user and password, parameters that are called like secrets,
/// and the key of an application of Reverb or Pusher. What is no URL is left as it is, and of what
/// only begins like one nothing is shown.
pub fn masked(text: &str) -> String {
    masked_where(text, &|name, _| is_called_secret(name), &|_| false)
}

/// URL that the node asks, masked likewise: a long parameter, whatever it is called, and a part of
/// its path that looks made up may be what lets the node in there.
pub fn masked_target(text: &str) -> String {
    // Several addresses of brokers. A comma of another URL is a letter of it.
    let is_of_broker = |text: &str| {
        let scheme = text.trim().split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| BROKERS.contains(&scheme))
    };
    let all = || text.split(',').map(str::trim).filter(|one| !one.is_empty());
    if text.contains(',') && all().all(is_of_broker) {
        let all = all().map(masked_one);
        return all.collect::<Vec<_>>().join(",");
    }
    masked_one(text)
}

/// Schemes of URLs of other brokers. Such a URL may have several addresses.
const BROKERS: &[&str] = &["mqtt", "mqtts", "tcp", "ssl", "tls"];

fn masked_one(text: &str) -> String {
    masked_where(
        text,
        &|name, value| is_called_secret(name) || value.len() >= 12,
        &is_generated,
    )
}

fn masked_where(
    text: &str,
    is_secret: &dyn Fn(&str, &str) -> bool,
    is_secret_part: &dyn Fn(&str) -> bool,
) -> String {
    // A parser of URLs leaves these out, so what is between them would be taken for another part.
    let is_left_out = |letter: char| letter.is_ascii_control();
    if text.contains(is_left_out) {
        let whole = text.replace(is_left_out, "");
        let is_url = whole.contains("://");
        return match is_url || masked_where(&whole, is_secret, is_secret_part) != whole {
            true => "***".to_owned(),
            false => text.to_owned(),
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        // A URL that is written oddly, or half of one; or a path.
        let is_web = text.starts_with("http:") || text.starts_with("https:");
        let is_path = text.starts_with(['/', '.']) || !text.contains(['@', '?']);
        return match is_path && !is_web {
            true => text.to_owned(),
            false => "***".to_owned(),
        };
    };
    if url::Url::parse(text).is_err() {
        // As listeners have it: every address, by a port alone, which is no secret.
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = host.strip_prefix(':').unwrap_or_default();
        let is_port = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
        if is_port && !path.contains(['@', '?', '#']) {
            return text.to_owned();
        }
        return format!("{scheme}://***");
    }
    // The part after # is never sent, so it is left out.
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, _)) => (rest, "#***"),
        None => (rest, ""),
    };
    let parameters = rest.find('?').unwrap_or(rest.len());
    let (place, parameters) = rest.split_at(parameters);
    let place = match place.rsplit_once('@') {
        Some((_, place)) => format!("***@{place}"),
        None => place.to_owned(),
    };
    let mut shown = format!("{scheme}://{}", masked_path(&place, is_secret_part));
    for parameter in parameters.split_inclusive(['?', '&', ';']) {
        let separator = parameter.find(['?', '&', ';']).unwrap_or(parameter.len());
        let (parameter, separator) = parameter.split_at(separator);
        match parameter.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name, value) => {
                shown.push_str(&format!("{name}=***"));
            }
            None if is_secret("", parameter) => shown.push_str("***"),
            _ => shown.push_str(parameter),
        }
        shown.push_str(separator);
    }
    shown + fragment
}

/// Host and path: what follows `/app/` is a key.
fn masked_path(place: &str, is_secret_part: &dyn Fn(&str) -> bool) -> String {
    let mut parts: Vec<&str> = place.split('/').collect();
    for at in 1..parts.len() {
        let is_key = at > 1 && parts[at - 1] == "app" && !parts[at].is_empty();
        if is_key || is_secret_part(parts[at]) {
            parts[at] = "***";
        }
    }
    parts.join("/")
}

/// Long, of letters and digits alone, as tokens are.
fn is_generated(part: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    part.len() >= 20
        && part.bytes().all(is_letter)
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether parameters of this name hold secrets; one that is written in escapes may be any.
pub(crate) fn is_called_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = [
        "pass", "pwd", "secret", "token", "key", "auth", "cred", "sig", "jwt", "code", "%",
    ];
    parts.iter().any(|part| name.contains(part))
}

/// Neither a control character (C0, DEL, C1), nor one that turns the direction of writing, ends a
/// line, or has no width: one name could look like another.
fn is_shown(letter: char) -> bool {
    !letter.is_control()
        && !matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_control_a_terminal_is_escaped() {
        assert_eq!(printable("sensor-7 é 温度"), "sensor-7 é 温度");
        assert_eq!(printable("a\u{1b}[2J"), "a\\u{1b}[2J");
        assert_eq!(printable("c1\u{9b}2J"), "c1\\u{9b}2J");
        assert_eq!(printable("a\u{202e}b\u{2066}c"), "a\\u{202e}b\\u{2066}c");
        assert_eq!(printable("a\u{2028}b\u{200b}"), "a\\u{2028}b\\u{200b}");
    }

    #[test]
    fn lines_of_json_are_escaped_as_json() {
        assert_eq!(harmless("{\n\t\"é\": 1\n}"), "{\n\t\"é\": 1\n}");
        let shown = harmless("{\"a\": \"\u{9b}2J\u{202e}\u{7f}\u{e0001}\"}\r\u{1b}");
        assert_eq!(
            shown,
            r#"{"a": "\u009b2J\u202e\u007f\udb40\udc01"}\u000d\u001b"#
        );
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        assert_eq!(masked("/etc/martlet/keys.json"), "/etc/martlet/keys.json");
        assert_eq!(
            masked("https://a.example/x?y=1#z"),
            "https://a.example/x?y=1#***"
        );
        assert_eq!(
            masked("https://u:s3@a.example:8/x"),
            "https://***@a.example:8/x"
        );
        assert_eq!(
            masked("https://s3cret@a.example/"),
            "https://***@a.example/"
        );
        assert_eq!(
            masked("http://a/x?api_key=s3&y=1&Access-Token=s3;%70ass=s3#password=s3"),
            "http://a/x?api_key=***&y=1&Access-Token=***;%70ass=***#***"
        );
        assert_eq!(
            masked("wss://h:8080/app/s3cret?protocol=7"),
            "wss://h:8080/app/***?protocol=7"
        );
        assert_eq!(masked("ws://h/in/app/s3cret"), "ws://h/in/app/***");
        assert_eq!(masked("https://app/x"), "https://app/x");
        assert_eq!(
            masked_target("https://h/v1/hook/T0kenOfTwentyLetters1?k=0123456789ab&site=7&code=s3"),
            "https://h/v1/hook/***?k=***&site=7&code=***"
        );
        assert_eq!(
            masked_target("https://h/.well-known/jwks.json"),
            "https://h/.well-known/jwks.json"
        );
        assert_eq!(
            masked_target("mqtt://a:1883, mqtts://u:s3@b:8883,tcp://[::1]:1,"),
            "mqtt://a:1883,mqtts://***@b:8883,tcp://[::1]:1"
        );
        // A comma in a password is none between addresses.
        assert_eq!(masked_target("mqtt://u:s3,mq@b:1883"), "mqtt://***@b:1883");
        assert_eq!(
            masked_target("mqtt://u:s3,tcp://x@b"),
            "mqtt://***,tcp://***@b"
        );
        assert_eq!(masked("mqtts://:25883"), "mqtts://:25883");
        assert_eq!(masked("mqtts://:s3"), "mqtts://***");
        assert_eq!(masked("wss://:8443/mqtt"), "wss://:8443/mqtt");
        assert_eq!(masked("wss://:84/3@a"), "wss://***");
        // A password that is not escaped ends the address early.
        assert_eq!(masked("http://u:p/w@a.example/"), "http://***");
        assert_eq!(masked("http:u:p@a.example/"), "***");
        assert_eq!(masked("u:p@a.example/x"), "***");
        assert_eq!(masked("a.example/x?token=s3"), "***");
        assert_eq!(masked("ht\ntp://a.example/s3\t?to\nken=s3"), "***");
        assert_eq!(masked("u:s\n3@a.example"), "***");
        assert_eq!(masked("two\nlines"), "two\nlines");
    }

    #[test]
    fn a_word_cannot_leave_its_quotes() {
        assert_eq!(typed("/a/b-1.crt"), "/a/b-1.crt");
        assert_eq!(typed(""), "''");
        assert_eq!(typed("a; rm -rf /"), "'a; rm -rf /'");
        assert_eq!(typed("it's $x"), r"'it'\''s $x'");
        assert_eq!(typed("a\u{1b}0'\\"), r"$'a\0330\'\\'");
        assert_eq!(typed("\u{202e}"), r"$'\342\200\256'");
        assert_eq!(typed_names(&["a b", "-", "-c", "--d"]), "'a b' - -- -c --d");
    }
}
