//! Why a ring could not be set up, each cause with its remedy: there is no silent fallback.

use std::fmt;
use std::fs;
use std::io;

/// A refused `io_uring_setup` (or a ring that lacks what the runtime needs), by cause.
#[derive(Debug)]
pub enum SetupError {
    /// The kernel has no io_uring, or hides it (`ENOSYS`).
    Missing,
    /// `kernel.io_uring_disabled` is 2: nobody may use io_uring.
    DisabledForAll,
    /// `kernel.io_uring_disabled` is 1: only `CAP_SYS_ADMIN` and the group in `kernel.io_uring_group` may.
    DisabledForUnprivileged,
    /// Refused (`EPERM`, `EACCES`) though the kernel's switch allows it: a seccomp profile or a security module.
    NotPermitted,
    /// The kernel does not know a set-up flag or an operation that the runtime needs.
    KernelTooOld {
        /// What is missing.
        missing: &'static str,
    },
    /// The rings do not fit into the locked-memory limit or the control group (`ENOMEM`).
    OutOfMemory,
    /// The process or the system is at its limit of open files (`EMFILE`, `ENFILE`).
    TooManyFiles,
    /// Any other answer of the kernel.
    Refused(io::Error),
}

impl SetupError {
    /// Sorts the error of `io_uring_setup` by its cause. `disabled` is the value of `kernel.io_uring_disabled`, where
    /// the kernel has that switch (Linux 6.6).
    pub(super) fn from_setup(error: io::Error, disabled: Option<u32>) -> SetupError {
        match (error.raw_os_error(), disabled) {
            (Some(libc::EPERM | libc::EACCES), Some(1)) => SetupError::DisabledForUnprivileged,
            (Some(libc::EPERM | libc::EACCES), Some(2..)) => SetupError::DisabledForAll,
            (Some(libc::EPERM | libc::EACCES), _) => SetupError::NotPermitted,
            (Some(libc::ENOSYS), _) => SetupError::Missing,
            // The sizes are ours and valid, so the flags are what an old kernel objects to.
            (Some(libc::EINVAL), _) => SetupError::KernelTooOld { missing: "IORING_SETUP_DEFER_TASKRUN" },
            (Some(libc::ENOMEM), _) => SetupError::OutOfMemory,
            (Some(libc::EMFILE | libc::ENFILE), _) => SetupError::TooManyFiles,
            _ => SetupError::Refused(error),
        }
    }
}

/// The value of `kernel.io_uring_disabled`, if the kernel has it.
pub(super) fn io_uring_disabled() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Missing => f.write_str(
                "io_uring is not available: the kernel lacks it or the sandbox hides it (ENOSYS). \
                 Run on Linux 6.1 or newer with CONFIG_IO_URING, outside of gVisor and similar sandboxes",
            ),
            SetupError::DisabledForAll => f.write_str(
                "io_uring is switched off on this machine (kernel.io_uring_disabled=2). \
                 Allow it with `sysctl kernel.io_uring_disabled=0`",
            ),
            SetupError::DisabledForUnprivileged => f.write_str(
                "io_uring is reserved for privileged processes on this machine (kernel.io_uring_disabled=1). \
                 Allow it with `sysctl kernel.io_uring_disabled=0`, or put the process into the group that \
                 kernel.io_uring_group names",
            ),
            SetupError::NotPermitted => f.write_str(
                "io_uring was refused (EPERM), most likely by a container's seccomp profile. Allow io_uring_setup, \
                 io_uring_enter and io_uring_register in it (Docker: --security-opt seccomp=PROFILE)",
            ),
            SetupError::KernelTooOld { missing } => {
                write!(f, "this kernel's io_uring lacks {missing}. Run on Linux 6.1 or newer")
            }
            SetupError::OutOfMemory => f.write_str(
                "no memory for the rings (ENOMEM). Raise the locked-memory limit (`ulimit -l`, LimitMEMLOCK=) or the \
                 memory limit of the control group",
            ),
            SetupError::TooManyFiles => {
                f.write_str("the limit of open files is reached. Raise it (`ulimit -n`, LimitNOFILE=)")
            }
            SetupError::Refused(error) => write!(f, "io_uring could not be set up: {error}"),
        }
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SetupError::Refused(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_cause() {
        let sorted = |errno, disabled| SetupError::from_setup(io::Error::from_raw_os_error(errno), disabled);
        assert!(matches!(sorted(libc::EPERM, Some(0)), SetupError::NotPermitted));
        assert!(matches!(sorted(libc::EPERM, None), SetupError::NotPermitted));
        assert!(matches!(sorted(libc::EPERM, Some(1)), SetupError::DisabledForUnprivileged));
        assert!(matches!(sorted(libc::EPERM, Some(2)), SetupError::DisabledForAll));
        assert!(matches!(sorted(libc::ENOSYS, None), SetupError::Missing));
        assert!(matches!(sorted(libc::EINVAL, None), SetupError::KernelTooOld { .. }));
        assert!(matches!(sorted(libc::ENOMEM, None), SetupError::OutOfMemory));
        assert!(matches!(sorted(libc::EMFILE, None), SetupError::TooManyFiles));
        assert!(matches!(sorted(libc::EIO, None), SetupError::Refused(_)));
    }
}
