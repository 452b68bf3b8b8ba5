//! What there is to know about the machine: CPUs, memory, its name, room on the disk.

use std::fs;
use std::path::Path;

use crate::config::options::Machine;

/// Asks the system.
#[must_use]
pub fn inspect() -> Machine {
    Machine { cpus: cpus(), memory_bytes: memory_bytes(), host_name: host_name() }
}

/// Lets the process have as many open files as it may: one for each connection and more for each partition. The limit
/// that most systems begin with (1,024) is for programs that use `select`. Returns the limit in force.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let in_force = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    in_force.unwrap_or(u64::MAX)
}

/// 64 random bits of the kernel, for what is drawn before there is a reactor.
#[must_use]
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // Sixteen bytes or less are never cut short once the kernel has been seeded, and it waits for that.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert!(filled == Ok(bytes.len()), "the kernel has random numbers");
    u64::from_le_bytes(bytes)
}

/// The size of the file system that `path` is on and what is free of it for this process, in bytes; -1 is unknown.
#[must_use]
pub fn disk_room(path: &Path) -> (i64, i64) {
    let bytes = |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
    match rustix::fs::statvfs(path) {
        Ok(stat) => (bytes(stat.f_blocks, stat.f_frsize), bytes(stat.f_bavail, stat.f_frsize)),
        Err(_) => (-1, -1),
    }
}

fn cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => vec![0],
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The memory of the machine or of the narrowest control group around the process.
fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text)).unwrap_or(u64::MAX);
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let limits =
        groups.iter().flat_map(|text| limit_files(text)).filter_map(|file| limit_of(&fs::read_to_string(file).ok()?));
    limits.fold(machine, u64::min)
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that may limit the memory of a process with this /proc/self/cgroup: of its groups and all around them, in
/// both versions of control groups.
fn limit_files(cgroup: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(path).ancestors() {
            let group = group.to_string_lossy();
            files.push(format!("{root}{}/{name}", group.trim_end_matches('/')));
        }
    }
    files
}

/// A limit; `max` is none.
fn limit_of(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(total_of("MemTotal:       24601052 kB\nMemFree: 1 kB\n"), Some(24_601_052 << 10));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!((limit_of("max\n"), limit_of("1073741824\n")), (None, Some(1 << 30)));
    }

    #[test]
    fn every_group_around_the_process_counts() {
        assert_eq!(
            limit_files("0::/system.slice/weir.service\n"),
            [
                "/sys/fs/cgroup/system.slice/weir.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            limit_files("12:cpu,cpuacct:/x\n4:memory:/a\nnonsense\n"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
    }

    #[test]
    fn this_machine_has_something() {
        let machine = inspect();
        assert!(!machine.cpus.is_empty() && machine.memory_bytes > 1 << 20 && !machine.host_name.is_empty());
        let (total, usable) = disk_room(Path::new("/"));
        assert!(total > 0 && usable >= 0);
    }
}
