//! Sinks that wait for the answer to each message: which message of a batch follows an outcome,
//! and when a call ends.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::outcome::Outcome;
use crate::sink::Sink;
use crate::sink_message::{SinkMessage, by_publisher};

/// Time in which a call starts new messages. The rest comes again with the next call, so that
/// delivered messages are settled soon.
pub(crate) const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// Consecutive failures, at messages of several publishers, after which a call ends: the target
/// itself may be at fault. A single failing message delays only its publisher.
const TROUBLES_MAX: usize = 3;

/// Another system that accepts one message at a time, and answers each. It becomes a [`Sink`] by
/// [`ConfiguredSink::one_by_one`](crate::ConfiguredSink::one_by_one):
///
/// * After [`Outcome::Done`] the next message follows.
/// * After [`Outcome::FailedAtMessage`] and [`Outcome::NoAnswer`] the messages of other publishers
///   follow, until the target has failed at three in a row. So one message delays no other
///   publisher.
/// * After other outcomes nothing follows. The rest comes again.
/// * After 10 s the delivered messages are settled, and the rest follows.
pub trait OneByOne: Send + 'static {
    /// Time limit of one message.
    const WITHIN: Duration = Duration::from_secs(10);

    /// Delivers a message. After [`OneByOne::WITHIN`] the future is dropped at its `await`; the
    /// outcome is then [`Outcome::NoAnswer`].
    fn deliver_one(&mut self, message: &SinkMessage) -> impl Future<Output = Outcome> + Send;

    /// As [`Sink::test`].
    ///
    /// # Errors
    /// The other system cannot be reached; the reason.
    fn test(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// As [`Sink::health`].
    fn health(&self) -> Option<String> {
        None
    }
}

/// A sink that hands each message of a batch to another system, and waits for the answer.
#[derive(Debug)]
pub(crate) struct Each<S>(pub(crate) S);

/// Time limit of one call of [`Sink::deliver`], if a message takes `within`.
pub(crate) fn deliver_within(within: Duration) -> Duration {
    BEGINS_WITHIN + within + Duration::from_secs(5)
}

impl<S: OneByOne> Sink for Each<S> {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let call = Call::new(true);
        let mut outcomes = vec![Outcome::NotTried; batch.len()];
        for publisher in by_publisher(batch) {
            for place in publisher {
                if call.is_over() {
                    return outcomes;
                }
                let delivered = timeout(S::WITHIN, self.0.deliver_one(&batch[place])).await;
                let outcome = delivered.unwrap_or_else(|_| no_answer(S::WITHIN));
                let goes_on = call.goes_on(&outcome);
                outcomes[place] = outcome;
                if !goes_on {
                    break;
                }
            }
        }
        outcomes
    }

    async fn test(&mut self) -> Result<(), String> {
        self.0.test().await
    }

    fn health(&self) -> Option<String> {
        self.0.health()
    }
}

fn no_answer(within: Duration) -> Outcome {
    Outcome::NoAnswer(format!("no answer within {within:?}"))
}

/// One call of a sink. Messages of several publishers may be in flight in it.
#[derive(Debug)]
pub(crate) struct Call {
    until: Instant,
    stops_at_refusal: bool,
    has_begun: AtomicBool,
    is_ended: AtomicBool,
    /// Number of consecutive messages at which the target failed.
    troubles: AtomicUsize,
}

impl Call {
    /// A new call. `stops_at_refusal`: it ends after a refused message.
    pub(crate) fn new(stops_at_refusal: bool) -> Self {
        Self {
            until: Instant::now() + BEGINS_WITHIN,
            stops_at_refusal,
            has_begun: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            troubles: AtomicUsize::new(0),
        }
    }

    /// Whether no other message may be started. The first one always is, so that there is
    /// progress.
    pub(crate) fn is_over(&self) -> bool {
        let is_first = !self.has_begun.swap(true, Ordering::Relaxed);
        let is_late = !is_first && Instant::now() >= self.until;
        is_late || self.is_ended.load(Ordering::Relaxed)
    }

    /// Whether the next message of the same publisher may follow this outcome.
    pub(crate) fn goes_on(&self, outcome: &Outcome) -> bool {
        let (goes_on, ends_call) = match outcome {
            Outcome::Done => {
                self.troubles.store(0, Ordering::Relaxed);
                (true, false)
            }
            Outcome::NotTried | Outcome::SentWithOthers => (true, false),
            Outcome::Refused(_) => (!self.stops_at_refusal, self.stops_at_refusal),
            Outcome::FailedAtMessage(_) | Outcome::NoAnswer(_) => {
                let before = self.troubles.fetch_add(1, Ordering::Relaxed);
                (false, before + 1 >= TROUBLES_MAX)
            }
            Outcome::Failed(_) | Outcome::Later(..) => (false, true),
        };
        if ends_call {
            self.is_ended.store(true, Ordering::Relaxed);
        }
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink_message::Publisher;

    /// Messages whose payload is the name of their publisher and a number.
    fn batch(names: &[&str]) -> Vec<SinkMessage> {
        let made = names.iter().map(|name| {
            let publisher = Publisher {
                client_id: Some(name[..1].to_owned()),
                ..Publisher::default()
            };
            SinkMessage::example("t", name.as_bytes()).published_by(publisher)
        });
        made.collect()
    }

    /// Outcomes by their first letter: `d`one, `r`efused, `f`ailed, failed at the `m`essage, `n`o
    /// answer, not `t`ried.
    fn letters(outcomes: &[Outcome]) -> String {
        let letter = |outcome: &Outcome| match outcome {
            Outcome::Done => 'd',
            Outcome::Refused(_) => 'r',
            Outcome::Failed(_) => 'f',
            Outcome::FailedAtMessage(_) => 'm',
            Outcome::NoAnswer(_) => 'n',
            Outcome::Later(..) => 'l',
            Outcome::NotTried | Outcome::SentWithOthers => 't',
        };
        outcomes.iter().map(letter).collect()
    }

    /// A test target with a fixed outcome for some payloads, and a duration for each message.
    struct Target<'a> {
        bad: &'a [&'a str],
        outcome: Outcome,
        takes: Duration,
    }

    impl OneByOne for Target<'static> {
        const WITHIN: Duration = Duration::from_secs(5);

        async fn deliver_one(&mut self, message: &SinkMessage) -> Outcome {
            let mut bad = self.bad.iter();
            let is_bad = bad.any(|name| name.as_bytes() == message.payload());
            tokio::time::sleep(self.takes * if is_bad { 4 } else { 1 }).await;
            match is_bad {
                true => self.outcome.clone(),
                false => Outcome::Done,
            }
        }

        async fn test(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    /// Outcomes of a batch if the messages in `bad` get this outcome.
    async fn outcomes(names: &[&str], bad: &'static [&'static str], outcome: Outcome) -> String {
        let takes = Duration::ZERO;
        let mut sink = Each(Target {
            bad,
            outcome,
            takes,
        });
        letters(&sink.deliver(&batch(names)).await)
    }

    #[tokio::test]
    async fn a_message_at_which_the_target_fails_holds_up_its_publisher_alone() {
        let at_message = Outcome::FailedAtMessage("odd".to_owned());
        let names = ["a1", "b1", "a2", "c1", "a3", "b2"];
        assert_eq!(
            outcomes(&names, &["a2"], at_message.clone()).await,
            "ddmdtd"
        );
        // Three in a row: the target is at fault.
        let bad = &["a1", "b1", "c1"];
        let names = ["a1", "b1", "c1", "d1"];
        assert_eq!(outcomes(&names, bad, at_message).await, "mmmt");
    }

    #[tokio::test]
    async fn a_target_that_fails_is_called_no_more() {
        let failed = Outcome::Failed("away".to_owned());
        let names = ["a1", "a2", "b1"];
        assert_eq!(outcomes(&names, &["a2"], failed).await, "dft");
        let refused = Outcome::Refused("never".to_owned());
        assert_eq!(outcomes(&names, &["a1"], refused).await, "rtt");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_not_waited_for_and_a_call_ends() {
        let mut sink = Each(Target {
            bad: &["a1"],
            outcome: Outcome::Done,
            takes: Duration::from_millis(2_500),
        });
        let names = ["a1", "a2", "b1", "b2", "b3", "b4"];
        // 5 s, and then 2.5 s each, until 10 s are over.
        let done = sink.deliver(&batch(&names)).await;
        assert_eq!(letters(&done), "ntddtt");
        let Outcome::NoAnswer(why) = &done[0] else {
            panic!("{done:?}")
        };
        assert_eq!(why, "no answer within 5s");
    }
}
