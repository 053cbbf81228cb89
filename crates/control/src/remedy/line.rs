//! A command line of a remedy, taken apart: the words of a shell, as [`crate::text::typed`] quotes
//! them.

/// Options of commands that have no value.
const FLAGS: [&str; 4] = ["--all", "--enable", "--purge", "--table"];

/// A command with its options and words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Everything behind `martlet` that is no option and no value of one.
    pub(super) words: Vec<String>,
    /// Options with their values; a flag has none.
    pub(super) options: Vec<(String, String)>,
}

impl Line {
    /// Takes a command apart. `None`: it is a command of another program, or is not well formed.
    pub(super) fn parse(command: &str) -> Option<Self> {
        let mut all = shlex::split(command)?.into_iter();
        // Words with control characters are quoted in another way.
        if all.next()? != "martlet" || command.contains("$'") {
            return None;
        }
        let (mut line, mut is_literal) = (Self::default(), false);
        while let Some(word) = all.next() {
            match word.split_once('=') {
                _ if is_literal || !word.starts_with('-') || word == "-" => line.words.push(word),
                _ if word == "--" => is_literal = true,
                Some((option, value)) if option.starts_with("--") => {
                    line.options.push((option.to_owned(), value.to_owned()));
                }
                _ if FLAGS.contains(&&*word) => line.options.push((word, String::new())),
                _ => line.options.push((word, all.next()?)),
            }
        }
        Some(line)
    }

    /// The words behind those of this command; none: it is another one.
    pub(super) fn behind(&self, command: &str) -> Option<&[String]> {
        let mut rest = &*self.words;
        for word in command.split(' ') {
            match word.starts_with("--") {
                true => self.value(word).map(drop)?,
                false => rest = rest.split_first().filter(|(first, _)| *first == word)?.1,
            }
        }
        Some(rest)
    }

    /// The value of an option.
    pub(super) fn value(&self, option: &str) -> Option<&str> {
        let mut all = self.options.iter();
        all.find(|(of, _)| of == option).map(|(_, value)| &**value)
    }

    /// The values of an option that may be given several times.
    pub(super) fn values<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.options.iter().filter(move |(of, _)| of == option);
        all.map(|(_, value)| &**value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_apart() {
        let line = Line::parse(r"martlet device set --data-dir /d --type='it'\''s' -- -x 'a b'");
        let line = line.expect("a command");
        assert_eq!(line.words, ["device", "set", "-x", "a b"]);
        assert_eq!(line.value("--type"), Some("it's"));
        assert_eq!(line.behind("device set").map(<[_]>::len), Some(2));
        assert_eq!(line.behind("device add"), None);
        assert_eq!(Line::parse("systemctl restart martlet"), None);
    }
}
