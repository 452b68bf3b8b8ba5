//! Configurations that change while the broker runs, as clients see them take effect.

use wire::messages::describe_producers_request::TopicRequest;
use wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DescribeProducersRequest, DescribeProducersResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::*;
use crate::coordinator::{LogTopic, partition_of};
use crate::image::{RESOURCE_BROKER, RESOURCE_GROUP};

/// After this all cores have swept their connections, in nanoseconds.
const SWEPT_NS: u64 = 2 * crate::limits::SWEEP_MS * 1_000_000;

impl Broker {
    async fn pass(&self, ns: u64) {
        let reactor = self.cores[0].reactor();
        reactor.sleep_until(reactor.now_ns() + ns).await;
    }

    /// The lengths of a topic's logs, in bytes.
    async fn log_bytes(&self, topic: &Topic) -> Vec<u64> {
        let mut lengths = Vec::new();
        for partition in &topic.partitions {
            let slot = partition.slot;
            let asked = move |shard: Shard| std::future::ready(shard.store().info(slot).unwrap().bytes);
            lengths.push(self.cores[0].run_on(partition.core, asked).await);
        }
        lengths
    }
}

impl Client {
    /// Sets configurations, or removes them.
    async fn alter(&mut self, kind: i8, name: &str, changes: &[(&str, Option<&str>)]) {
        let config = |it: &(&'static str, Option<&'static str>)| AlterableConfig {
            name: it.0,
            config_operation: i8::from(it.1.is_none()),
            value: it.1,
        };
        let changes: Vec<(&'static str, Option<&'static str>)> = changes
            .iter()
            .map(|(key, value)| (&*key.to_string().leak(), value.map(|value| &*value.to_owned().leak())))
            .collect();
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: name,
            configs: changes.iter().map(config).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let code = self.call(ApiKey::IncrementalAlterConfigs, 1, &request, |body| {
            let response: IncrementalAlterConfigsResponse<'_> = decode(body, 1);
            response.responses[0].error_code
        });
        assert_eq!(code.await, 0, "{name}: {changes:?}");
    }

    /// Whether the broker still answers.
    async fn is_served(&mut self) -> bool {
        self.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
        self.receive().await.is_some()
    }

    /// The ids of the producers that the first partition of `topic` knows.
    async fn producers(&mut self, topic: &str) -> Vec<i64> {
        let topics = vec![TopicRequest { name: topic, partition_indexes: vec![0] }];
        let request = DescribeProducersRequest { topics };
        let told = self.call(ApiKey::DescribeProducers, 0, &request, |body| {
            let response: DescribeProducersResponse<'_> = decode(body, 0);
            let partition = &response.topics[0].partitions[0];
            assert_eq!(partition.error_code, 0);
            partition.active_producers.iter().map(|producer| producer.producer_id).collect()
        });
        told.await
    }

    /// A member's heartbeat: error, epoch, and the interval that it is told.
    async fn beat(&mut self, group_id: &str, member_epoch: i32) -> (i16, i32, i32) {
        let joins = member_epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id,
            member_id: "member",
            member_epoch,
            rebalance_timeout_ms: if joins { 300_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec!["topic"]),
            topic_partitions: joins.then(Vec::new),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let beat = self.call(ApiKey::ConsumerGroupHeartbeat, 1, &request, |body| {
            let response: ConsumerGroupHeartbeatResponse<'_> = decode(body, 1);
            (response.error_code, response.member_epoch, response.heartbeat_interval_ms)
        });
        beat.await
    }
}

#[test]
fn a_lower_limit_of_connections_ends_the_quiet_ones() {
    with_broker(1, async |broker| {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(broker.client().await);
            // So that one has been quiet for longer than the next.
            assert!(clients.last_mut().unwrap().is_served().await);
            broker.pass(1_000_000).await;
        }
        clients[0].alter(RESOURCE_BROKER, "1", &[("max.connections", Some("2"))]).await;
        assert!(clients[1].receive().await.is_none() && clients[2].receive().await.is_none());
        assert!(clients[0].is_served().await && clients[3].is_served().await);
        assert!(!broker.client().await.is_served().await);
        clients[0].alter(RESOURCE_BROKER, "1", &[("max.connections", None)]).await;
        assert!(broker.client().await.is_served().await);
    });
}

#[test]
fn the_cores_end_as_many_connections_as_are_too_many_between_them() {
    with_broker(3, async |broker| {
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(broker.client().await);
            assert!(clients.last_mut().unwrap().is_served().await);
        }
        clients[19].alter(RESOURCE_BROKER, "", &[("max.connections", Some("7"))]).await;
        broker.pass(SWEPT_NS).await;
        let mut served = 0;
        for client in &mut clients {
            served += usize::from(client.is_served().await);
        }
        assert_eq!(served, 7);
    });
}

#[test]
fn limits_of_an_address_count_for_those_who_come() {
    with_broker(2, async |broker| {
        let mut admin = broker.client().await;
        assert!(admin.is_served().await);
        let address = broker.address.ip();
        let limit = format!("{address}:1");
        let set = [("max.connections.per.ip", Some("0")), ("max.connections.per.ip.overrides", Some(limit.as_str()))];
        admin.alter(RESOURCE_BROKER, "1", &set).await;
        assert!(!broker.client().await.is_served().await);
        let limit = format!("{address}:2");
        admin.alter(RESOURCE_BROKER, "1", &[("max.connections.per.ip.overrides", Some(&limit))]).await;
        assert!(broker.client().await.is_served().await);
        assert!(admin.is_served().await);
    });
}

#[test]
fn groups_have_times_of_their_own_on_every_core() {
    with_broker(2, async |broker| {
        broker.create("__consumer_offsets", 2, &[]).await;
        let mut client = broker.client().await;
        let names: Vec<String> = (0..8).map(|n| format!("group-{n}")).collect();
        let image = broker.cores[0].image().clone();
        let partition = |name: &String| partition_of(name, LogTopic::Offsets, &image);
        let partitions: HashSet<Option<i32>> = names.iter().map(partition).collect();
        assert_eq!(partitions.len(), 2, "both cores have groups");
        let mut epochs = Vec::new();
        for name in &names {
            let joined = loop {
                let answer = client.beat(name, 0).await;
                if answer.0 != ErrorCode::CoordinatorLoadInProgress as i16 {
                    break answer;
                }
                broker.pass(1_000_000).await;
            };
            assert_eq!((joined.0, joined.2), (0, 5_000));
            epochs.push(joined.1);
        }
        let set = [("consumer.heartbeat.interval.ms", Some("7000")), ("consumer.session.timeout.ms", Some("60000"))];
        for name in &names[..4] {
            client.alter(RESOURCE_GROUP, name, &set).await;
        }
        for (number, name) in names.iter().enumerate() {
            let interval_ms = if number < 4 { 7_000 } else { 5_000 };
            assert_eq!(client.beat(name, epochs[number]).await, (0, epochs[number], interval_ms), "{name}");
        }
        // Longer than the session of a group without its own, 45 s.
        broker.pass(50_000_000_000).await;
        for (number, name) in names.iter().enumerate() {
            let error = if number < 4 { ErrorCode::None } else { ErrorCode::UnknownMemberId };
            assert_eq!(client.beat(name, epochs[number]).await.0, error as i16, "{name}");
        }
        client.alter(RESOURCE_GROUP, &names[0], &[(set[0].0, None), (set[1].0, None)]).await;
        assert_eq!(client.beat(&names[0], epochs[0]).await, (0, epochs[0], 5_000));
    });
}

#[test]
fn compaction_goes_by_the_settings_in_force_on_every_core() {
    with_broker(2, async |broker| {
        let own =
            [("cleanup.policy", "compact"), ("internal.segment.bytes", "4096"), ("min.cleanable.dirty.ratio", "0")];
        let topic = broker.create("events", 4, &own).await;
        let cores: HashSet<usize> = topic.partitions.iter().map(|partition| partition.core).collect();
        assert_eq!(cores.len(), 2, "both cores have partitions");
        let mut client = broker.client().await;
        client.alter(RESOURCE_BROKER, "", &[("log.cleaner.backoff.ms", Some("3600000"))]).await;
        // The look that the change brings about.
        broker.pass(1_000_000_000).await;
        let one_key = batch(&[&[7; 1000][..]]);
        for _ in 0..20 {
            let batches: Vec<(i32, &[u8])> = (0..4).map(|index| (index, &one_key[..])).collect();
            let produced = client.produce(13, &topic, -1, &batches).await;
            assert!(produced.iter().all(|partition| partition.error == ErrorCode::None), "{produced:?}");
        }
        let full = broker.log_bytes(&topic).await;
        broker.pass(300_000_000_000).await;
        assert_eq!(broker.log_bytes(&topic).await, full, "compacted before an hour is over");
        // What is set for this broker is stronger than what is set for all.
        client.alter(RESOURCE_BROKER, "1", &[("log.cleaner.backoff.ms", Some("1000"))]).await;
        broker.pass(2_000_000_000).await;
        let compacted = broker.log_bytes(&topic).await;
        assert!(compacted.iter().zip(&full).all(|(compacted, full)| compacted < full), "{compacted:?} of {full:?}");
    });
}

#[test]
fn silent_producers_are_forgotten_after_the_time_in_force() {
    with_broker(1, async |broker| {
        // After this every partition has been looked at again.
        let looked_ns = (broker.plan.retention_check_interval_ms + 1_000) * 1_000_000;
        let topic = broker.create("events", 1, &[]).await;
        let write = async |producer: i64| {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.producer(producer, 0, 0);
            let record = NewRecord { timestamp: 1_700_000_000_000, key: None, value: Some(b"v"), headers: &[] };
            builder.push(&record).unwrap();
            let mut bytes = Vec::new();
            builder.finish(&mut bytes).unwrap();
            let produced = broker.client().await.produce(13, &topic, -1, &[(0, &bytes)]).await;
            assert_eq!(produced[0].error, ErrorCode::None);
        };
        write(7).await;
        broker.pass(looked_ns).await;
        assert_eq!(broker.client().await.producers("events").await, [7], "a day is not over");
        broker.client().await.alter(RESOURCE_BROKER, "", &[("producer.id.expiration.ms", Some("60000"))]).await;
        broker.pass(looked_ns).await;
        assert_eq!(broker.client().await.producers("events").await, [] as [i64; 0]);
        write(8).await;
        broker.client().await.alter(RESOURCE_BROKER, "", &[("producer.id.expiration.ms", None)]).await;
        broker.pass(looked_ns).await;
        assert_eq!(broker.client().await.producers("events").await, [8], "a day counts again");
    });
}
