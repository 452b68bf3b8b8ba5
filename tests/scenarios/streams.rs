//! Apache Kafka Streams: the demo that everyone starts with, and an application that counts exactly once though it is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::broker::Broker;
use harness::process::{Output, Running};
use harness::wait::Wait;
use harness::{cache, provision, suite};

use crate::group::{ends, produce};
use crate::tools::Tools;
use crate::{here, java};

/// How long to wait before the broker is asked again how far an application has got.
const POLL: Duration = Duration::from_millis(20);

#[test]
#[ignore = "needs Java, and Apache Kafka Streams from Maven"]
fn scenario_streams_word_count() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "scenario-word-count", &[("auto.create.topics.enable", "false")]);
    let tools = Tools::new(&broker);
    let (input, output) = ("streams-plaintext-input", "streams-wordcount-output");
    tools.create(input, 2);
    tools.create(output, 1);
    let settings = broker.dir().join("streams.properties");
    let state = broker.dir().join("state");
    let lines = [
        format!("bootstrap.servers={}", broker.bootstrap()),
        format!("state.dir={}", state.display()),
        // Streams stays a member when it closes, so the next one waits for its time-out.
        "session.timeout.ms=6000".to_owned(),
        "heartbeat.interval.ms=500".to_owned(),
    ];
    std::fs::write(&settings, lines.join("\n")).unwrap_or_else(|error| panic!("{}: {error}", settings.display()));

    // The second one differs, so that nothing of the first one passes for it.
    let poems = [
        ["All streams lead to Kafka", "Hello Kafka Streams", "Join Kafka summit"],
        ["Kafka streams never sleep", "Streams of Kafka", "Sleep well summit"],
    ];
    let mut written = 0;
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (round, (poem, log)) in poems.into_iter().zip(["first.log", "second.log"]).enumerate() {
        tools.produce(input, poem);
        for word in poem.iter().flat_map(|line| line.split(' ')) {
            let counts = expected.entry(word.to_lowercase()).or_default();
            counts.push(counts.len() as u64 + 1);
            written += 1;
        }
        let mut demo = java(&provision::maven_jars("streams"));
        demo.arg("org.apache.kafka.streams.examples.wordcount.WordCountDemo").arg(&settings);
        let demo = Running::start(&mut demo, &broker.dir().join(log));
        let printed = tools.consume(
            output,
            written,
            &[
                "--from-beginning",
                "--formatter-property",
                "print.key=true",
                "--formatter-property",
                "value.deserializer=org.apache.kafka.common.serialization.LongDeserializer",
            ],
        );
        // The demo tells of every change.
        assert_eq!(counts(&printed), expected, "round {round}");
        demo.terminate();
        broker.restart();
        // What was counted is in the broker as well.
        std::fs::remove_dir_all(&state).unwrap_or_else(|error| panic!("{}: {error}", state.display()));
    }
}

const WORDS: usize = 5000;
const DISTINCT: usize = 20;
const PARTITIONS: u32 = 4;

#[test]
#[ignore = "needs Java, and Apache Kafka Streams from Maven"]
fn scenario_streams_exactly_once() {
    let _machine = cache::whole_machine();
    let broker = Broker::start(&suite!(), "scenario-exactly-once", &[("auto.create.topics.enable", "false")]);
    let tools = Tools::new(&broker);
    tools.create("words", PARTITIONS);
    tools.create("counts", PARTITIONS);
    let words: Vec<Vec<u8>> = (0..WORDS).map(|number| format!("word-{}", number % DISTINCT).into_bytes()).collect();
    for (index, part) in words.chunks(WORDS / 100).enumerate() {
        produce(&broker, "words", index % PARTITIONS as usize, part);
    }

    let state = broker.dir().join("state");
    let counted_by = |application: &mut Running, counted: usize| {
        let mut wait = Wait::begin();
        while ends(&broker, "counts", PARTITIONS).iter().sum::<i64>() < counted as i64 {
            wait.goes_on(|| format!("an application to count {counted} words"));
            assert_eq!(application.next(POLL), Output::Nothing, "the application says what is wrong");
        }
    };
    let committed =
        ["--from-beginning", "--isolation-level", "read_committed", "--formatter-property", "print.key=true"];
    // One that reads all the time meets open transactions, which are aborted later.
    let mut follower = tools.start_consumer("counts", &committed);
    // The one that is killed first comes back with its state and the transactional id that it had.
    let mut application = start(&broker, &state, "first.log");
    counted_by(&mut application, WORDS / 5);
    application.kill();
    // The next one comes back as another instance, so what the second left open is aborted by its time-out.
    let mut application = start(&broker, &state, "second.log");
    counted_by(&mut application, WORDS / 2);
    application.kill();
    std::fs::remove_dir_all(&state).unwrap_or_else(|error| panic!("{}: {error}", state.display()));
    let application = start(&broker, &state, "third.log");
    let mut wait = Wait::begin();
    let mut followed = Vec::new();
        wait.goes_on(|| format!("{WORDS} counts, of which there are {}", followed.len()));
    while followed.len() < WORDS {
        match follower.next(POLL) {
            Output::Line(line) => followed.push(line),
            Output::Nothing => {}
            Output::End => panic!("the consumer has ended after {} records", followed.len()),
        }
    }
    application.terminate();

    let read_later = tools.consume_all("counts", 3_000, &committed);
    for (reader, printed) in [("meanwhile", followed), ("afterwards", read_later)] {
        let counts = counts(&printed);
        assert_eq!(counts.len(), DISTINCT, "{reader}");
        for (word, counts) in counts {
            let each_once: Vec<u64> = (1..=(WORDS / DISTINCT) as u64).collect();
            assert_eq!(counts, each_once, "{word} was counted exactly once for one who reads {reader}");
        }
    }
    // What was aborted is there for those who do not ask for committed records only.
    let all = tools.consume_all("counts", 3_000, &["--from-beginning"]);
    assert!(all.len() > WORDS, "the application was not killed inside a transaction");
}

fn start(broker: &Broker, state: &Path, log: &str) -> Running {
    let mut application: Command = java(&provision::maven_jars("streams"));
    application.arg(here("java").join("ExactlyOnce.java")).arg(broker.bootstrap()).arg(state);
    Running::start(&mut application, &broker.dir().join(log))
}

/// The counts of each word, in order, from lines such as `word TAB 7`.
fn counts(printed: &[String]) -> BTreeMap<String, Vec<u64>> {
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in printed {
        let parsed = line.split_once('\t').and_then(|(word, count)| Some((word.to_owned(), count.parse().ok()?)));
        let (word, count) = parsed.unwrap_or_else(|| panic!("the console consumer printed {line:?}"));
        counts.entry(word).or_default().push(count);
    }
    counts
}
