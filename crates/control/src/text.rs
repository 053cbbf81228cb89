//! Text from outside, such as Client Identifiers and topics, as it is shown to people: on a
//! terminal, and in a command that they may paste into a shell.

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
    fn a_word_cannot_leave_its_quotes() {
        assert_eq!(typed("/a/b-1.crt"), "/a/b-1.crt");
        assert_eq!(typed(""), "''");
        assert_eq!(typed("a; rm -rf /"), "'a; rm -rf /'");
        assert_eq!(typed("it's $x"), r"'it'\''s $x'");
        assert_eq!(typed("a\u{1b}0'\\"), r"$'a\0330\'\\'");
        assert_eq!(typed("\u{202e}"), r"$'\342\200\256'");
    }
}
