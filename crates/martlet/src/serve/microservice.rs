//! The options of the MQTT microservice, which a node accepts too: `--http-addr`, `--log-file` and
//! `--file-logging`. `--log-level` and `--log-format` are also the node's own.

use anyhow::Context as _;
use clap::Args;

use crate::config::{HttpAddress, key, with_host};

/// A key, its value, and the option that sets it.
pub(super) type Assignment = (String, String, &'static str);

/// Default log file of the microservice.
const LOG_FILE: &str = "mqtt-service.log";

/// Options of the microservice; each stands for a key of Martlet's own.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct MicroserviceOptions {
    /// A further HTTP listener with the microservice's routes first: HOST:PORT, or :PORT for all
    /// interfaces
    #[arg(long, value_name = "ADDR", hide = true)]
    http_addr: Option<String>,
    /// `log.file`
    #[arg(long, value_name = "FILE", hide = true)]
    log_file: Option<String>,
    /// false: no log file
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, default_missing_value = "true")]
    file_logging: Option<bool>,
}

impl MicroserviceOptions {
    /// The requested HTTP listener.
    ///
    /// # Errors
    /// The address is invalid.
    pub(super) fn http(&self) -> anyhow::Result<Option<HttpAddress>> {
        let address = self.http_addr.as_deref();
        address
            .map(|address| further("1", "--http-addr", address))
            .transpose()
    }

    /// The values that result from the other options.
    pub(super) fn assignments(&self) -> Vec<Assignment> {
        let named = self.log_file.clone();
        let file = match self.file_logging {
            Some(false) => Some(String::new()),
            Some(true) => Some(named.unwrap_or_else(|| LOG_FILE.to_owned())),
            None => named,
        };
        let file = file.map(|file| (key!(log.file).to_owned(), file, "--log-file"));
        file.into_iter().collect()
    }
}

/// A further HTTP listener with the routes of this system first.
///
/// # Errors
/// The address is invalid.
pub(super) fn further(
    system: &'static str,
    option: &str,
    address: &str,
) -> anyhow::Result<HttpAddress> {
    let found = with_host(address, None);
    Ok(HttpAddress {
        system,
        address: found.with_context(|| {
            format!("{option} is {address:?}, expected HOST:PORT, or :PORT for all interfaces")
        })?,
        source: format!("command line {option}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_file_is_the_one_that_the_microservice_would_write() {
        let file = |log_file: Option<&str>, file_logging| {
            let options = MicroserviceOptions {
                log_file: log_file.map(str::to_owned),
                file_logging,
                ..MicroserviceOptions::default()
            };
            let mut all = options.assignments().into_iter();
            all.next().map(|(_, file, _)| file)
        };
        assert_eq!(file(None, None), None);
        assert_eq!(file(Some("a.log"), None).as_deref(), Some("a.log"));
        assert_eq!(file(Some("a.log"), Some(true)).as_deref(), Some("a.log"));
        assert_eq!(file(None, Some(true)).as_deref(), Some(LOG_FILE));
        assert_eq!(file(Some("a.log"), Some(false)).as_deref(), Some(""));
    }

    #[test]
    fn an_address_without_a_host_is_of_all_interfaces() {
        let address = |text: &str| further("1", "-x", text).ok().map(|found| found.address);
        assert_eq!(address(":8080").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(address("8080").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(address("[::1]:80").as_deref(), Some("[::1]:80"));
        for bad in ["nowhere", ":", "a:b", "70000", ""] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
