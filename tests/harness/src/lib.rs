//! What the black-box tests share: a broker as a child process, foreign clients that provision themselves, and a
//! workload whose content and order can be checked after it went through both.
//!
//! Everything here serves tests, so what goes wrong is a panic that says what was done and what came back.

pub mod broker;
pub mod cache;
pub mod client;
pub mod partitioner;
pub mod process;
pub mod provision;
pub mod random;
pub mod raw;
pub mod wait;
pub mod workload;

/// What only a test target can know, since Cargo tells it at compile time; see [`suite!`].
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// The broker's binary.
    pub weir: &'static str,
    /// Where tests may write; on the file system of the build, so that it is a real disk wherever the build is on one.
    pub tmp: &'static str,
}

/// The [`Suite`] of the test target that it is written in.
#[macro_export]
macro_rules! suite {
    () => {
        $crate::Suite { weir: env!("CARGO_BIN_EXE_weir"), tmp: env!("CARGO_TARGET_TMPDIR") }
    };
}
