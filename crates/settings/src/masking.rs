//! Masks secrets in the keys of sinks, but not references to them.

/// Headers whose values are not masked.
const PLAIN: &[&str] = &["accept", "content-type", "user-agent"];

/// Headers for output: values are masked, except references to secrets.
pub fn headers(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| shown_header(line)).collect()
}

fn shown_header(line: &str) -> String {
    let Some((name, value)) = line.split_once(':') else {
        return "***".to_owned();
    };
    let (name, value) = (name.trim(), value.trim());
    let scheme = value.split_once(' ').map_or("", |(scheme, _)| scheme);
    let is_scheme = ["bearer", "basic", "token"].contains(&&*scheme.to_ascii_lowercase());
    let rest = if is_scheme {
        value[scheme.len()..].trim()
    } else {
        value
    };
    let is_plain = PLAIN.contains(&&*name.to_ascii_lowercase());
    if is_plain || refers_alone(rest) {
        return format!("{name}: {value}");
    }
    format!("{name}: ***")
}

/// Whether a text consists of exactly one reference to a secret.
pub fn refers_alone(text: &str) -> bool {
    let inner = text.strip_prefix("${secret:");
    let inner = inner.and_then(|inner| inner.strip_suffix('}'));
    inner.is_some_and(|name| !name.contains(['{', '}', '$']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_headers_are_masked_and_references_are_shown() {
        for (line, expected) in [
            ("Authorization: Bearer known", "Authorization: ***"),
            (
                "Authorization: Bearer ${secret:t}",
                "Authorization: Bearer ${secret:t}",
            ),
            ("X-Key: ${secret:t}", "X-Key: ${secret:t}"),
            ("X-Key: known${secret:t}", "X-Key: ***"),
            ("X-Key: ${secret:a}known${secret:t}", "X-Key: ***"),
            ("Content-Type: text/plain", "Content-Type: text/plain"),
            ("known", "***"),
        ] {
            assert_eq!(shown_header(line), expected);
        }
    }
}
