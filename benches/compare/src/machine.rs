//! What is known about the machine: facts for the report, free disk, warm memory, and how noisy it was during a run.

use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::thread::ScopedJoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeValLike;
use nix::sys::utsname::uname;
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The machine that a comparison ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the first processor.
    pub cpu_model: String,
    /// Processors that are online.
    pub cpus: usize,
    /// True where the processor says that it is virtual.
    pub virtual_machine: bool,
    /// Kernel name and release.
    pub kernel: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Type of the file system that holds the data directories.
    pub file_system: String,
    /// What is mounted there.
    pub device: String,
    /// Size of that file system in bytes.
    pub disk_bytes: u64,
}

impl Machine {
    /// Reads the facts; `data_parent` is where the brokers keep their data.
    pub fn read(data_parent: &Path) -> io::Result<Machine> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim))
        };
        // x86 names the model; Arm only numbers it.
        let cpu_model = field("model name").or_else(|| field("CPU part")).unwrap_or("unknown").to_owned();
        let flags = field("flags").unwrap_or_default();
        let uname = uname()?;
        let mount = mount_of(&fs::read_to_string("/proc/self/mountinfo")?, &data_parent.canonicalize()?);
        let disk = statvfs(data_parent)?;
        Ok(Machine {
            cpu_model,
            cpus: std::thread::available_parallelism()?.get(),
            virtual_machine: flags.split(' ').any(|flag| flag == "hypervisor"),
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            memory_bytes: memory("MemTotal")?,
            file_system: mount.file_system,
            device: mount.device,
            disk_bytes: disk.blocks() * disk.fragment_size(),
        })
    }
}

/// Bytes that an unprivileged process may still write below `path`.
pub fn free_disk_bytes(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    Ok(disk.blocks_available() * disk.fragment_size())
}

/// Bytes of memory that could be had without pushing anything out to disk.
pub fn available_memory_bytes() -> io::Result<u64> {
    memory("MemAvailable")
}

/// Takes `bytes` of memory from the kernel, writes to every page and gives it all back.
///
/// A virtual machine gets its memory from the host page by page at the first touch, which costs about two seconds per GB on
/// the reference machine, and the host takes pages back that lie idle for minutes. Whoever touches first pays. Without this
/// the page cache of whichever broker runs first after a pause would be slow.
pub fn touch_memory(bytes: u64) {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let pieces = bytes.div_ceil(PIECE_BYTES as u64).div_ceil(threads as u64);
    std::thread::scope(|scope| {
        // All of it is held until the last thread is done, so that none touches again what another gave back.
        let touching: Vec<_> = (0..threads)
            .map(|_| scope.spawn(move || (0..pieces).map(|_| touched_piece()).collect::<Vec<_>>()))
            .collect();
        let held: Vec<_> = touching.into_iter().map(ScopedJoinHandle::join).collect();
        drop(held);
    });
}

const PIECE_BYTES: usize = 64 << 20;

fn touched_piece() -> Vec<u8> {
    const PAGE: usize = 4096;
    // Zeroed memory is mapped and not yet backed: the writes are what asks for pages.
    let mut piece = vec![0u8; PIECE_BYTES];
    for page in piece.chunks_mut(PAGE) {
        page[0] = 1;
    }
    std::hint::black_box(piece)
}

/// Writes everything to disk that any process has left in the page cache, so that the kernel does not do so during a measurement.
pub fn write_back() {
    nix::unistd::sync();
}

/// Counters of the whole machine at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSample {
    /// Time of all processors since boot, in ticks, steal included.
    total_ticks: u64,
    steal_ticks: u64,
    idle_ticks: u64,
    load_average: f64,
    /// Of the kernel's own threads; absent where the kernel does not tell.
    kernel_ns: Option<u64>,
    at: Instant,
}

/// What else the machine did during a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Share of processor time that the host took away, 0 to 1.
    pub steal: f64,
    /// Share of processor time that nobody used, 0 to 1.
    pub idle: f64,
    /// Load average over one minute, before the run.
    pub load_average_before: f64,
    /// Load average over one minute, after the run.
    pub load_average_after: f64,
    /// Processors that the kernel's own threads took: the ends of synced writes, writing back the page cache.
    #[serde(default)]
    pub kernel_cores: Option<f64>,
}

impl NoiseSample {
    /// Reads the counters now.
    pub fn now() -> io::Result<NoiseSample> {
        let kernel_ns = kernel_threads_ns()?;
        parse_noise(&fs::read_to_string("/proc/stat")?, &fs::read_to_string("/proc/loadavg")?, kernel_ns).ok_or_else(
            || io::Error::new(io::ErrorKind::InvalidData, "/proc/stat or /proc/loadavg reads unlike documented"),
        )
    }

    /// What happened from this sample to a later one.
    pub fn until(&self, later: &NoiseSample) -> Noise {
        let total = later.total_ticks.saturating_sub(self.total_ticks).max(1) as f64;
        Noise {
            steal: later.steal_ticks.saturating_sub(self.steal_ticks) as f64 / total,
            idle: later.idle_ticks.saturating_sub(self.idle_ticks) as f64 / total,
            load_average_before: self.load_average,
            load_average_after: later.load_average,
            kernel_cores: self.kernel_ns.zip(later.kernel_ns).map(|(before, after)| {
                // Threads that ended meanwhile have taken their time with them.
                after.saturating_sub(before) as f64 / (later.at - self.at).as_nanos().max(1) as f64
            }),
        }
    }
}

/// Nanoseconds of processor time, user and system, that all threads of a process have used, dead or alive: kernel worker
/// threads of its rings are among them.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let time = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).and_then(ClockId::now)?;
    Ok(time.num_nanoseconds().unsigned_abs())
}

/// Today in UTC as `2026-11-21`.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_date(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of the Gregorian calendar for a count of days since 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years run from March here, so that the leap day is the last day of a year and months follow one formula.
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

struct Mount {
    file_system: String,
    device: String,
}

/// The mount whose point is the longest prefix of `path`. Format: proc(5), `/proc/[pid]/mountinfo`.
fn mount_of(mountinfo: &str, path: &Path) -> Mount {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            // The kernel writes a space in a path as \040.
            let point = before.split(' ').nth(4)?.replace("\\040", " ");
            let mut after = after.split(' ');
            let (file_system, device) = (after.next()?.to_owned(), after.next()?.to_owned());
            path.starts_with(&point).then_some((point.len(), Mount { file_system, device }))
        })
        // Of two mounts at one point the later one hides the earlier; max_by_key returns the last.
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| Mount { file_system: "unknown".into(), device: "unknown".into() }, |(_, mount)| mount)
}

fn parse_noise(stat: &str, loadavg: &str, kernel_ns: Option<u64>) -> Option<NoiseSample> {
    // proc(5): user nice system idle iowait irq softirq steal guest guest_nice; guest time is contained in user and nice.
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    Some(NoiseSample {
        total_ticks: ticks.get(..8)?.iter().sum(),
        steal_ticks: ticks[7],
        idle_ticks: ticks[3] + ticks[4],
        load_average: loadavg.split(' ').next()?.parse().ok()?,
        kernel_ns,
        at: Instant::now(),
    })
}

/// Nanoseconds of processor time of all kernel threads, which are the children of kthreadd. `None` where the kernel keeps no
/// such statistics.
fn kernel_threads_ns() -> io::Result<Option<u64>> {
    const KTHREADD: &str = "2";
    let mut sum = None;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // Processes come and go, and most entries are none.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1));
        if parent != Some(KTHREADD) {
            continue;
        }
        let Ok(schedstat) = fs::read_to_string(path.join("schedstat")) else { continue };
        let used: Option<u64> = schedstat.split(' ').next().and_then(|ns| ns.parse().ok());
        sum = used.map(|used| used + sum.unwrap_or(0)).or(sum);
    }
    Ok(sum)
}

fn memory(field: &str) -> io::Result<u64> {
    fs::read_to_string("/proc/meminfo")?
        .lines()
        .find_map(|line| {
            let kib = line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?;
            kib.trim().parse::<u64>().ok().map(|kib| kib * 1024)
        })
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/meminfo without {field}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let machine = Machine::read(&std::env::temp_dir()).unwrap();
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && machine.disk_bytes > 0);
        assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
        assert!(free_disk_bytes(&std::env::temp_dir()).unwrap() <= machine.disk_bytes);
        assert!(available_memory_bytes().unwrap() <= machine.memory_bytes);
    }

    #[test]
    fn dates_of_the_calendar() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_778), (2026, 11, 21));
        assert_eq!(civil_date(20_453), (2025, 12, 31));
        assert_eq!(civil_date(20_454), (2026, 1, 1));
    }

    #[test]
    fn the_innermost_and_last_mount_counts() {
        let mountinfo = "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                         22 21 0:5 / /data rw - tmpfs tmpfs rw\n\
                         23 21 8:1 / /data rw master:1 - xfs /dev/sda1 rw\n\
                         24 21 8:2 / /with\\040space rw - btrfs /dev/sdb rw\n";
        assert_eq!(mount_of(mountinfo, Path::new("/home/x")).device, "/dev/vda");
        assert_eq!(mount_of(mountinfo, Path::new("/data/weir")).file_system, "xfs");
        assert_eq!(mount_of(mountinfo, Path::new("/database")).file_system, "ext4");
        assert_eq!(mount_of(mountinfo, Path::new("/with space/x")).file_system, "btrfs");
        assert_eq!(mount_of("", Path::new("/")).device, "unknown");
    }

    #[test]
    fn noise_is_a_share_of_the_time_between_two_samples() {
        let before = parse_noise("cpu  100 0 50 800 50 0 0 0 0 0\n", "0.25 0.2 0.1 1/80 99\n", Some(1_000)).unwrap();
        let after = parse_noise("cpu  150 0 70 810 60 0 0 10 30 0\n", "1.50 0.2 0.1 1/80 99\n", Some(2_000)).unwrap();
        let after = NoiseSample { at: before.at + Duration::from_micros(10), ..after };
        let noise = before.until(&after);
        let expected = Noise {
            steal: 0.1,
            idle: 0.2,
            load_average_before: 0.25,
            load_average_after: 1.5,
            kernel_cores: Some(0.1),
        };
        assert_eq!(noise, expected);
        assert_eq!(parse_noise("intr 5", "0.25 0.2", None), None);
        assert_eq!(parse_noise("cpu  1 2 3", "0.25 0.2", None), None);
    }

    #[test]
    fn the_kernel_has_threads_of_its_own() {
        // Where processes have a namespace of their own, kernel threads are not seen.
        let is_seen = fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd");
        assert_eq!(kernel_threads_ns().unwrap().is_some(), is_seen);
    }

    #[test]
    fn own_processor_time_grows_with_work() {
        let before = process_cpu_ns(std::process::id()).unwrap();
        let mut x = 1u64;
        while process_cpu_ns(std::process::id()).unwrap() == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(process_cpu_ns(u32::MAX).is_err());
    }

    #[test]
    fn touching_memory_takes_and_returns_it() {
        touch_memory(1);
        touch_memory(0);
    }
}
