//! Parts of a file of devices, which are sent to the node by one request each.

use martlet_control::csv::{self, LineEnd};
use serde_json::Value;

/// A part of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    /// The body of its request.
    pub(super) body: String,
    /// Rows of the file: the line of each in a table, or its place in a list, from 1.
    pub(super) rows: Vec<usize>,
}

/// How large a part may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartSize {
    rows: usize,
    bytes: usize,
}

impl PartSize {
    /// The whole file; the node refuses what is too large.
    pub(super) const WHOLE: Self = Self {
        rows: usize::MAX,
        bytes: usize::MAX,
    };
    /// As much as a node takes by default. Of rows in different parts a dry run does not notice
    /// that they are alike.
    pub(super) const OF_REQUEST: Self = Self {
        rows: 10_000,
        bytes: 1_000_000,
    };
    /// Rows between reports of progress.
    pub(super) const STEP: Self = Self {
        rows: 500,
        bytes: 256_000,
    };

    /// Splits rows into the bodies of requests.
    fn split(self, head: &str, rows: Vec<(usize, String)>, between: &str, end: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let begun = || Part {
            body: head.to_owned(),
            rows: Vec::new(),
        };
        let mut part = begun();
        for (number, row) in rows {
            let is_full = part.rows.len() >= self.rows || part.body.len() + row.len() > self.bytes;
            if is_full && !part.rows.is_empty() {
                part.body.push_str(end);
                parts.push(std::mem::replace(&mut part, begun()));
            }
            if !part.rows.is_empty() {
                part.body.push_str(between);
            }
            part.body.push_str(&row);
            part.rows.push(number);
        }
        part.body.push_str(end);
        parts.push(part);
        parts
    }
}

/// Parts of a table, each with its first line. Devices without a team get this one.
///
/// # Errors
/// The file is not UTF-8, or not CSV.
pub(super) fn parts_of_table(
    bytes: &[u8],
    team: Option<&str>,
    size: PartSize,
) -> anyhow::Result<Vec<Part>> {
    let rows = csv::read(text(bytes)?).map_err(anyhow::Error::msg)?;
    let mut rows = rows.into_iter();
    // The node says what an empty table lacks.
    let (_, mut names) = rows.next().unwrap_or_default();
    let columns = names.len();
    let team = team.map(|team| {
        let is_team = |name: &String| name.trim().eq_ignore_ascii_case("team");
        let at = names.iter().position(is_team);
        if at.is_none() {
            names.push("team".to_owned());
        }
        (at.unwrap_or(columns), csv::marked(team))
    });
    let line =
        |fields: &[String]| csv::exact_line(fields.iter().map(|field| &**field), LineEnd::Lf);
    let with_team = |(number, mut fields): (usize, Vec<String>)| {
        if let Some((at, team)) = &team {
            // A row with too many fields is left with too many.
            let is_long = fields.len() > columns;
            fields.resize(fields.len().max(names.len()), String::new());
            match is_long && *at == columns {
                true => fields.push(String::new()),
                false if fields[*at].trim().is_empty() => fields[*at] = team.to_string(),
                false => {}
            }
        }
        (number, line(&fields))
    };
    let head = if columns == 0 {
        String::new()
    } else {
        line(&names)
    };
    Ok(size.split(&head, rows.map(with_team).collect(), "", ""))
}

/// Parts of a list of devices in JSON. Devices without a team get this one.
///
/// # Errors
/// The file is not UTF-8.
pub(super) fn parts_of_json(
    bytes: &[u8],
    team: Option<&str>,
    size: PartSize,
) -> anyhow::Result<Vec<Part>> {
    let text = text(bytes)?;
    let devices = match serde_json::from_str(text) {
        Ok(Value::Array(devices)) => devices,
        Ok(Value::Object(mut members)) if members.len() == 1 => match members.remove("devices") {
            Some(Value::Array(devices)) => devices,
            _ => return Ok(whole(text)),
        },
        // The node says what is wrong.
        _ => return Ok(whole(text)),
    };
    let with_team = |(at, mut device): (usize, Value)| {
        if let (Some(team), Value::Object(members)) = (team, &mut device) {
            let own = members.entry("team").or_insert(Value::Null);
            if own.is_null() || *own == "" {
                *own = team.into();
            }
        }
        (at + 1, device.to_string())
    };
    let rows = devices.into_iter().enumerate().map(with_team).collect();
    Ok(size.split("[", rows, ",", "]"))
}

fn whole(text: &str) -> Vec<Part> {
    vec![Part {
        body: text.to_owned(),
        rows: Vec::new(),
    }]
}

fn text(bytes: &[u8]) -> anyhow::Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("the file is not UTF-8 in line {line}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: PartSize = PartSize {
        rows: 2,
        bytes: usize::MAX,
    };

    fn part(body: &str, rows: &[usize]) -> Part {
        Part {
            body: body.to_owned(),
            rows: rows.to_vec(),
        }
    }

    #[test]
    fn parts_of_a_table_have_its_names_and_its_lines() {
        let table = "\u{feff}id,name\r\na,\"x\ny\"\r\n\r\nb,'=1\r\nc\r\n";
        let parts = parts_of_table(table.as_bytes(), None, TWO).unwrap();
        let expected = [
            part("id,name\na,\"x\ny\"\nb,'=1\n", &[2, 5]),
            part("id,name\nc\n", &[6]),
        ];
        assert_eq!(parts, expected);
        let parts = parts_of_table(b"id,name\n", None, TWO).unwrap();
        assert_eq!(parts, [part("id,name\n", &[])]);
        assert_eq!(
            parts_of_table(b"", Some("t"), TWO).unwrap(),
            [part("", &[])]
        );
    }

    #[test]
    fn devices_without_a_team_get_that_of_the_command() {
        for (table, expected) in [
            ("id\na\n", "id,team\na,t\n"),
            ("id,Team\na\nb,own\n", "id,Team\na,t\nb,own\n"),
            // Still too many.
            ("id\na,b\n", "id,team\na,b,\n"),
            ("id,team\na,,c\n", "id,team\na,t,c\n"),
        ] {
            let parts = parts_of_table(table.as_bytes(), Some("t"), TWO).unwrap();
            assert_eq!(parts[0].body, expected);
        }
        let list = br#"{"devices": [{"id": "a"}, {"id": "b", "team": "own"}, {"team": ""}]}"#;
        let parts = parts_of_json(list, Some("t"), TWO).unwrap();
        let expected = [
            part(
                r#"[{"id":"a","team":"t"},{"id":"b","team":"own"}]"#,
                &[1, 2],
            ),
            part(r#"[{"team":"t"}]"#, &[3]),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_is_no_list_is_left_to_the_node() {
        for odd in [r#"{"devices": [], "x": 1}"#, "[1", "7"] {
            assert_eq!(
                parts_of_json(odd.as_bytes(), None, TWO).unwrap(),
                [part(odd, &[])]
            );
        }
        let why = parts_of_table(b"id\n\xff\n", None, TWO).unwrap_err();
        assert_eq!(why.to_string(), "the file is not UTF-8 in line 2");
    }
}
