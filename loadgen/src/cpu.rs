//! CPU time: the broker's, by process or control group, and this thread's own.
//!
//! CPU per gigabyte and per request are the figures that survive a noisy machine, so every way in which a broker can
//! spend time counts: all threads, those that have ended, and the kernel's io_uring workers, which run as threads of the
//! process that owns the ring.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::ClockId;
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;

/// How many kinds of broker threads the report lists.
const LISTED_THREADS: usize = 12;

/// Where the broker's CPU time is read.
#[derive(Debug, Clone)]
pub enum Meter {
    /// A process and all its threads, dead or alive.
    Process(u32),
    /// A version 2 control group: the directory that holds `cpu.stat`.
    Cgroup(PathBuf),
}

/// A reading of a [`Meter`]. All times are nanoseconds since the process or group began.
#[derive(Debug, Clone, Default)]
pub struct CpuSample {
    total_ns: u64,
    user_ns: u64,
    system_ns: u64,
    /// By thread name, live threads alone; empty for a control group.
    threads: BTreeMap<String, u64>,
}

impl Meter {
    /// Where the time is read from, in words.
    pub fn describe(&self) -> String {
        match self {
            Meter::Process(pid) => format!("process {pid}"),
            Meter::Cgroup(path) => format!("control group {}", path.display()),
        }
    }

    /// Reads the time spent so far. Errors: the process or group does not exist, or may not be looked at.
    pub fn read(&self) -> io::Result<CpuSample> {
        match self {
            Meter::Process(pid) => read_process(*pid),
            Meter::Cgroup(path) => parse_cpu_stat(&fs::read_to_string(path.join("cpu.stat"))?),
        }
    }
}

fn read_process(pid: u32) -> io::Result<CpuSample> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let (user_ticks, system_ticks) = parse_stat(&fs::read_to_string(proc.join("stat"))?)?;
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    let tick_ns = 1_000_000_000 / ticks_per_second.max(1);
    let (user_ns, system_ns) = (user_ticks * tick_ns, system_ticks * tick_ns);
    // The process clock counts the same threads in nanoseconds, where /proc counts in ticks of 10 ms: an idle broker
    // spends less than that in ten seconds.
    let pid_number = i32::try_from(pid).map_err(|_| bad("a process id beyond the kernel's range"))?;
    let total_ns = ClockId::pid_cpu_clock_id(Pid::from_raw(pid_number))
        .and_then(ClockId::now)
        .map_or(user_ns + system_ns, |time| time.num_nanoseconds().unsigned_abs());
    Ok(CpuSample { total_ns, user_ns, system_ns, threads: read_threads(&proc.join("task")) })
}

/// CPU time by thread name. Threads that end while they are being read are left out: the total still has them.
fn read_threads(tasks: &Path) -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        *threads.entry(name.trim_end().to_owned()).or_default() += parse_schedstat(&schedstat).0;
    }
    threads
}

/// Nanoseconds that a thread ran and that it waited for a processor: the first two fields of its `schedstat`.
fn parse_schedstat(text: &str) -> (u64, u64) {
    let mut fields = text.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

/// User and system time in clock ticks: fields 14 and 15 of proc_pid_stat(5). The name may contain blanks and
/// parentheses, so fields are counted from the last one.
fn parse_stat(stat: &str) -> io::Result<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| bad("no process name in stat"))?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks =
        || fields.next().and_then(|field| field.parse::<u64>().ok()).ok_or_else(|| bad("stat is too short"));
    Ok((ticks()?, ticks()?))
}

/// `cpu.stat` of a version 2 control group: lines of a name and microseconds.
fn parse_cpu_stat(text: &str) -> io::Result<CpuSample> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
            .map(|micros| micros * 1_000)
            .ok_or_else(|| bad("cpu.stat lacks usage_usec, user_usec or system_usec"))
    };
    Ok(CpuSample {
        total_ns: field("usage_usec ")?,
        user_ns: field("user_usec ")?,
        system_ns: field("system_usec ")?,
        threads: BTreeMap::new(),
    })
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What a broker spent between two readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CpuSpent {
    /// Seconds in user and kernel mode together, all threads.
    pub total_s: f64,
    /// Seconds in user mode. Of a process: to 10 ms.
    pub user_s: f64,
    /// Seconds in kernel mode. Of a process: to 10 ms.
    pub system_s: f64,
    /// The busiest kinds of threads, summed by thread name, busiest first. Threads that ended in between are only in
    /// the total.
    pub threads: Vec<ThreadCpu>,
}

/// CPU time of the threads of one name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThreadCpu {
    /// The threads' name, cut to 15 characters by the kernel.
    pub name: String,
    /// Seconds in user and kernel mode together.
    pub total_s: f64,
}

impl CpuSpent {
    /// The difference of two readings of one meter.
    pub fn between(before: &CpuSample, after: &CpuSample) -> CpuSpent {
        let seconds = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e9;
        let mut threads: Vec<ThreadCpu> = after
            .threads
            .iter()
            .map(|(name, ns)| ThreadCpu {
                name: name.clone(),
                total_s: seconds(before.threads.get(name).copied().unwrap_or(0), *ns),
            })
            .filter(|thread| thread.total_s > 0.0)
            .collect();
        threads.sort_by(|one, two| two.total_s.total_cmp(&one.total_s));
        threads.truncate(LISTED_THREADS);
        CpuSpent {
            total_s: seconds(before.total_ns, after.total_ns),
            user_s: seconds(before.user_ns, after.user_ns),
            system_s: seconds(before.system_ns, after.system_ns),
            threads,
        }
    }
}

/// CPU time of the calling thread, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnCpu {
    /// In user mode.
    pub user_ns: u64,
    /// In kernel mode.
    pub system_ns: u64,
    /// Ready to run, but without a processor: other threads had it. Zero where the kernel does not tell.
    pub waited_ns: u64,
}

impl OwnCpu {
    /// What the calling thread has spent so far.
    pub fn now() -> OwnCpu {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("getrusage of the own thread cannot fail");
        OwnCpu {
            user_ns: usage.user_time().num_nanoseconds().unsigned_abs(),
            system_ns: usage.system_time().num_nanoseconds().unsigned_abs(),
            waited_ns: fs::read_to_string("/proc/thread-self/schedstat").map_or(0, |text| parse_schedstat(&text).1),
        }
    }

    /// What was spent since `earlier`.
    pub fn since(self, earlier: OwnCpu) -> OwnCpu {
        OwnCpu {
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}

/// Time that the hypervisor kept all processors of this machine from running, in clock ticks, and the ticks of all
/// processors together: `/proc/stat`, first line. Zeros when it cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineTicks {
    steal: u64,
    all: u64,
}

impl MachineTicks {
    /// The counts so far.
    pub fn now() -> MachineTicks {
        fs::read_to_string("/proc/stat").map(|stat| MachineTicks::parse(&stat)).unwrap_or_default()
    }

    fn parse(stat: &str) -> MachineTicks {
        let Some(line) = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")) else {
            return MachineTicks::default();
        };
        // user nice system idle iowait irq softirq steal; guest times are contained in user and nice.
        let fields: Vec<u64> = line.split_ascii_whitespace().take(8).map(|field| field.parse().unwrap_or(0)).collect();
        MachineTicks { steal: fields.get(7).copied().unwrap_or(0), all: fields.iter().sum() }
    }

    /// The share of all processor time that was stolen since `earlier`, 0 to 1.
    pub fn steal_since(self, earlier: MachineTicks) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        if all == 0 { 0.0 } else { self.steal.saturating_sub(earlier.steal) as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_hostile_names() {
        let line = "1234 (a) b (c) 1 2) S 1 2 3 4 5 6 7 8 9 10 777 888 0 0 20 0 1";
        assert_eq!(parse_stat(line).unwrap(), (777, 888));
        assert!(parse_stat("1234 (name) S 1 2").is_err());
        assert!(parse_stat("").is_err());
    }

    #[test]
    fn control_group_statistics() {
        let sample = parse_cpu_stat("usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\n").unwrap();
        assert_eq!((sample.total_ns, sample.user_ns, sample.system_ns), (30_000, 20_000, 10_000));
        assert!(parse_cpu_stat("usage_usec 30\n").is_err());
    }

    #[test]
    fn running_and_waiting() {
        assert_eq!(parse_schedstat("123 45 6\n"), (123, 45));
        assert_eq!(parse_schedstat(""), (0, 0));
    }

    #[test]
    fn steal_is_the_eighth_field() {
        let before = MachineTicks::parse("cpu  100 0 100 100 0 0 0 10 50 0\ncpu0 1\n");
        let after = MachineTicks::parse("cpu  150 0 100 130 0 0 0 30 99 0\n");
        assert!((after.steal_since(before) - 0.2).abs() < 1e-9);
        assert_eq!(MachineTicks::parse("nonsense").steal_since(before), 0.0);
    }

    /// Spins until the clock of this thread says that 60 ms were spent.
    fn burn() {
        let before = OwnCpu::now();
        loop {
            let spent = OwnCpu::now().since(before);
            if spent.user_ns + spent.system_ns >= 60_000_000 {
                return;
            }
        }
    }

    #[test]
    fn a_process_with_threads_that_ended_is_counted_in_full() {
        let meter = Meter::Process(std::process::id());
        let before = meter.read().unwrap();
        for _ in 0..2 {
            std::thread::spawn(burn).join().unwrap();
        }
        let spent = CpuSpent::between(&before, &meter.read().unwrap());
        assert!(spent.total_s >= 0.119, "{spent:?}");
        assert!(spent.user_s + spent.system_s >= 0.09, "{spent:?}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Meter::Process(u32::MAX).read().is_err());
        assert!(Meter::Cgroup("/nonexistent".into()).read().is_err());
    }
}
