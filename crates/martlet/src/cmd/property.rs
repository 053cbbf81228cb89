//! `-D COMMAND NAME VALUE`: MQTT 5.0 properties on the command line.
//!
//! Responsible for mosquitto's names of commands and properties, for valid combinations, and for
//! the ranges of values. Packets are encoded elsewhere. MQTT 5.0 §2.2.2.2.

use std::num::{NonZeroU16, NonZeroU32};

use martlet_client::{ConnectOptions, MessageProperties, UserPropertyList};

use super::argv::PROPERTY_SEPARATOR;

/// One `-D` as written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    command: String,
    name: String,
    value: String,
    /// The second value of a User Property.
    second: Option<String>,
}

/// The properties of all commands.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    /// CONNECT: properties of `ConnectOptions` without their own option.
    connect: ConnectOptions,
    /// CONNECT: Session Expiry Interval in seconds.
    pub(crate) session_expiry_secs: Option<u32>,
    /// PUBLISH.
    pub(crate) publish: MessageProperties,
    /// The Will.
    pub(crate) will: MessageProperties,
    /// Will Delay Interval in seconds.
    pub(crate) will_delay_secs: Option<u32>,
    /// SUBSCRIBE: Subscription Identifier.
    pub(crate) subscription_id: Option<NonZeroU32>,
    /// SUBSCRIBE: User Properties.
    pub(crate) subscribe_user: UserPropertyList,
    /// UNSUBSCRIBE: User Properties.
    pub(crate) unsubscribe_user: UserPropertyList,
    /// DISCONNECT: Session Expiry Interval in seconds.
    pub(crate) disconnect_expiry_secs: Option<u32>,
    /// DISCONNECT: User Properties.
    pub(crate) disconnect_user: UserPropertyList,
}

/// Names of packets in mosquitto's `-D`.
const COMMANDS: [&str; 12] = [
    "connect",
    "publish",
    "will",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "auth",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "connack",
];

/// The properties of the specification by mosquitto's names.
const NAMES: [&str; 27] = [
    "payload-format-indicator",
    "message-expiry-interval",
    "content-type",
    "response-topic",
    "correlation-data",
    "subscription-identifier",
    "session-expiry-interval",
    "assigned-client-identifier",
    "server-keep-alive",
    "authentication-method",
    "authentication-data",
    "request-problem-information",
    "will-delay-interval",
    "request-response-information",
    "response-information",
    "server-reference",
    "reason-string",
    "receive-maximum",
    "topic-alias-maximum",
    "topic-alias",
    "maximum-qos",
    "retain-available",
    "user-property",
    "maximum-packet-size",
    "wildcard-subscription-available",
    "subscription-identifier-available",
    "shared-subscription-available",
];

/// Parses the joined argument of one `-D`.
///
/// # Errors
/// Values are missing.
pub(crate) fn parse(text: &str) -> Result<Property, String> {
    let mut parts = text.split(PROPERTY_SEPARATOR).map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(command), Some(name), Some(value), second) => Ok(Property {
            command,
            name,
            value,
            second,
        }),
        _ => Err("--property argument given but not enough arguments specified.".into()),
    }
}

impl Properties {
    /// Checks all properties and groups them by command. If one is given twice, the last one
    /// counts; User Properties are accumulated.
    ///
    /// # Errors
    /// A line for the user.
    pub(crate) fn collect(properties: &[Property]) -> Result<Self, String> {
        let mut result = Self::default();
        for property in properties {
            result.add(property)?;
        }
        Ok(result)
    }

    /// Sets the user's properties for CONNECT.
    pub(crate) fn apply_to_connect(&self, options: &mut ConnectOptions) {
        let given = &self.connect;
        options.receive_maximum = given.receive_maximum;
        options.maximum_packet_size = given.maximum_packet_size;
        options.topic_alias_maximum = given.topic_alias_maximum;
        options.request_response_information = given.request_response_information;
        options.request_problem_information = given.request_problem_information;
        options
            .authentication_method
            .clone_from(&given.authentication_method);
        options
            .authentication_data
            .clone_from(&given.authentication_data);
        options.user_properties.clone_from(&given.user_properties);
    }

    fn add(&mut self, property: &Property) -> Result<(), String> {
        let command = property.command.to_ascii_lowercase();
        if !COMMANDS.contains(&command.as_str()) {
            return Err("Invalid command given in --property argument.".into());
        }
        if !NAMES.contains(&property.name.as_str()) {
            return Err("Invalid property name given in --property argument.".into());
        }
        match command.as_str() {
            "connect" => self.add_connect(property),
            "publish" => add_message(&mut self.publish, property),
            "will" if property.name == "will-delay-interval" => {
                self.will_delay_secs = Some(property.number(u32::MAX)?);
                Ok(())
            }
            "will" if property.name == "topic-alias" => Err(property.not_allowed()),
            "will" => add_message(&mut self.will, property),
            "subscribe" => self.add_subscribe(property),
            "unsubscribe" => match property.name.as_str() {
                "user-property" => property.push_to(&mut self.unsubscribe_user),
                _ => Err(property.not_allowed()),
            },
            "disconnect" => self.add_disconnect(property),
            _ => Err(format!(
                "{} property not supported for {} in --property argument.",
                property.name, property.command
            )),
        }
    }

    fn add_connect(&mut self, property: &Property) -> Result<(), String> {
        let connect = &mut self.connect;
        match property.name.as_str() {
            "session-expiry-interval" => {
                self.session_expiry_secs = Some(property.number(u32::MAX)?);
            }
            "receive-maximum" => {
                connect.receive_maximum = Some(property.non_zero_u16()?);
            }
            "maximum-packet-size" => {
                let size = property.number(u32::MAX)?;
                let size = NonZeroU32::new(size).ok_or_else(|| property.out_of_range())?;
                connect.maximum_packet_size = Some(size);
            }
            "topic-alias-maximum" => connect.topic_alias_maximum = Some(property.u16()?),
            "request-response-information" => {
                connect.request_response_information = Some(property.number(1)? == 1);
            }
            "request-problem-information" => {
                connect.request_problem_information = Some(property.number(1)? == 1);
            }
            "authentication-method" => {
                connect.authentication_method = Some(property.value.clone());
            }
            "authentication-data" => {
                connect.authentication_data = Some(property.value.clone().into_bytes());
            }
            "user-property" => property.push_to(&mut connect.user_properties)?,
            _ => return Err(property.not_allowed()),
        }
        Ok(())
    }

    fn add_subscribe(&mut self, property: &Property) -> Result<(), String> {
        match property.name.as_str() {
            "subscription-identifier" => {
                let id = property.number(268_435_455)?;
                let id = NonZeroU32::new(id).ok_or_else(|| property.out_of_range())?;
                self.subscription_id = Some(id);
                Ok(())
            }
            "user-property" => property.push_to(&mut self.subscribe_user),
            _ => Err(property.not_allowed()),
        }
    }

    fn add_disconnect(&mut self, property: &Property) -> Result<(), String> {
        match property.name.as_str() {
            "session-expiry-interval" => {
                self.disconnect_expiry_secs = Some(property.number(u32::MAX)?);
                Ok(())
            }
            "user-property" => property.push_to(&mut self.disconnect_user),
            _ => Err(property.not_allowed()),
        }
    }
}

fn add_message(message: &mut MessageProperties, property: &Property) -> Result<(), String> {
    match property.name.as_str() {
        "payload-format-indicator" => {
            message.payload_format_utf8 = Some(property.number(1)? == 1);
        }
        "message-expiry-interval" => {
            message.message_expiry_secs = Some(property.number(u32::MAX)?);
        }
        "topic-alias" => message.topic_alias = Some(property.non_zero_u16()?),
        "response-topic" => message.response_topic = Some(property.value.clone()),
        "correlation-data" => {
            message.correlation_data = Some(property.value.clone().into_bytes());
        }
        "content-type" => message.content_type = Some(property.value.clone()),
        "user-property" => property.push_to(&mut message.user_properties)?,
        _ => return Err(property.not_allowed()),
    }
    Ok(())
}

impl Property {
    fn number(&self, max: u32) -> Result<u32, String> {
        let number: i64 = self.value.parse().map_err(|_| self.out_of_range())?;
        u32::try_from(number)
            .ok()
            .filter(|number| *number <= max)
            .ok_or_else(|| self.out_of_range())
    }

    fn u16(&self) -> Result<u16, String> {
        Ok(self.number(u16::MAX.into())? as u16)
    }

    fn non_zero_u16(&self) -> Result<NonZeroU16, String> {
        NonZeroU16::new(self.u16()?).ok_or_else(|| self.out_of_range())
    }

    fn push_to(&self, list: &mut UserPropertyList) -> Result<(), String> {
        let second = self.second.as_deref();
        let error = "--property argument given but not enough arguments specified.";
        list.push(&self.value, second.ok_or_else(|| error.to_owned())?);
        Ok(())
    }

    fn out_of_range(&self) -> String {
        format!(
            "Property value ({}) out of range for property {}.",
            self.value, self.name
        )
    }

    fn not_allowed(&self) -> String {
        let Self { name, command, .. } = self;
        format!("{name} property not allowed for {command} in --property argument.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(properties: &[&str]) -> Result<Properties, String> {
        let parsed: Result<Vec<_>, _> = properties
            .iter()
            .map(|property| parse(&property.replace(' ', &PROPERTY_SEPARATOR.to_string())))
            .collect();
        Properties::collect(&parsed?)
    }

    #[test]
    fn properties_go_to_the_packet_that_they_name() {
        let properties = collect(&[
            "publish content-type text/plain",
            "PUBLISH user-property k v",
            "publish user-property k w",
            "will will-delay-interval 5",
            "subscribe subscription-identifier 268435455",
            "disconnect session-expiry-interval 4294967295",
        ])
        .unwrap();
        assert_eq!(
            properties.publish.content_type.as_deref(),
            Some("text/plain")
        );
        let pairs: Vec<_> = properties.publish.user_properties.iter().collect();
        assert_eq!(pairs, [("k", "v"), ("k", "w")]);
        assert_eq!(properties.will_delay_secs, Some(5));
        assert_eq!(properties.subscription_id.unwrap().get(), 268_435_455);
        assert_eq!(properties.disconnect_expiry_secs, Some(u32::MAX));
    }

    #[test]
    fn refusals_have_mosquittos_words() {
        let cases = [
            (
                "xx content-type a",
                "Invalid command given in --property argument.",
            ),
            (
                "publish foo a",
                "Invalid property name given in --property argument.",
            ),
            (
                "connect content-type a",
                "content-type property not allowed for connect in",
            ),
            (
                "auth reason-string a",
                "reason-string property not supported for auth in",
            ),
            (
                "publish topic-alias 70000",
                "Property value (70000) out of range for property",
            ),
            (
                "publish message-expiry-interval -1",
                "Property value (-1) out of range",
            ),
            (
                "subscribe subscription-identifier 0",
                "Property value (0) out of range",
            ),
            (
                "publish content-type",
                "--property argument given but not enough arguments",
            ),
        ];
        for (property, want) in cases {
            let error = collect(&[property]).unwrap_err();
            assert!(error.starts_with(want), "{property}: {error}");
        }
    }
}
