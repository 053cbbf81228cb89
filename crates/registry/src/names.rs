//! Which names objects may have.

use crate::{Refused, RegistryError};

/// Names are typed and printed: no control characters, and no more than fits on a line.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), RegistryError> {
    let is_name = !name.is_empty() && name.len() <= 256 && name.trim() == name;
    match is_name && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(Refused::Name(what, name.to_owned()).into()),
    }
}

/// As [`check_name`], for a name that is given now. Names that clients and files may have had
/// before are not refused by this: bans of them and changes to them work.
pub(crate) fn check_new_name(what: &'static str, name: &str) -> Result<(), RegistryError> {
    check_name(what, name)?;
    if matches!(name, "." | "..") {
        return Err(Refused::NameOfPath(what, name.to_owned()).into());
    }
    match name.chars().find(|letter| is_bidi_control(*letter)) {
        Some(found) => {
            let letter = u32::from(found);
            Err(Refused::NameDirection(what, name.to_owned(), letter).into())
        }
        None => Ok(()),
    }
}

/// Bidi_Control of Unicode: marks, embeddings, overrides and isolates.
fn is_bidi_control(letter: char) -> bool {
    matches!(
        letter,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// Kind of the owner of a name: a user or a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// A user's.
    User,
    /// A device's.
    Device,
}

impl AccountKind {
    /// As commands call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Device => "device",
        }
    }
}
