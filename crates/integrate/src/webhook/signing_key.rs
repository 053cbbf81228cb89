//! The signing key of requests, according to Standard Webhooks.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::{SecretTrouble, SecretValue, SecretValues, Template};

/// Prefix of a key in the format of Standard Webhooks.
pub(super) const KEY_PREFIX: &str = "whsec_";

/// Parses a key.
///
/// # Errors
/// It is invalid; the reason.
pub(super) fn key_of(text: &SecretValue) -> Result<hmac::Key, String> {
    let bytes = match text.expose().strip_prefix(KEY_PREFIX) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| "`signing_key` begins with whsec_, and what follows is not base64")?,
        None => text.expose().as_bytes().to_vec(),
    };
    match bytes.len() {
        0..16 => Err("`signing_key` has fewer than 16 bytes, which can be guessed".to_owned()),
        _ => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
    }
}

/// Checks a key that is a secret, when its value is read.
///
/// # Errors
/// The value is invalid, or missing.
pub(super) fn check(key: &Template, values: &SecretValues) -> Result<(), SecretTrouble> {
    let Some(name) = key.names().next() else {
        return Ok(());
    };
    let made = key_of(&key.fill(values)?);
    made.map(drop).map_err(|why| SecretTrouble::Unusable {
        name: name.to_owned(),
        why,
        team: String::new(),
        options: String::new(),
    })
}

/// The signature of Standard Webhooks: id, time in seconds and body.
pub(super) fn signature(key: &hmac::Key, id: &str, time: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{time}.").as_bytes());
    context.update(body);
    format!("v1,{}", STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of the reference implementation.
        let key = SecretValue::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let key = key_of(&key).expect("a key");
        let (id, time) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        assert_eq!(
            signature(&key, id, time, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(key_of(&SecretValue::new("short".to_owned())).is_err());
    }

    #[test]
    fn a_secret_that_is_no_key_is_named_with_the_command_that_sets_it() {
        let key = Template::parse("${secret:crm}").expect("a template");
        let checked = |value: &str| {
            let value = SecretValue::new(value.to_owned());
            check(&key, &SecretValues::from([("crm".into(), value)]))
        };
        assert_eq!(checked("0123456789abcdef"), Ok(()));
        let trouble = checked("short").expect_err("it is too short");
        assert_eq!(trouble.cause(), "secret_unusable");
        let trouble = trouble.with_team("north").with_options("--data-dir=/d");
        assert_eq!(
            trouble.to_string(),
            "the secret \"crm\" cannot be used: `signing_key` has fewer than 16 bytes, which can be \
             guessed: set it again with `martlet secret set crm --team=north --data-dir=/d`"
        );
    }
}
