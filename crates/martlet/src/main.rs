//! The program: the command line of the library, and the allocator.
//!
//! The rest is a library, so that the compiler can build it in parallel with the crates that it
//! needs; a program would have to wait for them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: martlet_allocator::Allocator = martlet_allocator::Allocator;

fn main() -> ExitCode {
    martlet::main()
}
