//! A panic ends the process, whichever thread it is in. So no code runs in an unexpected state, and
//! the service manager restarts the node. Sinks are an exception, see `martlet_integrate::catch`.

/// Makes every uncaught panic end the process.
pub(crate) fn end_the_process() {
    end_the_process_or_thread(cfg!(panic = "abort"));
}

/// `aborts`: panics do not unwind after the hook, so a caught panic must end its thread inside the
/// hook.
fn end_the_process_or_thread(aborts: bool) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if !martlet_integrate::is_caught() {
            std::process::abort();
        }
        if aborts {
            martlet_integrate::end_thread(panic.payload());
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const MARK: &str = "MARTLET_TEST_OF_PANICS";
    const REACHED: i32 = 3;
    const SIGABRT: i32 = 6;

    /// Code of the test below that runs in a separate process.
    fn panic_as_asked(wanted: &str) {
        if wanted == "apart" {
            super::end_the_process_or_thread(true);
            for at in 0..2 {
                let lost = martlet_integrate::apart::<()>(move || panic!("at {at}"));
                assert_eq!(lost, Err(format!("at {at}")));
            }
            std::process::exit(REACHED);
        }
        super::end_the_process();
        let caught = martlet_integrate::catch(|| panic!("caught"));
        assert_eq!(caught, Err("caught".to_owned()));
        if wanted == "thread" {
            let _ = std::thread::spawn(|| panic!("of a thread")).join();
        }
        std::process::exit(REACHED);
    }

    #[test]
    fn a_panic_of_a_thread_ends_the_process_and_that_of_a_sink_does_not() {
        if let Ok(wanted) = std::env::var(MARK) {
            return panic_as_asked(&wanted);
        }
        let name = "panics::tests::\
                    a_panic_of_a_thread_ends_the_process_and_that_of_a_sink_does_not";
        let run = |wanted: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", name]).env(MARK, wanted);
            command.output().unwrap().status
        };
        assert_eq!(run("none").code(), Some(REACHED));
        assert_eq!(run("thread").signal(), Some(SIGABRT));
        assert_eq!(run("apart").code(), Some(REACHED));
    }
}
