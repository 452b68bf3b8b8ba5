//! The rules of decoding and encoding, each on one message that shows it.

use wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse,
    ListOffsetsRequest, MetadataRequest, MetadataResponse, ProduceRequest, StreamsGroupHeartbeatRequest,
    delete_topics_request, list_offsets_request, metadata_response,
};
use wire::records::{ConsumerGroupMemberMetadataValue, PartitionChangeRecord};
use wire::{DEFAULT_BUDGET, DecodeError, EncodeError, Message, Reader, Uuid};

fn encoded<'a>(message: &impl Message<'a>, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    message.encode(&mut out, version).map(|()| out)
}

#[test]
fn known_bytes() {
    let request = ApiVersionsRequest { client_software_name: "kcat", client_software_version: "1.7" };
    assert_eq!(encoded(&request, 0), Ok(vec![]));
    assert_eq!(encoded(&request, 3), Ok(b"\x05kcat\x041.7\0".to_vec()));

    let topic = list_offsets_request::ListOffsetsTopic {
        name: "t",
        partitions: vec![list_offsets_request::ListOffsetsPartition {
            partition_index: 3,
            timestamp: -1,
            ..Default::default()
        }],
    };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let v1 = b"\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(encoded(&request, 1), Ok(v1.to_vec()));
    // Version 0, which Kafka 4 has dropped, asks for a number of offsets.
    let v0 = [&v1[..], b"\0\0\0\x01"].concat();
    assert_eq!(encoded(&request, 0), Ok(v0));
}

#[test]
fn defaults_are_those_of_kafka() {
    assert_eq!(FetchRequest::default().max_bytes, i32::MAX);
    assert_eq!(FetchRequest::default().replica_state.replica_epoch, -1);
    assert_eq!(CreateTopicsRequest::default().timeout_ms, 60_000);
    assert_eq!(ProduceRequest::default().transactional_id, None);
    assert_eq!(PartitionChangeRecord::default().leader, -2);
    // Null is legal, but not the default.
    assert_eq!(MetadataRequest::default().topics, Some(vec![]));
    assert_eq!(StreamsGroupHeartbeatRequest::default().active_tasks, None);
}

#[test]
fn a_value_that_the_version_lacks() {
    // Ignorable: dropped.
    let response = MetadataResponse { cluster_id: Some("cluster"), ..Default::default() };
    assert_eq!(encoded(&response, 0), encoded(&MetadataResponse::default(), 0));
    // Not ignorable: refused.
    let request = ProduceRequest { transactional_id: Some("id"), ..Default::default() };
    assert!(encoded(&request, 3).is_ok());
    assert_eq!(encoded(&request, 2), Err(EncodeError::NotInVersion("TransactionalId")));
    // The same for tagged fields.
    let endpoints = vec![Default::default()];
    let response = FetchResponse { node_endpoints: endpoints, ..Default::default() };
    assert!(encoded(&response, 16).is_ok());
    assert_eq!(encoded(&response, 15), Err(EncodeError::NotInVersion("NodeEndpoints")));
    let request = FetchRequest { cluster_id: Some("cluster"), ..Default::default() };
    assert_eq!(encoded(&request, 11), encoded(&FetchRequest::default(), 11));
    // A version that nobody knows.
    assert_eq!(encoded(&FetchRequest::default(), 19), Err(EncodeError::UnsupportedVersion(19)));
}

#[test]
fn null_where_the_version_has_none() {
    let topic = metadata_response::MetadataResponseTopic { name: None, ..Default::default() };
    let response = MetadataResponse { topics: vec![topic], ..Default::default() };
    assert!(encoded(&response, 12).is_ok());
    assert_eq!(encoded(&response, 11), Err(EncodeError::UnexpectedNull("Name")));

    let mut r = Reader::new(&[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(MetadataRequest::decode(&mut r.clone(), 1).map(|request| request.topics), Ok(None));
    assert_eq!(MetadataRequest::decode(&mut r, 0), Err(DecodeError::UnexpectedNull));
    assert_eq!(ApiVersionsRequest::decode(&mut Reader::new(&[0, 1, 0]), 3), Err(DecodeError::UnexpectedNull));
}

#[test]
fn a_tagged_struct_may_be_null() {
    let record = |member| ConsumerGroupMemberMetadataValue { classic_member_metadata: member, ..Default::default() };
    let tail = |member| encoded(&record(member), 0).unwrap();
    assert!(tail(Some(Default::default())).ends_with(&[0]));
    let null = tail(None);
    assert!(null.ends_with(&[1, 0, 1, 0]), "{null:?}");
    assert_eq!(ConsumerGroupMemberMetadataValue::decode(&mut Reader::new(&null), 0), Ok(record(None)));
}

#[test]
fn lengths_that_lie() {
    let decode = |bytes: &[u8], version| MetadataRequest::decode(&mut Reader::new(bytes), version).map(drop);
    assert_eq!(decode(&[0x7f, 0xff, 0xff, 0xff, 0, 0], 0), Err(DecodeError::ArrayTooLong));
    assert_eq!(decode(&[0xff, 0xff, 0xff, 0xfe], 1), Err(DecodeError::NegativeLength));
    assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 9), Err(DecodeError::ArrayTooLong));
    assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0x1f, 0], 9), Err(DecodeError::VarintTooLong));
    assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 9), Err(DecodeError::VarintTooLong));
    assert_eq!(decode(&[0, 0, 0, 1, 0, 5, b't'], 0), Err(DecodeError::UnexpectedEnd));
    assert_eq!(decode(&[0, 0, 0, 1, 0, 2, 0xc3, b't'], 0), Err(DecodeError::InvalidUtf8));
    assert_eq!(decode(&[0, 0, 0], 0), Err(DecodeError::UnexpectedEnd));

    let mut name = vec![0x81, 0x80, 0x02];
    name.resize(3 + 0x8000, b'x');
    assert_eq!(ApiVersionsRequest::decode(&mut Reader::new(&name), 3), Err(DecodeError::StringTooLong));
    let name = "x".repeat(0x8000);
    let request = ApiVersionsRequest { client_software_name: &name, ..Default::default() };
    assert_eq!(encoded(&request, 3), Err(EncodeError::StringTooLong));
}

#[test]
fn one_budget_for_all_arrays_of_a_frame() {
    let topics = vec![delete_topics_request::DeleteTopicState { name: None, topic_id: Uuid::ZERO }; 100];
    let request = DeleteTopicsRequest { topics, topic_names: vec![], timeout_ms: 1 };
    let bytes = encoded(&request, 6).unwrap();
    let needed = 100 * size_of::<delete_topics_request::DeleteTopicState<'_>>();
    let mut r = Reader::with_budget(&bytes, needed);
    assert_eq!(DeleteTopicsRequest::decode(&mut r, 6), Ok(request.clone()));
    assert_eq!(r.budget(), 0);
    let mut r = Reader::with_budget(&bytes, needed - 1);
    assert_eq!(DeleteTopicsRequest::decode(&mut r, 6), Err(DecodeError::BudgetExceeded));

    // Two messages of one frame draw on one budget.
    let both = [&bytes[..], &bytes[..]].concat();
    let mut r = Reader::new(&both);
    for left in [1, 2] {
        assert_eq!(DeleteTopicsRequest::decode(&mut r, 6), Ok(request.clone()));
        assert_eq!(r.budget(), DEFAULT_BUDGET - left * needed);
    }
    assert_eq!(r.finish(), Ok(()));
}

#[test]
fn tagged_fields() {
    // ApiVersionsResponse v3: no error, no keys, no throttling, then the tagged fields given.
    let decode = |tags: &[u8]| {
        let bytes = [&[0, 0, 1, 0, 0, 0, 0], tags].concat();
        let mut r = Reader::new(&bytes);
        let response = ApiVersionsResponse::decode(&mut r, 3)?;
        r.finish()?;
        Ok((response.finalized_features_epoch, response.zk_migration_ready))
    };
    let epoch = [1, 8, 0, 0, 0, 0, 0, 0, 0, 7];
    let ready = [3, 1, 1];
    assert_eq!(decode(&[0]), Ok((-1, false)));
    assert_eq!(decode(&[&[2], &epoch[..], &ready].concat()), Ok((7, true)));
    // An unknown one between them is skipped.
    assert_eq!(decode(&[&[3], &epoch[..], &ready, &[9, 2, 0xaa, 0xbb]].concat()), Ok((7, true)));
    assert_eq!(decode(&[&[2], &ready[..], &epoch].concat()), Err(DecodeError::TagOutOfOrder));
    assert_eq!(decode(&[&[2], &ready[..], &ready].concat()), Err(DecodeError::TagOutOfOrder));
    assert_eq!(decode(&[2, 9, 0, 9, 0]), Err(DecodeError::TagOutOfOrder));
    // Sizes: longer and shorter than the value, beyond the frame; a count beyond the frame.
    assert_eq!(decode(&[1, 3, 2, 1, 0]), Err(DecodeError::TagTooLong));
    assert_eq!(decode(&[1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 7]), Err(DecodeError::UnexpectedEnd));
    assert_eq!(decode(&[1, 9, 3, 0, 0]), Err(DecodeError::UnexpectedEnd));
    assert_eq!(decode(&[200, 1, 9, 0]), Err(DecodeError::ArrayTooLong));
    assert_eq!(decode(&[0, 0]), Err(DecodeError::TrailingBytes));
}

#[test]
fn a_long_tagged_field() {
    // Its size takes two bytes, which are put in front of the content when the content is known.
    let racks: Vec<String> = (0..50).map(|rack| format!("rack-{rack}")).collect();
    let endpoints = racks.iter().map(|rack| wire::messages::fetch_response::NodeEndpoint {
        node_id: 1,
        host: "localhost",
        port: 9092,
        rack: Some(rack),
    });
    let response = FetchResponse { node_endpoints: endpoints.collect(), ..Default::default() };
    let bytes = encoded(&response, 16).unwrap();
    let mut r = Reader::new(&bytes);
    assert_eq!(FetchResponse::decode(&mut r, 16), Ok(response));
    assert_eq!(r.finish(), Ok(()));
}

#[test]
fn position_after_an_error() {
    let mut r = Reader::new(&[0, 0, 0, 2, 0, 1, b't', 0, 1]);
    assert!(MetadataRequest::decode(&mut r, 0).is_err());
    assert_eq!(r.position(), 9);
    assert!(r.rest().is_empty());
}
