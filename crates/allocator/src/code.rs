//! Memory of the program's own code.
//!
//! The kernel keeps each page of code that has run once, and 15 neighbouring ones, although most of
//! them are needed only at the start.

/// Releases the memory of all code. The kernel reads code from the file again when it runs. Not
/// supported here: does nothing.
#[cfg(not(target_os = "linux"))]
pub fn release_code() {}

/// Releases the memory of all code. The kernel reads code from the file again when it runs. Does
/// nothing if it fails.
#[cfg(target_os = "linux")]
pub fn release_code() {
    use rustix::mm::{Advice, madvise};

    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for (start, bytes) in maps.lines().filter_map(code_of) {
        let start = core::ptr::with_exposed_provenance_mut(start);
        // SAFETY: a private mapping of a file that is executable and not writable has never been
        // written: its pages are read from the file unchanged. The lines are of this process.
        let _ = unsafe { madvise(start, bytes, Advice::LinuxDontNeed) };
    }
}

/// Start and size of a code mapping, from its line in `/proc/PID/maps`: `55d0-55e0 r-xp 00001000
/// fe:01 1234   /usr/bin/martlet`. `None` for other mappings.
#[cfg(target_os = "linux")]
fn code_of(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp";
    // Offset and device; a mapping without a file has inode 0.
    let inode: u64 = fields.nth(2)?.parse().ok()?;
    if !is_code || inode == 0 {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_given_back() {
        let code = "7f00-7f10 r-xp 00001000 fe:01 1234    /usr/bin/martlet";
        assert_eq!(code_of(code), Some((0x7f00, 0x10)));
        for other in [
            "7f00-7f10 r--p 00001000 fe:01 1234    /usr/bin/martlet",
            "7f00-7f10 rw-p 00001000 fe:01 1234    /usr/bin/martlet",
            "7f00-7f10 r-xp 00000000 00:00 0       [vdso]",
            "",
        ] {
            assert_eq!(code_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_with_less_memory() {
        let code = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut is_code = false;
            let mut resident = 0_u64;
            for line in smaps.lines() {
                match line.strip_prefix("Rss:") {
                    Some(rss) if is_code => {
                        resident += rss
                            .trim()
                            .split(' ')
                            .next()
                            .unwrap()
                            .parse::<u64>()
                            .unwrap();
                    }
                    Some(_) => {}
                    None if line.contains('-') => is_code = code_of(line).is_some(),
                    None => {}
                }
            }
            resident
        };
        let before = code();
        release_code();
        assert!(code() < before, "{before} KiB before");
    }
}
