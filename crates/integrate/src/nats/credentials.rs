//! Credentials of the sink: name and password, a token, an nkey, or a JWT with an nkey.

use std::path::{Path, PathBuf};

use async_nats::{Auth, AuthError, ServerAddr};
use nkeys::KeyPair;

use crate::masking::SecretTexts;
use crate::secret::{SecretValue, SecretValues, Template};

/// Credentials of the node at the server.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// File with a JWT and the seed of its nkey.
    pub file: Option<PathBuf>,
    /// Seed of an nkey.
    pub nkey: Option<Template>,
    /// Token.
    pub token: Option<Template>,
    /// User name.
    pub user: Option<Box<str>>,
    /// Password.
    pub password: Option<Template>,
}

/// Credentials with the values of their secrets.
#[derive(Default)]
pub(super) struct Shown {
    /// Public key of an nkey without a JWT.
    nkey: Option<String>,
    jwt: Option<SecretValue>,
    key: Option<KeyPair>,
    user: Option<String>,
    password: Option<SecretValue>,
    token: Option<SecretValue>,
}

impl Shown {
    /// Credentials from the settings, else from the URL.
    ///
    /// # Errors
    /// They are unusable; the reason, without values.
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
                nkey: Some(key.public_key()),
                key: Some(key),
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
        let token = value(&credentials.token).transpose()?;
        // As in NATS's own clients, a name without a password in a URL is a token.
        if let (None, Some(name), None, None) = (&credentials.user, user, server.password(), &token)
        {
            return Ok(Self {
                token: Some(SecretValue::new(name.to_owned())),
                ..Self::default()
            });
        }
        Ok(Self {
            user: user.map(str::to_owned),
            password,
            token,
            ..Self::default()
        })
    }

    /// Adds the secrets that a server may repeat and that must not be shown.
    pub(super) fn add_to(&self, texts: &mut SecretTexts) {
        for value in [&self.password, &self.token].into_iter().flatten() {
            texts.add(value.expose().as_bytes());
        }
    }

    async fn of_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = tokio::fs::read_to_string(path).await;
        let text = text.map_err(|error| format!("`credentials_file` {shown}: {error}"))?;
        let text = SecretValue::new(text);
        let part = |kind: &str| {
            let begin = format!("-----BEGIN {kind}-----");
            let found = text.expose().split_once(&begin);
            let found = found.and_then(|(_, behind)| behind.split_once("\n---"));
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

    /// The answer to the nonce of a server.
    pub(super) fn auth(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let text = |value: &Option<SecretValue>| value.as_ref().map(|one| one.expose().to_owned());
        let signature = self.key.as_ref().map(|key| key.sign(nonce)).transpose();
        let signature = signature.map_err(|_| AuthError::new("the nonce cannot be signed"))?;
        let mut auth = Auth::new();
        auth.jwt = text(&self.jwt);
        auth.nkey = self.nkey.clone();
        auth.username = self.user.clone();
        auth.password = text(&self.password);
        auth.token = text(&self.token);
        auth.signature = signature;
        Ok(auth)
    }
}

/// The key pair of a seed.
pub(super) fn key_pair(seed: &str) -> Result<KeyPair, &'static str> {
    KeyPair::from_seed(seed.trim())
        .map_err(|_| "is not the seed of an nkey, expected SU and 56 letters")
}

/// A text with the values of its secrets.
pub(super) fn filled(template: &Template, values: &SecretValues) -> Result<SecretValue, String> {
    template.fill(values).map_err(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed from the NATS documentation.
    const SEED: &str = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM";

    async fn of(credentials: Credentials, url: &str) -> Result<Shown, String> {
        let server = url.parse().expect("a URL");
        Shown::of(&credentials, &SecretValues::new(), &server).await
    }

    #[tokio::test]
    async fn a_credentials_file_answers_a_nonce() {
        let path = std::env::temp_dir().join(format!("martlet-{}.creds", std::process::id()));
        let text = format!(
            "-----BEGIN NATS USER JWT-----\nabc.def.ghi\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&path, text).expect("a file");
        let credentials = Credentials {
            file: Some(path.clone()),
            ..Credentials::default()
        };
        let shown = of(credentials.clone(), "nats://h:1").await;
        let auth = shown.expect("they can be used").auth(b"nonce");
        let auth = auth.expect("an answer");
        assert_eq!(auth.jwt.as_deref(), Some("abc.def.ghi"));
        let key = KeyPair::from_seed(SEED).expect("a seed");
        let signature = auth.signature.expect("a signature");
        assert!(key.verify(b"nonce", &signature).is_ok());
        std::fs::write(&path, "-----BEGIN NATS USER JWT-----\nabc\n").expect("a file");
        assert!(of(credentials.clone(), "nats://h:1").await.is_err());
        std::fs::remove_file(&path).expect("it is there");
        assert!(of(credentials, "nats://h:1").await.is_err());
    }

    #[tokio::test]
    async fn names_of_the_settings_go_before_those_of_the_url() {
        let shown = of(Credentials::default(), "nats://ann:pw@h:1").await;
        let shown = shown.expect("they can be used");
        assert_eq!(shown.user.as_deref(), Some("ann"));
        assert_eq!(shown.password.expect("a password").expose(), "pw");
        let shown = of(Credentials::default(), "nats://tok@h:1").await;
        let shown = shown.expect("they can be used");
        assert_eq!(shown.token.expect("a token").expose(), "tok");
        assert_eq!(shown.user, None);
        let own = Credentials {
            user: Some("bob".into()),
            ..Credentials::default()
        };
        let shown = of(own, "nats://ann:pw@h:1")
            .await
            .expect("they can be used");
        assert_eq!((shown.user.as_deref(), shown.password), (Some("bob"), None));
        let seed = Template::parse("no-seed").expect("a text");
        let bad = Credentials {
            nkey: Some(seed),
            ..Credentials::default()
        };
        let why = of(bad, "nats://h:1").await.err().expect("no seed");
        assert!(!why.contains("no-seed"), "{why}");
    }
}
