//! What the tools are asked, and in what their answers may differ.

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
/// Not a tool, but what tools look at: it leaves a transaction open.
const OPEN_TRANSACTION: &str = "Run$OpenTransaction";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
/// Tools that run as processes of their own, since they go on printing when they have ended.
pub(crate) const APART: &[&str] = &[VERIFIABLE_PRODUCER, VERIFIABLE_CONSUMER];

/// A command: its name, what it reads, the tool's class, and its arguments. `{broker}` is where the broker listens,
/// `{dir}` a directory with the files of [`FILES`].
pub(crate) type Row = (&'static str, &'static str, &'static str, &'static str);

/// What the tools are asked, in this order.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Row] = &[
    ("topics-create", "", TOPICS, "{} --create --topic one --partitions 3 --replication-factor 1 --config retention.ms=86400000"),
    ("topics-create-for-producers", "", TOPICS, "{} --create --topic perf --partitions 1"),
    ("topics-create-by-default", "", TOPICS, "{} --create --topic two"),
    ("topics-create-existing", "", TOPICS, "{} --create --topic one --partitions 3"),
    ("topics-create-unless-existing", "", TOPICS, "{} --create --topic one --if-not-exists"),
    ("topics-create-dotted", "", TOPICS, "{} --create --topic a.b"),
    ("topics-create-colliding", "", TOPICS, "{} --create --topic a_b"),
    ("topics-create-badly-named", "", TOPICS, "{} --create --topic a/b"),
    ("topics-create-too-many-replicas", "", TOPICS, "{} --create --topic far --replication-factor 3"),
    ("topics-create-no-partitions", "", TOPICS, "{} --create --topic none --partitions 0"),
    ("topics-create-odd-config", "", TOPICS, "{} --create --topic odd --config no.such.setting=1"),
    ("topics-create-assigned", "", TOPICS, "{} --create --topic assigned --replica-assignment 1,1"),
    ("topics-create-assigned-elsewhere", "", TOPICS, "{} --create --topic elsewhere --replica-assignment 7"),
    ("topics-create-for-transactions", "", TOPICS, "{} --create --topic tx --partitions 1"),
    ("topics-create-for-verifying", "", TOPICS, "{} --create --topic verified --partitions 1"),
    ("topics-list", "", TOPICS, "{} --list"),
    ("topics-list-some", "", TOPICS, "{} --list --topic o.*"),
    ("topics-list-own", "", TOPICS, "{} --list --exclude-internal"),
    ("topics-describe", "", TOPICS, "{} --describe"),
    ("topics-describe-one", "", TOPICS, "{} --describe --topic one"),
    ("topics-describe-missing", "", TOPICS, "{} --describe --topic missing"),
    ("topics-describe-overridden", "", TOPICS, "{} --describe --topics-with-overrides"),
    ("topics-describe-under-replicated", "", TOPICS, "{} --describe --under-replicated-partitions"),
    ("topics-describe-unavailable", "", TOPICS, "{} --describe --unavailable-partitions"),
    ("topics-describe-under-min-isr", "", TOPICS, "{} --describe --under-min-isr-partitions"),
    ("topics-describe-at-min-isr", "", TOPICS, "{} --describe --at-min-isr-partitions"),
    ("topics-alter", "", TOPICS, "{} --alter --topic two --partitions 4"),
    ("topics-alter-to-fewer", "", TOPICS, "{} --alter --topic two --partitions 2"),
    // Early, since Kafka answers before its broker has followed.
    ("configs-broker", "", CONFIGS, "{} --alter --entity-type brokers --entity-name 1 --add-config log.retention.ms=888888,max.connections=1000"),
    ("configs-group", "", CONFIGS, "{} --alter --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=50000"),
    ("configs-logger", "", CONFIGS, "{} --alter --entity-type broker-loggers --entity-name 1 --add-config root=WARN"),
    ("topics-alter-missing", "", TOPICS, "{} --alter --topic missing --partitions 2"),
    ("topics-alter-if-existing", "", TOPICS, "{} --alter --topic missing --partitions 2 --if-exists"),
    ("topics-delete", "", TOPICS, "{} --delete --topic assigned"),
    ("topics-delete-missing", "", TOPICS, "{} --delete --topic missing"),
    ("topics-delete-if-existing", "", TOPICS, "{} --delete --topic missing --if-exists"),
    ("configs-alter", "", CONFIGS, "{} --alter --entity-type topics --entity-name one --add-config segment.bytes=1048576,cleanup.policy=[compact,delete]"),
    ("configs-alter-badly", "", CONFIGS, "{} --alter --entity-type topics --entity-name one --add-config segment.bytes=many"),
    ("configs-alter-unknown", "", CONFIGS, "{} --alter --entity-type topics --entity-name one --add-config no.such.setting=1"),
    ("configs-alter-missing", "", CONFIGS, "{} --alter --entity-type topics --entity-name missing --add-config segment.bytes=1048576"),
    ("configs-describe", "", CONFIGS, "{} --describe --entity-type topics --entity-name one"),
    ("configs-describe-all", "", CONFIGS, "{} --describe --all --entity-type topics --entity-name one"),
    ("configs-describe-every-topic", "", CONFIGS, "{} --describe --entity-type topics"),
    ("configs-describe-missing", "", CONFIGS, "{} --describe --entity-type topics --entity-name missing"),
    ("configs-delete", "", CONFIGS, "{} --alter --entity-type topics --entity-name one --delete-config cleanup.policy,segment.bytes"),
    ("configs-broker-describe", "", CONFIGS, "{} --describe --entity-type brokers --entity-name 1"),
    ("configs-broker-delete", "", CONFIGS, "{} --alter --entity-type brokers --entity-name 1 --delete-config log.retention.ms,max.connections"),
    ("configs-broker-read-only", "", CONFIGS, "{} --alter --entity-type brokers --entity-name 1 --add-config num.partitions=3"),
    ("configs-all-brokers", "", CONFIGS, "{} --alter --entity-type brokers --entity-default --add-config log.retention.ms=777777"),
    ("configs-all-brokers-describe", "", CONFIGS, "{} --describe --entity-type brokers --entity-default"),
    ("configs-all-brokers-delete", "", CONFIGS, "{} --alter --entity-type brokers --entity-default --delete-config log.retention.ms"),
    ("configs-group-describe", "", CONFIGS, "{} --describe --entity-type groups --entity-name g"),
    ("configs-group-describe-all", "", CONFIGS, "{} --describe --all --entity-type groups --entity-name g"),
    ("configs-group-out-of-bounds", "", CONFIGS, "{} --alter --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=1"),
    ("configs-group-unknown", "", CONFIGS, "{} --alter --entity-type groups --entity-name g --add-config no.such.setting=1"),
    ("configs-groups-describe", "", CONFIGS, "{} --describe --entity-type groups"),
    ("configs-group-delete", "", CONFIGS, "{} --alter --entity-type groups --entity-name g --delete-config consumer.session.timeout.ms"),
    ("configs-group-describe-missing", "", CONFIGS, "{} --describe --entity-type groups --entity-name missing"),
    ("configs-logger-badly", "", CONFIGS, "{} --alter --entity-type broker-loggers --entity-name 1 --add-config root=LOUD"),
    ("configs-logger-unknown", "", CONFIGS, "{} --alter --entity-type broker-loggers --entity-name 1 --add-config no.such.logger=INFO"),
    ("configs-logger-delete-root", "", CONFIGS, "{} --alter --entity-type broker-loggers --entity-name 1 --delete-config root"),
    ("configs-client", "", CONFIGS, "{} --alter --entity-type clients --entity-name c --add-config consumer_byte_rate=1000"),
    ("configs-metrics", "", CONFIGS, "{} --alter --entity-type client-metrics --entity-name m --add-config interval.ms=1000"),
    ("producer", "first\nsecond\nthird\n", PRODUCER, "{} --topic one"),
    ("producer-keyed", "k:v\n", PRODUCER, "{} --topic two --reader-property parse.key=true --reader-property key.separator=:"),
    ("producer-perf", "", "org.apache.kafka.tools.ProducerPerformance", "{} --topic perf --num-records 500 --record-size 100 --throughput -1"),
    ("end-to-end-latency", "", "org.apache.kafka.tools.EndToEndLatency", "{} --topic a.b --num-records 20 --producer-acks all --record-size 20"),
    ("consumer", "", CONSUMER, "{} --topic a.b --partition 0 --offset earliest --max-messages 5"),
    ("consumer-perf", "", "org.apache.kafka.tools.ConsumerPerformance", "{} --topic perf --num-records 500 --group perf"),
    ("offsets", "", OFFSETS, "{} --topic perf"),
    ("offsets-earliest", "", OFFSETS, "{} --topic a.b --time earliest"),
    ("offsets-max-timestamp", "", OFFSETS, "{} --topic two --time max-timestamp"),
    ("offsets-at-a-time", "", OFFSETS, "{} --topic a.b --time 1"),
    ("offsets-of-partitions", "", OFFSETS, "{} --topic-partitions a.b:0,perf:0-1"),
    ("offsets-of-nothing", "", OFFSETS, "{} --topic missing"),
    ("delete-records", "", DELETE_RECORDS, "{} --offset-json-file {dir}/delete.json"),
    ("delete-records-beyond-the-end", "", DELETE_RECORDS, "{} --offset-json-file {dir}/beyond.json"),
    ("election", "", ELECTION, "{} --election-type preferred --all-topic-partitions"),
    ("election-of-one", "", ELECTION, "{} --election-type preferred --topic one --partition 0"),
    ("election-unclean", "", ELECTION, "{} --election-type unclean --topic one --partition 0"),
    ("election-of-nothing", "", ELECTION, "{} --election-type preferred --topic missing --partition 0"),
    ("log-dirs", "", LOG_DIRS, "{} --describe --topic-list perf"),
    ("log-dirs-of-an-unknown-broker", "", LOG_DIRS, "{} --describe --broker-list 7"),
    ("cluster-id", "", CLUSTER, "cluster-id {}"),
    ("cluster-unregister", "", CLUSTER, "unregister {} --id 77"),
    ("cluster-endpoints", "", CLUSTER, "list-endpoints {}"),
    ("features", "", FEATURES, "{} describe"),
    ("features-upgrade", "", FEATURES, "{} upgrade --feature metadata.version=30"),
    ("features-upgrade-unknown", "", FEATURES, "{} upgrade --feature no.such.feature=1"),
    ("features-downgrade", "", FEATURES, "{} downgrade --feature metadata.version=1"),
    ("quorum-status", "", QUORUM, "{} describe --status"),
    ("quorum-replication", "", QUORUM, "{} describe --replication"),
    ("reassignments", "", REASSIGN, "{} --list"),
    ("reassign", "", REASSIGN, "{} --execute --reassignment-json-file {dir}/reassign.json"),
    ("reassign-elsewhere", "", REASSIGN, "{} --execute --reassignment-json-file {dir}/elsewhere.json"),
    ("groups-list", "", GROUPS, "{} --list"),
    ("groups-consume", "", CONSUMER, "{} --topic perf --group readers --from-beginning --max-messages 5"),
    ("groups-list-states", "", GROUPS, "{} --list --state"),
    ("groups-list-empty", "", GROUPS, "{} --list --state empty"),
    ("groups-list-stable", "", GROUPS, "{} --list --state stable"),
    ("groups-list-types", "", GROUPS, "{} --list --type"),
    ("groups-list-consumer", "", GROUPS, "{} --list --type consumer"),
    ("groups-list-of-all-types", "", "org.apache.kafka.tools.GroupsCommand", "{} --list"),
    ("groups-describe", "", GROUPS, "{} --describe --group readers"),
    ("groups-describe-verbose", "", GROUPS, "{} --describe --group readers --verbose"),
    ("groups-describe-members", "", GROUPS, "{} --describe --group readers --members --verbose"),
    ("groups-describe-state", "", GROUPS, "{} --describe --group readers --state"),
    ("groups-describe-missing", "", GROUPS, "{} --describe --group missing"),
    ("groups-describe-missing-members", "", GROUPS, "{} --describe --group missing --members"),
    ("groups-describe-missing-state", "", GROUPS, "{} --describe --group missing --state"),
    ("groups-reset-dry", "", GROUPS, "{} --reset-offsets --group readers --topic perf --to-earliest --dry-run"),
    ("groups-reset-to-earliest", "", GROUPS, "{} --reset-offsets --group readers --topic perf --to-earliest --execute"),
    ("groups-reset-by-shift", "", GROUPS, "{} --reset-offsets --group readers --topic perf:0 --shift-by 20 --execute"),
    ("groups-reset-below-the-start", "", GROUPS, "{} --reset-offsets --group readers --topic perf --to-offset 3 --execute"),
    ("groups-reset-beyond-the-end", "", GROUPS, "{} --reset-offsets --group readers --topic perf --to-offset 9999 --execute"),
    ("groups-reset-to-a-time", "", GROUPS, "{} --reset-offsets --group readers --all-topics --to-datetime 2020-01-01T00:00:00.000 --execute"),
    ("groups-reset-by-duration", "", GROUPS, "{} --reset-offsets --group readers --topic perf --by-duration PT0S --execute"),
    ("groups-reset-from-file", "", GROUPS, "{} --reset-offsets --group readers --from-file {dir}/reset.csv --execute"),
    ("groups-reset-exported", "", GROUPS, "{} --reset-offsets --group readers --all-topics --to-current --export --dry-run"),
    ("groups-reset-a-missing-topic", "", GROUPS, "{} --reset-offsets --group readers --topic missing --to-earliest --execute"),
    ("groups-reset-a-new-group", "", GROUPS, "{} --reset-offsets --group fresh --topic perf --to-latest --execute"),
    ("groups-describe-after", "", GROUPS, "{} --describe --all-groups"),
    ("groups-delete-offsets", "", GROUPS, "{} --delete-offsets --group readers --topic perf"),
    ("groups-delete-offsets-again", "", GROUPS, "{} --delete-offsets --group readers --topic perf:0"),
    ("groups-delete-offsets-of-a-missing-topic", "", GROUPS, "{} --delete-offsets --group readers --topic missing"),
    ("groups-delete-offsets-of-a-missing-group", "", GROUPS, "{} --delete-offsets --group missing --topic perf"),
    ("groups-delete", "", GROUPS, "{} --delete --group fresh"),
    ("groups-delete-missing", "", GROUPS, "{} --delete --group missing"),
    ("groups-list-after", "", GROUPS, "{} --list"),
    ("transactions-list-none", "", TRANSACTIONS, "{} list"),
    ("transactions-open", "", OPEN_TRANSACTION, "{broker} tx left"),
    ("transactions-list", "", TRANSACTIONS, "{} list"),
    ("transactions-list-by-name", "", TRANSACTIONS, "{} list --transactional-id-pattern le.*"),
    ("transactions-list-other-names", "", TRANSACTIONS, "{} list --transactional-id-pattern ri.*"),
    ("transactions-list-long", "", TRANSACTIONS, "{} list --duration-filter 3600000"),
    ("transactions-describe", "", TRANSACTIONS, "{} describe --transactional-id left"),
    ("transactions-describe-missing", "", TRANSACTIONS, "{} describe --transactional-id missing"),
    ("transactions-producers", "", TRANSACTIONS, "{} describe-producers --topic tx --partition 0"),
    ("transactions-producers-of-broker", "", TRANSACTIONS, "{} describe-producers --topic tx --partition 0 --broker-id 1"),
    ("transactions-hanging", "", TRANSACTIONS, "{} find-hanging --broker-id 1"),
    ("transactions-abort", "", TRANSACTIONS, "{} abort --topic tx --partition 0 --start-offset 0"),
    ("transactions-abort-again", "", TRANSACTIONS, "{} abort --topic tx --partition 0 --start-offset 0"),
    ("transactions-producers-after", "", TRANSACTIONS, "{} describe-producers --topic tx --partition 0"),
    ("transactions-terminate", "", TRANSACTIONS, "{} forceTerminateTransaction --transactionalId left"),
    ("transactions-terminate-missing", "", TRANSACTIONS, "{} forceTerminateTransaction --transactionalId missing"),
    ("transactions-read", "", CONSUMER, "{} --topic tx --from-beginning --isolation-level read_committed --timeout-ms 1000"),
    ("verifiable-producer", "", VERIFIABLE_PRODUCER, "{} --topic verified --max-messages 20"),
    ("verifiable-producer-keyed", "", VERIFIABLE_PRODUCER, "{} --topic verified --max-messages 20 --acks 1 --repeating-keys 3 --value-prefix 7"),
    ("verifiable-consumer", "", VERIFIABLE_CONSUMER, "{} --topic verified --group-id verifiers --max-messages 40 --verbose"),
    ("verifiable-consumer-kip-848", "", VERIFIABLE_CONSUMER, "{} --topic verified --group-protocol consumer --group-id newer --max-messages 40"),
    ("api-versions", "", "org.apache.kafka.tools.BrokerApiVersionsCommand", "{}"),
];

/// Files that commands read.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("delete.json", r#"{"version": 1, "partitions": [{"topic": "perf", "partition": 0, "offset": 7}]}"#),
    ("beyond.json", r#"{"version": 1, "partitions": [{"topic": "perf", "partition": 0, "offset": 9999}]}"#),
    ("reassign.json", r#"{"version": 1, "partitions": [{"topic": "one", "partition": 0, "replicas": [1]}]}"#),
    ("reset.csv", "perf,0,9\n"),
    ("elsewhere.json", r#"{"version": 1, "partitions": [{"topic": "one", "partition": 0, "replicas": [7]}]}"#),
];

/// Commands whose numbers are measurements, ids of producers, or tell of logs that hold other records. `*` is anything.
pub(crate) const MEASURING: &[&str] = &[
    "*-perf",
    "end-to-end-latency",
    "quorum-status",
    "quorum-replication",
    "log-dirs",
    "transactions-list*",
    "transactions-describe",
    "transactions-producers*",
];

/// Commands that print no ids, but names that are as long as one.
pub(crate) const LONG_NAMES: &[&str] = &["api-versions", "transactions-producers*"];

/// Lines of Kafka's that are different with Weir: the command, the line, what stands in its place (nothing where it is
/// missing, or several lines), and why. `*` is any text that both have, `…` any text that only Kafka has.
pub(crate) const ACCEPTED: &[(&str, &str, &str, &str)] = &[
    ("topics-describe-overridden", "Topic: *\tConfigs: min.insync.replicas=1", "", ELIGIBLE_LEADERS),
    ("topics-describe*", "Topic: *\tConfigs: min.insync.replicas=1", "Topic: *\tConfigs: ", ELIGIBLE_LEADERS),
    ("topics-describe*", "Topic: *\tConfigs: min.insync.replicas=1,*", "Topic: *\tConfigs: *", ELIGIBLE_LEADERS),
    (
        "configs-describe-all",
        "  min.insync.replicas=1 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:min.insync.replicas=1, *",
        "  min.insync.replicas=1 sensitive=false synonyms={*",
        ELIGIBLE_LEADERS,
    ),
    ("configs-all-brokers-describe", "  min.insync.replicas=1 …", "", ELIGIBLE_LEADERS),
    ("configs-group-describe-all", "  share.…", "", NOT_SERVED),
    ("configs-group-describe-all", "  streams.…", "", NOT_SERVED),
    ("configs-client", "exit status 0", "exit status 1", NOT_SERVED),
    (
        "configs-client",
        "Completed updating config for client c.",
        "error: Error while executing config command with args '--bootstrap-server BROKER --alter --entity-type clients --entity-name c --add-config consumer_byte_rate=1000'\n\
         error: java.util.concurrent.ExecutionException: org.apache.kafka.common.errors.UnsupportedVersionException: The node does not support DESCRIBE_CLIENT_QUOTAS\n\
         error: Caused by: org.apache.kafka.common.errors.UnsupportedVersionException: The node does not support DESCRIBE_CLIENT_QUOTAS",
        NOT_SERVED,
    ),
    ("configs-metrics", "exit status 0", "exit status 1", NOT_SERVED),
    (
        "configs-metrics",
        "Completed updating config for client-metric m.",
        "error: Error while executing config command with args '--bootstrap-server BROKER --alter --entity-type client-metrics --entity-name m --add-config interval.ms=1000'\n\
         error: java.util.concurrent.ExecutionException: org.apache.kafka.common.errors.InvalidRequestException: Unknown resource type 16\n\
         error: Caused by: org.apache.kafka.common.errors.InvalidRequestException: Unknown resource type 16",
        NOT_SERVED,
    ),
    ("features", "Feature: eligible.leader.replicas.version …", "", NOT_SERVED),
    ("features", "Feature: kraft.version …", "", NOT_SERVED),
    ("features", "Feature: share.version …", "", NOT_SERVED),
    ("features", "Feature: streams.version …", "", NOT_SERVED),
    ("features", "*SupportedMinVersion: 3.3-IV3 *", "*SupportedMinVersion: 4.3-IV0 *", ONE_FORM),
    ("features-downgrade", "*only supports versions 7-30", "*only supports versions 30-30", ONE_FORM),
    (
        "quorum-status",
        "CurrentVoters: [*, \"endpoints\": [\"CONTROLLER://#:#\"]}]",
        "CurrentVoters: [*}]",
        "there is no listener for controllers",
    ),
    ("api-versions", "\tFetch(1): 4 to *", "\tFetch(1): 0 to *", OLD_CLIENTS),
    ("api-versions", "\tListOffsets(2): 1 to *", "\tListOffsets(2): 0 to *", OLD_CLIENTS),
    ("api-versions", "\tOffsetCommit(8): 2 to *", "\tOffsetCommit(8): 0 to *", OLD_CLIENTS),
    ("api-versions", "\tOffsetFetch(9): 1 to *", "\tOffsetFetch(9): 0 to *", OLD_CLIENTS),
    ("api-versions", "\tCreateTopics(19): 2 to *", "\tCreateTopics(19): 0 to *", OLD_CLIENTS),
    ("api-versions", "\tDeleteTopics(20): 1 to *", "\tDeleteTopics(20): 0 to *", OLD_CLIENTS),
    ("api-versions", "\tSasl*(*): …]*", "\tSasl*(*): UNSUPPORTED*", NOT_SERVED),
    ("api-versions", "\t*DelegationToken(*): …]*", "\t*DelegationToken(*): UNSUPPORTED*", NOT_SERVED),
    ("api-versions", "\t*ClientQuotas(*): …]*", "\t*ClientQuotas(*): UNSUPPORTED*", NOT_SERVED),
    ("api-versions", "\t*ScramCredentials(*): …]*", "\t*ScramCredentials(*): UNSUPPORTED*", NOT_SERVED),
    ("api-versions", "\t*RaftVoter(*): …]*", "\t*RaftVoter(*): UNSUPPORTED*", NOT_SERVED),
    ("api-versions", "\t*Share*(*): …]*", "\t*Share*(*): UNSUPPORTED*", NOT_SERVED),
    ("api-versions", "\tStreamsGroup*(*): …]*", "\tStreamsGroup*(*): UNSUPPORTED*", NOT_SERVED),
];
const ELIGIBLE_LEADERS: &str = "a new Kafka cluster writes this default down as a dynamic one of all brokers (KIP-966)";
const NOT_SERVED: &str = "docs/compatibility.md lists what is not served";
const ONE_FORM: &str = "only the newest form of the metadata's records is written and read";
const OLD_CLIENTS: &str = "versions of Kafka 0.8 to 0.10 are served, which Kafka 4 has dropped";

/// Commands whose lines stand in an order that means nothing.
pub(crate) const UNORDERED: &[&str] =
    &["configs-describe-every-topic", "groups-list*", "groups-describe-after", "verifiable-consumer*"];
