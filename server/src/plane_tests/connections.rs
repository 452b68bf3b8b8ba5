//! Requests on one connection: their order, how many, those that cannot be read, and the ends of connections.

use wire::messages::ApiVersionsResponse;

use super::*;
use crate::limits::{REQUESTS_IN_FLIGHT, UNSENT_BYTES};

#[test]
fn pipelined_requests_are_answered_in_order_and_appended_in_order() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let mut client = broker.client().await;
        for n in 0..200i32 {
            let bytes = batch(&[&n.to_be_bytes()]);
            let request = produce_request(9, &topic, 1, &[(n % 2, &bytes)]);
            client.send(ApiKey::Produce, 9, &request).await;
        }
        for n in 0..200i32 {
            let response = client.receive().await.unwrap();
            let produced = produced(body_of(&response, ApiKey::Produce, 9, n), 9);
            assert_eq!((produced[0].error, produced[0].base_offset), (ErrorCode::None, i64::from(n / 2)));
        }
        let fetched = client.fetch(12, &fetch_request(12, &topic, &[(0, 0), (1, 0)])).await;
        for index in 0..2 {
            let values: Vec<i32> =
                fetched.values(index).iter().map(|(_, v)| i32::from_be_bytes(v[..].try_into().unwrap())).collect();
            assert_eq!(values, (0..200).filter(|n| n % 2 == index).collect::<Vec<_>>());
        }
    });
}

#[test]
fn more_requests_than_may_be_in_flight_are_all_answered() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            let bytes = batch(&[b"v"]);
            let total = 3 * REQUESTS_IN_FLIGHT as i32;
            let mut all = Vec::new();
            for n in 0..total {
                let mut frame = vec![0; 4];
                let header =
                    RequestHeader { api: ApiKey::Produce, version: 9, correlation_id: n, client_id: Some("test") };
                header.encode(&mut frame).unwrap();
                produce_request(9, &topic, 1, &[(1, &bytes)]).encode(&mut frame, 9).unwrap();
                let len = (frame.len() - 4) as i32;
                frame[..4].copy_from_slice(&len.to_be_bytes());
                all.extend(frame);
            }
            let (reactor, socket) = (client.reactor.clone(), client.socket.clone());
            client.reactor.spawn(async move {
                let parts = vec![Part::Head(0..all.len())];
                reactor.send(&socket, SendBuf { head: all, parts }).await.0.unwrap();
            });
            for n in 0..total {
                let response = client.receive().await.unwrap();
                let produced = produced(body_of(&response, ApiKey::Produce, 9, n), 9);
                assert_eq!(produced[0].base_offset, i64::from(n));
            }
        });
    }
}

#[test]
fn a_client_that_does_not_read_stops_its_own_requests_only() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let (mut slow, mut other) = (broker.client().await, broker.client().await);
        let bytes = batch(&[&[7; 8000]]);
        for _ in 0..100 {
            other.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
        }
        let (reactor, topic2) = (slow.reactor.clone(), topic.clone());
        let sent = Rc::new(Cell::new(0));
        let counted = sent.clone();
        let socket = slow.socket.clone();
        reactor.spawn(async move {
            for _ in 0..10_000 {
                slow.send(ApiKey::Fetch, 12, &fetch_request(12, &topic2, &[(0, 0), (1, 0)])).await;
                counted.set(counted.get() + 1);
            }
        });
        for _ in 0..100 {
            let produced = other.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
            assert_eq!(produced[0].error, ErrorCode::None);
        }
        assert!(sent.get() < 10_000, "requests stay in the sockets");
        let unsent: usize = broker.cores.iter().map(|core| core.0.unsent_bytes.get()).sum();
        // Beside the bound: the answer that crosses it, and the send under way with its own.
        assert!(unsent <= 2 * (UNSENT_BYTES + (2 << 20)), "{unsent} bytes wait to be sent");
        drop(socket);
    });
}

#[test]
fn no_acks_no_answer_and_an_error_ends_the_connection() {
    for cores in 1..=2 {
        with_broker(cores, async |broker| {
            let topic = broker.create("events", 2, &[]).await;
            let mut client = broker.client().await;
            let bytes = batch(&[b"v"]);
            client.send(ApiKey::Produce, 9, &produce_request(9, &topic, 0, &[(0, &bytes), (1, &bytes)])).await;
            // The next answer is that of the next request.
            let produced = client.produce(9, &topic, 1, &[(0, &bytes), (1, &bytes)]).await;
            assert_eq!((produced[0].base_offset, produced[1].base_offset), (1, 1));
            for index in 0..2 {
                let mut client = broker.client().await;
                client.send(ApiKey::Produce, 9, &produce_request(9, &topic, 1, &[(0, &bytes)])).await;
                client.send(ApiKey::Produce, 9, &produce_request(9, &topic, 0, &[(index, b"no batch")])).await;
                assert!(client.receive().await.is_some(), "what was before is answered");
                assert_eq!(client.receive().await, None);
            }
        });
    }
}

#[test]
fn a_request_that_cannot_be_read_ends_its_connection() {
    with_broker(1, async |broker| {
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("a negative length", vec![0xff; 4]),
            ("a length beyond the limit", ((1 << 20) + 1i32).to_be_bytes().to_vec()),
            ("no header", vec![0, 0, 0, 0]),
            ("an unknown API", vec![0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("an API for controllers", vec![0, 0, 0, 10, 0, 52, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("a version too high", vec![0, 0, 0, 10, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0]),
            ("a version too low", vec![0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]),
            ("a body cut short", vec![0, 0, 0, 11, 0, 0, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff]),
        ];
        for (name, bytes) in cases {
            let mut client = broker.client().await;
            client.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await;
            client.send_bytes(bytes).await;
            assert!(client.receive().await.is_some(), "{name}: what was before is answered");
            assert_eq!(client.receive().await, None, "{name}");
        }
        let mut client = broker.client().await;
        let bytes = batch(&[b"v"]);
        client.send_body(ApiKey::Produce, 9, &bytes).await;
        assert_eq!(client.receive().await, None, "a body that is something else");
    });
}

#[test]
fn api_versions_are_told_in_any_version() {
    with_broker(1, async |broker| {
        let mut client = broker.client().await;
        for version in 0..=4 {
            let request = ApiVersionsRequest { client_software_name: "test", client_software_version: "1" };
            let keys = client.call(ApiKey::ApiVersions, version, &request, |body| {
                let response: ApiVersionsResponse<'_> = decode(body, version);
                assert_eq!(response.error_code, 0);
                response.api_keys.len()
            });
            assert_eq!(keys.await, crate::api::APIS.len());
        }
        client.send_body(ApiKey::ApiVersions, 50, b"whatever comes in later versions").await;
        let response = client.receive().await.unwrap();
        let response: ApiVersionsResponse<'_> = decode(body_of(&response, ApiKey::ApiVersions, 50, 5), 0);
        assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
        let request = ApiVersionsRequest { client_software_name: "no name", client_software_version: "1" };
        let error =
            client.call(ApiKey::ApiVersions, 3, &request, |body| decode::<ApiVersionsResponse<'_>>(body, 3).error_code);
        assert_eq!(error.await, ErrorCode::InvalidRequest.code());
    });
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let options = ShardOptions { idle_max_ms: Some(5_000), ..options() };
    with_options(1, SimConfig::default(), options, async |broker| {
        let topic = broker.create("events", 1, &[]).await;
        let (mut idle, mut waiting) = (broker.client().await, broker.client().await);
        let request = FetchRequest { max_wait_ms: 20_000, ..fetch_request(12, &topic, &[(0, 0)]) };
        waiting.send(ApiKey::Fetch, 12, &request).await;
        assert_eq!(idle.receive().await, None);
        let closed_ms = idle.reactor.now_ns() / 1_000_000;
        assert!((5_000..7_000).contains(&closed_ms), "{closed_ms} ms");
        assert!(waiting.receive().await.is_some(), "a long poll is not idle");
    });
}

#[test]
fn a_stop_answers_what_has_begun_and_keeps_what_was_acknowledged() {
    with_broker(2, async |broker| {
        let topic = broker.create("events", 2, &[]).await;
        let (mut reader, mut writer) = (broker.client().await, broker.client().await);
        let request = FetchRequest { max_wait_ms: 600_000, ..fetch_request(12, &topic, &[(0, 0), (1, 0)]) };
        reader.send(ApiKey::Fetch, 12, &request).await;
        let bytes = batch(&[b"v"]);
        writer.send(ApiKey::Produce, 9, &produce_request(9, &topic, 1, &[(0, &bytes), (1, &bytes)])).await;
        let core0 = broker.cores[0].clone();
        core0.reactor().sleep_until(core0.reactor().now_ns() + 50_000_000).await;
        let began_ns = core0.reactor().now_ns();
        assembly::stop(&core0, &broker.plan).await.unwrap();
        assert!(core0.reactor().now_ns() - began_ns < 500_000_000, "nobody was waited for");
        assert!(reader.receive().await.is_some() && writer.receive().await.is_some());
        assert_eq!(reader.receive().await, None);
        assert!(core0.reactor().connect(broker.address).await.is_err() || broker.cores[0].all_connections().is_empty());
    });
}
