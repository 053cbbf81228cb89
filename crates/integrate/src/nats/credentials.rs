//! What the sink shows a server: a name and a password, a token, an nkey, or a JWT with an nkey.

use std::path::Path;

use async_nats::{Auth, AuthError, ServerAddr};
use nkeys::KeyPair;

use super::settings::Credentials;
use crate::secret::{SecretValue, SecretValues, Template};

/// Credentials with the values of their secrets.
#[derive(Default)]
pub(super) struct Shown {
    /// Seed of an nkey that stands alone, without a JWT.
    pub(super) nkey: Option<SecretValue>,
    jwt: Option<SecretValue>,
    key: Option<KeyPair>,
    user: Option<String>,
    password: Option<SecretValue>,
    token: Option<SecretValue>,
}

impl Shown {
    /// Credentials of the settings, else those of the URL.
    ///
    /// # Errors
    /// They cannot be used; the reason without values.
    pub(super) async fn of(
        credentials: &Credentials,
        values: &SecretValues,
        server: &ServerAddr,
    ) -> Result<Self, String> {
        let value = |template: &Option<_>| template.as_ref().map(|one| filled(one, values));
        if let Some(path) = &credentials.file {
            return Self::of_file(path).await;
        }
        if let Some(seed) = value(&credentials.nkey).transpose()? {
            let key = key_pair(seed.expose()).map_err(|why| format!("`nkey` {why}"))?;
            return Ok(Self {
                key: Some(key),
                nkey: Some(seed),
                ..Self::default()
            });
        }
        let of_url = || {
            server
                .password()
                .map(|text| SecretValue::new(text.to_owned()))
        };
        let user = credentials.user.as_deref();
        let (user, password) = match user {
            Some(user) => (Some(user), value(&credentials.password).transpose()?),
            None => (server.username(), of_url()),
        };
        Ok(Self {
            user: user.map(str::to_owned),
            password,
            token: value(&credentials.token).transpose()?,
            ..Self::default()
        })
    }

    async fn of_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = tokio::fs::read_to_string(path).await;
        let text = text.map_err(|error| format!("`credentials_file` {shown}: {error}"))?;
        let text = SecretValue::new(text);
        let part = |kind: &str| {
            let begin = format!("-----BEGIN {kind}-----");
            let found = text.expose().split_once(&begin);
            let found = found.and_then(|(_, behind)| behind.split_once("---"));
            found.map(|(inner, _)| inner.trim().to_owned())
        };
        let (Some(jwt), Some(seed)) = (part("NATS USER JWT"), part("USER NKEY SEED")) else {
            return Err(format!(
                "`credentials_file` {shown} has no NATS USER JWT and USER NKEY SEED, expected a \
                 file that nsc writes"
            ));
        };
        let key = key_pair(SecretValue::new(seed).expose());
        let key = key.map_err(|why| format!("the seed in `credentials_file` {shown} {why}"))?;
        Ok(Self {
            jwt: Some(SecretValue::new(jwt)),
            key: Some(key),
            ..Self::default()
        })
    }

    /// The answer to a server's nonce.
    pub(super) fn auth(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let text = |value: &Option<SecretValue>| value.as_ref().map(|one| one.expose().to_owned());
        let signature = self.key.as_ref().map(|key| key.sign(nonce)).transpose();
        let signature = signature.map_err(|_| AuthError::new("the nonce cannot be signed"))?;
        let mut auth = Auth::new();
        auth.jwt = text(&self.jwt);
        auth.username = self.user.clone();
        auth.password = text(&self.password);
        auth.token = text(&self.token);
        auth.signature = signature;
        Ok(auth)
    }
}

fn key_pair(seed: &str) -> Result<KeyPair, &'static str> {
    KeyPair::from_seed(seed.trim()).map_err(|_| "is no seed of an nkey, expected SU and 56 letters")
}

/// A text with the values of its secrets.
pub(super) fn filled(template: &Template, values: &SecretValues) -> Result<SecretValue, String> {
    template.fill(values).map_err(|trouble| trouble.to_string())
}
