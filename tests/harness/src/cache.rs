//! The user's cache of clients: built once, kept complete or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A directory without it is the rest of an interrupted build.
const COMPLETE: &str = "complete";

/// The directory `name` in the cache, made by `build` where it is missing. `key` says what it depends on (versions,
/// sources): another key is another directory. Processes and threads that ask at the same time wait for one build.
pub fn once(name: &str, key: &str, build: impl FnOnce(&Path)) -> PathBuf {
    let clients = root().join("clients");
    fs::create_dir_all(&clients).unwrap_or_else(|error| panic!("{}: {error}", clients.display()));
    let dir = clients.join(format!("{name}-{:016x}", fingerprint(key)));
    let _lock = lock(&dir.with_added_extension("lock"));
    if dir.join(COMPLETE).is_file() {
        return dir;
    }
    // A package manager may go on after the test that started it was killed: so it has a place that nobody else gets. What is left
    // of those is removed as far as it lets us.
    let partial = dir.with_added_extension(format!("partial-{}", std::process::id()));
    let of_others = format!("{}.partial-", dir.file_name().expect("a name and a fingerprint").display());
    for entry in fs::read_dir(&clients).unwrap_or_else(|error| panic!("{}: {error}", clients.display())).flatten() {
        if entry.file_name().to_string_lossy().starts_with(&of_others) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    }
    fs::create_dir(&partial).unwrap_or_else(|error| panic!("{}: {error}", partial.display()));
    build(&partial);
    fs::write(partial.join(COMPLETE), key).unwrap_or_else(|error| panic!("{}: {error}", partial.display()));
    fs::rename(&partial, &dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    dir
}

/// Holds what only one may use at a time, such as the repository of a package manager. Other processes wait as well. Released
/// when dropped.
pub fn alone(what: &str) -> File {
    let root = root();
    fs::create_dir_all(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    lock(&root.join(format!("{what}.lock")))
}

/// Holds the whole machine for one test: the tests that start brokers and clients measure nothing, but they need both
/// cores to stay inside the deadlines of the clients. Other processes wait as well. Released when dropped. What takes minutes
/// to provision is asked for before.
pub fn whole_machine() -> File {
    alone("tests")
}

/// `weir` in the user's cache directory (XDG base directory specification).
fn root() -> PathBuf {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    cache
        .expect("HOME or XDG_CACHE_HOME must name an absolute path: the clients under test are kept there")
        .join("weir")
}

/// The kernel releases the lock when the file is closed, so also when the process dies.
fn lock(path: &Path) -> File {
    let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file
}

/// FNV-1a of 64 bits: it need not resist anyone, and it is the same in every release of Rust.
fn fingerprint(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
