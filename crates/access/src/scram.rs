//! SCRAM-SHA-256: a client proves that it has the password without sending it, and the server
//! proves that it has the password's verifier (RFC 5802, RFC 7677).
//!
//! Both sides are state machines: messages in, messages out; nonces are passed in. The server
//! stores a [`Verifier`] for a password, with which nobody can log in without guessing the
//! password. There is no channel binding. Names and passwords are normalized by SASLprep (RFC
//! 4013), so that different encodings of a letter are equal. A password that SASLprep rejects is
//! used unchanged, as in PostgreSQL; a name that SASLprep rejects is invalid.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Name of the authentication method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Iterations of new verifiers, as recommended by RFC 7677. They cost some milliseconds for each
/// guess, and for each connection of a device. They protect the password if the verifier is stolen;
/// a generated password needs no more.
pub const ITERATIONS: NonZeroU32 = match NonZeroU32::new(15_000) {
    Some(count) => count,
    None => NonZeroU32::MIN,
};

/// Largest accepted number of iterations, in messages of a server and in verifiers.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest message, in bytes. A User Name may be longer.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Longest nonce, in bytes.
const NONCE_BYTES_MAX: usize = 256;
/// Length of a generated salt, and of the longest accepted salt, in bytes.
const SALT_BYTES: usize = 16;
const SALT_BYTES_MAX: usize = 256;

type Key = [u8; digest::SHA256_OUTPUT_LEN];

/// Why a message or a verifier is invalid. Contains no secrets.
pub type Problem = &'static str;

/// The verifier that a server stores for a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Verifier {
    /// Creates a verifier of a password with a random salt. Takes some milliseconds.
    ///
    /// # Errors
    /// The password is empty, or the system has no random bytes.
    pub fn new(password: &[u8]) -> Result<Self, Problem> {
        if prepared_password(password).is_empty() {
            return Err("the password is empty");
        }
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(|_| "no source of randomness")?;
        Ok(Self::with_salt(password, &salt, ITERATIONS))
    }

    /// Creates a verifier of a password with this salt.
    pub fn with_salt(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = salted_password(password, salt, iterations);
        Self {
            iterations,
            salt: salt.into(),
            stored_key: hash(&mac(&salted, b"Client Key")),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    /// A verifier for an unknown name: always the same for the same `key`, and valid for no
    /// password. So a client cannot find out which names exist.
    pub fn made_up(key: &[u8; 32], user_name: &str) -> Self {
        let of = |what: &[u8]| mac(key, &[what, user_name.as_bytes()].concat());
        Self {
            iterations: ITERATIONS,
            salt: of(b"salt:")[..SALT_BYTES].into(),
            stored_key: of(b"stored:"),
            server_key: of(b"server:"),
        }
    }

    /// Parses a verifier in PostgreSQL's format: `SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY`.
    ///
    /// # Errors
    /// The expected format.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let expected = "SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY";
        let mut parts = text.split('$');
        let (Some(METHOD), Some(costs), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(expected);
        };
        let (iterations, salt) = costs.split_once(':').ok_or(expected)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(expected)?;
        Ok(Self {
            iterations: iterations_of(iterations)?,
            salt: salt_of(salt)?,
            stored_key: key_of(stored_key)?,
            server_key: key_of(server_key)?,
        })
    }

    /// The format in which it is stored.
    pub fn text(&self) -> String {
        format!(
            "{METHOD}${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

/// Creates one side's part of the nonce, long enough never to repeat.
///
/// # Errors
/// The system has no random bytes.
pub fn nonce() -> Result<String, Problem> {
    let mut bytes = [0; 18];
    rand::fill(&mut bytes).map_err(|_| "no source of randomness")?;
    Ok(STANDARD.encode(bytes))
}

/// The normalized form of a user name, for comparisons (RFC 5802 section 2.2).
///
/// # Errors
/// SASLprep rejects the name.
pub fn prepared_name(name: &str) -> Result<Cow<'_, str>, Problem> {
    let prepared = stringprep::saslprep(name)
        .map_err(|_| "the user name has characters or directions of text that SASLprep forbids")?;
    match prepared.is_empty() {
        true => Err("the user name is empty after SASLprep"),
        false => Ok(prepared),
    }
}

/// The parsed first message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    user_name: String,
    nonce: String,
    /// The part before the message itself: the client's statement about channel binding.
    header: String,
    bare: String,
}

impl ClientFirst {
    /// Parses `n,,n=NAME,r=NONCE`.
    ///
    /// # Errors
    /// The fault of the message.
    pub fn parse(message: &[u8]) -> Result<Self, Problem> {
        let message = text_of(message)?;
        let (binding, rest) = message.split_once(',').ok_or("no first message of SCRAM")?;
        match binding {
            // The client has no channel binding, or assumes that the server has none.
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err("channel binding is not supported"),
            _ => return Err("no first message of SCRAM"),
        }
        let (other_name, bare) = rest.split_once(',').ok_or("no first message of SCRAM")?;
        let header_len = message.len() - bare.len();
        let mut parts = bare.split(',');
        let name = parts.next().and_then(|part| part.strip_prefix("n="));
        // A mandatory extension (m=) would come before the name.
        let user_name = decode_name(name.ok_or("no user name first")?)?;
        let user_name = prepared_name(&user_name)?.into_owned();
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let nonce = check_nonce(nonce.ok_or("no nonce behind the user name")?)?;
        expect_optional(parts)?;
        if !other_name.is_empty() {
            let other_name = other_name
                .strip_prefix("a=")
                .ok_or("no user name to act as")?;
            if prepared_name(&decode_name(other_name)?)? != user_name {
                return Err("the authorization identity is another user, which is not supported");
            }
        }
        Ok(Self {
            user_name,
            nonce: nonce.to_owned(),
            header: message[..header_len].to_owned(),
            bare: bare.to_owned(),
        })
    }

    /// The user name in the message, normalized.
    pub fn user_name(&self) -> &str {
        &self.user_name
    }
}

/// The server's side after the client's first message.
#[derive(Clone)]
pub struct Exchange {
    verifier: Verifier,
    /// The nonces of both sides.
    nonce: String,
    header: String,
    /// The messages exchanged so far.
    messages: String,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

impl Exchange {
    /// Answers the first message. `nonce` must never repeat.
    pub fn begin(first: &ClientFirst, verifier: Verifier, nonce: &str) -> (Self, String) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = STANDARD.encode(&verifier.salt);
        let answer = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let exchange = Self {
            verifier,
            nonce,
            header: first.header.clone(),
            messages: format!("{},{answer}", first.bare),
        };
        (exchange, answer)
    }

    /// Checks the client's last message. If the client has the password, returns the server's proof
    /// that it has the verifier.
    ///
    /// # Errors
    /// The client does not have the password, or the message is invalid.
    pub fn finish(&self, message: &[u8]) -> Result<String, Problem> {
        let message = text_of(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or("no proof at the end")?;
        let mut parts = without_proof.split(',');
        let header = parts.next().and_then(|part| part.strip_prefix("c="));
        let header = STANDARD.decode(header.ok_or("no channel binding first")?);
        if header.ok().as_deref() != Some(self.header.as_bytes()) {
            return Err("its channel binding differs from the first message");
        }
        if parts.next().and_then(|part| part.strip_prefix("r=")) != Some(&self.nonce) {
            return Err("not the nonce of this exchange");
        }
        expect_optional(parts)?;
        let proof = key_of(proof)?;
        let all = format!("{},{without_proof}", self.messages);
        let signature = mac(&self.verifier.stored_key, all.as_bytes());
        let client_key = xor(&proof, &signature);
        let is_theirs =
            verify_slices_are_equal(&hash(&client_key), &self.verifier.stored_key).is_ok();
        if !is_theirs {
            return Err("the password is wrong");
        }
        let signature = mac(&self.verifier.server_key, all.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)))
    }
}

/// The client's side.
#[derive(Clone)]
pub struct Client {
    password: Box<[u8]>,
    nonce: String,
    bare: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// The expected answer of the server to the client's last message.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSignature(Key);

impl fmt::Debug for ServerSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Client {
    /// Creates the client's side. `nonce` must never repeat.
    pub fn new(user_name: &str, password: &[u8], nonce: &str) -> Self {
        // The server rejects a name that SASLprep rejects, and logs the reason.
        let name = prepared_name(user_name).unwrap_or(Cow::Borrowed(user_name));
        let name = name.replace('=', "=3D").replace(',', "=2C");
        Self {
            password: password.into(),
            nonce: nonce.to_owned(),
            bare: format!("n={name},r={nonce}"),
        }
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// Answers the server's first message. The time depends on the server's number of iterations.
    ///
    /// # Errors
    /// The message is invalid, or requests too many iterations.
    pub fn finish(&self, message: &[u8]) -> Result<(String, ServerSignature), Problem> {
        let message = text_of(message)?;
        let mut parts = message.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = check_nonce(part("r=").ok_or("no nonce first")?)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("not the nonce of this exchange");
        }
        let salt = salt_of(part("s=").ok_or("no salt")?)?;
        let iterations = iterations_of(part("i=").ok_or("no iterations")?)?;
        expect_optional(parts)?;
        let salted = salted_password(&self.password, &salt, iterations);
        let client_key = mac(&salted, b"Client Key");
        let without_proof = format!("c={},r={nonce}", STANDARD.encode("n,,"));
        let all = format!("{},{message},{without_proof}", self.bare);
        let proof = xor(&client_key, &mac(&hash(&client_key), all.as_bytes()));
        let answer = format!("{without_proof},p={}", STANDARD.encode(proof));
        let server_key = mac(&salted, b"Server Key");
        Ok((answer, ServerSignature(mac(&server_key, all.as_bytes()))))
    }
}

impl ServerSignature {
    /// Checks the server's last message.
    ///
    /// # Errors
    /// The server does not have the verifier: it is another server.
    pub fn check(&self, message: &[u8]) -> Result<(), Problem> {
        let value = text_of(message)?.strip_prefix("v=");
        let signature = key_of(value.ok_or("the server sent no signature")?)?;
        verify_slices_are_equal(&signature, &self.0)
            .map_err(|_| "the server does not know the password")
    }
}

/// Checks the extensions of a message: a mandatory one (`m=`) is an error (RFC 5802, section 5.1);
/// all others are ignored.
fn expect_optional<'m>(mut extensions: impl Iterator<Item = &'m str>) -> Result<(), Problem> {
    match extensions.any(|part| part.starts_with("m=")) {
        true => Err("the extension m= is not supported"),
        false => Ok(()),
    }
}

/// The form of a password that is hashed: normalized by SASLprep, or unchanged if SASLprep rejects
/// it.
fn prepared_password(password: &[u8]) -> Cow<'_, [u8]> {
    let text = std::str::from_utf8(password).ok();
    match text.and_then(|text| stringprep::saslprep(text).ok()) {
        Some(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
        Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        None => Cow::Borrowed(password),
    }
}

fn salted_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Key {
    let password = prepared_password(password);
    let mut out = [0; digest::SHA256_OUTPUT_LEN];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, iterations, salt, &password, &mut out);
    out
}

fn mac(key: &[u8], text: &[u8]) -> Key {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut out = [0; digest::SHA256_OUTPUT_LEN];
    out.copy_from_slice(hmac::sign(&key, text).as_ref());
    out
}

fn hash(bytes: &[u8]) -> Key {
    let mut out = [0; digest::SHA256_OUTPUT_LEN];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn xor(one: &Key, other: &Key) -> Key {
    let mut out = *one;
    for (byte, other) in out.iter_mut().zip(other) {
        *byte ^= other;
    }
    out
}

fn text_of(message: &[u8]) -> Result<&str, Problem> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err("a message of SCRAM that is too long");
    }
    std::str::from_utf8(message).map_err(|_| "a message of SCRAM that is not UTF-8")
}

/// Decodes `=2C` to a comma and `=3D` to an equals sign.
fn decode_name(text: &str) -> Result<String, Problem> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (letter, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err("an equals sign in the user name that is not =3D or =2C"),
        };
        name.push(letter);
        name.push_str(rest);
    }
    match name.is_empty() {
        true => Err("an empty user name"),
        false => Ok(name),
    }
}

fn check_nonce(nonce: &str) -> Result<&str, Problem> {
    let is_usable = !nonce.is_empty() && nonce.len() <= NONCE_BYTES_MAX;
    let is_usable = is_usable && nonce.bytes().all(|byte| byte.is_ascii_graphic());
    is_usable
        .then_some(nonce)
        .ok_or("a nonce of up to 256 printable letters")
}

fn iterations_of(text: &str) -> Result<NonZeroU32, Problem> {
    let count = text.parse().ok().filter(|count| *count <= ITERATIONS_MAX);
    count
        .and_then(NonZeroU32::new)
        .ok_or("iterations from 1 to 1000000")
}

fn salt_of(text: &str) -> Result<Box<[u8]>, Problem> {
    let salt = STANDARD.decode(text).ok();
    let salt = salt.filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
    Ok(salt.ok_or("a salt in base64")?.into())
}

fn key_of(text: &str) -> Result<Key, Problem> {
    let bytes = STANDARD.decode(text).ok();
    let key = bytes.and_then(|bytes| Key::try_from(bytes.as_slice()).ok());
    key.ok_or("32 bytes in base64")
}

#[cfg(test)]
mod tests;
