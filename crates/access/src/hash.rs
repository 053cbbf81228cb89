//! Password hashes in the formats of password files.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::password::is_short;

/// Most iterations of PBKDF2 that are computed: some seconds.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Most iterations of a hash of Werkzeug; its default is 1,000,000.
const WERKZEUG_ITERATIONS_MAX: u32 = 1_000_000;
/// Most memory of Argon2 in KiB, and most passes.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 100;
const LANES_MAX: u32 = 16;

/// Variable of tests, whose users have no passwords to protect: new hashes cost as little as Argon2
/// permits. Releases, which have no debug assertions, do not look at it.
pub const CHEAP_HASHES: &str = "MARTLET_CHEAP_HASHES";

/// Memory in KiB and passes of new Argon2id hashes.
fn costs() -> (u32, u32) {
    match cfg!(debug_assertions) && std::env::var_os(CHEAP_HASHES).is_some() {
        true => (Params::MIN_M_COST, Params::MIN_T_COST),
        false => (Params::DEFAULT_M_COST, Params::DEFAULT_T_COST),
    }
}

/// Format of a new hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// `$argon2id$…`: 19 MiB, two passes. Supported by Mosquitto 2.1 and later.
    #[default]
    Argon2id,
    /// `$7$…`: PBKDF2 with SHA-512, as in `mosquitto_passwd`; supported by all versions since 2.0.
    Pbkdf2Sha512,
    /// `$6$…`: one SHA-512, for Mosquitto before 2.0. Fast to guess.
    Sha512,
}

/// A parsed hash.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Argon2id {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    Pbkdf2Sha512 {
        iterations: NonZeroU32,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    /// As Werkzeug, passlib and Django make it. New hashes have another format.
    Pbkdf2Sha256 {
        iterations: NonZeroU32,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    Sha512 {
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    /// The password itself.
    Plain(Box<[u8]>),
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl PasswordHash {
    /// Parses a hash. Text that does not begin with `$` is a plain-text password.
    ///
    /// # Errors
    /// The expected format.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix('$') else {
            return Ok(Self(Form::Plain(text.as_bytes().into())));
        };
        let parts: Vec<&str> = rest.split('$').collect();
        let form = match parts.as_slice() {
            ["7", iterations, salt, hash] => Form::Pbkdf2Sha512 {
                iterations: iterations_of(iterations)
                    .ok_or("iterations from 1 to 10000000 in $7$ITERATIONS$SALT$HASH")?,
                salt: padded(salt)?,
                hash: of_length(padded(hash)?, digest::SHA512_OUTPUT_LEN)?,
            },
            ["pbkdf2-sha256", iterations, salt, hash] => Form::Pbkdf2Sha256 {
                iterations: iterations_of(iterations).ok_or(
                    "iterations from 1 to 10000000 in $pbkdf2-sha256$ITERATIONS$SALT$HASH",
                )?,
                // passlib writes a full stop in place of the plus sign.
                salt: unpadded(&salt.replace('.', "+"))?,
                hash: of_length(
                    unpadded(&hash.replace('.', "+"))?,
                    digest::SHA256_OUTPUT_LEN,
                )?,
            },
            ["6", salt, hash] => Form::Sha512 {
                salt: padded(salt)?,
                hash: of_length(padded(hash)?, digest::SHA512_OUTPUT_LEN)?,
            },
            ["argon2id", "v=19", costs, salt, hash] => {
                let costs: Vec<&str> = costs.split(',').collect();
                let [memory, passes, lanes] = costs.as_slice() else {
                    return Err("m=…,t=…,p=… in $argon2id$v=19$m=…,t=…,p=…$SALT$HASH");
                };
                Form::Argon2id {
                    memory_kib: cost(memory, "m=", MEMORY_KIB_MAX)?,
                    passes: cost(passes, "t=", PASSES_MAX)?,
                    lanes: cost(lanes, "p=", LANES_MAX)?,
                    salt: unpadded(salt)?,
                    hash: unpadded(hash)?,
                }
            }
            _ => {
                return Err(
                    "a hash that begins with $7$, $6$ or $argon2id$v=19$, as mosquitto_passwd and \
                     martlet passwd make it",
                );
            }
        };
        let hash = Self(form);
        hash.check_costs()?;
        Ok(hash)
    }

    /// The hash of a password as Werkzeug stores it: `pbkdf2:sha256:ITERATIONS$SALT$HASH` or the
    /// same with `sha512`. `None`: another format, such as scrypt or bcrypt, or more iterations
    /// than Werkzeug computes, so that a foreign database cannot make logins slow.
    pub fn of_werkzeug(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('$').collect();
        let [method, salt, hash] = parts.as_slice() else {
            return None;
        };
        let (salt, hash) = (salt.as_bytes().into(), of_hexadecimal(hash)?);
        let iterations_of =
            |text| iterations_of(text).filter(|count| count.get() <= WERKZEUG_ITERATIONS_MAX);
        let method: Vec<&str> = method.split(':').collect();
        let form = match method.as_slice() {
            ["pbkdf2", "sha256", iterations] => Form::Pbkdf2Sha256 {
                iterations: iterations_of(iterations)?,
                salt,
                hash: of_length(hash, digest::SHA256_OUTPUT_LEN).ok()?,
            },
            ["pbkdf2", "sha512", iterations] => Form::Pbkdf2Sha512 {
                iterations: iterations_of(iterations)?,
                salt,
                hash: of_length(hash, digest::SHA512_OUTPUT_LEN).ok()?,
            },
            _ => return None,
        };
        Some(Self(form))
    }

    fn check_costs(&self) -> Result<(), &'static str> {
        match &self.0 {
            Form::Argon2id {
                memory_kib,
                passes,
                lanes,
                salt,
                hash,
            } => {
                let params = Params::new(*memory_kib, *passes, *lanes, Some(hash.len()));
                let is_usable = params.is_ok() && (8..=64).contains(&salt.len());
                let is_usable = is_usable && (16..=128).contains(&hash.len());
                is_usable
                    .then_some(())
                    .ok_or("costs and lengths that Argon2 has")
            }
            Form::Pbkdf2Sha512 { .. }
            | Form::Pbkdf2Sha256 { .. }
            | Form::Sha512 { .. }
            | Form::Plain(_) => Ok(()),
        }
    }

    /// Hashes a password with a random salt.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn new(password: &[u8], kind: Kind) -> Result<Self, &'static str> {
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| "no source of randomness")?;
        let (memory_kib, passes) = costs();
        let mut hash = Self(match kind {
            Kind::Argon2id => Form::Argon2id {
                memory_kib,
                passes,
                lanes: Params::DEFAULT_P_COST,
                salt: salt.into(),
                hash: [0; 32].into(),
            },
            Kind::Pbkdf2Sha512 => Form::Pbkdf2Sha512 {
                // As in mosquitto_passwd 2.1; version 2.0 uses 101.
                iterations: NonZeroU32::new(1000).ok_or("iterations")?,
                // Mosquitto 2.0 supports only salts of 12 bytes.
                salt: salt[..12].into(),
                hash: [0; digest::SHA512_OUTPUT_LEN].into(),
            },
            Kind::Sha512 => Form::Sha512 {
                salt: salt[..12].into(),
                hash: [0; digest::SHA512_OUTPUT_LEN].into(),
            },
        });
        let made = hash.of(password).ok_or("the hash cannot be worked out")?;
        match &mut hash.0 {
            Form::Argon2id { hash, .. }
            | Form::Pbkdf2Sha512 { hash, .. }
            | Form::Pbkdf2Sha256 { hash, .. }
            | Form::Sha512 { hash, .. }
            | Form::Plain(hash) => *hash = made,
        }
        Ok(hash)
    }

    /// Whether the hash is of this password. Takes the same time in both cases. The empty password
    /// is always wrong, since a client without password is compared with it. So is a password of
    /// zero bytes only: PBKDF2 cannot distinguish it from the empty one, because HMAC pads its key
    /// with zero bytes.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let is_equal = match &self.0 {
            Form::Argon2id { hash, .. }
            | Form::Pbkdf2Sha512 { hash, .. }
            | Form::Pbkdf2Sha256 { hash, .. }
            | Form::Sha512 { hash, .. } => self
                .of(password)
                .is_some_and(|found| verify_slices_are_equal(&found, hash).is_ok()),
            Form::Plain(known) => is_same(known, password),
        };
        is_equal && password.iter().any(|byte| *byte != 0)
    }

    /// Hashes the password with this salt and these costs.
    fn of(&self, password: &[u8]) -> Option<Box<[u8]>> {
        match &self.0 {
            Form::Argon2id {
                memory_kib,
                passes,
                lanes,
                salt,
                hash,
            } => {
                let params = Params::new(*memory_kib, *passes, *lanes, Some(hash.len())).ok()?;
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut out = vec![0; hash.len()].into_boxed_slice();
                argon2.hash_password_into(password, salt, &mut out).ok()?;
                Some(out)
            }
            Form::Pbkdf2Sha512 {
                iterations, salt, ..
            } => {
                let mut out = vec![0; digest::SHA512_OUTPUT_LEN].into_boxed_slice();
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::derive(algorithm, *iterations, salt, password, &mut out);
                Some(out)
            }
            Form::Pbkdf2Sha256 {
                iterations, salt, ..
            } => {
                let mut out = vec![0; digest::SHA256_OUTPUT_LEN].into_boxed_slice();
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
                pbkdf2::derive(algorithm, *iterations, salt, password, &mut out);
                Some(out)
            }
            Form::Sha512 { salt, .. } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                Some(context.finish().as_ref().into())
            }
            Form::Plain(_) => Some(password.into()),
        }
    }

    /// Whether it is a plain-text password that is shorter than the minimum length.
    pub fn is_short(&self) -> bool {
        matches!(&self.0, Form::Plain(password) if is_short(password))
    }

    /// The format of a new hash in place of this one; `None` for a plain-text password.
    pub fn kind(&self) -> Option<Kind> {
        match &self.0 {
            Form::Argon2id { .. } | Form::Pbkdf2Sha256 { .. } => Some(Kind::Argon2id),
            Form::Pbkdf2Sha512 { .. } => Some(Kind::Pbkdf2Sha512),
            Form::Sha512 { .. } => Some(Kind::Sha512),
            Form::Plain(_) => None,
        }
    }

    /// Whether it is a plain-text password.
    pub fn is_plain(&self) -> bool {
        matches!(self.0, Form::Plain(_))
    }

    /// Order by the time that computing takes: format first, then costs.
    pub(crate) fn effort(&self) -> (u8, u64) {
        match &self.0 {
            Form::Plain(_) => (0, 0),
            Form::Sha512 { .. } => (1, 0),
            Form::Pbkdf2Sha512 { iterations, .. } | Form::Pbkdf2Sha256 { iterations, .. } => {
                (2, iterations.get().into())
            }
            Form::Argon2id {
                memory_kib, passes, ..
            } => (3, u64::from(*memory_kib) * u64::from(*passes)),
        }
    }

    /// Whether it can be guessed faster than a new hash.
    pub fn is_weak(&self) -> bool {
        match &self.0 {
            Form::Argon2id {
                memory_kib, passes, ..
            } => {
                let (memory, least) = costs();
                *memory_kib < memory || *passes < least
            }
            Form::Pbkdf2Sha512 { .. }
            | Form::Pbkdf2Sha256 { .. }
            | Form::Sha512 { .. }
            | Form::Plain(_) => true,
        }
    }

    /// The format in which it is stored in a file.
    pub fn text(&self) -> String {
        match &self.0 {
            Form::Argon2id {
                memory_kib,
                passes,
                lanes,
                salt,
                hash,
            } => format!(
                "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}",
                STANDARD_NO_PAD.encode(salt),
                STANDARD_NO_PAD.encode(hash)
            ),
            Form::Pbkdf2Sha512 {
                iterations,
                salt,
                hash,
            } => format!(
                "$7${iterations}${}${}",
                STANDARD.encode(salt),
                STANDARD.encode(hash)
            ),
            Form::Pbkdf2Sha256 {
                iterations,
                salt,
                hash,
            } => {
                let [salt, hash] =
                    [salt, hash].map(|bytes| STANDARD_NO_PAD.encode(bytes).replace('+', "."));
                format!("$pbkdf2-sha256${iterations}${salt}${hash}")
            }
            Form::Sha512 { salt, hash } => {
                format!("$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
            Form::Plain(password) => String::from_utf8_lossy(password).into_owned(),
        }
    }
}

/// Generates a password of 24 letters and digits: 142 bits.
///
/// # Errors
/// The system has no random bytes.
pub fn made_up_password() -> Result<String, &'static str> {
    random_password(24)
}

/// Generates this number of random letters and digits.
///
/// # Errors
/// The system has no random bytes.
pub fn random_password(length: usize) -> Result<String, &'static str> {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut password = String::new();
    let mut bytes = [0; 64];
    while password.len() < length {
        rand::fill(&mut bytes).map_err(|_| "no source of randomness")?;
        // 248 is four times 62, so each character is equally likely.
        let usable = bytes.iter().filter(|byte| **byte < 248);
        let letters = usable.map(|byte| char::from(LETTERS[usize::from(byte % 62)]));
        password.extend(letters.take(length - password.len()));
    }
    Ok(password)
}

/// Compares in constant time.
pub(crate) fn is_same(known: &[u8], given: &[u8]) -> bool {
    // Compares digests, so that the time does not reveal the length either.
    let (known, given) = (
        digest::digest(&digest::SHA256, known),
        digest::digest(&digest::SHA256, given),
    );
    verify_slices_are_equal(known.as_ref(), given.as_ref()).is_ok()
}

fn padded(text: &str) -> Result<Box<[u8]>, &'static str> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty());
    Ok(bytes.ok_or("salt and hash in base64")?.into())
}

fn unpadded(text: &str) -> Result<Box<[u8]>, &'static str> {
    let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok();
    Ok(bytes.ok_or("salt and hash in base64")?.into())
}

fn of_length(bytes: Box<[u8]>, len: usize) -> Result<Box<[u8]>, &'static str> {
    (bytes.len() == len).then_some(bytes).ok_or(match len {
        digest::SHA256_OUTPUT_LEN => "a hash of 32 bytes",
        _ => "a hash of 64 bytes",
    })
}

fn iterations_of(text: &str) -> Option<NonZeroU32> {
    let count = text.parse().ok().filter(|count| *count <= ITERATIONS_MAX);
    count.and_then(NonZeroU32::new)
}

fn of_hexadecimal(text: &str) -> Option<Box<[u8]>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    digits.map(byte).collect()
}

fn cost(text: &str, name: &str, max: u32) -> Result<u32, &'static str> {
    let number = text
        .strip_prefix(name)
        .and_then(|number| number.parse().ok());
    number
        .filter(|number| (1..=max).contains(number))
        .ok_or("costs of at most m=1048576,t=100,p=16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_mosquitto_passwd_are_read() {
        let hashes = [
            "$7$101$/aZsMJrmgH7sHWLH$jtR+NWApRYddCY3Tu+WtNKaa1Geu217qpuy0zCsNEE+cPQ0KV5FI2V207nf1T2ULGIDjoddrWr2LBUDWHnmpcg==",
            "$6$IcNYCtcMmkECimqi$glSWENUtSh8RAOVdIr35uTm/eBezMJWTqF3X//0wu5xHamybk95pzjMXW+NcBDDRVDdVLY7ZLt7s0VoqP7+Mhg==",
        ];
        for (hash, password) in hashes.into_iter().zip(["pw1", "pw2"]) {
            let read = PasswordHash::parse(hash).unwrap();
            assert!(read.is_of(password.as_bytes()) && !read.is_of(b"pw") && read.is_weak());
            assert_eq!(read.text(), hash);
        }
    }

    #[test]
    fn hashes_of_werkzeug_are_read_and_written_as_passlib_writes_them() {
        let digits = "3482fb41bffdc3ee60526c56f887aa05ec49af37ce914dbe4182db901af1df6c";
        let text = format!("pbkdf2:sha256:1000$saltsalt${digits}");
        let read = PasswordHash::of_werkzeug(&text).unwrap();
        assert!(read.is_of(b"admin123") && !read.is_of(b"admin124") && read.is_weak());
        let of_passlib =
            "$pbkdf2-sha256$1000$c2FsdHNhbHQ$NIL7Qb/9w.5gUmxW.IeqBexJrzfOkU2.QYLbkBrx32w";
        assert_eq!(read.text(), of_passlib);
        assert_eq!(PasswordHash::parse(of_passlib), Ok(read));
        for other in [
            "scrypt:32768:8:1$salt$00",
            "pbkdf2:sha256:1000$salt$00",
            "pbkdf2:sha256:1000001$saltsalt$3482fb41bffdc3ee60526c56f887aa05ec49af37ce914dbe4182db901af1df6c",
            "$2b$12$abcdefghijklmnopqrstuv",
            "",
        ] {
            assert_eq!(PasswordHash::of_werkzeug(other), None, "{other}");
        }
    }

    #[test]
    fn a_new_hash_is_of_its_password_alone_and_never_the_same() {
        for kind in [Kind::Argon2id, Kind::Pbkdf2Sha512, Kind::Sha512] {
            let hash = PasswordHash::new(b"secret", kind).unwrap();
            let again = PasswordHash::new(b"secret", kind).unwrap();
            assert!(hash != again && hash.is_weak() == (kind != Kind::Argon2id));
            let read = PasswordHash::parse(&hash.text()).unwrap();
            assert!(read == hash && read.is_of(b"secret") && !read.is_of(b"Secret"));
        }
    }

    #[test]
    fn the_empty_password_is_never_right() {
        for kind in [Kind::Argon2id, Kind::Pbkdf2Sha512, Kind::Sha512] {
            let hash = PasswordHash::new(b"", kind).unwrap();
            for password in [&b""[..], b"\0", &[0; 128]] {
                assert!(!hash.is_of(password), "{kind:?} {password:?}");
            }
        }
        assert!(!PasswordHash::parse("").unwrap().is_of(b""));
    }

    #[test]
    fn costs_that_would_stop_the_node_are_refused() {
        let (salt, hash) = ("AAAAAAAAAAAAAAAA", "A".repeat(43));
        for costs in [
            "m=4294967295,t=2,p=1",
            "m=19456,t=4000000,p=1",
            "m=1,t=1,p=1",
            "m=8,t=1",
        ] {
            let text = format!("$argon2id$v=19${costs}${salt}${hash}");
            assert!(PasswordHash::parse(&text).is_err(), "{costs}");
        }
        assert!(PasswordHash::parse("$7$4000000000$AAAA$AAAA").is_err());
        assert!(PasswordHash::parse("$7$0$AAAA$AAAA").is_err());
        assert!(PasswordHash::parse("$5$AAAA$AAAA").is_err());
    }
}
