//! The parts of the node that `why` examines, in order: what a part finds of an object that has the
//! name in the question is reported before what later ones find.

use std::sync::Arc;

use crate::activity::Inactivity;
use crate::authentication::{Admission, NamedParts};
use crate::commands::Commands;
use crate::control::{Control, ControlError};
use crate::feed::PublishedTopics;
use crate::firmware::FirmwareStore;
use crate::integrations::{Integrations, MissingIntegration};
use crate::operate::{OtherSessions, PublishAs, Sessions};
use crate::presence::Silence;
use crate::rollouts::Rollouts;
use crate::rules::Rules;
use crate::shared_registry::SharedRegistry;
use crate::telemetry::Telemetry;
use crate::topic_memory::TopicMemory;
use crate::twins::Twins;
use crate::why::{Examine, Inquirer, Inquiry, Node, Question, Topics};

/// The parts of a node, as far as it has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExaminedParts<'a> {
    /// Sinks that take messages for other systems.
    pub integrations: Option<&'a Integrations>,
    /// Values that devices send.
    pub telemetry: Option<&'a Telemetry>,
    /// Users, devices and the rest.
    pub tables: Option<&'a Arc<SharedRegistry>>,
    /// Rules about messages.
    pub rules: Option<&'a Rules>,
    /// Rollouts of firmware.
    pub rollouts: Option<&'a Rollouts>,
    /// Commands to devices.
    pub commands: Option<&'a Commands>,
    /// Configurations of devices.
    pub twins: Option<&'a Twins>,
    /// Firmware for devices.
    pub firmware: Option<&'a FirmwareStore>,
    /// Messages that are remembered by topic.
    pub topics: Option<&'a TopicMemory>,
}

impl Control {
    /// Examines why something does not work. `team`: the caller sees what is of this team alone.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub async fn inquire(
        &self,
        parts: &ExaminedParts<'_>,
        question: &Question,
        team: Option<&str>,
    ) -> Result<Inquiry, ControlError> {
        let mut own = self.info.own_topics.clone();
        parts.rules.inspect(|part| part.own_topics(&mut own));
        parts.commands.inspect(|part| part.own_topics(&mut own));
        parts.twins.inspect(|part| part.own_topics(&mut own));
        parts.firmware.inspect(|part| part.own_topics(&mut own));
        let tables = parts.tables.map(|tables| &**tables);
        let who = Inquirer {
            question,
            team,
            received: &own.received,
            integrations: parts.integrations,
            telemetry: parts.telemetry,
            tables,
        };
        let (asked, clients) = self.asked(&who).await?;
        let node = Node(tables).gather(self, &asked).await?;
        let mut inquiry = Inquiry::new(asked, clients, node);
        // What the other parts are told of a client depends on whether it is admitted.
        if !inquiry.is_about_integration() {
            inquiry.examine_clients(self, &Admission(tables)).await?;
        }
        inquiry.told();
        if let Some(integrations) = parts.integrations {
            inquiry.examine_clients(self, integrations).await?;
        }
        inquiry.examine_clients(self, &PublishedTopics(own)).await?;
        inquiry.examine_clients(self, &OtherSessions).await?;
        if let Some(telemetry) = parts.telemetry {
            inquiry.examine_clients(self, telemetry).await?;
        }
        if !inquiry.is_about_integration() {
            let (integrations, telemetry) = (parts.integrations, parts.telemetry);
            let topics = Topics {
                integrations,
                telemetry,
                memory: parts.topics,
            };
            inquiry.examine_clients(self, &Sessions).await?;
            inquiry.examine_clients(self, &topics).await?;
            inquiry.examine_clients(self, &Silence(tables)).await?;
            inquiry.examine(self, &PublishAs).await?;
        }
        if let Some(rules) = parts.rules {
            inquiry.examine(self, rules).await?;
        }
        if let Some(rollouts) = parts.rollouts {
            inquiry.examine(self, rollouts).await?;
        }
        if let Some(commands) = parts.commands {
            inquiry.examine(self, commands).await?;
        }
        if let Some(twins) = parts.twins {
            inquiry.examine(self, twins).await?;
        }
        if let Some(firmware) = parts.firmware {
            inquiry.examine(self, firmware).await?;
        }
        if let Some(tables) = parts.tables {
            inquiry
                .examine(self, &Inactivity(Arc::clone(tables)))
                .await?;
            inquiry.examine(self, &**tables).await?;
        }
        if let Some(integrations) = parts.integrations {
            // Nothing else has the name.
            if inquiry.is_about_nothing()
                && let Some(question) = integrations.question_without_kind(question)
            {
                return Box::pin(self.inquire(parts, &question, team)).await;
            }
            inquiry
                .examine(self, &MissingIntegration(integrations))
                .await?;
        }
        inquiry.examine(self, &NamedParts).await?;
        Ok(inquiry)
    }
}
