//! Names and texts from outside, cut for events, the journal and the log.
//!
//! A User Name and a Topic Name may have 64 KiB, and events are kept by the thousand: a name longer
//! than [`NAME_BYTES_MAX`] is shown as its beginning, its end, its length and a digest, `abcd…wxyz
//! (31,000 bytes, sha256 0123456789abcdef)`. So two long names that differ in the middle alone are
//! told apart. A short name that itself ends like that is cut too, so that it shows its own digest:
//! no client can take a name that is shown as another client's. Each name is therefore cut once:
//! where an event is made, or by [`Told::shown`]. Decisions about a client are made with the whole
//! name.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Deref;

use sha2::{Digest as _, Sha256};

use crate::event::{
    ConnectedClient, DeliveredMessage, Event, PublishedMessage, SharedClient, Told, UserName,
};
use crate::event_head::EventHead;
use crate::refusal::Refusal;

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
/// end, its length and a digest, together no longer than that. A short name that looks as if it was
/// cut is, too. Not for a name that was cut before: that has become another one.
pub fn shortened(name: &str) -> Cow<'_, str> {
    match is_cut(name) {
        true => cut_to(name, NAME_BYTES_MAX).into(),
        false => name.into(),
    }
}

fn cut_to(text: &str, most: usize) -> String {
    let beginning = text.floor_char_boundary(most.saturating_sub(BEHIND_BYTES));
    // A short one stands there once.
    let end = text.len().saturating_sub(END_BYTES).max(beginning);
    let end = &text[text.ceil_char_boundary(end)..];
    let beginning = &text[..beginning];
    let mut short = format!("{beginning}…{end} ({}{BEFORE_DIGEST}", grouped(text.len()));
    for byte in &Sha256::digest(text)[..DIGEST_BYTES] {
        // Writing to a text does not fail.
        let _ = write!(short, "{byte:02x}");
    }
    short.push(')');
    short
}

/// Units of work of the digest of a name, where it is cut for each receiver of a message.
pub(crate) fn digest_work(name: &str) -> u64 {
    match is_long(name) {
        true => (name.len() / DIGESTED_PER_UNIT) as u64,
        false => 0,
    }
}

/// Whether a kept name was cut by [`shortened`]: then it is not the name itself. No name that is
/// kept whole is like that.
pub fn is_shortened(kept: &str) -> bool {
    let digest = || {
        let (_, behind) = kept.strip_suffix(')')?.rsplit_once(" (")?;
        let (length, digest) = behind.split_once(BEFORE_DIGEST)?;
        let is_length = |byte: u8| byte.is_ascii_digit() || byte == b',';
        length.bytes().all(is_length).then_some(digest)
    };
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digest().is_some_and(|digest| digest.len() == 2 * DIGEST_BYTES && digest.bytes().all(is_hex))
}

/// Whether a name that is kept as [`shortened`] made it is this one.
pub fn is_of_name(kept: &str, name: &str) -> bool {
    *kept == *shortened(name)
}

/// Whether a name in what is shown is the one that a reader asks for: by the whole name, or by what
/// was shown of it.
pub fn is_asked_for(shown: &str, asked: &str) -> bool {
    shown == asked || is_of_name(shown, asked)
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

/// Of a usual name only the last byte is looked at.
fn is_cut(name: &str) -> bool {
    is_long(name) || is_shortened(name)
}

fn shorten<N>(name: &mut N)
where
    N: Deref<Target = str> + for<'a> From<&'a str>,
{
    if is_cut(name) {
        *name = (&*shortened(name)).into();
    }
}

fn shorten_user(user: &mut Option<UserName>) {
    if let Some(UserName::Proved(name) | UserName::Claimed(name)) = user {
        shorten(name);
    }
}

fn shorten_why(why: &mut Refusal) {
    why.change_words(|detail, subject| {
        if detail.len() > WHY_BYTES_MAX {
            *detail = cut_to(detail, WHY_BYTES_MAX).into();
        }
        subject.iter_mut().for_each(shorten);
    });
}

/// Only a proved name is whole: it may be looked for.
fn shorten_claim(client: &mut SharedClient) {
    let is_claimed = !client.flags.user_is_proved();
    if is_claimed && client.user_name.as_deref().is_some_and(is_cut) {
        let client = SharedClient::make_mut(client);
        client.change_names(|_, user_name| user_name.iter_mut().for_each(shorten));
    }
}

/// Cuts what [`shorten_claim`] left whole.
fn shorten_client(client: &mut SharedClient) {
    let is_proved = client.flags.user_is_proved();
    let client = SharedClient::make_mut(client);
    client.change_names(|client_id, user_name| {
        shorten(client_id);
        let proved = user_name.as_mut().filter(|_| is_proved);
        proved.into_iter().for_each(shorten);
    });
}

impl EventHead {
    fn shorten_client_id(&mut self) {
        if is_cut(&self.client_id) {
            self.client_id = (&*shortened(&self.client_id)).into();
            self.is_cut = true;
        }
    }
}

impl Told {
    /// An event as shards tell it. User Names, reasons and the Client Identifier of a refused
    /// client are cut. Other Client Identifiers stay whole, up to their limit: readers tell clients
    /// apart by them. Topics of refusals and drops were cut before.
    pub fn new(head: EventHead, event: Event) -> Self {
        let mut told = Self { head, event };
        told.shorten();
        told
    }

    fn shorten(&mut self) {
        let head = &mut self.head;
        match &mut self.event {
            Event::Connected(client) => {
                shorten_claim(client);
                *head = EventHead::of_client(head.tenant, client);
                return;
            }
            Event::Refused { .. } => head.shorten_client_id(),
            _ => {}
        }
        shorten_user(&mut head.user);
        if let Some(why) = self.event.refusal_mut() {
            shorten_why(why);
        }
    }

    /// An event of a shard with every name cut, for the log and the journal. Not for one that was
    /// made so before.
    pub fn shown(&self) -> Cow<'_, Self> {
        let whole = self.whole_names();
        if !whole.into_iter().flatten().any(is_cut) {
            return Cow::Borrowed(self);
        }
        let mut told = self.clone();
        told.shorten_whole();
        Cow::Owned(told)
    }

    /// The names that are not cut when an event is told.
    fn whole_names(&self) -> [Option<&str>; 2] {
        let other = match &self.event {
            Event::Connected(_) => self.head.proved(),
            event => event.whole_topic(),
        };
        [self.head.whole_client_id(), other]
    }

    /// Cuts those.
    fn shorten_whole(&mut self) {
        let head = &mut self.head;
        match &mut self.event {
            Event::Connected(client) => {
                shorten_client(client);
                if let Some(UserName::Proved(name)) = &mut head.user {
                    shorten(name);
                }
            }
            Event::Subscribed { filter, .. } | Event::Unsubscribed { filter } => shorten(filter),
            Event::Published(message) => shorten(&mut message.topic),
            Event::Delivered(message) => shorten(&mut message.topic),
            _ => {}
        }
        if !head.is_cut {
            head.shorten_client_id();
        }
    }

    /// Approximate number of bytes that it takes beside its own size: of its texts and its payload.
    pub fn text_bytes(&self) -> usize {
        let user = self.head.user_name().map_or(0, str::len);
        self.head.client_id.len() + user + self.event.text_bytes()
    }
}

impl Event {
    /// The topic, where it is not cut when the event is told.
    fn whole_topic(&self) -> Option<&str> {
        match self {
            Self::Subscribed { .. }
            | Self::Unsubscribed { .. }
            | Self::Published(_)
            | Self::Delivered(_) => self.topic(),
            _ => None,
        }
    }

    /// Its Topic Name or Topic Filter, if it has one.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Dropped { topic, .. } | Self::PublishRefused { topic, .. } => Some(topic),
            Self::RateExceeded { topic, .. } => Some(topic),
            Self::MessagesLost { topic, .. } => Some(&**topic).filter(|topic| !topic.is_empty()),
            Self::SubscribeRefused { filter, .. } => Some(filter),
            Self::Subscribed { filter, .. } | Self::Unsubscribed { filter, .. } => Some(filter),
            Self::Published(message) => Some(&message.topic),
            Self::Delivered(message) => Some(&message.topic),
            _ => None,
        }
    }

    /// Bytes of its own texts and its payload.
    fn text_bytes(&self) -> usize {
        let why = self.refusal().map_or(0, Refusal::text_bytes);
        let more = match self {
            Self::Connected(_) => size_of::<ConnectedClient>(),
            Self::Published(message) => size_of::<PublishedMessage>() + message.payload.len(),
            Self::Delivered(_) => size_of::<DeliveredMessage>(),
            _ => 0,
        };
        why + more + self.topic().map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantId;
    use crate::refusal::RefusalCause;
    use martlet_codec::ReasonCode;

    #[test]
    fn a_long_name_is_its_beginning_and_its_length() {
        let name = format!("{}-7", "é".repeat(15_499));
        let short = shortened(&name);
        assert!(short.starts_with("ééé") && short.contains("é-7 (31,000 bytes, sha256 "));
        assert!(short.contains("é…é") && short.len() <= NAME_BYTES_MAX);
        assert_ne!(shortened(&short), short, "as a name it is another one");
        let whole = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(shortened(&whole), whole);
        assert!(
            is_shortened(&short) && !is_shortened(&whole) && !is_shortened("a…b (31,000 bytes)")
        );
        assert!(is_of_name(&short, &name) && is_of_name("a", "a") && !is_of_name(&short, "a"));
        assert!(is_asked_for(&short, &name) && is_asked_for(&short, &short));
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
        let abc = cut_to("abc", 2);
        assert!(
            abc.ends_with(" (3 bytes, sha256 ba7816bf8f01cfea)"),
            "{abc}"
        );
    }

    /// A client may choose as its name what another client's long name is shown as.
    #[test]
    fn no_name_is_shown_as_another_one_is() {
        let long = "v".repeat(300);
        let shown = shortened(&long);
        for forged in [&*shown, "a (1 bytes, sha256 0123456789abcdef)"] {
            let own = shortened(forged);
            assert!(
                own != forged && own != shown && own.len() <= NAME_BYTES_MAX,
                "{own}"
            );
            assert!(is_shortened(&own) && is_of_name(&own, forged));
            assert!(!is_of_name(&shown, forged) && !is_of_name(forged, forged));
        }
        let whole = "a (1 bytes, sha256 0123456789abcdef";
        assert_eq!(shortened(whole), whole);
        let short = shortened("a (1 bytes, sha256 0123456789abcdef)");
        let expected = "a (1 bytes, sha256 0123456789abcdef)… (36 bytes, sha256 ";
        assert!(
            short.starts_with(expected),
            "a short one stands there once: {short}"
        );
    }

    fn told(client_id: &str, user: UserName, event: Event) -> Told {
        let head = EventHead::new(TenantId(0), client_id).with_user(Some(user));
        Told::new(head, event)
    }

    fn refused(client_id: &str, detail: &str) -> Told {
        let event = Event::Refused {
            will_topic: None,
            reason: ReasonCode::NotAuthorized,
            why: Refusal::untold(RefusalCause::Forbidden, detail.to_owned()),
        };
        told(client_id, UserName::Claimed(client_id.into()), event)
    }

    #[test]
    fn each_name_of_an_event_is_cut_once() {
        let long = "v".repeat(300);
        let forged = shortened(&long).into_owned();
        let own = shortened(&forged).into_owned();
        let event = refused(&forged, "no");
        assert_eq!(*event.head.client_id, own);
        assert!(event.head.is_of_client(&forged) && !event.head.is_of_client(&long));
        assert_eq!(event.head.whole_client_id(), None);
        assert!(matches!(event.shown(), Cow::Borrowed(_)));
        let ended = Event::Disconnected {
            reason: ReasonCode::Success,
            why: RefusalCause::Goodbye.into(),
        };
        let event = told(&forged, UserName::Proved(forged.as_str().into()), ended);
        assert!(event.head.is_of_client(&forged) && !event.head.is_of_client(&long));
        assert_eq!(event.head.whole_client_id(), Some(&*forged));
        let shown = event.shown().into_owned().head;
        assert_eq!((&*shown.client_id, shown.proved()), (&*own, Some(&*own)));
    }

    #[test]
    fn the_names_of_a_client_that_has_connected_are_cut_in_the_head_too() {
        let long = "v".repeat(300);
        let short = shortened(&long).into_owned();
        let mut client = ConnectedClient::new(&long, Some(&long));
        client.flags.set_user_is_proved(true);
        let mut event = Told::connected(TenantId(0), SharedClient::new(client));
        event.shorten();
        assert_eq!(event.head.proved(), Some(&*long), "it may be looked for");
        let Told { head, event } = event.shown().into_owned();
        assert_eq!((&*head.client_id, head.proved()), (&*short, Some(&*short)));
        let Event::Connected(client) = event else {
            panic!("{event:?}");
        };
        assert_eq!(EventHead::of_client(TenantId(0), &client).user, head.user);
        let claimed = ConnectedClient::new("c", Some(&long));
        let mut event = Told::connected(TenantId(0), SharedClient::new(claimed));
        event.shorten();
        assert_eq!(event.head.claimed(), Some(&*short));
    }

    #[test]
    fn a_refusal_is_short_whatever_the_client_says_of_itself() {
        let long = "x".repeat(31_000);
        let event = refused(&long, &long);
        assert!(event.text_bytes() <= 2 * NAME_BYTES_MAX + WHY_BYTES_MAX);
        let refused = Event::PublishRefused {
            topic: shortened(&long).into_owned(),
            reason: ReasonCode::NotAuthorized,
            why: Refusal::untold(RefusalCause::Forbidden, "no"),
        };
        let event = told(&long, UserName::Proved(long.as_str().into()), refused);
        assert_eq!(
            *event.head.client_id, long,
            "other events of the client are told apart by it"
        );
        let shown = event.shown().into_owned();
        assert!(shown.text_bytes() <= 3 * NAME_BYTES_MAX + 2);
    }
}
