//! Paths and queries of requests to the API.

/// Path of devices.
pub(crate) const DEVICES: &str = "/api/v1/devices";

/// Path of users.
pub(crate) const USERS: &str = "/api/v1/users";

/// Encodes text for a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Parameters as a whole query; empty if there are none.
pub(crate) fn query_of<'a, V: AsRef<str>>(
    parameters: impl IntoIterator<Item = (&'a str, V)>,
) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        let sign = if query.is_empty() { '?' } else { '&' };
        query.push_str(&format!("{sign}{name}={}", encoded(value.as_ref())));
    }
    query
}

/// Appends the parameters that have values to a path.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut target = path.to_owned();
    for (name, value) in parameters {
        if let Some(value) = value {
            let mark = if target.contains('?') { '&' } else { '?' };
            target.push_str(&format!("{mark}{name}={}", encoded(value)));
        }
    }
    target
}

/// Query for the objects of a team; empty: no team is named.
pub(crate) fn team_query(team: Option<&str>) -> String {
    query_of(team.map(|team| ("team", team)))
}

/// Path of a team.
pub(crate) fn team_path(team: &str) -> String {
    format!("/api/v1/teams/{}", encoded(team))
}

/// Path of a user.
pub(crate) fn user_path(user: &str) -> String {
    format!("{USERS}/{}", encoded(user))
}

/// Path of a device.
pub(crate) fn device_path(device: &str) -> String {
    format!("{DEVICES}/{}", encoded(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_query() {
        assert_eq!(encoded("a&b=c d/é"), "a%26b%3Dc%20d%2F%C3%A9");
        assert_eq!(query_of([("a", "b"), ("c", "&")]), "?a=b&c=%26");
        assert_eq!(team_query(None), "");
    }
}
