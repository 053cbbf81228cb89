//! Lines of an ACL file in Mosquitto's form.

use martlet_codec::TopicFilter;
use martlet_permission::Actions;

use crate::subscribing::Subscribing;

/// A line that permits or forbids.
#[derive(Clone, Debug)]
pub(crate) struct AclLine {
    /// Number of the line, from 1.
    pub(crate) number: usize,
    pub(crate) of: LineSubject,
    pub(crate) access: Access,
    pub(crate) filter: Box<str>,
}

impl AclLine {
    /// The line in its normal form.
    pub(crate) fn text(&self) -> String {
        let keyword = match self.of {
            LineSubject::Everybody => "pattern",
            LineSubject::Anonymous | LineSubject::User(_) => "topic",
        };
        format!("{keyword} {} {}", self.access.word(), self.filter)
    }

    /// Returns the place, for output.
    pub(crate) fn place(&self) -> String {
        format!("line {}", self.number)
    }

    /// Whether it contains `%c` or `%u`, which are placeholders in a pattern.
    pub(crate) fn has_names(&self) -> bool {
        self.filter.contains("%c") || self.filter.contains("%u")
    }
}

/// The clients that a line applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineSubject {
    Anonymous,
    User(Box<str>),
    /// All clients: a pattern.
    Everybody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    ReadWrite,
    Deny,
}

impl Access {
    pub(crate) fn actions(self, subscribing: Subscribing) -> Actions {
        let read = match subscribing {
            Subscribing::AtDelivery => Actions::RECEIVE,
            Subscribing::Refuse => Actions::RECEIVE.and(Actions::SUBSCRIBE),
        };
        match self {
            Self::Read => read,
            Self::Write => Actions::PUBLISH,
            Self::ReadWrite | Self::Deny => Actions::PUBLISH.and(read),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
            Self::Deny => "deny",
        }
    }
}

pub(crate) enum Statement<'a> {
    Nothing,
    User(&'a str),
    Rule {
        is_pattern: bool,
        access: Access,
        filter: &'a str,
    },
}

pub(crate) fn statement(line: &str) -> Result<Statement<'_>, String> {
    if line.starts_with('#') || line.trim().is_empty() {
        return Ok(Statement::Nothing);
    }
    let line = line.trim();
    let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match keyword {
        "user" if rest.is_empty() => Err("`user` has no name, expected: user NAME".to_owned()),
        "user" => Ok(Statement::User(rest)),
        "topic" | "pattern" => {
            let (access, filter) = access_and_filter(rest)?;
            TopicFilter::new(filter)
                .map_err(|why| format!("{filter:?} is not a valid Topic Filter: {why}"))?;
            Ok(Statement::Rule {
                is_pattern: keyword == "pattern",
                access,
                filter,
            })
        }
        other => Err(format!(
            "{other:?} is not one of `user`, `topic` and `pattern`, with which a line begins"
        )),
    }
}

/// The access may be omitted if the filter contains no space.
fn access_and_filter(rest: &str) -> Result<(Access, &str), String> {
    let form = "expected: topic [read|write|readwrite|deny] FILTER";
    if rest.is_empty() {
        return Err(format!("no topic, {form}"));
    }
    let Some((word, filter)) = rest.split_once(' ') else {
        return Ok((Access::ReadWrite, rest));
    };
    let all = [Access::Read, Access::Write, Access::ReadWrite, Access::Deny];
    let access = all.into_iter().find(|access| access.word() == word);
    let access = access.ok_or_else(|| format!("{word:?} is not a valid access, {form}"))?;
    Ok((access, filter.trim()))
}

/// Whether a name is a single topic level and matches only itself.
pub(crate) fn fits_patterns(name: &str) -> bool {
    !name.contains(['+', '#', '/'])
}
