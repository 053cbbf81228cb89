//! Enhanced authentication: the client's data in CONNECT, and its answers to the server's AUTH.
//!
//! The content of the data is up to the method. MQTT 5.0 §4.12.

/// The client's side of an Authentication Method.
pub trait Authentication {
    /// Authentication Method.
    fn method(&self) -> &str;

    /// Begins an exchange for a new connection. Returns the first Authentication Data.
    fn begin(&mut self) -> Vec<u8>;

    /// Answers the server's Authentication Data.
    ///
    /// # Errors
    /// Description of the error; the connection ends.
    fn answer(&mut self, data: &[u8]) -> Result<Vec<u8>, String>;

    /// Checks the Authentication Data in the server's CONNACK, which has accepted us.
    ///
    /// # Errors
    /// Why the server is not authentic. The connection ends before anything else is sent.
    fn finish(&mut self, data: &[u8]) -> Result<(), String>;
}
