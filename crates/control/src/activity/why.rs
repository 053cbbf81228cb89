//! A device that has published nothing for longer than its type permits.

use std::sync::Arc;

use martlet_registry::InactiveDevice;

use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::rfc3339;
use crate::shared_registry::SharedRegistry;
use crate::text::typed_names;
use crate::wall_clock::unsigned;
use crate::why::{Asked, Examine, Finding, Findings};

/// Inactive devices, as the tables have them.
#[derive(Debug)]
pub(crate) struct Inactivity(pub(crate) Arc<SharedRegistry>);

impl Examine for Inactivity {
    type Facts = Option<InactiveDevice>;

    async fn gather(&self, _control: &Control, asked: &Asked) -> Result<Self::Facts, ControlError> {
        let (tenant, name) = (asked.question.tenant.0, asked.question.name.clone());
        let read = self.0.read(move |registry| {
            Box::pin(async move { registry.inactive_in(tenant, &name).await })
        });
        Ok(read.await.ok().flatten())
    }

    /// Of a device that is refused or was cut off, that is reported first: it cannot publish.
    fn judge(facts: &Self::Facts, asked: &Asked, findings: &mut Findings) {
        let Some(inactive) = facts else { return };
        let bearing = match asked.is_connected {
            true => Bearing::Present,
            false if asked.was_cut_off => Bearing::Remark,
            false => Bearing::Ended,
        };
        let device_type = &inactive.device_type;
        let sentence = format!(
            "it has published nothing since {}: the type {device_type} counts a device as inactive \
             after {} s without a message",
            rfc3339::in_words(unsigned(inactive.last_message_ms)),
            inactive.after_secs
        );
        let finding = Finding::new(Cause::Inactive, sentence)
            .since(unsigned(inactive.since_ms))
            .remedy(format!(
                "see why the device publishes nothing; martlet device type rules \
                 --inactive-after=TIME {} sets another time",
                typed_names(&[device_type])
            ));
        findings.add_as(bearing, finding);
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::RefusalCause;

    use super::*;
    use crate::event_kind::EventKind;
    use crate::why::tests::{Facts, NOW, connected, expect, facts, run};
    use crate::why::{Case, State};

    #[test]
    fn a_device_that_publishes_nothing_is_told_as_that_unless_it_cannot_come() {
        let mut facts = facts(None);
        let at = |ago_ms: i64| NOW as i64 - ago_ms;
        let inactive = InactiveDevice {
            last_message_ms: at(3_600_000),
            since_ms: at(600_000),
            device_type: "meter".to_owned(),
            after_secs: 3_000,
        };
        let judge = |facts: &Facts| {
            let case = Case::of(facts.clone());
            case.with::<Inactivity>(Some(inactive.clone())).diagnosis()
        };
        facts.session = Some(connected());
        let expected = "the type meter counts a device as inactive after 3000 s without a message";
        expect(&judge(&facts), Cause::Inactive, State::Connected, expected);
        // It went of itself.
        facts.session = None;
        let went = |cause: RefusalCause, sent_disconnect| {
            let mut went = run(
                EventKind::Disconnected,
                "Success",
                (cause, cause.text()),
                1,
                60_000,
            );
            went.sent_disconnect = sent_disconnect;
            went
        };
        facts.runs = vec![went(RefusalCause::Goodbye, true)];
        let diagnosis = judge(&facts);
        expect(&diagnosis, Cause::Inactive, State::Away, expected);
        assert!(diagnosis.wrong && diagnosis.also[0].cause == Cause::Away);
        facts.runs = vec![went(RefusalCause::KeepAlive, false)];
        let diagnosis = judge(&facts);
        expect(&diagnosis, Cause::KeepAlive, State::Away, "");
        assert_eq!(diagnosis.also[0].cause, Cause::Inactive);
    }
}
