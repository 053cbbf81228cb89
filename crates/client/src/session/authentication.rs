//! Enhanced authentication: what the client says in CONNECT, and its answers to the server's AUTH.
//!
//! What is said is the method's own business. MQTT 5.0 §4.12.

/// The client's side of an Authentication Method.
pub trait Authentication {
    /// Authentication Method.
    fn method(&self) -> &str;

    /// A connection begins, and with it an exchange: its first Authentication Data.
    fn begin(&mut self) -> Vec<u8>;

    /// Answers the server's Authentication Data.
    ///
    /// # Errors
    /// What is wrong with it; the connection ends.
    fn answer(&mut self, data: &[u8]) -> Result<Vec<u8>, String>;

    /// The server has accepted us, with this Authentication Data in its CONNACK.
    ///
    /// # Errors
    /// Why it is not the server that it should be; the connection ends before anything else is
    /// sent.
    fn finish(&mut self, data: &[u8]) -> Result<(), String>;
}
