//! The broker of one run, of either side.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench::Failure;
use crate::cases::Class;
use crate::client::Client;
use crate::kafka::{Broker, BrokerOptions};
use crate::record::Side;
use crate::run::Plan;
use crate::weir::{Weir, WeirOptions};

/// How long the files of a deleted topic may stay.
const DELETE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Kafka deletes the files of a topic a minute after the topic, and looks for such files for the first time half a minute after its
/// start. Prewarming leaves gigabytes that have to be gone before the measured run. Nothing on the path of a request changes by this.
const KAFKA_DELETES_SOON: [(&str, &str); 2] =
    [("log.segment.delete.delay.ms", "500"), ("log.initial.task.delay.ms", "500")];

/// The broker of a run. Dropping it stops it and deletes its data.
pub(crate) enum RunningBroker {
    Weir(Weir),
    Kafka(Broker),
}

impl RunningBroker {
    /// Starts the side's broker on `cores`.
    pub(crate) fn start(plan: &Plan, class: Class, side: Side, cores: &str) -> Result<RunningBroker, Failure> {
        match side {
            Side::Weir if !plan.settings.kafka_on_both_sides => {
                let program: &Path = plan.weir.as_deref().ok_or(Failure::NoWeir)?;
                let options =
                    WeirOptions { program, parent_dir: &plan.data_parent, cores, durability: class.weir_durability() };
                Weir::start(&options).map(RunningBroker::Weir).map_err(Failure::Weir)
            }
            Side::Weir | Side::Kafka => {
                let options = BrokerOptions {
                    cpus: Some(cores.to_owned()),
                    parent_dir: Some(plan.data_parent.clone()),
                    properties: KAFKA_DELETES_SOON.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
                    ..BrokerOptions::default()
                };
                Broker::start(&plan.jars, &options).map(RunningBroker::Kafka).map_err(Failure::Kafka)
            }
        }
    }

    pub(crate) fn bootstrap(&self) -> String {
        match self {
            RunningBroker::Weir(weir) => weir.bootstrap().to_owned(),
            RunningBroker::Kafka(kafka) => kafka.bootstrap(),
        }
    }

    /// Deletes a topic and returns when its files are gone, and so its share of the page cache.
    pub(crate) fn delete_topic(&self, topic: &str) -> Result<(), Failure> {
        let failed = |source: io::Error| Failure::Deleting { topic: topic.to_owned(), source };
        let address = self.bootstrap().parse().map_err(|error| failed(io::Error::other(error)))?;
        Client::connect(address).and_then(|mut client| client.delete_topic(topic)).map_err(failed)?;
        let (data_dir, deadline) = (self.data_dir(), Instant::now() + DELETE_TIMEOUT);
        while has_files(&data_dir, topic).map_err(failed)? {
            if Instant::now() > deadline {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn data_dir(&self) -> PathBuf {
        match self {
            RunningBroker::Weir(weir) => weir.data_dir(),
            RunningBroker::Kafka(kafka) => kafka.data_dir(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            RunningBroker::Weir(weir) => weir.pid(),
            RunningBroker::Kafka(kafka) => kafka.pid(),
        }
    }

    /// The end of the log of a broker that ended by itself.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        match self {
            RunningBroker::Weir(weir) => weir.last_words(),
            RunningBroker::Kafka(kafka) => kafka.last_words(),
        }
    }

    pub(crate) fn stop(self) -> Result<(), Failure> {
        match self {
            RunningBroker::Weir(weir) => weir.stop().map_err(Failure::Weir),
            RunningBroker::Kafka(kafka) => kafka.stop().map_err(Failure::Kafka),
        }
    }
}

/// Both brokers keep partition 3 of a topic in `topic-3`; what Kafka is to delete is called `topic-3.<id>-delete` meanwhile.
fn has_files(data_dir: &Path, topic: &str) -> io::Result<bool> {
    let prefix = format!("{topic}-");
    for entry in std::fs::read_dir(data_dir)? {
        if entry?.file_name().to_string_lossy().starts_with(&prefix) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::TempDir;

    #[test]
    fn files_of_a_topic_are_told_from_those_of_others() {
        let temp = TempDir::create(&std::env::temp_dir(), "weir-peer-test").unwrap();
        std::fs::create_dir(temp.path().join("warm1-0.5f-delete")).unwrap();
        std::fs::create_dir(temp.path().join("warm11-3")).unwrap();
        assert!(has_files(temp.path(), "warm1").unwrap());
        assert!(has_files(temp.path(), "warm11").unwrap());
        assert!(!has_files(temp.path(), "warm").unwrap());
        assert!(has_files(&temp.path().join("missing"), "warm").is_err());
    }
}
