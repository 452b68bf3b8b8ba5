//! What clients write and read: rules of batches, limits of a Fetch, sessions, isolation, memory.

use wire::messages::fetch_request::ForgottenTopic;

use super::*;

#[test]
fn what_is_written_is_read_in_every_version_on_every_core() {
    for cores in 1..=3 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 4, &[]).await;
            let mut client = broker.client().await;
            let mut ends = [0i64; 4];
            for version in 3..=13 {
                let batches: Vec<Vec<u8>> =
                    (0..4).map(|p| batch(&[format!("{version}/{p}").as_bytes(), b"x"])).collect();
                let parts: Vec<(i32, &[u8])> = batches.iter().enumerate().map(|(p, b)| (p as i32, &b[..])).collect();
                for (index, produced) in client.produce(version, &topic, -1, &parts).await.into_iter().enumerate() {
                    assert_eq!((produced.index, produced.error), (index as i32, ErrorCode::None));
                    assert_eq!(produced.base_offset, ends[index]);
                    ends[index] += 2;
                }
            }
            for version in 4..=18 {
                let request = fetch_request(version, &topic, &[(0, 0), (1, 0), (2, 0), (3, 0)]);
                let fetched = client.fetch(version, &request).await;
                for index in 0..4 {
                    let values = fetched.values(index);
                    assert_eq!(values.len(), 22, "version {version}, partition {index}, {cores} cores");
                    for (at, (offset, value)) in values.iter().enumerate() {
                        assert_eq!(*offset, at as i64);
                        if at % 2 == 0 {
                            assert_eq!(*value, format!("{}/{index}", 3 + at / 2).into_bytes());
                        }
                    }
                }
            }
        });
    }
}

#[test]
fn a_fetch_waits_for_records_of_any_core_and_no_longer_than_asked() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let (mut reader, mut writer) = (broker.client().await, broker.client().await);
            for index in 0..2 {
                let request = FetchRequest { max_wait_ms: 60_000, ..fetch_request(12, &topic, &[(0, 0), (1, 0)]) };
                let mut request = request;
                request.topics[0].partitions[0].fetch_offset = i64::from(index > 0);
                reader.send(ApiKey::Fetch, 12, &request).await;
                let began_ns = reader.reactor.now_ns();
                writer.produce(9, &topic, 1, &[(index, &batch(&[b"news"]))]).await;
                let response = reader.receive().await.unwrap();
                let fetched = fetched(body_of(&response, ApiKey::Fetch, 12, index), 12);
                assert_eq!(fetched.values(index).len(), 1);
                assert!(reader.reactor.now_ns() - began_ns < 1_000_000_000, "long before the time is up");
            }
            let began_ns = reader.reactor.now_ns();
            let fetched = reader.fetch(12, &fetch_request(12, &topic, &[(0, 1), (1, 1)])).await;
            assert!(fetched.partitions.iter().all(|partition| partition.records.is_empty()));
            let took_ms = (reader.reactor.now_ns() - began_ns) / 1_000_000;
            assert!((100..110).contains(&took_ms), "{took_ms} ms");
        });
    }
}

#[test]
fn min_bytes_count_over_all_partitions() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let (mut reader, mut writer) = (broker.client().await, broker.client().await);
        let bytes = batch(&[&[7; 100]]);
        let request = FetchRequest {
            max_wait_ms: 60_000,
            min_bytes: 2 * bytes.len() as i32,
            ..fetch_request(12, &topic, &[(0, 0), (1, 0)])
        };
        reader.send(ApiKey::Fetch, 12, &request).await;
        writer.produce(9, &topic, 1, &[(0, &bytes)]).await;
        writer.produce(9, &topic, 1, &[(1, &bytes)]).await;
        let response = reader.receive().await.unwrap();
        let fetched = fetched(body_of(&response, ApiKey::Fetch, 12, 0), 12);
        assert_eq!((fetched.values(0).len(), fetched.values(1).len()), (1, 1));
    });
}

#[test]
fn limits_on_bytes_leave_at_least_one_batch() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            let bytes = batch(&[&[7; 500]]);
            for _ in 0..3 {
                client.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
            }
            let two = [(0, 0), (1, 0)];
            let batches = |fetched: &Fetched| (fetched.values(0).len(), fetched.values(1).len());
            let request = FetchRequest { max_bytes: 1, ..fetch_request(12, &topic, &two) };
            assert_eq!(batches(&client.fetch(12, &request).await), (1, 0));
            let max_bytes = 4 * bytes.len() as i32;
            let request = FetchRequest { max_bytes, ..fetch_request(12, &topic, &two) };
            assert_eq!(batches(&client.fetch(12, &request).await), (3, 1));
            let mut request = fetch_request(12, &topic, &two);
            request.topics[0].partitions[0].partition_max_bytes = 1;
            request.topics[0].partitions[1].partition_max_bytes = 2 * bytes.len() as i32;
            assert_eq!(batches(&client.fetch(12, &request).await), (1, 2));
        });
    }
}

#[test]
fn an_incremental_session_tells_what_changed() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 3, &[]).await;
        let mut client = broker.client().await;
        let mut request = fetch_request(13, &topic, &[(0, 0), (1, 0), (2, 0)]);
        (request.session_epoch, request.max_wait_ms) = (0, 0);
        let first = client.fetch(13, &request).await;
        assert_eq!(first.partitions.len(), 3);
        assert_ne!(first.session, 0);
        client.produce(13, &topic, 1, &[(1, &batch(&[b"a"]))]).await;
        let mut request = FetchRequest { session_id: first.session, session_epoch: 1, ..FetchRequest::default() };
        let second = client.fetch(13, &request).await;
        assert_eq!(second.partitions.iter().map(|p| p.index).collect::<Vec<_>>(), [1]);
        assert_eq!(second.values(1), [(0, b"a".to_vec())]);
        request.session_epoch = 2;
        request.topics = fetch_request(13, &topic, &[(1, 1)]).topics;
        request.forgotten_topics_data =
            vec![ForgottenTopic { topic_id: topic.id, partitions: vec![0], ..ForgottenTopic::default() }];
        assert_eq!(client.fetch(13, &request).await.partitions, []);
        request.session_epoch = 9;
        assert_eq!(client.fetch(13, &request).await.error, ErrorCode::InvalidFetchSessionEpoch.code());
        request.session_id = 77;
        assert_eq!(client.fetch(13, &request).await.error, ErrorCode::FetchSessionIdNotFound.code());
    });
}

#[test]
fn there_are_two_levels_of_isolation() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let mut client = broker.client().await;
        client.produce(9, &topic, 1, &[(0, &batch(&[b"a"])), (1, &batch(&[b"b"]))]).await;
        for (isolation_level, error) in [(1, ErrorCode::None), (2, ErrorCode::InvalidRequest)] {
            for version in [4, 12] {
                let request = FetchRequest {
                    isolation_level,
                    max_wait_ms: 600_000,
                    ..fetch_request(version, &topic, &[(0, 0), (1, 0)])
                };
                let fetched = client.fetch(version, &request).await;
                let errors: Vec<_> = fetched.partitions.iter().map(|partition| partition.error).collect();
                assert_eq!(errors, [error; 2], "level {isolation_level}, version {version}");
                assert_eq!(fetched.values(0).is_empty(), error != ErrorCode::None);
            }
            let partition = ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() };
            let topics = vec![ListOffsetsTopic { name: &topic.name, partitions: vec![partition] }];
            let request =
                ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..ListOffsetsRequest::default() };
            let told = client.call(ApiKey::ListOffsets, 9, &request, |body| {
                let response: ListOffsetsResponse<'_> = decode(body, 9);
                response.topics[0].partitions[0].error_code
            });
            assert_eq!(told.await, error.code(), "level {isolation_level}");
        }
    });
}

#[test]
fn records_leave_memory_and_are_still_read() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            // Ten times what the pool of a core holds.
            let total = 10 * (512 << 10) / 8000;
            for n in 0..total {
                let value = [&(n as u32).to_be_bytes()[..], &[7; 7900]].concat();
                let bytes = batch(&[&value]);
                let produced = client.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
                assert_eq!((produced[0].error, produced[1].error), (ErrorCode::None, ErrorCode::None));
            }
            let mut next = [0i64; 2];
            while next.iter().any(|next| *next < total as i64) {
                let request = fetch_request(12, &topic, &[(0, next[0]), (1, next[1])]);
                let fetched = client.fetch(12, &request).await;
                for index in 0..2 {
                    for (offset, value) in fetched.values(index) {
                        assert_eq!(offset, next[index as usize]);
                        assert_eq!(value[..4], (offset as u32).to_be_bytes());
                        next[index as usize] += 1;
                    }
                }
            }
        });
    }
}

#[test]
fn batches_that_break_a_rule_are_refused_with_kafkas_errors() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[("max.message.bytes", "1000")]).await;
        let compacted = broker.create("table", 1, &[("cleanup.policy", "compact")]).await;
        let internal = broker.create("__consumer_offsets", 1, &[]).await;
        let mut client = broker.client().await;
        let good = batch(&[b"v"]);
        let changed = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            if at >= 21 {
                seal(&mut changed);
            }
            changed
        };
        let two = [&good[..], &good[..]].concat();
        let future = build([(None, &b"v"[..], 1_700_000_000_000), (None, b"w", i64::MAX / 2)].into_iter(), Codec::None);
        let zstd = build([(None, &b"v"[..], 0)].into_iter(), Codec::Zstd);
        let cases: Vec<(&str, Vec<u8>, ErrorCode, Vec<i32>)> = vec![
            ("nothing", Vec::new(), ErrorCode::InvalidRecord, vec![]),
            ("cut", good[..good.len() - 1].to_vec(), ErrorCode::InvalidRecord, vec![]),
            ("two batches", two, ErrorCode::InvalidRecord, vec![]),
            ("magic 1", changed(16, &[1]), ErrorCode::InvalidRecord, vec![]),
            ("magic 7", changed(16, &[7]), ErrorCode::CorruptMessage, vec![]),
            ("length 3", changed(8, &[0, 0, 0, 3]), ErrorCode::CorruptMessage, vec![]),
            ("crc", changed(17, &[0, 0, 0, 0]), ErrorCode::CorruptMessage, vec![]),
            ("control", changed(21, &[0, 0x20]), ErrorCode::InvalidRecord, vec![]),
            ("codec 7", changed(21, &[0, 7]), ErrorCode::UnsupportedCompressionType, vec![]),
            ("base offset", changed(0, &[0, 0, 0, 0, 0, 0, 0, 1]), ErrorCode::InvalidRecord, vec![]),
            ("count", changed(57, &[0, 0, 0, 2]), ErrorCode::InvalidRecord, vec![]),
            ("zstd before version 7", zstd, ErrorCode::UnsupportedCompressionType, vec![]),
            ("too large", batch(&[&[1; 1000]]), ErrorCode::MessageTooLarge, vec![]),
            ("timestamp", future, ErrorCode::InvalidTimestamp, vec![1]),
        ];
        for (name, bytes, error, records) in cases {
            // Both cores, and beside a batch that is right.
            for index in 0..2 {
                let version = if name.starts_with("zstd") { 6 } else { 9 };
                let produced = client.produce(version, &topic, -1, &[(index, &bytes), (1 - index, &good)]).await;
                assert_eq!((produced[0].error, produced[0].base_offset), (error, -1), "{name}");
                assert_eq!(produced[0].records, records, "{name}");
                assert_eq!(produced[1].error, ErrorCode::None, "{name}");
            }
        }
        let keyless = build([(Some(&b"k"[..]), &b"v"[..], 0), (None, b"w", 0)].into_iter(), Codec::Gzip);
        let produced = client.produce(9, &compacted, -1, &[(0, &keyless)]).await;
        assert_eq!((produced[0].error, &produced[0].records), (ErrorCode::InvalidRecord, &vec![1]));
        assert_eq!(client.produce(9, &compacted, -1, &[(0, &good)]).await[0].error, ErrorCode::None);
        assert_eq!(client.produce(9, &topic, 2, &[(0, &good)]).await[0].error, ErrorCode::InvalidRequiredAcks);
        let in_transaction = changed(21, &[0, 0x10]);
        let produced = client.produce(9, &topic, 1, &[(0, &in_transaction), (1, &good)]).await;
        assert!(produced.iter().all(|p| p.error == ErrorCode::TransactionalIdAuthorizationFailed), "{produced:?}");
        let stamped = changed(21, &[0, 8]);
        let produced = client.produce(9, &topic, 1, &[(0, &stamped)]).await;
        assert_eq!(produced[0].error, ErrorCode::None);
        let fetched = client.fetch(12, &fetch_request(12, &topic, &[(0, produced[0].base_offset)])).await;
        let stored = &fetched.partitions[0].records;
        assert_eq!((fetched.values(0).len(), stored[22] & 8), (1, 0), "the timestamp type is put right");
        assert_eq!(client.produce(9, &internal, 1, &[(0, &good)]).await[0].error, ErrorCode::InvalidTopicException);
        for (index, good) in [(-1, &good), (2, &good)] {
            let produced = client.produce(9, &topic, 1, &[(index, good)]).await;
            assert_eq!(produced[0].error, ErrorCode::UnknownTopicOrPartition);
        }
        let unknown = Topic { name: "nowhere".into(), id: Uuid([99; 16]), ..Topic::clone(&topic) };
        for (version, error) in [(12, ErrorCode::UnknownTopicOrPartition), (13, ErrorCode::UnknownTopicId)] {
            assert_eq!(client.produce(version, &unknown, 1, &[(0, &good)]).await[0].error, error);
            let fetched = client.fetch(version, &fetch_request(version, &unknown, &[(0, 0)])).await;
            assert_eq!(fetched.partitions[0].error, error);
        }
    });
}

#[test]
fn topics_that_ask_for_it_have_each_record_looked_at() {
    with_broker(2, async |broker| {
        let early = broker.create("early", 1, &[("message.timestamp.before.max.ms", "1000")]).await;
        let stamped = broker.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        let gzip = broker.create("gzip", 1, &[("compression.type", "gzip")]).await;
        let plain = broker.create("plain", 1, &[("compression.type", "uncompressed")]).await;
        let mut client = broker.client().await;
        let now = broker.cores[0].reactor().unix_ms();
        let times = |times: &[i64], codec| build(times.iter().map(|time| (None, &b"v"[..], *time)), codec);

        let produced = client.produce(9, &early, 1, &[(0, &times(&[now, now - 100_000, now], Codec::Zstd))]).await;
        assert_eq!((produced[0].error, &produced[0].records[..]), (ErrorCode::InvalidTimestamp, &[1][..]));
        for times in [times(&[now, now - 10], Codec::None), times(&[-1], Codec::None)] {
            assert_eq!(client.produce(9, &early, 1, &[(0, &times)]).await[0].error, ErrorCode::None);
        }

        let far = times(&[now + 1_000_000_000], Codec::None);
        assert_eq!(client.produce(9, &stamped, 1, &[(0, &far)]).await[0].error, ErrorCode::None);
        let mut claimed = far.clone();
        claimed[22] |= 8;
        seal(&mut claimed);
        let produced = client.produce(9, &stamped, 1, &[(0, &claimed)]).await;
        assert_eq!((produced[0].error, &produced[0].records[..]), (ErrorCode::InvalidTimestamp, &[0][..]));

        for (topic, from, to) in
            [(&gzip, Codec::None, 1), (&gzip, Codec::Lz4, 1), (&gzip, Codec::Gzip, 1), (&plain, Codec::Snappy, 0)]
        {
            let produced = client.produce(9, topic, 1, &[(0, &times(&[now, now], from))]).await;
            assert_eq!(produced[0].error, ErrorCode::None);
            let fetched = client.fetch(12, &fetch_request(12, topic, &[(0, produced[0].base_offset)])).await;
            let stored = Batches::new(&fetched.partitions[0].records).next().unwrap().unwrap();
            assert_eq!((stored.crc_matches(), stored.attributes().0 & 7, stored.record_count()), (true, to, 2));
            let mut scratch = Vec::new();
            let body = stored.decompress(1000, &mut scratch).unwrap();
            assert!(stored.records_in(body).all(|record| record.unwrap().value == Some(b"v")));
        }
    });
}
