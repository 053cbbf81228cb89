//! The options of the MQTT panel's broker, which a node accepts as a replacement for it: `-tcp`,
//! `-ws`, `-info`, `-auth-url` and others.

use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::microservice::{Assignment, further};
use crate::config::{HttpAddress, key};

/// Defaults of the panel's broker.
const TCP: &str = ":1883";
const WS: &str = ":1882";
const INFO: &str = ":8080";
const AUTH_URL: &str = "http://mqtt-panel.test/api/mqtt/auth";
const API_TOKEN_TTL_SECS: &str = "86400";
const REVERB_HOST: &str = "127.0.0.1:8080";
const REVERB_APP_KEY: &str = "8jtblx730rmylh68ipdx";

/// Options of the panel's broker; each stands for an option or a key of Martlet's own.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PanelBrokerOptions {
    /// Options that are not given are as the panel's broker has them
    #[arg(long, hide = true)]
    as_panel_broker: bool,
    /// MQTT over TCP, as Go has addresses: HOST:PORT, or :PORT for all interfaces
    #[arg(long, value_name = "ADDR", hide = true)]
    tcp: Option<String>,
    /// MQTT over WebSocket
    #[arg(long, value_name = "ADDR", hide = true)]
    ws: Option<String>,
    /// A further HTTP listener with the panel's broker's routes first
    #[arg(long, value_name = "ADDR", hide = true)]
    info: Option<String>,
    /// `auth.hook_url`
    #[arg(long, value_name = "URL", hide = true)]
    auth_url: Option<String>,
    /// `auth.remember_secs`, as Go has durations: 24h, 1h30m
    #[arg(long, value_name = "DURATION", hide = true)]
    api_token_ttl: Option<String>,
    /// Has no effect: what has expired is removed at once
    #[arg(long, value_name = "DURATION", hide = true)]
    auto_clean_interval: Option<String>,
    /// Push events to this server of Laravel Reverb: ws://HOST:PORT/app/KEY
    #[arg(long, value_name = "HOST:PORT")]
    reverb_host: Option<String>,
    /// Key of the application on the server of --reverb-host
    #[arg(long, value_name = "KEY")]
    reverb_app_key: Option<String>,
}

impl PanelBrokerOptions {
    /// URLs of the listeners.
    pub(super) fn listeners(&self) -> Vec<String> {
        let tcp = self.or_usual(self.tcp.as_ref(), TCP);
        let ws = self.or_usual(self.ws.as_ref(), WS);
        let tcp = tcp.map(|address| format!("mqtt://{}", with_host(&address)));
        // A client may use any path there.
        let ws = ws.map(|address| format!("ws://{}/*", with_host(&address)));
        tcp.into_iter().chain(ws).collect()
    }

    /// The requested HTTP listener.
    ///
    /// # Errors
    /// The address is invalid.
    pub(super) fn http(&self) -> anyhow::Result<Option<HttpAddress>> {
        let info = self.or_usual(self.info.as_ref(), INFO);
        let info = info.map(|at| further("2", "-info", &at)).transpose()?;
        // Its default is also that of Laravel Reverb: without it the node still serves MQTT.
        Ok(info.map(|at| match self.info {
            Some(_) => at,
            None => at.optional(),
        }))
    }

    /// The values that result from the other options that are given.
    ///
    /// # Errors
    /// A duration is invalid.
    pub(super) fn assignments(&self) -> anyhow::Result<Vec<Assignment>> {
        let mut all = Vec::new();
        let mut put = |key: &str, value: Option<String>, option| {
            all.extend(value.map(|value| (key.to_owned(), value, option)));
        };
        put(key!(auth.hook_url), self.auth_url.clone(), "-auth-url");
        if let Some(text) = &self.api_token_ttl {
            let secs = duration("-api-token-ttl", text)?.as_secs().to_string();
            put(key!(auth.remember_secs), Some(secs), "-api-token-ttl");
        }
        if let Some(text) = &self.auto_clean_interval {
            duration("-auto-clean-interval", text)?;
        }
        let host = self.reverb_host.as_deref();
        let key = self.reverb_app_key.as_deref();
        if host.is_some() || key.is_some() {
            let host = host.unwrap_or(REVERB_HOST);
            let url = format!("ws://{host}/app/{}", key.unwrap_or(REVERB_APP_KEY));
            put(key!(events.push_url), Some(url), "-reverb-host");
        }
        Ok(all)
    }

    /// The values of the panel's broker, for keys that nothing else sets.
    pub(super) fn usual(&self) -> Vec<Assignment> {
        if !self.as_panel_broker {
            return Vec::new();
        }
        let push = format!("ws://{REVERB_HOST}/app/{REVERB_APP_KEY}");
        [
            (key!(auth.hook_url), AUTH_URL, "-auth-url"),
            (
                key!(auth.remember_secs),
                API_TOKEN_TTL_SECS,
                "-api-token-ttl",
            ),
            (key!(events.push_url), &push, "-reverb-host"),
        ]
        .map(|(key, value, option)| (key.to_owned(), value.to_owned(), option))
        .into()
    }

    /// Options that have no effect.
    pub(super) fn warnings(&self) -> Option<String> {
        let text = "-auto-clean-interval has no effect: expired messages are removed at once";
        self.auto_clean_interval.as_ref().map(|_| text.to_owned())
    }

    fn or_usual(&self, given: Option<&String>, usual: &str) -> Option<String> {
        let usual = self.as_panel_broker.then(|| usual.to_owned());
        given.cloned().or(usual)
    }
}

/// An address in Go's notation: without a host it means all interfaces.
fn with_host(address: &str) -> String {
    match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    }
}

/// A duration in Go's notation: numbers, each with its unit.
fn duration(option: &str, text: &str) -> anyhow::Result<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text;
    let mut secs = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(digits.unwrap_or(rest.len()));
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(unit.unwrap_or(after.len()));
        let unit = UNITS.iter().find(|(known, _)| *known == unit);
        match (number.parse::<f64>(), unit) {
            (Ok(number), Some((_, one))) => secs += number * one,
            _ => bail!("{option} is {text:?}, expected a duration such as 24h or 1h30m"),
        }
        rest = after;
    }
    match Duration::try_from_secs_f64(secs) {
        Ok(duration) if !text.is_empty() => Ok(duration),
        _ => bail!("{option} is {text:?}, expected a duration such as 24h or 1h30m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_has_them() {
        let secs = |text: &str| duration("-x", text).ok().map(|found| found.as_secs());
        assert_eq!(secs("24h"), Some(86_400));
        assert_eq!(secs("1h30m"), Some(5_400));
        assert_eq!(secs("1.5h"), Some(5_400));
        assert_eq!(secs("90s"), Some(90));
        assert_eq!(secs("500ms"), Some(0));
        for bad in ["", "24", "h", "1d", "-1h", "1h x", "1e999h", "1h30"] {
            assert_eq!(secs(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_given_is_as_it_was_there_where_that_is_asked_for() {
        let mut options = PanelBrokerOptions {
            ws: Some("127.0.0.1:9002".to_owned()),
            ..PanelBrokerOptions::default()
        };
        assert_eq!(options.listeners(), ["ws://127.0.0.1:9002/*"]);
        assert!(options.assignments().unwrap().is_empty());
        options.as_panel_broker = true;
        assert_eq!(
            options.listeners(),
            ["mqtt://0.0.0.0:1883", "ws://127.0.0.1:9002/*"]
        );
        assert!(options.assignments().unwrap().is_empty());
        let all = options.usual();
        let value = |key: &str| {
            let found = all.iter().find(|(known, ..)| known == key);
            found.map(|(_, value, _)| value.as_str())
        };
        let http = options.http().unwrap().map(|at| at.address);
        assert_eq!(http.as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(value("auth.hook_url"), Some(AUTH_URL));
        assert_eq!(value("auth.remember_secs"), Some("86400"));
        let reverb = "ws://127.0.0.1:8080/app/8jtblx730rmylh68ipdx";
        assert_eq!(value("events.push_url"), Some(reverb));
    }

    #[test]
    fn each_option_of_the_feed_has_the_default_that_it_had_there() {
        let url = |host: Option<&str>, key: Option<&str>| {
            let options = PanelBrokerOptions {
                reverb_host: host.map(str::to_owned),
                reverb_app_key: key.map(str::to_owned),
                ..PanelBrokerOptions::default()
            };
            let mut all = options.assignments().unwrap().into_iter();
            all.next().map(|(key, value, _)| (key, value))
        };
        for (host, key, expected) in [
            (Some("panel:9000"), Some("k"), "ws://panel:9000/app/k"),
            (None, Some("k"), "ws://127.0.0.1:8080/app/k"),
            (
                Some("panel:9000"),
                None,
                "ws://panel:9000/app/8jtblx730rmylh68ipdx",
            ),
        ] {
            let expected = ("events.push_url".to_owned(), expected.to_owned());
            assert_eq!(url(host, key), Some(expected));
        }
        assert_eq!(url(None, None), None);
    }
}
