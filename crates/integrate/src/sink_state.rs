//! State that a sink keeps between deliveries, such as a connection.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::secret::{SecretValue, SecretValues, SecretsReceiver};

/// State that a sink keeps between deliveries, such as a connection to the other system. It is
/// created from the secrets of the sink, and created again when they change.
pub struct SinkState<T> {
    secrets: SecretsReceiver,
    value: Option<T>,
}

impl<T> fmt::Debug for SinkState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_there = self.value.is_some();
        f.debug_tuple("Kept").field(&is_there).finish()
    }
}

impl<T> SinkState<T> {
    /// No value yet; it is created from these secrets.
    pub fn new(secrets: SecretsReceiver) -> Self {
        Self {
            secrets,
            value: None,
        }
    }

    /// Creates a state without a value, with secrets of these names and texts, for tests of sinks.
    pub fn example<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let secrets = secrets.into_iter();
        let values = secrets.map(|(name, text)| (name.into(), SecretValue::new(text.to_owned())));
        // They do not change, so the sender is dropped.
        Self::new(watch::channel(Ok(Arc::new(values.collect()))).1)
    }

    /// Takes the value; `make` creates it if there is none, or if the secrets have changed. Only a
    /// value returned by [`SinkState::keep`] is used again. So after a failure, or after a
    /// delivery that was dropped at an `await`, the next delivery gets a new one.
    ///
    /// # Errors
    /// The secrets cannot be used, or `make` fails; the reason.
    pub async fn take<F>(&mut self, make: impl FnOnce(Arc<SecretValues>) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, String>>,
    {
        let is_new = self.secrets.has_changed().unwrap_or(false);
        if let Some(value) = self.value.take().filter(|_| !is_new) {
            return Ok(value);
        }
        let secrets = self.secrets.borrow_and_update().clone();
        make(secrets?).await
    }

    /// Keeps it for the next delivery.
    pub fn keep(&mut self, value: T) {
        self.value = Some(value);
    }

    /// Creates a new value and keeps it: a test whether that is possible now.
    ///
    /// # Errors
    /// As for [`SinkState::take`].
    pub async fn renew<F>(
        &mut self,
        make: impl FnOnce(Arc<SecretValues>) -> F,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<T, String>>,
    {
        self.value = None;
        let value = self.take(make).await?;
        self.keep(value);
        Ok(())
    }

    /// Drops it if it is no longer usable.
    pub fn discard_if(&mut self, is_unusable: impl FnOnce(&T) -> bool) {
        self.value = self.value.take().filter(|value| !is_unusable(value));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::secret::{SecretTrouble, SecretValue};

    #[tokio::test]
    async fn it_is_made_anew_after_a_failure_and_when_secrets_change() {
        let (secrets, receiver) = watch::channel(Err(SecretTrouble::NotRead));
        let mut kept = SinkState::new(receiver);
        let name = async |values: Arc<SecretValues>| Ok(values["token"].expose().to_owned());
        assert_eq!(
            kept.take(name).await,
            Err("its secrets have not been read yet".to_owned())
        );
        let values = |text: &str| {
            let value = SecretValue::new(text.to_owned());
            Ok(Arc::new(SecretValues::from([("token".into(), value)])))
        };
        secrets.send(values("first")).expect("it follows");
        assert_eq!(kept.take(name).await.as_deref(), Ok("first"));
        kept.keep("kept".to_owned());
        assert_eq!(kept.take(name).await.as_deref(), Ok("kept"));
        // The value was not returned.
        assert_eq!(kept.take(name).await.as_deref(), Ok("first"));
        kept.keep("kept".to_owned());
        secrets.send(values("second")).expect("it follows");
        assert_eq!(kept.take(name).await.as_deref(), Ok("second"));
        kept.keep("kept".to_owned());
        kept.discard_if(|value| value == "kept");
        assert_eq!(kept.take(name).await.as_deref(), Ok("second"));
        kept.keep("kept".to_owned());
        assert_eq!(kept.renew(name).await, Ok(()));
        assert_eq!(kept.take(name).await.as_deref(), Ok("second"));
        let mut example = SinkState::example([("token", "of a test")]);
        assert_eq!(example.take(name).await.as_deref(), Ok("of a test"));
    }
}
