//! Panics of expressions. They are evaluated by a library, which may panic on an expression or a
//! message. Such a panic is an error of the rule. The node and other rules continue.
//!
//! Where panics are not unwound, a panic costs the thread of the integration, which is made again
//! and gets the message again. So a rule is counted as panicking before it runs, and no more
//! afterwards: the count of one that does not return stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use martlet_rules::{
    Definition, DefinitionError, Evaluator, Guard, MessageRule, MessageRules, TaggedRule,
};

/// Panics after which a rule is not evaluated any more. Fewer than a message may cost until it is a
/// dead letter: the other rules shall see it.
const PANICS_MAX: u32 = 2;

/// Reads a rule. A panic of the library is an error of its expressions.
///
/// # Errors
/// A key is missing or not what it may be.
pub(super) fn read(
    evaluator: &Arc<Evaluator>,
    name: &str,
    definition: &Definition,
) -> Result<MessageRule, DefinitionError> {
    let evaluator = Arc::clone(evaluator);
    let (of, read) = (name.to_owned(), definition.clone());
    let rule = martlet_integrate::apart(move || MessageRule::new(&evaluator, &of, read));
    rule.unwrap_or_else(|text| {
        Err(DefinitionError {
            key: "when".to_owned(),
            why: format!("an expression of the rule cannot be read: {text}"),
        })
    })
}

/// A rule with its tenant, and what has gone wrong with it.
#[derive(Clone, Debug)]
pub(super) struct GuardedRule {
    pub(super) tagged: TaggedRule,
    faults: Arc<Faults>,
}

impl GuardedRule {
    /// A rule with which nothing has gone wrong yet.
    pub(super) fn new(tenant: u32, rule: MessageRule) -> Self {
        let rule = Arc::new(rule);
        Self {
            tagged: TaggedRule { tenant, rule },
            faults: Arc::default(),
        }
    }

    /// Whether it is of this tenant and has this text.
    pub(super) fn is_same(&self, tenant: u32, definition: &Definition) -> bool {
        self.tagged.tenant == tenant && self.tagged.rule.definition() == definition
    }
}

/// A set of rules, which `evaluator` has read.
pub(super) fn set_of(evaluator: &Arc<Evaluator>, rules: &[GuardedRule]) -> MessageRules {
    let guard = Box::new(PanicGuard::of(rules));
    let rules = rules.iter().map(|rule| rule.tagged.clone()).collect();
    MessageRules::guarded(Arc::clone(evaluator), rules, guard)
}

/// Longest time that a rule may take for a message. All rules of the node run one after the other.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Messages for which a rule may take longer. Then it is not evaluated any more.
const SLOW_MAX: u32 = 3;

/// Runs the rules of a set.
#[derive(Debug)]
pub(super) struct PanicGuard(Vec<Arc<Faults>>);

/// Faults of a rule.
#[derive(Debug, Default)]
struct Faults {
    /// Messages for which it has taken too long.
    slow: AtomicU32,
    /// Panics, with the one that may happen now.
    panics: AtomicU32,
}

impl PanicGuard {
    fn of(rules: &[GuardedRule]) -> Self {
        let faults = rules.iter().map(|rule| Arc::clone(&rule.faults));
        Self(faults.collect())
    }
}

impl Guard for PanicGuard {
    fn run(&self, rule: usize, part: &mut dyn FnMut()) -> Result<(), String> {
        let Some(faults) = self.0.get(rule) else {
            return Err("the rule is not in force".to_owned());
        };
        let Faults { slow, panics } = &**faults;
        if slow.load(Ordering::Relaxed) >= SLOW_MAX {
            return Err(format!(
                "its expression is no longer evaluated, because it took longer than {} s for \
                 {SLOW_MAX} messages, while other rules waited: change the rule",
                TIME_MAX.as_secs()
            ));
        }
        if panics.load(Ordering::Relaxed) >= PANICS_MAX {
            return Err(format!(
                "its expression is no longer evaluated, since that has failed {PANICS_MAX} times \
                 in the library for expressions: change the rule, and report it"
            ));
        }
        panics.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let done = martlet_integrate::catch(part);
        if began.elapsed() > TIME_MAX {
            slow.fetch_add(1, Ordering::Relaxed);
        }
        match done {
            Ok(()) => {
                panics.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
            Err(text) => Err(format!("the expression cannot be evaluated: {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use martlet_rules::{Facts, Memory, RuleInput, RuleResult};
    use serde_json::json;

    use super::*;

    impl PanicGuard {
        /// Guards this number of rules.
        fn new(rules: usize) -> Self {
            let all = std::iter::repeat_with(Arc::default).take(rules);
            Self(all.collect())
        }
    }

    fn panics_at_7() {
        panic!("at 7")
    }

    fn ends_at_8() {
        martlet_integrate::end_thread(&"at 8")
    }

    #[test]
    fn a_rule_that_panics_is_not_evaluated_any_more_and_others_are() {
        let guard = PanicGuard::new(2);
        for _ in 0..PANICS_MAX {
            let failed = guard.run(0, &mut panics_at_7);
            let reason = "the expression cannot be evaluated: at 7".to_owned();
            assert_eq!(failed, Err(reason));
        }
        let mut is_run = false;
        let barred = guard.run(0, &mut || is_run = true);
        assert!(barred.is_err_and(|why| why.contains("change the rule")));
        assert!(!is_run);
        for _ in 0..10 {
            assert_eq!(guard.run(1, &mut || {}), Ok(()));
        }
    }

    #[test]
    fn a_rule_that_takes_too_long_is_not_evaluated_any_more() {
        let guard = PanicGuard::new(2);
        let mut slowly = || std::thread::sleep(TIME_MAX + Duration::from_millis(1));
        for _ in 0..SLOW_MAX {
            assert_eq!(guard.run(0, &mut slowly), Ok(()));
        }
        let barred = guard.run(0, &mut || {});
        assert!(barred.is_err_and(|why| why.contains("change the rule")));
        assert_eq!(guard.run(1, &mut || {}), Ok(()));
    }

    #[test]
    fn what_has_gone_wrong_with_a_rule_is_known_until_it_is_changed() {
        let evaluator = Arc::default();
        let rule = |topic: &str| {
            let definition = json!({ "topics": [topic], "actions": ["stop"] });
            let definition: Definition = serde_json::from_value(definition).unwrap();
            let rule = read(&evaluator, "r", &definition).unwrap();
            (GuardedRule::new(0, rule), definition)
        };
        let ((kept, definition), (other, other_definition)) = (rule("a"), rule("b"));
        assert!(kept.is_same(0, &definition));
        assert!(!kept.is_same(1, &definition) && !kept.is_same(0, &other_definition));
        let guard = PanicGuard::of(std::slice::from_ref(&kept));
        for _ in 0..PANICS_MAX {
            assert!(guard.run(0, &mut panics_at_7).is_err());
        }
        // Another rule was put before it.
        let guard = PanicGuard::of(&[other, kept]);
        assert_eq!(guard.run(0, &mut || {}), Ok(()));
        assert!(guard.run(1, &mut || {}).is_err());
        let guard = PanicGuard::of(&[rule("a").0]);
        assert_eq!(guard.run(0, &mut || {}), Ok(()));
    }

    #[test]
    fn a_thread_that_does_not_return_counts_as_a_panic() {
        let guard = Arc::new(PanicGuard::new(1));
        for _ in 0..PANICS_MAX {
            let other = Arc::clone(&guard);
            let lost = martlet_integrate::apart(move || other.run(0, &mut ends_at_8));
            assert_eq!(lost, Err("at 8".to_owned()));
        }
        assert!(guard.run(0, &mut || {}).is_err());
    }

    /// The library panics at the second rule.
    struct SecondPanics(PanicGuard);

    impl Guard for SecondPanics {
        fn run(&self, rule: usize, part: &mut dyn FnMut()) -> Result<(), String> {
            match rule {
                1 => self.0.run(rule, &mut panics_at_7),
                _ => self.0.run(rule, part),
            }
        }
    }

    fn evaluated(set: &MessageRules) -> Vec<RuleResult> {
        let facts = Facts {
            tenant: 0,
            topic: "plant/7",
            payload: b"81",
            source: RuleInput::Message,
            device: None,
            time_ms: 0,
            received_ms: 0,
            hops: 0,
            told_hops: 0,
            by_rule: None,
        };
        let outcomes = set.evaluate(&facts, &|_| None, &mut Memory::default());
        outcomes.into_iter().map(|one| one.verdict).collect()
    }

    fn set_of_three() -> Arc<MessageRules> {
        let evaluator = Arc::default();
        let rules = ["a", "b", "c"].map(|name| {
            let publish = json!({ "publish": { "topic": "x" } });
            let definition =
                json!({ "topics": ["#"], "when": "payload > 80", "actions": [publish] });
            let definition = serde_json::from_value(definition).unwrap();
            let rule = Arc::new(read(&evaluator, name, &definition).unwrap());
            TaggedRule { tenant: 0, rule }
        });
        let guard = Box::new(SecondPanics(PanicGuard::new(3)));
        Arc::new(MessageRules::guarded(evaluator, rules.into(), guard))
    }

    fn failed_alone(results: &[RuleResult], why: &str) {
        use RuleResult::{Failed, Matched};

        assert!(matches!(
            results,
            [Matched(_), Failed(reason), Matched(_)] if reason.contains(why)
        ));
    }

    #[test]
    fn a_panic_while_a_message_is_evaluated_fails_its_rule_alone() {
        let set = set_of_three();
        for _ in 0..PANICS_MAX {
            failed_alone(&evaluated(&set), "cannot be evaluated: at 7");
        }
        failed_alone(&evaluated(&set), "no longer evaluated");
    }

    /// The program is built with panics that are not unwound: the hook ends the thread. A hook is
    /// that of a whole process, so this one has its own.
    #[test]
    fn where_panics_are_not_unwound_the_message_comes_again_and_the_other_rules_see_it() {
        const MARK: &str = "MARTLET_TEST_OF_ABORTS";
        const REACHED: i32 = 3;
        if std::env::var_os(MARK).is_some() {
            std::panic::set_hook(Box::new(|panic| {
                if martlet_integrate::is_caught() {
                    martlet_integrate::end_thread(panic.payload());
                }
            }));
            let set = set_of_three();
            for _ in 0..PANICS_MAX {
                let on_lane = Arc::clone(&set);
                let lost = martlet_integrate::apart(move || evaluated(&on_lane).len());
                assert_eq!(lost, Err("at 7".to_owned()));
            }
            failed_alone(&evaluated(&set), "no longer evaluated");
            // The harness would wait for the hook, in which the threads stand.
            std::process::exit(REACHED);
        }
        let name = "rules::guarded::tests::\
                    where_panics_are_not_unwound_the_message_comes_again_and_the_other_rules_see_it";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let ended = command.args(["--exact", name]).env(MARK, "1").output();
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(REACHED), "{ended:?}");
    }
}
