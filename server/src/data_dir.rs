//! The data directory: one process at a time, one format, one identity.
//!
//! `meta.properties` says whose the directory is, with Kafka's keys (`version`, `cluster.id`, `node.id`,
//! `directory.id`) and one of our own, `weir.format`, without which a directory of Kafka could be taken for ours.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{FlockOperation, OFlags};
use wire::Uuid;

use crate::config::properties;

/// The format of the directory that this program reads and writes.
const FORMAT: u32 = 1;
/// The version of `meta.properties` in Kafka since 3.0.
const META_VERSION: &str = "1";
/// The file that says whose the directory is.
const META: &str = "meta.properties";
/// The file that the running process holds a lock on; Kafka's name.
const LOCK: &str = ".lock";
/// What a file system of its own has at its root.
const LOST_AND_FOUND: &str = "lost+found";

/// An open data directory. The lock is held as long as it lives.
#[derive(Debug)]
pub struct DataDir {
    /// The absolute path.
    pub path: PathBuf,
    /// Whose it is.
    pub identity: Identity,
    /// Whether this run has made it.
    pub is_new: bool,
    _lock: File,
}

/// Whose a data directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id. Kafka allows any text.
    pub cluster_id: String,
    /// The broker's number.
    pub node_id: i32,
    /// The directory's own id (KIP-858).
    pub directory_id: Uuid,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// The system refuses something.
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Another process runs on it.
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it has said so.
        process: Option<u32>,
    },
    /// It has files, and none that says that they are ours.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of its files.
        example: String,
    },
    /// It is Kafka's.
    Kafkas {
        /// The directory.
        path: PathBuf,
    },
    /// A newer program has written it.
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// `meta.properties` is not what we write.
    BadMeta {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It belongs to a broker of another number.
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// That number.
        stored: i32,
        /// The number that was configured.
        configured: i32,
    },
    /// It belongs to another cluster.
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// That cluster.
        stored: String,
        /// The cluster that was configured.
        configured: String,
    },
    /// Its file system does not let files be opened for direct access.
    DirectRefused {
        /// The directory.
        path: PathBuf,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::Io { what, path, error } => write!(f, "cannot {what} {}: {error}", path.display()),
            DataDirError::Locked { path, process } => {
                write!(f, "the data directory {} is in use by ", path.display())?;
                match process {
                    Some(process) => write!(f, "process {process}. Stop it, or use another --data-dir"),
                    None => f.write_str("another process. Stop it, or use another --data-dir"),
                }
            }
            DataDirError::Foreign { path, example } => write!(
                f,
                "{} is not a data directory of Weir: it has files ({example}) but no {META}. Use an empty or a new \
                 directory",
                path.display()
            ),
            DataDirError::Kafkas { path } => write!(
                f,
                "{} is a data directory of Apache Kafka. Weir does not read those; use an empty or a new directory",
                path.display()
            ),
            DataDirError::Newer { path, format } => write!(
                f,
                "{} has the format {format}, and this program knows formats up to {FORMAT}. Run the program that wrote \
                 it, or a newer one",
                path.display()
            ),
            DataDirError::BadMeta { path, what } => {
                write!(f, "{}: {what}. Restore the file from a copy, or use a new directory", path.display())
            }
            DataDirError::OtherNode { path, stored, configured } => write!(
                f,
                "{} belongs to node {stored}, and node.id (--node-id) is {configured}. Use --node-id {stored}, or \
                 another \
                 --data-dir",
                path.display()
            ),
            DataDirError::OtherCluster { path, stored, configured } => write!(
                f,
                "{} belongs to the cluster {stored}, and cluster.id (--cluster-id) is {configured}. Remove that \
                 setting, \
                 or use another --data-dir",
                path.display()
            ),
            DataDirError::DirectRefused { path } => write!(
                f,
                "the file system of {} refuses direct access (O_DIRECT), as tmpfs and some overlays do. Put the data \
                 directory on ext4 or XFS",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DataDirError {}

/// What a data directory must be, or becomes if it is new.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The broker's number.
    pub node_id: i32,
    /// The cluster's id, if the operator insists on one.
    pub cluster_id: Option<Uuid>,
}

impl DataDir {
    /// Opens the directory, making it where there is none, and locks it. `random` gives 64 random bits at each call.
    pub fn open(path: &Path, wanted: &Wanted, random: impl FnMut() -> u64) -> Result<DataDir, DataDirError> {
        let io = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |error| DataDirError::Io { what, path, error }
        };
        fs::create_dir_all(path).map_err(io("make the data directory", path))?;
        let path = path.canonicalize().map_err(io("find", path))?;
        let before = foreign_file(&path).map_err(io("list", &path))?;
        let meta = path.join(META);
        let stored = match fs::read_to_string(&meta) {
            Ok(text) => Some(parse_meta(&text, &meta, &path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read", &meta)(error)),
        };
        if let (None, Some(example)) = (&stored, before) {
            return Err(DataDirError::Foreign { path, example });
        }
        let lock = lock(&path)?;
        check_direct(&path)?;
        let is_new = stored.is_none();
        let identity = match stored {
            Some(identity) => identity,
            None => {
                let identity = Identity::new(wanted, random);
                write_meta(&path, &identity).map_err(io("write", &meta))?;
                identity
            }
        };
        identity.check(wanted, &path)?;
        Ok(DataDir { path, identity, is_new, _lock: lock })
    }
}

impl Identity {
    fn new(wanted: &Wanted, mut random: impl FnMut() -> u64) -> Identity {
        let mut id = || crate::catalog::new_topic_id(&mut random);
        Identity {
            cluster_id: wanted.cluster_id.unwrap_or_else(&mut id).to_string(),
            node_id: wanted.node_id,
            directory_id: id(),
        }
    }

    fn check(&self, wanted: &Wanted, path: &Path) -> Result<(), DataDirError> {
        let path = path.to_owned();
        if self.node_id != wanted.node_id {
            return Err(DataDirError::OtherNode { path, stored: self.node_id, configured: wanted.node_id });
        }
        match wanted.cluster_id.map(|id| id.to_string()).filter(|id| *id != self.cluster_id) {
            Some(configured) => Err(DataDirError::OtherCluster { path, stored: self.cluster_id.clone(), configured }),
            None => Ok(()),
        }
    }
}

/// A file in a directory that may be anybody's, if it has any.
fn foreign_file(path: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A run that ended before it wrote its identity leaves the lock and perhaps the unfinished file.
        if name != LOST_AND_FOUND && name != LOCK && name != unfinished(META) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let name = path.join(LOCK);
    let io = |what| {
        let path = name.clone();
        move |error| DataDirError::Io { what, path, error }
    };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name);
    let mut file = file.map_err(io("open"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DataDirError::Locked { path: path.to_owned(), process });
        }
        Err(error) => return Err(io("lock")(error.into())),
    }
    // For whoever finds it locked.
    file.set_len(0).map_err(io("write"))?;
    writeln!(file, "{}", std::process::id()).map_err(io("write"))?;
    Ok(file)
}

fn check_direct(path: &Path) -> Result<(), DataDirError> {
    let probe = path.join(unfinished("direct"));
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("open flags are ints");
    let opened = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&probe);
    let removed = fs::remove_file(&probe);
    match opened {
        Ok(_) => removed.map_err(|error| DataDirError::Io { what: "remove", path: probe, error }),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            Err(DataDirError::DirectRefused { path: path.to_owned() })
        }
        Err(error) => Err(DataDirError::Io { what: "write to", path: path.to_owned(), error }),
    }
}

fn unfinished(name: &str) -> String {
    format!(".{name}.tmp")
}

fn parse_meta(text: &str, file: &Path, dir: &Path) -> Result<Identity, DataDirError> {
    let bad = |what: String| DataDirError::BadMeta { path: file.to_owned(), what };
    let all = properties::parse(text).map_err(|error| bad(error.to_string()))?;
    let get = |key: &str| all.iter().rev().find(|it| it.key == key).map(|it| it.value.trim());
    let need = |key: &str| get(key).ok_or_else(|| bad(format!("it has no {key}")));
    let format = match get("weir.format") {
        Some(format) => format.parse::<u32>().map_err(|_| bad(format!("weir.format={format} is no number")))?,
        // Kafka's files have its keys and not ours.
        None if get("version").is_some() => return Err(DataDirError::Kafkas { path: dir.to_owned() }),
        None => return Err(bad("it has no weir.format".to_owned())),
    };
    if format > FORMAT {
        return Err(DataDirError::Newer { path: dir.to_owned(), format });
    }
    let node_id = need("node.id")?;
    let directory_id = need("directory.id")?;
    Ok(Identity {
        cluster_id: need("cluster.id")?.to_owned(),
        node_id: node_id.parse().map_err(|_| bad(format!("node.id={node_id} is no number")))?,
        directory_id: Uuid::from_str(directory_id).map_err(|_| bad(format!("directory.id={directory_id} is no id")))?,
    })
}

/// Writes the file so that after a crash there is either all of it or nothing.
fn write_meta(dir: &Path, identity: &Identity) -> io::Result<()> {
    let temporary = dir.join(unfinished(META));
    let text = format!(
        "version={META_VERSION}\nweir.format={FORMAT}\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
        identity.cluster_id, identity.node_id, identity.directory_id
    );
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(META))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted { node_id: 1, cluster_id: None }
    }

    fn random() -> impl FnMut() -> u64 {
        let mut last = 0;
        move || {
            last += 0x0123_4567_89ab_cdef;
            last
        }
    }

    /// A directory beside the test's program, since the one for temporary files may refuse direct access.
    fn place() -> tempfile::TempDir {
        let program = std::env::current_exe().unwrap();
        tempfile::tempdir_in(program.parent().unwrap()).unwrap()
    }

    fn open(path: &Path, wanted: &Wanted) -> Result<DataDir, DataDirError> {
        DataDir::open(path, wanted, random())
    }

    #[test]
    fn a_directory_keeps_its_identity() {
        let place = place();
        let path = place.path().join("a/b");
        let first = open(&path, &wanted()).unwrap();
        assert!(first.is_new && first.path.is_absolute());
        assert_ne!(first.identity.cluster_id, first.identity.directory_id.to_string());
        let identity = first.identity.clone();
        drop(first);
        let second = DataDir::open(&path, &wanted(), || panic!("nothing is made anew")).unwrap();
        assert!(!second.is_new);
        assert_eq!(second.identity, identity);
        let text = fs::read_to_string(path.join(META)).unwrap();
        let expected = format!(
            "version=1\nweir.format=1\ncluster.id={}\nnode.id=1\ndirectory.id={}\n",
            identity.cluster_id, identity.directory_id
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn one_process_at_a_time() {
        let place = place();
        let held = open(place.path(), &wanted()).unwrap();
        let error = open(place.path(), &wanted()).unwrap_err();
        assert!(
            matches!(&error, DataDirError::Locked { process, .. } if *process == Some(std::process::id())),
            "{error}"
        );
        drop(held);
        open(place.path(), &wanted()).unwrap();
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let place = place();
        let path = place.path();
        fs::create_dir(path.join(LOST_AND_FOUND)).unwrap();
        fs::write(path.join("thesis.txt"), "chapter 1").unwrap();
        let error = open(path, &wanted()).unwrap_err();
        assert!(matches!(&error, DataDirError::Foreign { example, .. } if example == "thesis.txt"), "{error}");
        fs::remove_file(path.join("thesis.txt")).unwrap();

        let kafkas = "version=1\ncluster.id=x\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
        fs::write(path.join(META), kafkas).unwrap();
        assert!(matches!(open(path, &wanted()).unwrap_err(), DataDirError::Kafkas { .. }));
        assert!(!path.join(LOCK).exists());

        fs::write(path.join(META), "version=1\nweir.format=2\n").unwrap();
        assert!(matches!(open(path, &wanted()).unwrap_err(), DataDirError::Newer { format: 2, .. }));

        for (text, what) in [
            ("", "it has no weir.format"),
            ("weir.format=x", "weir.format=x is no number"),
            ("weir.format=1", "it has no node.id"),
            ("weir.format=1\nnode.id=x\ndirectory.id=y\ncluster.id=z", "node.id=x is no number"),
            ("weir.format=1\nnode.id=1\ndirectory.id=y\ncluster.id=z", "directory.id=y is no id"),
        ] {
            fs::write(path.join(META), text).unwrap();
            let error = open(path, &wanted()).unwrap_err();
            assert!(matches!(&error, DataDirError::BadMeta { what: found, .. } if found == what), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_start_that_was_cut_short_is_begun_again() {
        let place = place();
        fs::write(place.path().join(LOCK), "").unwrap();
        fs::write(place.path().join(unfinished(META)), "versi").unwrap();
        assert!(open(place.path(), &wanted()).unwrap().is_new);
    }

    #[test]
    fn the_operator_may_insist() {
        let place = place();
        let id = Uuid([7; 16]);
        let insisting = Wanted { cluster_id: Some(id), ..wanted() };
        let opened = open(place.path(), &insisting).unwrap();
        assert_eq!(opened.identity.cluster_id, id.to_string());
        drop(opened);
        open(place.path(), &wanted()).unwrap();
        let other = Wanted { cluster_id: Some(Uuid([8; 16])), ..wanted() };
        assert!(matches!(open(place.path(), &other).unwrap_err(), DataDirError::OtherCluster { .. }));
        let other = Wanted { node_id: 2, ..wanted() };
        let error = open(place.path(), &other).unwrap_err();
        assert!(matches!(error, DataDirError::OtherNode { stored: 1, configured: 2, .. }), "{error}");
    }

    #[test]
    fn a_path_that_cannot_be_is_named() {
        let place = place();
        fs::write(place.path().join("file"), "").unwrap();
        let error = open(&place.path().join("file/below"), &wanted()).unwrap_err();
        assert!(matches!(&error, DataDirError::Io { what: "make the data directory", .. }), "{error}");
    }
}
