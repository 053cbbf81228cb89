//! SCRAM-SHA-256 for the client commands: `--scram`.

use martlet_access::scram::{Client, METHOD, ServerSignature, nonce};
use martlet_client::Authentication;

/// The client's side of a login with SCRAM, including verification of the server.
#[derive(Clone)]
pub(crate) struct Scram {
    user_name: String,
    password: Vec<u8>,
    step: Step,
}

#[derive(Clone)]
enum Step {
    /// Not started, or finished.
    Idle,
    First(Client),
    Last(ServerSignature),
}

impl std::fmt::Debug for Scram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scram({:?})", self.user_name)
    }
}

impl Scram {
    /// Creates the login of a user with this password.
    pub(crate) fn new(user_name: String, password: Vec<u8>) -> Self {
        Self {
            user_name,
            password,
            step: Step::Idle,
        }
    }
}

impl Authentication for Scram {
    fn method(&self) -> &str {
        METHOD
    }

    fn begin(&mut self) -> Vec<u8> {
        // Without random bytes the message is empty, which the server rejects.
        let Ok(nonce) = nonce() else {
            self.step = Step::Idle;
            return Vec::new();
        };
        let client = Client::new(&self.user_name, &self.password, &nonce);
        let first = client.first();
        self.step = Step::First(client);
        first.into_bytes()
    }

    fn answer(&mut self, data: &[u8]) -> Result<Vec<u8>, String> {
        let Step::First(client) = std::mem::replace(&mut self.step, Step::Idle) else {
            return Err("the server has sent one challenge too many".into());
        };
        let (answer, signature) = client.finish(data)?;
        self.step = Step::Last(signature);
        Ok(answer.into_bytes())
    }

    fn finish(&mut self, data: &[u8]) -> Result<(), String> {
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Last(signature) => Ok(signature.check(data)?),
            Step::Idle | Step::First(_) => Err("the server has not requested a proof".into()),
        }
    }
}
