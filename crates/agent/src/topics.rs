//! Topics of lines and metrics, with placeholders replaced.

/// Values of the placeholders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placeholders {
    pub(crate) device_id: String,
    pub(crate) client_id: String,
    pub(crate) hostname: String,
}

impl Placeholders {
    /// Replaces all placeholders of a topic. `file` is the name of a file, used without its suffix.
    /// Characters that are invalid in a level become `_`.
    pub(crate) fn topic(&self, template: &str, file: &str) -> String {
        let stem = match file.rfind('.') {
            Some(dot) if dot > 0 => &file[..dot],
            _ => file,
        };
        let mut topic = template.to_owned();
        for (name, value) in [
            ("{device_id}", self.device_id.as_str()),
            ("{client_id}", &self.client_id),
            ("{hostname}", &self.hostname),
            ("{file}", stem),
        ] {
            topic = topic.replace(name, &level(value));
        }
        topic
    }
}

/// Converts text to one level of a topic. Braces are replaced too, so that values contain no
/// placeholders.
fn level(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '/' | '+' | '#' | '{' | '}' => '_',
            letter if letter.is_control() => '_',
            letter => letter,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_braces_are_replaced_and_cannot_add_levels_or_wildcards() {
        let names = Placeholders {
            device_id: "tractor/7".to_owned(),
            client_id: "c#{file}".to_owned(),
            hostname: "h".to_owned(),
        };
        let topic = |template: &str, file: &str| names.topic(template, file);
        assert_eq!(
            topic("device/data/{device_id}", ""),
            "device/data/tractor_7"
        );
        assert_eq!(topic("{client_id}/{hostname}", "x"), "c__file_/h");
        assert_eq!(topic("a/{file}", "speed+1.jsonl"), "a/speed_1");
        assert_eq!(topic("a/{file}", "\u{1b}[7m\0.log"), "a/_[7m_");
        assert_eq!(topic("a/{file}", ".hidden"), "a/.hidden");
        assert_eq!(topic("a", "b"), "a");
    }
}
