//! Names and texts from outside, cut for events, the journal and the log.
//!
//! A User Name and a Topic Name may have 64 KiB, and events are kept by the thousand: a name longer
//! than [`NAME_BYTES_MAX`] is shown as its beginning, its end, its length and a digest, `abcd…wxyz
//! (31,000 bytes, sha256 0123456789abcdef)`. So two long names that differ in the middle alone are
//! told apart. Decisions about a client are made with the whole name.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::decision::Why;
use crate::event::{ConnectedClient, DeliveredMessage, Event, PublishedMessage, UserName};

/// Longest name that is kept and shown whole, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Longest text that says why something was refused, in bytes.
pub const WHY_BYTES_MAX: usize = 1024;

/// Bytes of the end of a name that are shown: names are often told apart by it.
const END_BYTES: usize = 32;
/// Bytes of the SHA-256 of the whole name that are shown, in hexadecimal digits.
const DIGEST_BYTES: usize = 8;
/// Bytes that go into a digest in one unit of work.
const DIGESTED_PER_UNIT: usize = 64;
/// What is between the length and the digest.
const BEFORE_DIGEST: &str = " bytes, sha256 ";
/// Room for the end, the length and the digest.
const BEHIND_BYTES: usize = END_BYTES + 32 + BEFORE_DIGEST.len() + 2 * DIGEST_BYTES;

/// A name as it is kept and shown: whole up to [`NAME_BYTES_MAX`] bytes, else its beginning, its
/// end, its length and a digest, together no longer than that.
pub fn shortened(name: &str) -> Cow<'_, str> {
    shortened_to(name, NAME_BYTES_MAX)
}

fn shortened_to(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let beginning = &text[..text.floor_char_boundary(most.saturating_sub(BEHIND_BYTES))];
    let end = &text[text.ceil_char_boundary(text.len().saturating_sub(END_BYTES))..];
    let mut short = format!("{beginning}…{end} ({}{BEFORE_DIGEST}", grouped(text.len()));
    for byte in &Sha256::digest(text)[..DIGEST_BYTES] {
        // Writing to a text does not fail.
        let _ = write!(short, "{byte:02x}");
    }
    short.push(')');
    short.into()
}

/// Units of work of the digest of a name, where it is cut for each receiver of a message.
pub(crate) fn digest_work(name: &str) -> u64 {
    match is_long(name) {
        true => (name.len() / DIGESTED_PER_UNIT) as u64,
        false => 0,
    }
}

/// Whether a text was cut by [`shortened`]: then it is not the name itself.
pub fn is_shortened(name: &str) -> bool {
    let parts = || {
        let (parts, behind) = name.strip_suffix(')')?.rsplit_once(" (")?;
        let (length, digest) = behind.split_once(BEFORE_DIGEST)?;
        Some((parts, length, digest))
    };
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    parts().is_some_and(|(parts, length, digest)| {
        parts.contains('…')
            && length
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b',')
            && digest.len() == 2 * DIGEST_BYTES
            && digest.bytes().all(is_hex)
    })
}

/// Whether a kept name, which may be cut, is this one.
pub fn is_of_name(kept: &str, name: &str) -> bool {
    kept == name || is_long(name) && is_shortened(kept) && *kept == *shortened(name)
}

/// Digits in groups of three.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn is_long(name: &str) -> bool {
    name.len() > NAME_BYTES_MAX
}

fn shorten<N>(name: &mut N)
where
    N: Deref<Target = str> + for<'a> From<&'a str>,
{
    if is_long(name) {
        *name = (&*shortened(name)).into();
    }
}

fn shorten_user(user: &mut Option<UserName>) {
    if let Some(UserName::Proved(name) | UserName::Claimed(name)) = user {
        shorten(name);
    }
}

fn shorten_why(why: &mut Why) {
    if why.len() > WHY_BYTES_MAX {
        let old = std::mem::replace(why, "".into());
        *why = old.map(|text| shortened_to(&text, WHY_BYTES_MAX).into_owned());
    }
}

fn shorten_client(client: &mut Arc<ConnectedClient>) {
    let user = client.user_name.as_deref();
    if is_long(&client.client_id) || user.is_some_and(is_long) {
        let client = Arc::make_mut(client);
        shorten(&mut client.client_id);
        client.user_name.as_mut().into_iter().for_each(shorten);
    }
}

/// Only a proved name is whole: it may be looked for.
fn shorten_claim(client: &mut Arc<ConnectedClient>) {
    let is_claimed = !client.flags.user_is_proved();
    if is_claimed && client.user_name.as_deref().is_some_and(is_long) {
        let client = Arc::make_mut(client);
        client.user_name.as_mut().into_iter().for_each(shorten);
    }
}

impl Event {
    /// Cuts User Names, reasons and the Client Identifier of a refused client. Other Client
    /// Identifiers stay whole, up to their limit: readers tell clients apart by them.
    pub(crate) fn shorten(&mut self) {
        match self {
            Self::Refused {
                client_id,
                user,
                why,
                ..
            } => {
                shorten(client_id);
                shorten_user(user);
                shorten_why(why);
            }
            Self::ReauthenticationRefused { user, why, .. }
            | Self::Disconnected { user, why, .. }
            | Self::PublishRefused { user, why, .. }
            | Self::SubscribeRefused { user, why, .. } => {
                shorten_user(user);
                shorten_why(why);
            }
            Self::Authenticated { user, .. }
            | Self::Dropped { user, .. }
            | Self::RateExceeded { user, .. }
            | Self::OutputFull { user, .. }
            | Self::PublishesDelayed { user, .. } => shorten_user(user),
            Self::Connected(client) => shorten_claim(client),
            Self::QueueFull { .. }
            | Self::TakenOver { .. }
            | Self::SessionEnded { .. }
            | Self::Subscribed { .. }
            | Self::Unsubscribed { .. }
            | Self::Published(_)
            | Self::Delivered(_)
            | Self::Packet { .. } => {}
        }
    }

    /// The event with every name cut, for the log and the journal.
    pub fn shown(&self) -> Cow<'_, Self> {
        let is_short = |name: &str| !is_long(name);
        let user = match self {
            Self::Connected(client) => client.user_name.as_deref(),
            _ => None,
        };
        if is_short(self.client_id())
            && user.is_none_or(is_short)
            && self.topic().is_none_or(is_short)
        {
            return Cow::Borrowed(self);
        }
        let mut event = self.clone();
        event.shorten_names();
        Cow::Owned(event)
    }

    fn shorten_names(&mut self) {
        self.shorten();
        match self {
            Self::Connected(client) => shorten_client(client),
            Self::Refused { client_id, .. }
            | Self::ReauthenticationRefused { client_id, .. }
            | Self::Disconnected { client_id, .. }
            | Self::OutputFull { client_id, .. }
            | Self::PublishesDelayed { client_id, .. } => shorten(client_id),
            Self::QueueFull { owner, .. } => shorten(owner),
            Self::Dropped {
                client_id, topic, ..
            }
            | Self::PublishRefused {
                client_id, topic, ..
            } => {
                shorten(client_id);
                shorten(topic);
            }
            Self::SubscribeRefused {
                client_id, filter, ..
            } => {
                shorten(client_id);
                shorten(filter);
            }
            Self::RateExceeded {
                client_id, topic, ..
            } => {
                shorten(client_id);
                shorten(topic);
            }
            Self::Authenticated { client_id, .. }
            | Self::TakenOver { client_id, .. }
            | Self::SessionEnded { client_id, .. }
            | Self::Packet { client_id, .. } => shorten(client_id),
            Self::Subscribed {
                client_id, filter, ..
            }
            | Self::Unsubscribed { client_id, filter } => {
                shorten(client_id);
                shorten(filter);
            }
            Self::Published(message) => {
                let PublishedMessage {
                    client_id, topic, ..
                } = &mut **message;
                shorten(client_id);
                shorten(topic);
            }
            Self::Delivered(message) => {
                let DeliveredMessage {
                    client_id, topic, ..
                } = &mut **message;
                shorten(client_id);
                shorten(topic);
            }
        }
    }

    /// Its Topic Name or Topic Filter, if it has one.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Dropped { topic, .. } | Self::PublishRefused { topic, .. } => Some(topic),
            Self::RateExceeded { topic, .. } => Some(topic),
            Self::SubscribeRefused { filter, .. } => Some(filter),
            Self::Subscribed { filter, .. } | Self::Unsubscribed { filter, .. } => Some(filter),
            Self::Published(message) => Some(&message.topic),
            Self::Delivered(message) => Some(&message.topic),
            _ => None,
        }
    }

    /// Approximate number of bytes that it takes beside its own size: of its texts and its payload.
    pub fn text_bytes(&self) -> usize {
        let (user, why) = match self {
            Self::Connected(client) => {
                let user = client.user_name.as_ref().map_or(0, |name| name.len());
                (user + size_of::<ConnectedClient>(), 0)
            }
            Self::Refused { user, why, .. }
            | Self::ReauthenticationRefused { user, why, .. }
            | Self::Disconnected { user, why, .. }
            | Self::PublishRefused { user, why, .. }
            | Self::SubscribeRefused { user, why, .. } => (user_bytes(user), why.len()),
            Self::Authenticated { user, .. }
            | Self::Dropped { user, .. }
            | Self::RateExceeded { user, .. }
            | Self::OutputFull { user, .. }
            | Self::PublishesDelayed { user, .. } => (user_bytes(user), 0),
            Self::Published(message) => (size_of::<PublishedMessage>() + message.payload.len(), 0),
            Self::Delivered(_) => (size_of::<DeliveredMessage>(), 0),
            _ => (0, 0),
        };
        self.client_id().len() + user + why + self.topic().map_or(0, str::len)
    }
}

fn user_bytes(user: &Option<UserName>) -> usize {
    user.as_ref().map_or(0, |user| user.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_codec::ReasonCode;

    #[test]
    fn a_long_name_is_its_beginning_and_its_length() {
        let name = format!("{}-7", "é".repeat(15_499));
        let short = shortened(&name);
        assert!(short.starts_with("ééé") && short.contains("é-7 (31,000 bytes, sha256 "));
        assert!(short.contains("é…é") && short.len() <= NAME_BYTES_MAX);
        assert_eq!(shortened(&short), short, "it is cut once");
        let whole = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(shortened(&whole), whole);
        assert!(
            is_shortened(&short) && !is_shortened(&whole) && !is_shortened("a…b (31,000 bytes)")
        );
        assert!(is_of_name(&short, &name) && is_of_name("a", "a") && !is_of_name(&short, "a"));
        assert_eq!(
            [1, 999, 1_000, 1_234_567].map(grouped),
            ["1", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn names_that_differ_in_the_middle_alone_are_told_apart() {
        let name = |middle: &str| format!("{}{middle}{}", "a".repeat(200), "b".repeat(100));
        let (one, other) = (name("X"), name("Y"));
        let short = shortened(&one);
        assert_ne!(short, shortened(&other));
        assert!(is_of_name(&short, &one) && !is_of_name(&short, &other));
        // As `sha256sum` says of it.
        let abc = shortened_to("abc", 2);
        assert!(
            abc.ends_with(" (3 bytes, sha256 ba7816bf8f01cfea)"),
            "{abc}"
        );
    }

    #[test]
    fn a_refusal_is_short_whatever_the_client_says_of_itself() {
        let long = "x".repeat(31_000);
        let mut event = Event::Refused {
            client_id: long.clone(),
            user: Some(UserName::Claimed(long.as_str().into())),
            will_topic: None,
            address: None,
            reason: ReasonCode::NotAuthorized,
            why: long.clone().into(),
        };
        assert!(event.text_bytes() > 90_000);
        event.shorten();
        assert!(event.text_bytes() <= 2 * NAME_BYTES_MAX + WHY_BYTES_MAX);
        let mut event = Event::PublishRefused {
            client_id: long.clone(),
            user: Some(UserName::Proved(long.as_str().into())),
            address: None,
            topic: long.clone(),
            reason: ReasonCode::NotAuthorized,
            why: "no".into(),
        };
        event.shorten();
        assert_eq!(
            event.client_id(),
            long,
            "other events of the client are told apart by it"
        );
        let shown = event.shown().into_owned();
        assert!(shown.text_bytes() <= 3 * NAME_BYTES_MAX + 2);
        assert!(matches!(shown.shown(), Cow::Borrowed(_)));
    }
}
