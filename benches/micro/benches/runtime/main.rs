//! Which runtime: receive, check, append, answer, on the broker's own executor, on `tokio-uring` and on epoll, and on a bare
//! ring with three ways of receiving. Appends go to memory; no version touches the disk.
//!
//! `cargo bench -p micro-bench --bench runtime -- [--rounds N] [--seconds S] [--only VERSION,…] [--case NAME] [--raw FILE]`
//!
//! The server has core 0 and the load generator core 1. Versions take turns (A B C C B A), and the figures are medians. Like
//! the other benchmarks it runs once, tiny, under `cargo test`.

mod epoll;
mod load;
mod reactor;
mod ring;
mod tokio;
mod work;

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use load::{Case, Length};
use ring::Receive;
use rustix::thread::{CpuSet, sched_setaffinity};
use work::{Phase, Served, Work};

const CASES: [Case; 3] = [
    Case {
        name: "170B-64x10",
        connections: 64,
        window: 10,
        records: 1,
        receive_bytes: 16 << 10,
        piece_bytes: 16 << 10,
    },
    Case {
        name: "64KiB-4x5",
        connections: 4,
        window: 5,
        records: 600,
        receive_bytes: 512 << 10,
        piece_bytes: 64 << 10,
    },
    Case { name: "500KB-4x5", connections: 4, window: 5, records: 4500, receive_bytes: 1 << 20, piece_bytes: 64 << 10 },
];

/// Chunks that appends go through: more than a processor's caches hold, as in a broker.
const CHUNKS: usize = 32;

type Serve = fn(Case, Work, &Sender<SocketAddr>) -> Served;

const VERSIONS: [(&str, Serve); 8] = [
    ("reactor", |case, work, ready| reactor::serve(case, true, work, ready)),
    ("reactor-serial", |case, work, ready| reactor::serve(case, false, work, ready)),
    ("tokio-uring", |case, work, ready| tokio::serve(case, true, work, ready)),
    ("tokio-uring-serial", |case, work, ready| tokio::serve(case, false, work, ready)),
    ("epoll", epoll::serve),
    ("ring-single", |case, work, ready| ring::serve(case, Receive::Single, work, ready)),
    ("ring-multi", |case, work, ready| ring::serve(case, Receive::Multi, work, ready)),
    ("ring-bundle", |case, work, ready| ring::serve(case, Receive::Bundle, work, ready)),
];

struct Run {
    case: usize,
    version: usize,
    /// Every version once. A round is two of them, there and back.
    pass: usize,
    served: Served,
    generator_ns: u64,
    /// The process without the server's and the generator's threads: workers of io_uring, if there are any.
    other_ns: u64,
}

struct Options {
    /// One turn of each, with few connections and little memory, on whatever cores there are.
    tiny: bool,
    rounds: usize,
    length: Length,
    only: Option<Vec<String>>,
    case: Option<String>,
    raw: Option<String>,
}

fn main() {
    let options = Options::parse(std::env::args().skip(1).collect());
    let chosen: Vec<usize> = (0..VERSIONS.len())
        .filter(|&v| options.only.as_ref().is_none_or(|only| only.iter().any(|name| name == VERSIONS[v].0)))
        .collect();
    let cases = (0..CASES.len()).filter(|&c| options.case.as_ref().is_none_or(|name| name == CASES[c].name));
    let cases: Vec<usize> = cases.collect();
    assert!(!chosen.is_empty() && !cases.is_empty(), "no such version or case");
    let mut raw = options.raw.as_deref().map(Raw::create);
    let mut runs = Vec::new();
    for pass in 0..2 * options.rounds {
        for &case in &cases {
            for at in 0..chosen.len() {
                let version = if pass % 2 == 0 { chosen[at] } else { chosen[chosen.len() - 1 - at] };
                let run = run(case, version, pass, &options);
                if let Some(raw) = &mut raw {
                    raw.write(&run);
                }
                runs.push(run);
            }
        }
    }
    for &case in &cases {
        print_table(case, &chosen, &runs);
    }
}

impl Options {
    fn parse(args: Vec<String>) -> Options {
        let tiny = micro_bench::is_test_run();
        let value = |name: &str| {
            let at = args.iter().position(|arg| arg == name)?;
            Some(args.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).clone())
        };
        let seconds = value("--seconds").map_or(1.0, |text| text.parse().expect("--seconds is a number"));
        let rounds = value("--rounds").map_or(3, |text| text.parse().expect("--rounds is a number"));
        Options {
            tiny,
            rounds: if tiny { 1 } else { rounds },
            length: if tiny { Length::Turns(2) } else { Length::Time(Duration::from_secs_f64(seconds)) },
            only: value("--only").map(|list| list.split(',').map(str::to_owned).collect()),
            case: value("--case"),
            raw: value("--raw"),
        }
    }
}

fn run(case: usize, version: usize, pass: usize, options: &Options) -> Run {
    let phase = Arc::new(Phase::default());
    let (ready, address) = mpsc::channel();
    let &Options { tiny, length, .. } = options;
    let mut load = CASES[case];
    let mut chunks = CHUNKS;
    if tiny {
        load.connections = load.connections.min(3);
        chunks = 2;
    }
    let for_server = phase.clone();
    // Named for profilers.
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let server = named("server").spawn(move || {
        pin(0, !tiny);
        VERSIONS[version].1(load, Work::new(for_server, chunks), &ready)
    });
    let generator = named("generator").spawn(move || {
        pin(1, !tiny);
        let address = address.recv().expect("the server says where it listens");
        load::drive(address, &load, length, &phase).expect("the server answers")
    });
    let (server, generator) = (server.expect("a thread"), generator.expect("a thread"));
    let spent = generator.join().expect("the load generator ends");
    let served = server.join().expect("the server ends");
    assert!(served.requests > 0, "{} served nothing in {}", VERSIONS[version].0, CASES[case].name);
    Run {
        case,
        version,
        pass,
        served,
        generator_ns: spent.generator_ns,
        other_ns: spent.process_ns.saturating_sub(spent.generator_ns + served.cpu_ns),
    }
}

fn pin(core: usize, wanted: bool) {
    if wanted {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).expect("two cores");
    }
}

/// Runs two futures of one task side by side.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|cx| {
        if of_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            of_a = Some(value);
        }
        if of_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            of_b = Some(value);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

fn print_table(case: usize, versions: &[usize], runs: &[Run]) {
    println!("\n{}", CASES[case].name);
    println!(
        "| version | requests/s | MB/s | CPU ns/request | CPU s/GB | CPU to the first's, quartiles | other CPU ns/request \
         | requests/receive |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let of = |version: usize| runs.iter().filter(move |run| run.case == case && run.version == version);
    let per_request = |ns: u64, run: &Run| ns as f64 / run.served.requests as f64;
    for &version in versions {
        let median = |figure: &dyn Fn(&Run) -> f64| quartiles(of(version).map(figure).collect())[1];
        // Of runs that followed each other closely: the machine's mood is the same for both.
        let ratios = of(version).filter_map(|run| {
            let first = of(versions[0]).find(|first| first.pass == run.pass)?;
            Some(per_request(run.served.cpu_ns, run) / per_request(first.served.cpu_ns, first))
        });
        let [low, middle, high] = quartiles(ratios.collect());
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.3} | {middle:.2} ({low:.2} to {high:.2}) | {:.0} | {:.2} |",
            VERSIONS[version].0,
            median(&|run| run.served.requests as f64 / run.served.wall_ns as f64 * 1e9),
            median(&|run| run.served.bytes as f64 / run.served.wall_ns as f64 * 1e3),
            median(&|run| per_request(run.served.cpu_ns, run)),
            median(&|run| run.served.cpu_ns as f64 / run.served.bytes as f64),
            median(&|run| per_request(run.other_ns, run)),
            median(&|run| run.served.requests as f64 / run.served.receives as f64),
        );
    }
}

/// The lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        let place = (values.len() - 1) as f64 * f64::from(quarter) / 4.0;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        below + (above - below) * place.fract()
    })
}

/// The raw data: one line per run, in the order of the runs.
struct Raw(File);

impl Raw {
    fn create(path: &str) -> Raw {
        let mut file = File::create(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let columns = "pass,case,version,requests,bytes,receives,wall_ns,server_cpu_ns,generator_cpu_ns,other_cpu_ns\n";
        file.write_all(columns.as_bytes()).expect("room on the disk");
        Raw(file)
    }

    fn write(&mut self, run: &Run) {
        let Served { requests, bytes, receives, cpu_ns, wall_ns } = run.served;
        let (case, version) = (CASES[run.case].name, VERSIONS[run.version].0);
        let Run { pass, generator_ns, other_ns, .. } = run;
        let line = format!(
            "{pass},{case},{version},{requests},{bytes},{receives},{wall_ns},{cpu_ns},{generator_ns},{other_ns}\n"
        );
        self.0.write_all(line.as_bytes()).expect("room on the disk");
    }
}
