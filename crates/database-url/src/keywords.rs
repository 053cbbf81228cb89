//! Connection strings of keywords and values (PostgreSQL, libpq 34.1.1.1), as Go programs have
//! them: `host=db user=u password=secret dbname=d`.

use std::iter::Peekable;
use std::str::Chars;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Keywords that lead to another place than a host, a port and a database.
const OTHER_PLACES: [&str; 3] = ["service", "servicefile", "passfile"];

/// Keywords that are parameters of the URL. Others, such as `TimeZone`, mean nothing here.
const PARAMETERS: [&str; 5] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
];

/// The URL of a connection string; none: it is another text.
pub(super) fn url(text: &str) -> Option<String> {
    let all = pairs(text)?;
    let get = |keyword: &str| {
        let mut found = all.iter().rev().filter(|(known, _)| known == keyword);
        found.next().map(|(_, value)| value.as_str())
    };
    if OTHER_PLACES.iter().any(|keyword| get(keyword).is_some()) {
        return None;
    }
    // The path of a file may have the form of a pair.
    let host = get("hostaddr").or(get("host"));
    let host = host.filter(|host| !host.contains(','));
    host.or(get("dbname").filter(|_| get("host").is_none()))?;
    let mut url = "postgres://".to_owned();
    if let Some(user) = get("user") {
        url.push_str(&encoded(user));
        if let Some(password) = get("password") {
            url.push_str(&format!(":{}", encoded(password)));
        }
        url.push('@');
    }
    let mut parameters = Vec::new();
    match host.unwrap_or("localhost") {
        // A socket in that directory. A URL has a host in its place.
        directory if directory.starts_with('/') => {
            url.push_str("localhost");
            parameters.push(("host", directory));
        }
        host if host.contains(':') => url.push_str(&format!("[{host}]")),
        host => url.push_str(host),
    }
    if let Some(port) = get("port") {
        url.push_str(&format!(":{}", encoded(port)));
    }
    if let Some(database) = get("dbname") {
        url.push_str(&format!("/{}", encoded(database)));
    }
    let given = PARAMETERS.map(|keyword| get(keyword).map(|value| (keyword, value)));
    parameters.extend(given.into_iter().flatten());
    for (at, (name, value)) in parameters.into_iter().enumerate() {
        let before = if at == 0 { '?' } else { '&' };
        url.push_str(&format!("{before}{name}={}", encoded(value)));
    }
    Some(url)
}

fn encoded(text: &str) -> String {
    // These are not reserved (RFC 3986, 2.3).
    const RESERVED: percent_encoding::AsciiSet = NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, &RESERVED).to_string()
}

/// Keywords with their values; none: the text is no connection string.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.trim().chars().peekable();
    let mut all = Vec::new();
    while rest.peek().is_some() {
        let keyword = word(&mut rest, |letter| {
            letter.is_ascii_alphanumeric() || letter == '_'
        });
        skip_blanks(&mut rest);
        if keyword.is_empty() || rest.next() != Some('=') {
            return None;
        }
        skip_blanks(&mut rest);
        all.push((keyword, value(&mut rest)?));
        skip_blanks(&mut rest);
    }
    Some(all)
}

/// A value; none: its quotation mark is missing.
fn value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let is_quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.peek().copied() {
            Some('\'') if is_quoted => {
                rest.next();
                return Some(value);
            }
            None => return (!is_quoted).then_some(value),
            Some(letter) if !is_quoted && letter.is_whitespace() => return Some(value),
            Some('\\') => {
                rest.next();
                value.push(rest.next()?);
            }
            Some(letter) => {
                rest.next();
                value.push(letter);
            }
        }
    }
}

fn word(rest: &mut Peekable<Chars<'_>>, is_part: impl Fn(char) -> bool) -> String {
    std::iter::from_fn(|| rest.next_if(|letter| is_part(*letter))).collect()
}

fn skip_blanks(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|letter| letter.is_whitespace()).is_some() {}
}
