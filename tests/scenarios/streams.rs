//! Apache Kafka Streams: the demo that everyone starts with, and an application that counts exactly once though it is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::broker::Broker;
use harness::process::{Output, Running};
use harness::raw::Connection;
use harness::wait::Wait;
use harness::{cache, provision, suite};

use crate::group::produce;
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
    // The application is killed when it has an open transaction with records in the topic.
    let kill_in_transaction = |mut application: Running| {
        application.wait_for("stalled");
        let mut wait = Wait::begin();
        while !has_open_transaction(&broker, "counts") {
            wait.goes_on(|| "the records of an open transaction".to_owned());
            assert_eq!(application.next(POLL), Output::Nothing, "the application says what is wrong");
        }
        application.kill();
    };
    let committed = ["--isolation-level", "read_committed", "--formatter-property", "print.key=true"];
    // One that reads all the time meets open transactions, which are aborted later.
    let mut follower = tools.start_consumer("counts", &[&["--from-beginning"], &committed[..]].concat());
    // The one that is killed first comes back with its state and the transactional id that it had.
    kill_in_transaction(start(&broker, &state, WORDS / 5, "first.log"));
    // The next one comes back as another instance, so what the second left open is aborted by its time-out.
    kill_in_transaction(start(&broker, &state, WORDS / 3, "second.log"));
    std::fs::remove_dir_all(&state).unwrap_or_else(|error| panic!("{}: {error}", state.display()));
    let application = start(&broker, &state, 0, "third.log");
    let mut followed = Vec::new();
    let mut wait = Wait::begin();
    while followed.len() < WORDS {
        wait.goes_on(|| format!("{WORDS} counts, of which there are {}", followed.len()));
        match follower.next(POLL) {
            Output::Line(line) => followed.push(line),
            Output::Nothing => {}
            Output::End => panic!("the consumer has ended after {} records", followed.len()),
        }
    }
    application.terminate();

    let read_later = tools.consume_to_end(&broker, "counts", PARTITIONS, &committed);
    for (reader, printed) in [("meanwhile", followed), ("afterwards", read_later)] {
        let counts = counts(&printed);
        assert_eq!(counts.len(), DISTINCT, "{reader}");
        for (word, counts) in counts {
            let each_once: Vec<u64> = (1..=(WORDS / DISTINCT) as u64).collect();
            assert_eq!(counts, each_once, "{word} was counted exactly once for one who reads {reader}");
        }
    }
    // What was aborted is there for those who do not ask for committed records only.
    let all = tools.consume_to_end(&broker, "counts", PARTITIONS, &[]);
    assert!(all.len() > WORDS, "the application was not killed inside a transaction");
}

/// Starts an application that stalls after so many counts, or not at all.
fn start(broker: &Broker, state: &Path, stall: usize, log: &str) -> Running {
    let mut application: Command = java(&provision::maven_jars("streams"));
    application.arg(here("java").join("ExactlyOnce.java")).arg(broker.bootstrap()).arg(state).arg(stall.to_string());
    Running::start(&mut application, &broker.dir().join(log))
}

fn has_open_transaction(broker: &Broker, topic: &str) -> bool {
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    (0..PARTITIONS as i32).any(|partition| {
        let stable = connection.stable_offset(topic, partition).expect("an answer");
        stable < connection.end_offset(topic, partition).expect("an answer")
    })
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
