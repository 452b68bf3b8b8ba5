import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.AddOffsetsToTxnRequestData;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData.AddPartitionsToTxnTopic;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData.AddPartitionsToTxnTopicCollection;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData.AddPartitionsToTxnTransaction;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData.AddPartitionsToTxnTransactionCollection;
import org.apache.kafka.common.message.AddPartitionsToTxnRequestData;
import org.apache.kafka.common.message.AddPartitionsToTxnResponseData;
import org.apache.kafka.common.message.AlterConfigsRequestData;
import org.apache.kafka.common.message.AlterPartitionReassignmentsRequestData.ReassignablePartition;
import org.apache.kafka.common.message.AlterPartitionReassignmentsRequestData.ReassignableTopic;
import org.apache.kafka.common.message.AlterPartitionReassignmentsRequestData;
import org.apache.kafka.common.message.AlterReplicaLogDirsRequestData.AlterReplicaLogDir;
import org.apache.kafka.common.message.AlterReplicaLogDirsRequestData.AlterReplicaLogDirCollection;
import org.apache.kafka.common.message.AlterReplicaLogDirsRequestData.AlterReplicaLogDirTopic;
import org.apache.kafka.common.message.AlterReplicaLogDirsRequestData.AlterReplicaLogDirTopicCollection;
import org.apache.kafka.common.message.AlterReplicaLogDirsRequestData;
import org.apache.kafka.common.message.ApiVersionsRequestData;
import org.apache.kafka.common.message.ConsumerGroupDescribeRequestData;
import org.apache.kafka.common.message.ConsumerGroupHeartbeatRequestData;
import org.apache.kafka.common.message.ConsumerGroupHeartbeatResponseData;
import org.apache.kafka.common.message.CreateAclsRequestData;
import org.apache.kafka.common.message.CreateAclsRequestData.AclCreation;
import org.apache.kafka.common.message.CreatePartitionsRequestData;
import org.apache.kafka.common.message.CreatePartitionsRequestData.CreatePartitionsTopic;
import org.apache.kafka.common.message.CreateTopicsRequestData;
import org.apache.kafka.common.message.CreateTopicsRequestData.CreatableReplicaAssignment;
import org.apache.kafka.common.message.CreateTopicsRequestData.CreatableTopic;
import org.apache.kafka.common.message.CreateTopicsRequestData.CreatableTopicConfig;
import org.apache.kafka.common.message.CreateTopicsResponseData;
import org.apache.kafka.common.message.DeleteGroupsRequestData;
import org.apache.kafka.common.message.DeleteAclsRequestData;
import org.apache.kafka.common.message.DeleteAclsRequestData.DeleteAclsFilter;
import org.apache.kafka.common.message.DeleteRecordsRequestData;
import org.apache.kafka.common.message.DeleteRecordsRequestData.DeleteRecordsPartition;
import org.apache.kafka.common.message.DeleteRecordsRequestData.DeleteRecordsTopic;
import org.apache.kafka.common.message.DeleteTopicsRequestData;
import org.apache.kafka.common.message.DeleteTopicsRequestData.DeleteTopicState;
import org.apache.kafka.common.message.DescribeAclsRequestData;
import org.apache.kafka.common.message.DescribeClusterRequestData;
import org.apache.kafka.common.message.DescribeConfigsRequestData;
import org.apache.kafka.common.message.DescribeConfigsRequestData.DescribeConfigsResource;
import org.apache.kafka.common.message.DescribeGroupsRequestData;
import org.apache.kafka.common.message.DescribeLogDirsRequestData;
import org.apache.kafka.common.message.DescribeLogDirsRequestData.DescribableLogDirTopic;
import org.apache.kafka.common.message.DescribeProducersRequestData;
import org.apache.kafka.common.message.DescribeQuorumRequestData;
import org.apache.kafka.common.message.DescribeTopicPartitionsRequestData;
import org.apache.kafka.common.message.DescribeTopicPartitionsRequestData.Cursor;
import org.apache.kafka.common.message.DescribeTopicPartitionsRequestData.TopicRequest;
import org.apache.kafka.common.message.DescribeTransactionsRequestData;
import org.apache.kafka.common.message.ElectLeadersRequestData.TopicPartitions;
import org.apache.kafka.common.message.ElectLeadersRequestData.TopicPartitionsCollection;
import org.apache.kafka.common.message.ElectLeadersRequestData;
import org.apache.kafka.common.message.EndTxnRequestData;
import org.apache.kafka.common.message.EndTxnResponseData;
import org.apache.kafka.common.message.FetchRequestData;
import org.apache.kafka.common.message.FetchRequestData.FetchPartition;
import org.apache.kafka.common.message.FetchRequestData.FetchTopic;
import org.apache.kafka.common.message.FetchRequestData.ForgottenTopic;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.message.FindCoordinatorRequestData;
import org.apache.kafka.common.message.FindCoordinatorResponseData;
import org.apache.kafka.common.message.HeartbeatRequestData;
import org.apache.kafka.common.message.IncrementalAlterConfigsRequestData;
import org.apache.kafka.common.message.IncrementalAlterConfigsRequestData.AlterConfigsResource;
import org.apache.kafka.common.message.IncrementalAlterConfigsRequestData.AlterableConfig;
import org.apache.kafka.common.message.InitProducerIdRequestData;
import org.apache.kafka.common.message.InitProducerIdResponseData;
import org.apache.kafka.common.message.JoinGroupRequestData;
import org.apache.kafka.common.message.JoinGroupRequestData.JoinGroupRequestProtocol;
import org.apache.kafka.common.message.JoinGroupRequestData.JoinGroupRequestProtocolCollection;
import org.apache.kafka.common.message.JoinGroupResponseData;
import org.apache.kafka.common.message.LeaveGroupRequestData;
import org.apache.kafka.common.message.LeaveGroupRequestData.MemberIdentity;
import org.apache.kafka.common.message.ListGroupsRequestData;
import org.apache.kafka.common.message.ListConfigResourcesRequestData;
import org.apache.kafka.common.message.ListOffsetsRequestData;
import org.apache.kafka.common.message.ListOffsetsRequestData.ListOffsetsPartition;
import org.apache.kafka.common.message.ListOffsetsRequestData.ListOffsetsTopic;
import org.apache.kafka.common.message.ListPartitionReassignmentsRequestData;
import org.apache.kafka.common.message.ListTransactionsRequestData;
import org.apache.kafka.common.message.MetadataRequestData;
import org.apache.kafka.common.message.MetadataRequestData.MetadataRequestTopic;
import org.apache.kafka.common.message.OffsetCommitRequestData;
import org.apache.kafka.common.message.OffsetCommitRequestData.OffsetCommitRequestPartition;
import org.apache.kafka.common.message.OffsetCommitRequestData.OffsetCommitRequestTopic;
import org.apache.kafka.common.message.OffsetDeleteRequestData;
import org.apache.kafka.common.message.OffsetDeleteRequestData.OffsetDeleteRequestPartition;
import org.apache.kafka.common.message.OffsetDeleteRequestData.OffsetDeleteRequestTopic;
import org.apache.kafka.common.message.OffsetFetchRequestData;
import org.apache.kafka.common.message.OffsetFetchRequestData.OffsetFetchRequestGroup;
import org.apache.kafka.common.message.OffsetFetchRequestData.OffsetFetchRequestTopic;
import org.apache.kafka.common.message.OffsetFetchRequestData.OffsetFetchRequestTopics;
import org.apache.kafka.common.message.OffsetForLeaderEpochRequestData;
import org.apache.kafka.common.message.OffsetForLeaderEpochRequestData.OffsetForLeaderPartition;
import org.apache.kafka.common.message.OffsetForLeaderEpochRequestData.OffsetForLeaderTopic;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.message.ProduceRequestData.PartitionProduceData;
import org.apache.kafka.common.message.ProduceRequestData.TopicProduceData;
import org.apache.kafka.common.message.SyncGroupRequestData.SyncGroupRequestAssignment;
import org.apache.kafka.common.message.SyncGroupRequestData;
import org.apache.kafka.common.message.TxnOffsetCommitRequestData.TxnOffsetCommitRequestPartition;
import org.apache.kafka.common.message.TxnOffsetCommitRequestData.TxnOffsetCommitRequestTopic;
import org.apache.kafka.common.message.TxnOffsetCommitRequestData;
import org.apache.kafka.common.message.UnregisterBrokerRequestData;
import org.apache.kafka.common.message.UpdateFeaturesRequestData.FeatureUpdateKey;
import org.apache.kafka.common.message.UpdateFeaturesRequestData;
import org.apache.kafka.common.message.WriteTxnMarkersRequestData.WritableTxnMarker;
import org.apache.kafka.common.message.WriteTxnMarkersRequestData.WritableTxnMarkerTopic;
import org.apache.kafka.common.message.WriteTxnMarkersRequestData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.ResponseHeader;

/**
 * Asks a broker for everything that Weir serves, in every version, and writes down what went over the wire:
 * {@code BOOTSTRAP DIRECTORY}. Requests are encoded by Kafka's own classes.
 *
 * <p>Per API one file of frames, {@code version TAB case TAB request TAB response} in hex without the length in front, and one
 * file {@code answers.txt} of {@code api TAB version TAB case TAB response} in JSON, with what differs from run to run masked
 * and lists sorted, so that another broker's answers can be compared.
 */
public final class Capture {
    private static final String TOPIC = "golden";
    private static final String MISSING = "missing";
    private static final String QUORUM = "quorum";
    private static final String LEDGER = "ledger";
    private static final byte GROUP = 0;
    private static final byte TRANSACTION = 1;
    /** The topic that holds these timestamps keeps its records for ever. */
    private static final long TIME = 1_760_000_000_000L;

    private final DataInputStream in;
    private final DataOutputStream out;
    private final Map<ApiKeys, List<String>> frames = new LinkedHashMap<>();
    private final List<String> answers = new ArrayList<>();
    private int correlation = 1000;
    private Uuid topicId;

    private Capture(Socket socket) throws Exception {
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    public static void main(String[] args) throws Exception {
        String[] address = args[0].split(":");
        try (Socket socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            Capture capture = new Capture(socket);
            capture.apiVersions();
            capture.topics();
            capture.produce();
            capture.fetch();
            capture.offsets();
            capture.configs();
            capture.cluster();
            capture.markers();
            capture.administration();
            capture.deletions();
            capture.coordinators();
            capture.groups();
            capture.groupOffsets();
            capture.groupAdministration();
            capture.transactions();
            capture.consumerGroups();
            capture.write(Path.of(args[1]));
        }
    }

    private void apiVersions() throws Exception {
        for (short version : versions(ApiKeys.API_VERSIONS)) {
            ask(ApiKeys.API_VERSIONS, version, "named",
                    new ApiVersionsRequestData().setClientSoftwareName("golden").setClientSoftwareVersion("1.0"));
        }
        ask(ApiKeys.API_VERSIONS, (short) 3, "invalid-name",
                new ApiVersionsRequestData().setClientSoftwareName("-").setClientSoftwareVersion("1.0"));
    }

    private void topics() throws Exception {
        ApiKeys create = ApiKeys.CREATE_TOPICS;
        CreateTopicsResponseData created = (CreateTopicsResponseData) ask(create, latest(create), "setup", topic(TOPIC, 3, "retention.ms", "-1"));
        topicId = created.topics().find(TOPIC).topicId();
        metadata();
        for (short version : versions(create)) {
            String name = "created-" + version;
            ask(create, version, "configured", topic(name, 2, "retention.ms", "86400000"));
            ask(create, version, "existing", topic(name, 2, null, null));
            ask(create, version, "invalid-name", topic("not/valid", 1, null, null));
            ask(create, version, "dot-names", topic("..", 1, null, null));
            ask(create, version, "no-partitions", topic("zero", 0, null, null));
            ask(create, version, "default-partitions", topic("defaults-" + version, -1, null, null));
            ask(create, version, "too-many-replicas", new CreateTopicsRequestData().setTimeoutMs(5000).setTopics(
                    collection(new CreatableTopic().setName("far").setNumPartitions(1).setReplicationFactor((short) 2))));
            ask(create, version, "unknown-config", topic("odd", 1, "no.such.setting", "1"));
            ask(create, version, "invalid-config", topic("odd", 1, "retention.ms", "soon"));
            ask(create, version, "validate-only", topic("never", 1, null, null).setValidateOnly(true));
            CreatableTopic assigned = new CreatableTopic().setName("assigned-" + version).setNumPartitions(-1).setReplicationFactor((short) -1);
            assigned.assignments().add(new CreatableReplicaAssignment().setPartitionIndex(0).setBrokerIds(List.of(1)));
            assigned.assignments().add(new CreatableReplicaAssignment().setPartitionIndex(1).setBrokerIds(List.of(1)));
            ask(create, version, "assigned", new CreateTopicsRequestData().setTimeoutMs(5000).setTopics(collection(assigned)));
            CreatableTopic unknown = new CreatableTopic().setName("unknown").setNumPartitions(-1).setReplicationFactor((short) -1);
            unknown.assignments().add(new CreatableReplicaAssignment().setPartitionIndex(0).setBrokerIds(List.of(77)));
            ask(create, version, "assigned-to-unknown", new CreateTopicsRequestData().setTimeoutMs(5000).setTopics(collection(unknown)));
        }
        ApiKeys partitions = ApiKeys.CREATE_PARTITIONS;
        for (short version : versions(partitions)) {
            ask(partitions, version, "more", partitions("created-2", 3 + version));
            ask(partitions, version, "same", partitions("created-2", 3 + version));
            ask(partitions, version, "fewer", partitions("created-2", 1));
            ask(partitions, version, "unknown", partitions(MISSING, 4));
            ask(partitions, version, "validate-only", partitions("created-2", 40).setValidateOnly(true));
        }
    }

    private void metadata() throws Exception {
        ApiKeys metadata = ApiKeys.METADATA;
        for (short version : versions(metadata)) {
            List<MetadataRequestTopic> named = List.of(new MetadataRequestTopic().setName(TOPIC), new MetadataRequestTopic().setName(MISSING));
            boolean quiet = version < 4;
            ask(metadata, version, "all", new MetadataRequestData().setTopics(version == 0 ? List.of() : null));
            ask(metadata, version, "named", new MetadataRequestData().setTopics(named).setAllowAutoTopicCreation(quiet));
            ask(metadata, version, "invalid-name", new MetadataRequestData().setAllowAutoTopicCreation(quiet)
                    .setTopics(List.of(new MetadataRequestTopic().setName("not/valid"))));
            if (version >= 1) {
                ask(metadata, version, "no-topics", new MetadataRequestData().setTopics(List.of()));
            }
            ask(metadata, version, "operations", new MetadataRequestData().setTopics(named.subList(0, 1))
                    .setIncludeTopicAuthorizedOperations(true).setAllowAutoTopicCreation(quiet));
            if (version >= 12) {
                ask(metadata, version, "by-id", new MetadataRequestData().setTopics(List.of(
                        new MetadataRequestTopic().setName(null).setTopicId(topicId),
                        new MetadataRequestTopic().setName(null).setTopicId(new Uuid(7, 7)))));
            }
        }
        ApiKeys describe = ApiKeys.DESCRIBE_TOPIC_PARTITIONS;
        List<TopicRequest> names = List.of(new TopicRequest().setName(TOPIC), new TopicRequest().setName(MISSING));
        for (short version : versions(describe)) {
            ask(describe, version, "named", new DescribeTopicPartitionsRequestData().setTopics(names));
            ask(describe, version, "all", new DescribeTopicPartitionsRequestData());
            ask(describe, version, "limited", new DescribeTopicPartitionsRequestData().setTopics(names).setResponsePartitionLimit(2));
            ask(describe, version, "cursor", new DescribeTopicPartitionsRequestData().setTopics(names)
                    .setCursor(new Cursor().setTopicName(TOPIC).setPartitionIndex(1)));
        }
    }

    private void produce() throws Exception {
        ApiKeys init = ApiKeys.INIT_PRODUCER_ID;
        long producer = producerId();
        for (short version : versions(init)) {
            ask(init, version, "idempotent", new InitProducerIdRequestData().setTransactionalId(null).setTransactionTimeoutMs(60000));
        }
        ApiKeys produce = ApiKeys.PRODUCE;
        Header[] headers = {new RecordHeader("h", "1".getBytes()), new RecordHeader("empty", new byte[0]), new RecordHeader("null", null)};
        SimpleRecord keyed = new SimpleRecord(TIME, "key".getBytes(), "value".getBytes(), headers);
        SimpleRecord tombstone = new SimpleRecord(TIME + 5, "key".getBytes(), null);
        for (short version : versions(produce)) {
            if (version < 3) {
                // Advertised for the sake of old librdkafka, not served.
                continue;
            }
            ask(produce, version, "plain", records(version, 0, MemoryRecords.withRecords(Compression.NONE, keyed, tombstone)));
            ask(produce, version, "gzip", records(version, 0, MemoryRecords.withRecords(Compression.gzip().build(), keyed, tombstone)));
            ask(produce, version, "zstd", records(version, 0, MemoryRecords.withRecords(Compression.zstd().build(), keyed)));
            int sequence = (version - 3) * 2;
            MemoryRecords next = MemoryRecords.withIdempotentRecords(Compression.NONE, producer, (short) 0, sequence, keyed, tombstone);
            ask(produce, version, "idempotent", records(version, 1, next));
            ask(produce, version, "duplicate", records(version, 1, next));
            ask(produce, version, "sequence-gap", records(version, 1,
                    MemoryRecords.withIdempotentRecords(Compression.NONE, producer, (short) 0, sequence + 100, keyed)));
            ask(produce, version, "leader-only", records(version, 2, MemoryRecords.withRecords(Compression.NONE, keyed)).setAcks((short) 1));
            ask(produce, version, "invalid-acks", records(version, 2, MemoryRecords.withRecords(Compression.NONE, keyed)).setAcks((short) 2));
            ask(produce, version, "bad-checksum", records(version, 2, damaged(MemoryRecords.withRecords(Compression.NONE, keyed))));
            ask(produce, version, "unknown-partition", records(version, 9, MemoryRecords.withRecords(Compression.NONE, keyed)));
            ask(produce, version, "too-large", records(version, 2,
                    MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(TIME, new byte[0], new byte[0])), 1_100_000));
            long future = System.currentTimeMillis() + 7_200_000;
            ask(produce, version, "from-the-future", records(version, 2,
                    MemoryRecords.withRecords(Compression.NONE, keyed, new SimpleRecord(future, "key".getBytes(), "value".getBytes()))));
            ask(produce, version, "control-batch", records(version, 2, control(MemoryRecords.withRecords(Compression.NONE, keyed))));
            ProduceRequestData unknown = records(version, 0, MemoryRecords.withRecords(Compression.NONE, keyed));
            unknown.topicData().iterator().next().setName(version < 13 ? MISSING : "").setTopicId(version < 13 ? Uuid.ZERO_UUID : new Uuid(7, 7));
            ask(produce, version, "unknown-topic", unknown);
        }
    }

    /** Kafka refuses the first request of its life while it fetches a block of ids from the controller. */
    private long producerId() throws Exception {
        while (true) {
            InitProducerIdRequestData request = new InitProducerIdRequestData().setTransactionalId(null).setTransactionTimeoutMs(60000);
            short version = latest(ApiKeys.INIT_PRODUCER_ID);
            byte[] sent = encode(new RequestHeader(ApiKeys.INIT_PRODUCER_ID, version, "golden", ++correlation), request);
            InitProducerIdResponseData answer = (InitProducerIdResponseData) decode(ApiKeys.INIT_PRODUCER_ID, version, exchange(sent));
            if (answer.errorCode() == Errors.NONE.code()) {
                return answer.producerId();
            }
            if (answer.errorCode() != Errors.COORDINATOR_LOAD_IN_PROGRESS.code()) {
                throw new IllegalStateException("InitProducerId: " + answer);
            }
        }
    }

    private void fetch() throws Exception {
        ApiKeys fetch = ApiKeys.FETCH;
        for (short version : versions(fetch)) {
            ask(fetch, version, "two-partitions", fetch(version, position(0, 47), position(1, 18)));
            ask(fetch, version, "one-batch", fetch(version, position(0, 1).setPartitionMaxBytes(1)));
            ask(fetch, version, "at-the-end", fetch(version, position(2, 11)));
            ask(fetch, version, "out-of-range", fetch(version, position(0, 1_000_000)));
            ask(fetch, version, "unknown-partition", fetch(version, position(9, 0)));
            ask(fetch, version, "read-committed", fetch(version, position(1, 20)).setIsolationLevel((byte) 1));
            FetchRequestData unknown = fetch(version, position(0, 0));
            unknown.topics().get(0).setTopic(version < 13 ? MISSING : "").setTopicId(version < 13 ? Uuid.ZERO_UUID : new Uuid(7, 7));
            ask(fetch, version, "unknown-topic", unknown);
            ask(fetch, version, "future-epoch", fetch(version, position(0, 47).setCurrentLeaderEpoch(99)));
            if (version >= 12) {
                ask(fetch, version, "diverging", fetch(version, position(0, 1).setLastFetchedEpoch(99)));
            }
            if (version < 7) {
                continue;
            }
            FetchRequestData opening = fetch(version, position(0, 47), position(1, 18), position(2, 11)).setSessionEpoch(0);
            int session = ((FetchResponseData) ask(fetch, version, "session-opens", opening)).sessionId();
            ask(fetch, version, "session-goes-on", fetch(version, position(0, 51), position(1, 20)).setSessionId(session).setSessionEpoch(1));
            FetchRequestData forgetting = fetch(version, position(1, 21)).setSessionId(session).setSessionEpoch(2);
            forgetting.setForgottenTopicsData(List.of(new ForgottenTopic().setTopic(version < 13 ? TOPIC : "")
                    .setTopicId(version < 13 ? Uuid.ZERO_UUID : topicId).setPartitions(List.of(0, 2))));
            ask(fetch, version, "session-forgets", forgetting);
            ask(fetch, version, "session-wrong-epoch", fetch(version).setSessionId(session).setSessionEpoch(9));
            ask(fetch, version, "session-unknown", fetch(version).setSessionId(session + 1).setSessionEpoch(1));
            ask(fetch, version, "session-closes", fetch(version, position(0, 0)).setSessionId(session).setSessionEpoch(-1));
        }
    }

    private void offsets() throws Exception {
        ApiKeys list = ApiKeys.LIST_OFFSETS;
        for (short version : versions(list)) {
            Map<String, Long> times = new LinkedHashMap<>();
            times.put("latest", -1L);
            times.put("earliest", -2L);
            times.put("max-timestamp", version >= 7 ? -3L : null);
            times.put("earliest-local", version >= 8 ? -4L : null);
            times.put("latest-tiered", version >= 9 ? -5L : null);
            times.put("earliest-pending-upload", version >= 11 ? -6L : null);
            times.put("timestamp", TIME + 1);
            times.put("later-than-all", TIME + 1_000_000);
            for (Map.Entry<String, Long> time : times.entrySet()) {
                if (time.getValue() != null) {
                    ask(list, version, time.getKey(), offsets(TOPIC, position(0, time.getValue(), -1), position(1, time.getValue(), -1)));
                }
            }
            ask(list, version, "too-new-a-question", offsets(TOPIC, position(0, -9, -1)));
            ask(list, version, "unknown-partition", offsets(TOPIC, position(9, -1, -1)));
            ask(list, version, "unknown-topic", offsets(MISSING, position(0, -1, -1)));
            ask(list, version, "read-committed", offsets(TOPIC, position(0, -1, -1)).setIsolationLevel((byte) 1));
            if (version >= 4) {
                ask(list, version, "future-epoch", offsets(TOPIC, position(0, -1, 99)));
            }
        }
        ApiKeys epochs = ApiKeys.OFFSET_FOR_LEADER_EPOCH;
        for (short version : versions(epochs)) {
            ask(epochs, version, "first", epochs(TOPIC, 0, -1, 0));
            ask(epochs, version, "later", epochs(TOPIC, 0, -1, 5));
            ask(epochs, version, "undefined", epochs(TOPIC, 0, -1, -1));
            ask(epochs, version, "future-epoch", epochs(TOPIC, 0, 99, 0));
            ask(epochs, version, "unknown-partition", epochs(TOPIC, 9, -1, 0));
            ask(epochs, version, "unknown-topic", epochs(MISSING, 0, -1, 0));
        }
    }

    private void configs() throws Exception {
        ApiKeys alter = ApiKeys.INCREMENTAL_ALTER_CONFIGS;
        for (short version : versions(alter)) {
            ask(alter, version, "set", alter(TOPIC, "segment.bytes", 0, "1048576"));
            ask(alter, version, "append", alter(TOPIC, "cleanup.policy", 2, "compact"));
            ask(alter, version, "subtract", alter(TOPIC, "cleanup.policy", 3, "compact"));
            ask(alter, version, "append-to-a-number", alter(TOPIC, "segment.bytes", 2, "1"));
            ask(alter, version, "invalid", alter(TOPIC, "segment.bytes", 0, "many"));
            ask(alter, version, "out-of-bounds", alter(TOPIC, "segment.bytes", 0, "1"));
            ask(alter, version, "unknown", alter(TOPIC, "no.such.setting", 0, "1"));
            ask(alter, version, "unknown-topic", alter(MISSING, "segment.bytes", 0, "1048576"));
            ask(alter, version, "unknown-operation", alter(TOPIC, "segment.bytes", 9, "1048576"));
            ask(alter, version, "null-value", alter(TOPIC, "segment.bytes", 0, null));
            ask(alter, version, "twice", twice());
            ask(alter, version, "validate-only", alter(TOPIC, "segment.bytes", 0, "2097152").setValidateOnly(true));
        }
        ApiKeys describe = ApiKeys.DESCRIBE_CONFIGS;
        for (short version : versions(describe)) {
            List<String> keys = List.of("segment.bytes", "retention.ms", "cleanup.policy", "compression.type", "no.such.setting");
            ask(describe, version, "topic", describe(2, TOPIC, null));
            ask(describe, version, "keys", describe(2, TOPIC, keys));
            ask(describe, version, "synonyms", describe(2, TOPIC, keys).setIncludeSynonyms(true));
            ask(describe, version, "documentation", describe(2, TOPIC, keys.subList(0, 1)).setIncludeDocumentation(true));
            ask(describe, version, "broker", describe(4, "1", List.of("message.max.bytes", "num.partitions", "auto.create.topics.enable")));
            ask(describe, version, "unknown-topic", describe(2, MISSING, null));
            ask(describe, version, "unknown-broker", describe(4, "77", keys));
            ask(describe, version, "invalid-name", describe(2, "not/valid", null));
        }
    }

    private void cluster() throws Exception {
        for (short version : versions(ApiKeys.DESCRIBE_CLUSTER)) {
            ask(ApiKeys.DESCRIBE_CLUSTER, version, "plain", new DescribeClusterRequestData());
            ask(ApiKeys.DESCRIBE_CLUSTER, version, "operations", new DescribeClusterRequestData().setIncludeClusterAuthorizedOperations(true));
            ask(ApiKeys.DESCRIBE_CLUSTER, version, "controllers", new DescribeClusterRequestData().setEndpointType((byte) 2));
            ask(ApiKeys.DESCRIBE_CLUSTER, version, "fenced", new DescribeClusterRequestData().setIncludeFencedBrokers(true));
        }
        for (short version : versions(ApiKeys.DESCRIBE_LOG_DIRS)) {
            ask(ApiKeys.DESCRIBE_LOG_DIRS, version, "all", new DescribeLogDirsRequestData().setTopics(null));
            DescribeLogDirsRequestData one = new DescribeLogDirsRequestData();
            one.topics().add(new DescribableLogDirTopic().setTopic(TOPIC).setPartitions(List.of(0, 2, 9)));
            ask(ApiKeys.DESCRIBE_LOG_DIRS, version, "one", one);
        }
    }

    private void administration() throws Exception {
        ApiKeys replace = ApiKeys.ALTER_CONFIGS;
        for (short version : versions(replace)) {
            ask(replace, version, "some", replace("defaults-2", "segment.ms", "100" + version));
            ask(replace, version, "invalid", replace("defaults-2", "segment.ms", "soon"));
            ask(replace, version, "unknown-topic", replace(MISSING, "segment.ms", "1000"));
            ask(replace, version, "validate-only", replace("defaults-2", "retention.ms", "1000").setValidateOnly(true));
        }
        ApiKeys move = ApiKeys.ALTER_REPLICA_LOG_DIRS;
        for (short version : versions(move)) {
            AlterReplicaLogDirTopicCollection moved = new AlterReplicaLogDirTopicCollection();
            moved.add(new AlterReplicaLogDirTopic().setName(TOPIC).setPartitions(List.of(0, 9)));
            AlterReplicaLogDirCollection dirs = new AlterReplicaLogDirCollection();
            dirs.add(new AlterReplicaLogDir().setPath("/no/such/directory").setTopics(moved));
            ask(move, version, "to-nowhere", new AlterReplicaLogDirsRequestData().setDirs(dirs));
        }
        ApiKeys elect = ApiKeys.ELECT_LEADERS;
        for (short version : versions(elect)) {
            TopicPartitionsCollection partitions = new TopicPartitionsCollection();
            partitions.add(new TopicPartitions().setTopic(TOPIC).setPartitions(List.of(0, 9)));
            partitions.add(new TopicPartitions().setTopic(MISSING).setPartitions(List.of(0)));
            ask(elect, version, "preferred", new ElectLeadersRequestData().setTopicPartitions(partitions));
            ask(elect, version, "unclean", new ElectLeadersRequestData().setElectionType((byte) 1).setTopicPartitions(partitions));
            ask(elect, version, "unknown-type", new ElectLeadersRequestData().setElectionType((byte) 9).setTopicPartitions(partitions));
        }
        ApiKeys reassign = ApiKeys.ALTER_PARTITION_REASSIGNMENTS;
        for (short version : versions(reassign)) {
            ask(reassign, version, "to-where-it-is", reassign(TOPIC, 0, List.of(1)));
            ask(reassign, version, "to-an-unknown-broker", reassign(TOPIC, 0, List.of(77)));
            ask(reassign, version, "cancelled", reassign(TOPIC, 0, null));
            ask(reassign, version, "unknown-partition", reassign(TOPIC, 9, List.of(1)));
        }
        ApiKeys reassignments = ApiKeys.LIST_PARTITION_REASSIGNMENTS;
        for (short version : versions(reassignments)) {
            ask(reassignments, version, "all", new ListPartitionReassignmentsRequestData().setTopics(null));
        }
        ApiKeys quorum = ApiKeys.DESCRIBE_QUORUM;
        for (short version : versions(quorum)) {
            ask(quorum, version, QUORUM, quorum("__cluster_metadata"));
            ask(quorum, version, "another-topic", quorum(TOPIC));
        }
        ApiKeys features = ApiKeys.UPDATE_FEATURES;
        for (short version : versions(features)) {
            ask(features, version, "as-it-is", features("metadata.version", 30));
            ask(features, version, "too-new", features("metadata.version", 99));
            ask(features, version, "unknown", features("no.such.feature", 1));
        }
        ask(ApiKeys.UNREGISTER_BROKER, latest(ApiKeys.UNREGISTER_BROKER), "unknown", new UnregisterBrokerRequestData().setBrokerId(77));
        ApiKeys resources = ApiKeys.LIST_CONFIG_RESOURCES;
        for (short version : versions(resources)) {
            ask(resources, version, "metrics", new ListConfigResourcesRequestData());
            ask(resources, version, "brokers", new ListConfigResourcesRequestData().setResourceTypes(List.of((byte) 4, (byte) 8)));
            ask(resources, version, "unknown-type", new ListConfigResourcesRequestData().setResourceTypes(List.of((byte) 3)));
        }
        for (short version : versions(ApiKeys.DESCRIBE_ACLS)) {
            ask(ApiKeys.DESCRIBE_ACLS, version, "all", new DescribeAclsRequestData().setResourceTypeFilter((byte) 1)
                    .setResourceNameFilter(null).setPatternTypeFilter((byte) 1).setPrincipalFilter(null).setHostFilter(null)
                    .setOperation((byte) 1).setPermissionType((byte) 1));
            ask(ApiKeys.CREATE_ACLS, version, "one", new CreateAclsRequestData().setCreations(List.of(new AclCreation()
                    .setResourceType((byte) 2).setResourceName(TOPIC).setResourcePatternType((byte) 3).setPrincipal("User:reader")
                    .setHost("*").setOperation((byte) 3).setPermissionType((byte) 3))));
            ask(ApiKeys.DELETE_ACLS, version, "one", new DeleteAclsRequestData().setFilters(List.of(new DeleteAclsFilter()
                    .setResourceTypeFilter((byte) 2).setResourceNameFilter(TOPIC).setPatternTypeFilter((byte) 3).setPrincipalFilter(null)
                    .setHostFilter(null).setOperation((byte) 1).setPermissionType((byte) 1))));
        }
    }

    private static AlterConfigsRequestData replace(String topic, String key, String value) {
        AlterConfigsRequestData.AlterableConfigCollection configs = new AlterConfigsRequestData.AlterableConfigCollection();
        configs.add(new AlterConfigsRequestData.AlterableConfig().setName(key).setValue(value));
        AlterConfigsRequestData request = new AlterConfigsRequestData();
        request.resources().add(new AlterConfigsRequestData.AlterConfigsResource()
                .setResourceType((byte) 2).setResourceName(topic).setConfigs(configs));
        return request;
    }

    private static AlterPartitionReassignmentsRequestData reassign(String topic, int partition, List<Integer> replicas) {
        ReassignablePartition one = new ReassignablePartition().setPartitionIndex(partition).setReplicas(replicas);
        return new AlterPartitionReassignmentsRequestData()
                .setTopics(List.of(new ReassignableTopic().setName(topic).setPartitions(List.of(one))));
    }

    private static DescribeQuorumRequestData quorum(String topic) {
        return new DescribeQuorumRequestData().setTopics(List.of(new DescribeQuorumRequestData.TopicData().setTopicName(topic)
                .setPartitions(List.of(new DescribeQuorumRequestData.PartitionData().setPartitionIndex(0)))));
    }

    private static UpdateFeaturesRequestData features(String feature, int level) {
        UpdateFeaturesRequestData request = new UpdateFeaturesRequestData();
        request.featureUpdates().add(new FeatureUpdateKey().setFeature(feature).setMaxVersionLevel((short) level));
        return request;
    }

    private void deletions() throws Exception {
        ApiKeys records = ApiKeys.DELETE_RECORDS;
        for (short version : versions(records)) {
            ask(records, version, "some", deleteRecords(TOPIC, 0, 3 + version));
            ask(records, version, "below-the-start", deleteRecords(TOPIC, 0, 1));
            ask(records, version, "beyond-the-end", deleteRecords(TOPIC, 0, 1_000_000));
            ask(records, version, "unknown-partition", deleteRecords(TOPIC, 9, 1));
            ask(records, version, "unknown-topic", deleteRecords(MISSING, 0, 1));
            ask(records, version, "up-to-the-end", deleteRecords(TOPIC, 2, -1));
        }
        ask(ApiKeys.LIST_OFFSETS, latest(ApiKeys.LIST_OFFSETS), "earliest-after-deletion", offsets(TOPIC, position(0, -2, -1), position(2, -2, -1)));
        ask(ApiKeys.FETCH, latest(ApiKeys.FETCH), "below-the-start", fetch(latest(ApiKeys.FETCH), position(0, 0)));
        ApiKeys topics = ApiKeys.DELETE_TOPICS;
        for (short version : versions(topics)) {
            DeleteTopicsRequestData request = new DeleteTopicsRequestData().setTimeoutMs(5000);
            if (version < 6) {
                request.setTopicNames(List.of("created-" + (version + 1), MISSING));
            } else {
                request.setTopics(List.of(new DeleteTopicState().setName("created-7"), new DeleteTopicState().setName(MISSING),
                        new DeleteTopicState().setName(null).setTopicId(topicId), new DeleteTopicState().setName(null).setTopicId(new Uuid(7, 7))));
            }
            ask(topics, version, "some", request);
        }
    }

    private void coordinators() throws Exception {
        ApiKeys find = ApiKeys.FIND_COORDINATOR;
        for (byte type : new byte[] {GROUP, TRANSACTION}) {
            // Kafka creates its internal topics when they are asked for first, and has no coordinators meanwhile.
            FindCoordinatorResponseData answer;
            do {
                byte[] sent = encode(new RequestHeader(find, latest(find), "golden", ++correlation), coordinators(type, "first"));
                answer = (FindCoordinatorResponseData) decode(find, latest(find), exchange(sent));
            } while (answer.coordinators().get(0).errorCode() == Errors.COORDINATOR_NOT_AVAILABLE.code());
        }
        for (short version : versions(find)) {
            if (version < 4) {
                ask(find, version, "group", new FindCoordinatorRequestData().setKey("readers"));
                ask(find, version, "transaction", new FindCoordinatorRequestData().setKeyType(TRANSACTION).setKey("writers"));
                ask(find, version, "unknown-type", new FindCoordinatorRequestData().setKeyType((byte) 9).setKey("x"));
            } else {
                ask(find, version, "group", coordinators(GROUP, "readers", "others"));
                ask(find, version, "transaction", coordinators(TRANSACTION, "writers"));
                ask(find, version, "nothing", coordinators(GROUP));
            }
        }
    }

    private void markers() throws Exception {
        ApiKeys mark = ApiKeys.WRITE_TXN_MARKERS;
        ApiKeys describe = ApiKeys.DESCRIBE_PRODUCERS;
        for (short version : versions(mark)) {
            // Each version has a producer of its own.
            long producer = 7_000_000 + version;
            ask(mark, version, "nothing", new WriteTxnMarkersRequestData());
            ask(mark, version, "first", marker(producer, 5, 3, true, "created-7", 0, 1, 9));
            ask(mark, version, "again", marker(producer, 5, 3, true, "created-7", 0));
            ask(mark, version, "older-epoch", marker(producer, 4, 3, true, "created-7", 0));
            ask(mark, version, "older-coordinator", marker(producer, 6, 2, false, "created-7", 0));
            ask(mark, version, "newer", marker(producer, 6, 4, false, "created-7", 0));
            ask(mark, version, "unknown-topic", marker(producer, 7, 4, false, MISSING, 0));
        }
        for (short version : versions(describe)) {
            ask(describe, version, "marked", producers("created-7", 0, 1));
            ask(describe, version, "idempotent", producers(TOPIC, 1));
            ask(describe, version, "unknown-partition", producers("created-7", 9));
            ask(describe, version, "unknown-topic", producers(MISSING, 0));
        }
    }

    private static WriteTxnMarkersRequestData marker(long producer, int epoch, int coordinator, boolean commit, String topic, Integer... partitions) {
        WritableTxnMarkerTopic on = new WritableTxnMarkerTopic().setName(topic).setPartitionIndexes(List.of(partitions));
        return new WriteTxnMarkersRequestData().setMarkers(List.of(new WritableTxnMarker().setProducerId(producer)
                .setProducerEpoch((short) epoch).setCoordinatorEpoch(coordinator).setTransactionResult(commit)
                .setTransactionVersion((byte) 2).setTopics(List.of(on))));
    }

    private static DescribeProducersRequestData producers(String topic, Integer... partitions) {
        DescribeProducersRequestData.TopicRequest of = new DescribeProducersRequestData.TopicRequest().setName(topic);
        return new DescribeProducersRequestData().setTopics(List.of(of.setPartitionIndexes(List.of(partitions))));
    }

    private void groups() throws Exception {
        ApiKeys join = ApiKeys.JOIN_GROUP;
        ApiKeys sync = ApiKeys.SYNC_GROUP;
        for (short version : versions(join)) {
            String group = "joined-" + version;
            String member = ((JoinGroupResponseData) ask(join, version, "first", join(version, group, ""))).memberId();
            if (version >= 4) {
                ask(join, version, "with-its-id", join(version, group, member));
            }
            ask(join, version, "again", join(version, group, member));
            ask(join, version, "unknown-member", join(version, group, "nobody"));
            ask(join, version, "unknown-group", join(version, MISSING, "nobody"));
            ask(join, version, "no-group", join(version, "", ""));
            ask(join, version, "short-session", join(version, group, "").setSessionTimeoutMs(5999));
            ask(join, version, "long-session", join(version, group, "").setSessionTimeoutMs(1_800_001));
            ask(join, version, "other-type", join(version, group, "").setProtocolType("connect"));
            ask(join, version, "no-protocols", join(version, group, "").setProtocols(new JoinGroupRequestProtocolCollection()));
            if (version >= 5) {
                String named = "named-" + version;
                JoinGroupResponseData first = (JoinGroupResponseData) ask(join, version, "static", join(version, named, "").setGroupInstanceId("one"));
                ask(sync, latest(sync), "static", sync(named, first.memberId(), 1).setGroupInstanceId("one"));
                ask(join, version, "static-again", join(version, named, "").setGroupInstanceId("one"));
                ask(join, version, "static-fenced", join(version, named, first.memberId()).setGroupInstanceId("one"));
                ask(join, version, "static-unknown", join(version, named, first.memberId()).setGroupInstanceId("two"));
            }
        }
        for (short version : versions(sync)) {
            String group = "synced-" + version;
            String member = joined(group);
            ask(sync, version, "leader", sync(group, member, 1));
            ask(sync, version, "again", sync(group, member, 1));
            ask(sync, version, "old-generation", sync(group, member, 0));
            ask(sync, version, "unknown-member", sync(group, "nobody", 1));
            ask(sync, version, "unknown-group", sync(MISSING, member, 1));
            ask(sync, version, "no-group", sync("", member, 1));
            if (version >= 5) {
                ask(sync, version, "no-protocol", sync(group, member, 1).setProtocolName(null));
                ask(sync, version, "other-protocol", sync(group, member, 1).setProtocolName("sticky"));
            }
        }
        ApiKeys heartbeat = ApiKeys.HEARTBEAT;
        String beating = joined("beating");
        for (short version : versions(heartbeat)) {
            ask(heartbeat, version, "alive", heartbeat("beating", beating, 1));
            ask(heartbeat, version, "old-generation", heartbeat("beating", beating, 0));
            ask(heartbeat, version, "unknown-member", heartbeat("beating", "nobody", 1));
            ask(heartbeat, version, "unknown-group", heartbeat(MISSING, beating, 1));
            ask(heartbeat, version, "no-group", heartbeat("", beating, 1));
        }
        ApiKeys leave = ApiKeys.LEAVE_GROUP;
        for (short version : versions(leave)) {
            String group = "left-" + version;
            String member = joined(group);
            ask(leave, version, "unknown-member", leave(version, group, "nobody"));
            ask(leave, version, "itself", leave(version, group, member));
            ask(leave, version, "again", leave(version, group, member));
            ask(leave, version, "unknown-group", leave(version, MISSING, member));
            ask(leave, version, "no-group", leave(version, "", member));
            if (version >= 3) {
                ask(leave, version, "by-name", new LeaveGroupRequestData().setGroupId("named-" + (version + 2)).setMembers(List.of(
                        new MemberIdentity().setMemberId("").setGroupInstanceId("one"), new MemberIdentity().setMemberId("").setGroupInstanceId("two"))));
            }
        }
    }

    private void groupOffsets() throws Exception {
        ApiKeys commit = ApiKeys.OFFSET_COMMIT;
        String member = joined("committing");
        ask(ApiKeys.SYNC_GROUP, latest(ApiKeys.SYNC_GROUP), "committing", sync("committing", member, 1));
        for (short version : versions(commit)) {
            ask(commit, version, "simple", commit(version, "simple", "", -1, TOPIC, 0, 5 + version, "text"));
            ask(commit, version, "no-text", commit(version, "simple", "", -1, TOPIC, 1, 7, null));
            ask(commit, version, "member", commit(version, "committing", member, 1, TOPIC, 0, version, ""));
            ask(commit, version, "old-generation", commit(version, "committing", member, 0, TOPIC, 0, 5, ""));
            ask(commit, version, "unknown-member", commit(version, "committing", "nobody", 1, TOPIC, 0, 5, ""));
            ask(commit, version, "no-member", commit(version, "committing", "", -1, TOPIC, 0, 5, ""));
            ask(commit, version, "unknown-group", commit(version, MISSING, member, 1, TOPIC, 0, 5, ""));
            ask(commit, version, "no-group", commit(version, "", "", -1, TOPIC, 0, 5, ""));
            ask(commit, version, "unknown-partition", commit(version, "simple", "", -1, TOPIC, 9, 5, ""));
            ask(commit, version, "unknown-topic", commit(version, "simple", "", -1, MISSING, 0, 5, ""));
            ask(commit, version, "much-text", commit(version, "simple", "", -1, TOPIC, 2, 5, "x".repeat(4097)));
        }
        ApiKeys fetch = ApiKeys.OFFSET_FETCH;
        for (short version : versions(fetch)) {
            ask(fetch, version, "some", fetchOffsets(version, "simple", TOPIC, 0, 1, 2, 9));
            ask(fetch, version, "unknown-topic", fetchOffsets(version, "simple", MISSING, 0));
            ask(fetch, version, "unknown-group", fetchOffsets(version, MISSING, TOPIC, 0));
            if (version >= 2) {
                ask(fetch, version, "all", fetchOffsets(version, "simple", null));
                ask(fetch, version, "nothing-in-unknown-group", fetchOffsets(version, MISSING, null));
            }
            ask(fetch, version, "stable", fetchOffsets(version, "committing", TOPIC, 0).setRequireStable(version >= 7));
            if (version >= 8) {
                OffsetFetchRequestData two = fetchOffsets(version, "simple", TOPIC, 0);
                two.setGroups(List.of(two.groups().get(0), fetchOffsets(version, "committing", null).groups().get(0)));
                ask(fetch, version, "two-groups", two);
            }
        }
        ApiKeys delete = ApiKeys.OFFSET_DELETE;
        ask(delete, (short) 0, "some", deleteOffsets("simple", TOPIC, 1, 2, 9));
        ask(delete, (short) 0, "subscribed", deleteOffsets("committing", TOPIC, 0));
        ask(delete, (short) 0, "unknown-topic", deleteOffsets("simple", MISSING, 0));
        ask(delete, (short) 0, "unknown-group", deleteOffsets(MISSING, TOPIC, 0));
        ask(fetch, latest(fetch), "after-deletion", fetchOffsets(latest(fetch), "simple", null));
    }

    private void groupAdministration() throws Exception {
        ApiKeys describe = ApiKeys.DESCRIBE_GROUPS;
        for (short version : versions(describe)) {
            ask(describe, version, "some", new DescribeGroupsRequestData().setGroups(List.of("synced-5", "joined-9", "named-9", "left-0", "simple", MISSING)));
            ask(describe, version, "operations", new DescribeGroupsRequestData().setGroups(List.of("simple", MISSING)).setIncludeAuthorizedOperations(version >= 3));
        }
        ApiKeys list = ApiKeys.LIST_GROUPS;
        for (short version : versions(list)) {
            ask(list, version, "all", new ListGroupsRequestData());
            ask(list, version, "states", new ListGroupsRequestData().setStatesFilter(List.of("stable", "Unknown")));
            ask(list, version, "types", new ListGroupsRequestData().setTypesFilter(List.of("Classic")));
            ask(list, version, "other-types", new ListGroupsRequestData().setTypesFilter(List.of("consumer")));
        }
        ApiKeys delete = ApiKeys.DELETE_GROUPS;
        for (short version : versions(delete)) {
            ask(delete, version, "some", new DeleteGroupsRequestData().setGroupsNames(List.of("left-" + version, "synced-0", MISSING, MISSING)));
        }
        ask(delete, latest(delete), "with-offsets", new DeleteGroupsRequestData().setGroupsNames(List.of("simple")));
        ask(ApiKeys.OFFSET_FETCH, latest(ApiKeys.OFFSET_FETCH), "deleted-group", fetchOffsets(latest(ApiKeys.OFFSET_FETCH), "simple", null));
    }

    /** Groups of the consumer protocol come last, so that lists of groups above hold none of them. */
    private void consumerGroups() throws Exception {
        ApiKeys heartbeat = ApiKeys.CONSUMER_GROUP_HEARTBEAT;
        for (short version : versions(heartbeat)) {
            String group = "led-" + version;
            // From version 1 on members bring their ids.
            String own = version == 0 ? "" : Uuid.randomUuid().toString();
            ConsumerGroupHeartbeatResponseData first = (ConsumerGroupHeartbeatResponseData) ask(heartbeat, version, "joins", joining(group, own));
            String member = first.memberId();
            int epoch = first.memberEpoch();
            ask(heartbeat, version, "stays", staying(group, member, epoch));
            ask(heartbeat, version, "owns", staying(group, member, epoch).setTopicPartitions(first.assignment().topicPartitions().stream()
                    .map(of -> new ConsumerGroupHeartbeatRequestData.TopicPartitions().setTopicId(of.topicId()).setPartitions(of.partitions()))
                    .toList()));
            ask(heartbeat, version, "other-epoch", staying(group, member, epoch + 7));
            ask(heartbeat, version, "unknown-member", staying(group, "nobody", epoch));
            ask(heartbeat, version, "unknown-group", staying(MISSING, "nobody", epoch));
            ask(heartbeat, version, "no-group", joining("", own));
            ask(heartbeat, version, "no-member", staying(group, "", epoch));
            ask(heartbeat, version, "no-subscription", joining(group, own).setSubscribedTopicNames(null));
            ask(heartbeat, version, "no-timeout", joining(group, own).setRebalanceTimeoutMs(-1));
            ask(heartbeat, version, "no-partitions-told", joining(group, own).setTopicPartitions(null));
            ask(heartbeat, version, "negative-epoch", staying(group, member, -7));
            ask(heartbeat, version, "unknown-assignor", joining(group, own).setServerAssignor("no-such"));
            ask(heartbeat, version, "empty-rack", joining(group, own).setRackId(""));
            ask(heartbeat, version, "invalid-regex", joining(group, own).setSubscribedTopicRegex("("));
            String named = "led-by-name-" + version;
            member = ((ConsumerGroupHeartbeatResponseData) ask(heartbeat, version, "static", joining(named, own).setInstanceId("one"))).memberId();
            String other = version == 0 ? "" : Uuid.randomUuid().toString();
            ask(heartbeat, version, "static-taken", joining(named, other).setInstanceId("one"));
            ask(heartbeat, version, "static-unknown", staying(named, member, 1).setInstanceId("two"));
            ask(heartbeat, version, "static-fenced", staying(named, "nobody", 1).setInstanceId("one"));
            ask(heartbeat, version, "static-leaves", staying(named, member, -2).setInstanceId("one"));
            ask(heartbeat, version, "static-returns", joining(named, other).setInstanceId("one"));
            String left = "led-and-left-" + version;
            member = ((ConsumerGroupHeartbeatResponseData) ask(heartbeat, version, "joins-to-leave", joining(left, own))).memberId();
            ask(heartbeat, version, "leaves", staying(left, member, -1));
            ask(heartbeat, version, "leaves-again", staying(left, member, -1));
        }
        ApiKeys describe = ApiKeys.CONSUMER_GROUP_DESCRIBE;
        for (short version : versions(describe)) {
            ask(describe, version, "some", new ConsumerGroupDescribeRequestData()
                    .setGroupIds(List.of("led-0", "led-by-name-1", "led-and-left-0", "joined-9", MISSING, "")));
            ask(describe, version, "operations", new ConsumerGroupDescribeRequestData()
                    .setGroupIds(List.of("led-1", MISSING)).setIncludeAuthorizedOperations(true));
            ask(describe, version, "nothing", new ConsumerGroupDescribeRequestData());
        }
    }

    private static ConsumerGroupHeartbeatRequestData joining(String group, String member) {
        return new ConsumerGroupHeartbeatRequestData().setGroupId(group).setMemberId(member).setMemberEpoch(0)
                .setRebalanceTimeoutMs(300_000).setSubscribedTopicNames(List.of("assigned-2")).setTopicPartitions(List.of());
    }

    private static ConsumerGroupHeartbeatRequestData staying(String group, String member, int epoch) {
        return new ConsumerGroupHeartbeatRequestData().setGroupId(group).setMemberId(member).setMemberEpoch(epoch);
    }

    /** The id of the one member of a new group, which waits for its assignment. */
    private String joined(String group) throws Exception {
        short version = 3;
        return ((JoinGroupResponseData) ask(ApiKeys.JOIN_GROUP, version, "into-" + group, join(version, group, ""))).memberId();
    }

    private static JoinGroupRequestData join(short version, String group, String member) {
        JoinGroupRequestData request = new JoinGroupRequestData().setGroupId(group).setMemberId(member).setProtocolType("consumer")
                .setSessionTimeoutMs(300_000).setRebalanceTimeoutMs(version >= 1 ? 300_000 : -1);
        request.protocols().add(new JoinGroupRequestProtocol().setName("range").setMetadata(new byte[] {1, 2}));
        request.protocols().add(new JoinGroupRequestProtocol().setName("roundrobin").setMetadata(new byte[] {3}));
        return request;
    }

    private static SyncGroupRequestData sync(String group, String member, int generation) {
        return new SyncGroupRequestData().setGroupId(group).setMemberId(member).setGenerationId(generation)
                .setProtocolType("consumer").setProtocolName("range")
                .setAssignments(List.of(new SyncGroupRequestAssignment().setMemberId(member).setAssignment(new byte[] {4, 5})));
    }

    private static HeartbeatRequestData heartbeat(String group, String member, int generation) {
        return new HeartbeatRequestData().setGroupId(group).setMemberId(member).setGenerationId(generation);
    }

    private static LeaveGroupRequestData leave(short version, String group, String member) {
        LeaveGroupRequestData request = new LeaveGroupRequestData().setGroupId(group);
        return version < 3 ? request.setMemberId(member) : request.setMembers(List.of(new MemberIdentity().setMemberId(member)));
    }

    private OffsetCommitRequestData commit(short version, String group, String member, int generation, String topic, int partition, long offset, String text) {
        boolean byId = version >= 10;
        return new OffsetCommitRequestData().setGroupId(group).setMemberId(member).setGenerationIdOrMemberEpoch(generation).setTopics(List.of(
                new OffsetCommitRequestTopic().setName(byId ? "" : topic).setTopicId(byId ? id(topic) : Uuid.ZERO_UUID).setPartitions(List.of(
                        new OffsetCommitRequestPartition().setPartitionIndex(partition).setCommittedOffset(offset)
                                .setCommittedLeaderEpoch(version >= 6 ? 0 : -1).setCommittedMetadata(text)))));
    }

    /** Null for the topic asks for all. */
    private OffsetFetchRequestData fetchOffsets(short version, String group, String topic, Integer... partitions) {
        if (version < 8) {
            return new OffsetFetchRequestData().setGroupId(group).setTopics(topic == null ? null : List.of(
                    new OffsetFetchRequestTopic().setName(topic).setPartitionIndexes(List.of(partitions))));
        }
        boolean byId = version >= 10;
        return new OffsetFetchRequestData().setGroups(List.of(new OffsetFetchRequestGroup().setGroupId(group).setTopics(topic == null ? null : List.of(
                new OffsetFetchRequestTopics().setName(byId ? "" : topic).setTopicId(byId ? id(topic) : Uuid.ZERO_UUID)
                        .setPartitionIndexes(List.of(partitions))))));
    }

    private static OffsetDeleteRequestData deleteOffsets(String group, String topic, int... partitions) {
        OffsetDeleteRequestTopic of = new OffsetDeleteRequestTopic().setName(topic).setPartitions(
                Arrays.stream(partitions).mapToObj(partition -> new OffsetDeleteRequestPartition().setPartitionIndex(partition)).toList());
        OffsetDeleteRequestData request = new OffsetDeleteRequestData().setGroupId(group);
        request.topics().add(of);
        return request;
    }

    private Uuid id(String topic) {
        return topic.equals(TOPIC) ? topicId : new Uuid(7, 7);
    }

    private void transactions() throws Exception {
        quietly(ApiKeys.CREATE_TOPICS, latest(ApiKeys.CREATE_TOPICS), topic(LEDGER, 3, null, null));
        ApiKeys init = ApiKeys.INIT_PRODUCER_ID;
        begin("writers-0");
        for (short version : versions(init)) {
            ask(init, version, "transactional", initialize("writers-" + version, 60_000));
            ask(init, version, "no-timeout", initialize("writers", 0));
            ask(init, version, "long-timeout", initialize("writers", 900_001));
            ask(init, version, "empty-id", initialize("", 60_000));
            ask(init, version, "unknown-producer", initialize("writers-" + version, 60_000).setProducerId(77).setProducerEpoch((short) 3));
            ask(init, version, "half-a-producer", initialize("writers-" + version, 60_000).setProducerId(77));
        }
        ApiKeys add = ApiKeys.ADD_PARTITIONS_TO_TXN;
        for (short version : versions(add)) {
            String id = "adders-" + version;
            InitProducerIdResponseData producer = begin(id);
            join(id, producer, 0);
            ask(add, version, "some", partitions(version, id, producer, 0, false, 0, 1));
            ask(add, version, "unknown-partition", partitions(version, id, producer, 0, false, 0, 9));
            ask(add, version, "old-epoch", partitions(version, id, producer, -1, false, 0));
            ask(add, version, "unknown-id", partitions(version, "nobody", producer, 0, false, 0));
            ask(add, version, "verified", partitions(version, id, producer, 0, true, 0, 1, 2));
        }
        ApiKeys offsets = ApiKeys.ADD_OFFSETS_TO_TXN;
        for (short version : versions(offsets)) {
            String id = "movers-" + version;
            InitProducerIdResponseData producer = begin(id);
            ask(offsets, version, "some", groupOffsets(id, producer, 0));
            ask(offsets, version, "old-epoch", groupOffsets(id, producer, -1));
            ask(offsets, version, "unknown-id", groupOffsets("nobody", producer, 0));
        }
        ApiKeys commit = ApiKeys.TXN_OFFSET_COMMIT;
        for (short version : versions(commit)) {
            String id = "committers-" + version;
            InitProducerIdResponseData producer = begin(id);
            if (version == 0) {
                ask(commit, version, "not-added", commit(id, producer, 0, "readers", LEDGER));
            }
            quietly(offsets, latest(offsets), groupOffsets(id, producer, 0));
            ask(commit, version, "some", commit(id, producer, 0, "readers", LEDGER));
            ask(commit, version, "unknown-topic", commit(id, producer, 0, "readers", MISSING));
            ask(commit, version, "unknown-member", commit(id, producer, 0, "readers", LEDGER).setMemberId("nobody").setGenerationId(3));
            ask(commit, version, "no-group", commit(id, producer, 0, "", LEDGER));
            ask(commit, version, "unknown-producer", commit(id, producer, 7, "others", LEDGER));
        }
        ApiKeys list = ApiKeys.LIST_TRANSACTIONS;
        for (short version : versions(list)) {
            ListTransactionsRequestData request = new ListTransactionsRequestData().setStateFilters(List.of("Ongoing"));
            ask(list, version, "ongoing", request);
            ask(list, version, "unknown-state", new ListTransactionsRequestData().setStateFilters(List.of("Sleeping")));
            ask(list, version, "unknown-producer", new ListTransactionsRequestData().setProducerIdFilters(List.of(77L)));
            if (version >= 1) {
                ask(list, version, "long", new ListTransactionsRequestData().setDurationFilter(3_600_000).setStateFilters(List.of("Ongoing")));
            }
            if (version >= 2) {
                ask(list, version, "pattern", new ListTransactionsRequestData().setTransactionalIdPattern("movers-[12]"));
                ask(list, version, "bad-pattern", new ListTransactionsRequestData().setTransactionalIdPattern("("));
            }
        }
        ask(ApiKeys.DESCRIBE_TRANSACTIONS, (short) 0, "some", new DescribeTransactionsRequestData()
                .setTransactionalIds(List.of("writers-1", "adders-3", "movers-0", "nobody", "")));
        ApiKeys end = ApiKeys.END_TXN;
        for (short version : versions(end)) {
            String id = "enders-" + version;
            InitProducerIdResponseData producer = begin(id);
            ask(end, version, "nothing-to-commit", end(id, producer, 0, true));
            join(id, producer, 0);
            ask(end, version, "old-epoch", end(id, producer, -1, true));
            ask(end, version, "unknown-id", end("nobody", producer, 0, true));
            ask(end, version, "committed", end(id, producer, 0, true));
            short concurrent = Errors.CONCURRENT_TRANSACTIONS.code();
            while (((EndTxnResponseData) quietly(end, version, end(id, producer, 0, true))).errorCode() == concurrent) {
                Thread.onSpinWait();
            }
            ask(end, version, "again", end(id, producer, 0, true));
            ask(end, version, "changed-mind", end(id, producer, 0, false));
        }
    }

    /** A producer that can begin transactions. */
    private InitProducerIdResponseData begin(String id) throws Exception {
        ApiKeys init = ApiKeys.INIT_PRODUCER_ID;
        InitProducerIdResponseData answer;
        do {
            answer = (InitProducerIdResponseData) quietly(init, latest(init), initialize(id, 60_000));
        } while (Errors.forCode(answer.errorCode()).exception() instanceof RetriableException);
        return answer;
    }

    /** Adds a partition, as soon as it is there. */
    private void join(String id, InitProducerIdResponseData producer, int partition) throws Exception {
        AddPartitionsToTxnResponseData answer;
        do {
            answer = (AddPartitionsToTxnResponseData) quietly(ApiKeys.ADD_PARTITIONS_TO_TXN, (short) 3,
                    partitions((short) 3, id, producer, 0, false, partition));
        } while (answer.resultsByTopicV3AndBelow().find(LEDGER).resultsByPartition().find(partition).partitionErrorCode() != 0);
    }

    private static InitProducerIdRequestData initialize(String id, int timeout) {
        return new InitProducerIdRequestData().setTransactionalId(id).setTransactionTimeoutMs(timeout);
    }

    private static AddPartitionsToTxnRequestData partitions(
            short version, String id, InitProducerIdResponseData producer, int epochs, boolean verify, Integer... partitions) {
        AddPartitionsToTxnTopicCollection topics = new AddPartitionsToTxnTopicCollection();
        topics.add(new AddPartitionsToTxnTopic().setName(LEDGER).setPartitions(List.of(partitions)));
        short epoch = (short) (producer.producerEpoch() + epochs);
        AddPartitionsToTxnRequestData request = new AddPartitionsToTxnRequestData();
        if (version < 4) {
            return request.setV3AndBelowTransactionalId(id).setV3AndBelowProducerId(producer.producerId())
                    .setV3AndBelowProducerEpoch(epoch).setV3AndBelowTopics(topics);
        }
        AddPartitionsToTxnTransactionCollection transactions = new AddPartitionsToTxnTransactionCollection();
        transactions.add(new AddPartitionsToTxnTransaction().setTransactionalId(id).setProducerId(producer.producerId())
                .setProducerEpoch(epoch).setVerifyOnly(verify).setTopics(topics));
        return request.setTransactions(transactions);
    }

    private static AddOffsetsToTxnRequestData groupOffsets(String id, InitProducerIdResponseData producer, int epochs) {
        return new AddOffsetsToTxnRequestData().setTransactionalId(id).setProducerId(producer.producerId())
                .setProducerEpoch((short) (producer.producerEpoch() + epochs)).setGroupId("readers");
    }

    private static TxnOffsetCommitRequestData commit(
            String id, InitProducerIdResponseData producer, int epochs, String group, String topic) {
        return new TxnOffsetCommitRequestData().setTransactionalId(id).setGroupId(group).setProducerId(producer.producerId())
                .setProducerEpoch((short) (producer.producerEpoch() + epochs)).setTopics(List.of(
                        new TxnOffsetCommitRequestTopic().setName(topic).setPartitions(List.of(new TxnOffsetCommitRequestPartition()
                                .setPartitionIndex(0).setCommittedOffset(5).setCommittedMetadata("text"),
                                new TxnOffsetCommitRequestPartition().setPartitionIndex(9).setCommittedOffset(5)))));
    }

    private static EndTxnRequestData end(String id, InitProducerIdResponseData producer, int epochs, boolean commit) {
        return new EndTxnRequestData().setTransactionalId(id).setProducerId(producer.producerId())
                .setProducerEpoch((short) (producer.producerEpoch() + epochs)).setCommitted(commit);
    }

    private static FindCoordinatorRequestData coordinators(byte type, String... keys) {
        return new FindCoordinatorRequestData().setKeyType(type).setCoordinatorKeys(List.of(keys));
    }

    /** The versions that a broker serves unless it is told to serve unstable ones. */
    private static List<Short> versions(ApiKeys api) {
        return api.allVersions().stream().filter(version -> api.isVersionEnabled(version, false)).toList();
    }

    private static short latest(ApiKeys api) {
        return api.latestVersion(false);
    }

    private static CreateTopicsRequestData topic(String name, int partitions, String config, String value) {
        CreatableTopic topic = new CreatableTopic().setName(name).setNumPartitions(partitions)
                .setReplicationFactor((short) (partitions == -1 ? -1 : 1));
        if (config != null) {
            topic.configs().add(new CreatableTopicConfig().setName(config).setValue(value));
        }
        return new CreateTopicsRequestData().setTimeoutMs(5000).setTopics(collection(topic));
    }

    private static CreateTopicsRequestData.CreatableTopicCollection collection(CreatableTopic topic) {
        CreateTopicsRequestData.CreatableTopicCollection topics = new CreateTopicsRequestData.CreatableTopicCollection();
        topics.add(topic);
        return topics;
    }

    private static CreatePartitionsRequestData partitions(String name, int count) {
        CreatePartitionsRequestData request = new CreatePartitionsRequestData().setTimeoutMs(5000);
        request.topics().add(new CreatePartitionsTopic().setName(name).setCount(count).setAssignments(null));
        return request;
    }

    private ProduceRequestData records(short version, int partition, MemoryRecords records) {
        return records(version, partition, records, 0);
    }

    /** One partition's records; where {@code size} is given, its one record's value has that many bytes. */
    private ProduceRequestData records(short version, int partition, MemoryRecords records, int size) {
        if (size > 0) {
            records = MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(TIME, "key".getBytes(), new byte[size]));
        }
        TopicProduceData topic = new TopicProduceData().setPartitionData(List.of(new PartitionProduceData().setIndex(partition).setRecords(records)));
        topic.setName(version < 13 ? TOPIC : "").setTopicId(version < 13 ? Uuid.ZERO_UUID : topicId);
        ProduceRequestData request = new ProduceRequestData().setTransactionalId(null).setAcks((short) -1).setTimeoutMs(5000);
        request.topicData().add(topic);
        return request;
    }

    private static MemoryRecords damaged(MemoryRecords records) {
        ByteBuffer bytes = copy(records);
        bytes.put(bytes.limit() - 1, (byte) ~bytes.get(bytes.limit() - 1));
        return MemoryRecords.readableRecords(bytes);
    }

    /** Sets the attribute bit of a control batch, which a client may not write, with the checksum that belongs to it. */
    private static MemoryRecords control(MemoryRecords records) {
        ByteBuffer bytes = copy(records);
        int attributes = 21;
        bytes.put(attributes + 1, (byte) (bytes.get(attributes + 1) | 0x20));
        java.util.zip.CRC32C crc = new java.util.zip.CRC32C();
        crc.update(bytes.array(), attributes, bytes.limit() - attributes);
        bytes.putInt(17, (int) crc.getValue());
        return MemoryRecords.readableRecords(bytes);
    }

    private static ByteBuffer copy(MemoryRecords records) {
        ByteBuffer from = records.buffer();
        byte[] bytes = new byte[from.remaining()];
        from.get(bytes);
        return ByteBuffer.wrap(bytes);
    }

    private FetchRequestData fetch(short version, FetchPartition... partitions) {
        FetchRequestData request = new FetchRequestData().setReplicaId(-1).setMaxWaitMs(0).setMinBytes(1).setMaxBytes(1 << 20)
                .setSessionId(0).setSessionEpoch(-1);
        if (partitions.length > 0) {
            request.setTopics(List.of(new FetchTopic().setTopic(version < 13 ? TOPIC : "").setTopicId(version < 13 ? Uuid.ZERO_UUID : topicId)
                    .setPartitions(Arrays.asList(partitions))));
        }
        return request;
    }

    private static FetchPartition position(int partition, long offset) {
        return new FetchPartition().setPartition(partition).setFetchOffset(offset).setPartitionMaxBytes(1 << 20).setCurrentLeaderEpoch(-1);
    }

    private static ListOffsetsPartition position(int partition, long timestamp, int epoch) {
        return new ListOffsetsPartition().setPartitionIndex(partition).setTimestamp(timestamp).setCurrentLeaderEpoch(epoch);
    }

    private static ListOffsetsRequestData offsets(String topic, ListOffsetsPartition... partitions) {
        return new ListOffsetsRequestData().setReplicaId(-1).setTopics(List.of(
                new ListOffsetsTopic().setName(topic).setPartitions(Arrays.asList(partitions))));
    }

    private static OffsetForLeaderEpochRequestData epochs(String topic, int partition, int current, int asked) {
        OffsetForLeaderEpochRequestData request = new OffsetForLeaderEpochRequestData().setReplicaId(-1);
        request.topics().add(new OffsetForLeaderTopic().setTopic(topic).setPartitions(List.of(
                new OffsetForLeaderPartition().setPartition(partition).setCurrentLeaderEpoch(current).setLeaderEpoch(asked))));
        return request;
    }

    private static IncrementalAlterConfigsRequestData alter(String topic, String name, int operation, String value) {
        AlterConfigsResource resource = new AlterConfigsResource().setResourceType((byte) 2).setResourceName(topic);
        resource.configs().add(new AlterableConfig().setName(name).setConfigOperation((byte) operation).setValue(value));
        IncrementalAlterConfigsRequestData request = new IncrementalAlterConfigsRequestData();
        request.resources().add(resource);
        return request;
    }

    private static IncrementalAlterConfigsRequestData twice() {
        IncrementalAlterConfigsRequestData request = alter(TOPIC, "segment.bytes", 0, "1048576");
        request.resources().iterator().next().configs().mustAdd(new AlterableConfig().setName("segment.bytes").setConfigOperation((byte) 1).setValue(null));
        return request;
    }

    private static DescribeConfigsRequestData describe(int type, String name, List<String> keys) {
        return new DescribeConfigsRequestData().setResources(List.of(
                new DescribeConfigsResource().setResourceType((byte) type).setResourceName(name).setConfigurationKeys(keys)));
    }

    private static DeleteRecordsRequestData deleteRecords(String topic, int partition, long offset) {
        return new DeleteRecordsRequestData().setTimeoutMs(5000).setTopics(List.of(new DeleteRecordsTopic().setName(topic)
                .setPartitions(List.of(new DeleteRecordsPartition().setPartitionIndex(partition).setOffset(offset)))));
    }

    /** Sends a request, keeps both frames and returns the answer. Does nothing where the version cannot say what is asked. */
    private ApiMessage ask(ApiKeys api, short version, String name, ApiMessage request) throws Exception {
        byte[] sent;
        try {
            sent = encode(new RequestHeader(api, version, "golden", ++correlation), request);
        } catch (UnsupportedVersionException error) {
            return null;
        }
        byte[] received = exchange(sent);
        ApiMessage answer = decode(api, version, received);
        // A frame of a megabyte of zeros would teach nobody anything.
        if (sent.length < 65_536) {
            HexFormat hex = HexFormat.of();
            frames.computeIfAbsent(api, key -> new ArrayList<>())
                    .add(version + "\t" + name + "\t" + hex.formatHex(sent) + "\t" + hex.formatHex(received));
        }
        JsonNode json = (JsonNode) Class.forName(answer.getClass().getName() + "JsonConverter")
                .getMethod("write", answer.getClass(), short.class, boolean.class).invoke(null, answer, version, false);
        // What an ApiVersions answer lists is compared API by API elsewhere: brokers may serve less. The log of the quorum has
        // other records in every broker and run.
        if (api == ApiKeys.API_VERSIONS || name.equals(QUORUM)) {
            return answer;
        }
        answers.add(api.name + "\t" + version + "\t" + name + "\t" + comparable(json));
        return answer;
    }

    /** Sends a request that is not for the record. */
    private ApiMessage quietly(ApiKeys api, short version, ApiMessage request) throws Exception {
        return decode(api, version, exchange(encode(new RequestHeader(api, version, "golden", ++correlation), request)));
    }

    private static byte[] encode(RequestHeader header, ApiMessage request) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer bytes = ByteBuffer.allocate(
                header.data().size(cache, header.headerVersion()) + request.size(cache, header.apiVersion()));
        ByteBufferAccessor writer = new ByteBufferAccessor(bytes);
        header.data().write(writer, cache, header.headerVersion());
        request.write(writer, cache, header.apiVersion());
        return bytes.array();
    }

    private byte[] exchange(byte[] sent) throws Exception {
        out.writeInt(sent.length);
        out.write(sent);
        byte[] received = new byte[in.readInt()];
        in.readFully(received);
        return received;
    }

    private ApiMessage decode(ApiKeys api, short version, byte[] received) {
        ByteBufferAccessor reader = new ByteBufferAccessor(ByteBuffer.wrap(received));
        ResponseHeader header = ResponseHeader.parse(reader.buffer(), api.responseHeaderVersion(version));
        if (header.correlationId() != correlation) {
            throw new IllegalStateException("an answer to " + header.correlationId() + " for " + correlation);
        }
        ApiMessage answer = api.messageType.newResponse();
        answer.read(reader, version);
        if (reader.remaining() > 0) {
            throw new IllegalStateException(api + " " + version + ": " + reader.remaining() + " bytes too many");
        }
        return answer;
    }

    private static final Set<String> VOLATILE = Set.of("topicId", "clusterId", "host", "port", "producerId", "logDir", "sessionId",
            "totalBytes", "usableBytes", "lastTimestamp", "partitionSize", "finalizedFeaturesEpoch", "throttleTimeMs", "offsetLag",
            "transactionStartTimeMs");

    /** Masks what differs from run to run and wording, and sorts lists, whose order has no meaning in answers. */
    private static JsonNode comparable(JsonNode node) {
        if (node instanceof ObjectNode object) {
            List<String> names = new ArrayList<>();
            object.fieldNames().forEachRemaining(names::add);
            for (String name : names) {
                JsonNode value = object.get(name);
                boolean wording = Set.of("errorMessage", "batchIndexErrorMessage", "documentation").contains(name) && !value.isNull();
                boolean generated = Set.of("memberId", "leader").contains(name) && !value.asText().isEmpty() && !value.asText().equals("nobody");
                object.set(name, VOLATILE.contains(name) || wording || generated ? new TextNode("*") : comparable(value));
            }
        } else if (node instanceof ArrayNode array) {
            List<JsonNode> items = new ArrayList<>();
            array.forEach(item -> items.add(comparable(item)));
            items.sort(Comparator.comparing(JsonNode::toString));
            array.removeAll();
            array.addAll(items);
        }
        return node;
    }

    private void write(Path directory) throws Exception {
        Files.createDirectories(directory);
        for (Map.Entry<ApiKeys, List<String>> entry : frames.entrySet()) {
            Files.write(directory.resolve(entry.getKey().name + ".txt"), entry.getValue(), StandardCharsets.UTF_8);
        }
        Files.write(directory.resolve("answers.txt"), answers, StandardCharsets.UTF_8);
    }
}
