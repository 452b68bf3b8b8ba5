//! kcat: the command line client that most people have at hand.

use std::process::Command;

use harness::broker::Broker;
use harness::partitioner::Partitioner;
use harness::process::{Running, run};
use harness::workload::{self, ReadBack, Record, Timestamps};
use harness::{cache, provision, suite};

const PARTITIONS: u32 = 4;

/// kcat cannot create topics, so this is also the test of topics that are created by their first use.
#[test]
#[ignore = "needs kcat from Debian's archive"]
fn client_kcat() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "kcat", &[("num.partitions", "4")]);
    let kcat = Kcat { bootstrap: broker.bootstrap(), dir: broker.dir().to_owned() };
    let mut records = workload::text(0xca7, 10_000);
    for record in &mut records {
        // kcat gives the same headers to every record.
        record.headers = vec![("source".to_owned(), b"kcat".to_vec()), ("empty".to_owned(), Vec::new())];
    }

    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for half in [&records[..5_000], &records[5_000..]] {
        for codec in codecs {
            kcat.produce(codec, half);
        }
        broker.restart();
    }
    for codec in codecs {
        let read: Vec<ReadBack> = (0..PARTITIONS).flat_map(|partition| kcat.consume(codec, partition)).collect();
        let what = format!("kcat, {codec}");
        workload::assert_read_back(&what, &records, &read, Partitioner::Crc32, PARTITIONS, Timestamps::Clock);
    }

    let listed = kcat.run(&["-L"]).join("\n");
    for codec in codecs {
        assert!(listed.contains(&format!("topic \"{codec}\" with {PARTITIONS} partitions")), "{listed}");
    }

    // The first record that is not older than the timestamp asked for.
    let first = kcat.consume("none", 0);
    let asked = first[first.len() / 2].record.timestamp_ms;
    let expected = first.iter().find(|back| back.record.timestamp_ms >= asked).map(|back| back.offset);
    let answer = kcat.run(&["-Q", "-t", &format!("none:0:{asked}")]);
    assert_eq!(answer, [format!("none [0] offset {}", expected.unwrap_or_default())]);

    kcat.refuses(&["-C", "-t", "never-created", "-p", "0", "-e"], b"", "Broker: Unknown topic or partition");
    let large = vec![b'x'; 2 << 20];
    let arguments = ["-P", "-t", "none", "-X", "message.max.bytes=8388608"];
    kcat.refuses(&arguments, &large, "Broker: Message size too large");
}

struct Kcat {
    bootstrap: String,
    dir: std::path::PathBuf,
}

impl Kcat {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(provision::kcat());
        command.args(["-b", &self.bootstrap]).args(arguments);
        command
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.join("kcat.log")
    }

    fn run(&self, arguments: &[&str]) -> Vec<String> {
        run(&mut self.command(arguments), &self.log())
    }

    /// Writes to a topic that has the name of the codec.
    fn produce(&self, codec: &str, records: &[Record]) {
        let settings = ["-X", "enable.idempotence=true", "-X", "linger.ms=5", "-H", "source=kcat", "-H", "empty="];
        let mut command = self.command(&["-P", "-t", codec, "-K", "\\t", "-z", codec]);
        let mut kcat = Running::start(command.args(settings), &self.log());
        kcat.write(&lines(records));
        kcat.finish();
    }

    fn consume(&self, topic: &str, partition: u32) -> Vec<ReadBack> {
        let partition = partition.to_string();
        let format = "%p\\t%o\\t%T\\t%k\\t%s\\t%h\\n";
        let arguments = ["-C", "-t", topic, "-p", &partition, "-o", "beginning", "-e", "-q", "-f", format];
        self.run(&arguments).iter().map(|line| parse(line).unwrap_or_else(|| panic!("kcat printed {line:?}"))).collect()
    }

    /// Checks that kcat fails and gives `reason`.
    fn refuses(&self, arguments: &[&str], input: &[u8], reason: &str) {
        let file = self.dir.join("input");
        std::fs::write(&file, input).expect("a file for the test");
        let stdin = std::fs::File::open(&file).expect("a file for the test");
        let output = self.command(arguments).stdin(stdin).output().expect("kcat starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "kcat {arguments:?} succeeded");
        assert!(errors.contains(reason), "kcat {arguments:?} said\n{errors}");
    }
}

/// `key TAB value` for each record.
fn lines(records: &[Record]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|record| [&record.key, &b"\t"[..], record.value.as_deref().unwrap_or_default(), b"\n"].concat())
        .collect()
}

fn parse(line: &str) -> Option<ReadBack> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [partition, offset, timestamp_ms, key, value, headers] = columns[..] else { return None };
    let headers = headers
        .split(',')
        .map(|header| header.split_once('=').map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())))
        .collect::<Option<_>>()?;
    let record = Record {
        timestamp_ms: timestamp_ms.parse().ok()?,
        key: key.as_bytes().to_vec(),
        value: Some(value.as_bytes().to_vec()),
        headers,
    };
    Some(ReadBack { partition: partition.parse().ok()?, offset: offset.parse().ok()?, record })
}
