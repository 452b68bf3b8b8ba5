//! Kafka's error codes.

use std::fmt;

macro_rules! errors {
    ($($variant:ident = $code:literal, $name:literal, $retriable:literal, $message:literal;)*) => {
        /// An error code of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $message]
                $variant = $code,
            )*
        }

        impl ErrorCode {
            /// All codes, ascending.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant),*];

            /// The error of a number, if Kafka 4.3 knows one.
            pub fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's name, such as `OFFSET_OUT_OF_RANGE`.
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $name,)*
                }
            }

            /// Whether Kafka's clients try again by themselves.
            pub fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$variant => $retriable,)*
                }
            }

            /// One sentence for people: for a response's error message where nothing more precise is known.
            pub fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $message,)*
                }
            }
        }
    };
}

errors! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", false, "The broker failed in a way that it did not expect.";
    None = 0, "NONE", false, "No error.";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false, "The offset lies outside the partition's log.";
    CorruptMessage = 2, "CORRUPT_MESSAGE", true, "The data is corrupt: its checksum, size or form is wrong.";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true, "This broker does not have the topic or partition.";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", false, "The fetch asks for a size that is not allowed.";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true, "The partition has no leader at this moment.";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true, "This broker is neither leader nor follower of the partition.";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true, "The request took longer than its timeout.";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", false, "The broker is not available.";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", true, "The replica is not available.";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false, "The batch is larger than the topic allows.";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", false, "A newer controller has taken over.";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false, "The metadata stored with the offset is too long.";
    NetworkException = 13, "NETWORK_EXCEPTION", true, "The connection ended before the response.";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true, "The coordinator is still loading its state.";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true, "The coordinator is not available.";
    NotCoordinator = 16, "NOT_COORDINATOR", true, "This broker is not the coordinator asked for.";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", false, "The topic's name is not allowed, or the topic is internal.";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", false, "The batch is larger than a segment.";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true, "Too few replicas are in sync to accept the write.";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true, "The write was appended, but too few replicas are in sync.";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", false, "acks must be -1, 0 or 1.";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false, "The generation is not the group's current one.";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false, "The member shares no protocol with the group.";
    InvalidGroupId = 24, "INVALID_GROUP_ID", false, "The group id is not allowed.";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false, "The coordinator does not know this member.";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false, "The session timeout lies outside the broker's limits.";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false, "The group is rebalancing; the member must join again.";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", false, "The offset commit is too large.";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false, "The principal may not do this with the topic.";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", false, "The principal may not do this with the group.";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false, "The principal may not do this with the cluster.";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false, "The timestamp lies outside the accepted range.";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", false, "The SASL mechanism is not enabled here.";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", false, "The request does not fit the state of authentication.";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false, "The API has no such version here.";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false, "A topic of this name exists.";
    InvalidPartitions = 37, "INVALID_PARTITIONS", false, "The number of partitions is not allowed.";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false, "The replication factor is not allowed, or more than there are brokers.";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", false, "The assignment of replicas is not valid.";
    InvalidConfig = 40, "INVALID_CONFIG", false, "A config has a name or value that is not allowed.";
    NotController = 41, "NOT_CONTROLLER", true, "This broker is not the active controller.";
    InvalidRequest = 42, "INVALID_REQUEST", false, "The request contradicts itself or the protocol.";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false, "The stored message format does not support the request.";
    PolicyViolation = 44, "POLICY_VIOLATION", false, "The request breaks a policy of this cluster.";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false, "The batch does not follow the last one of its producer.";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false, "The batch was already written.";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false, "The producer's epoch is older than the current one.";
    InvalidTxnState = 48, "INVALID_TXN_STATE", false, "The transaction is in a state that does not allow this.";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", false, "The producer id does not belong to the transactional id.";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", false, "The transaction timeout is above the broker's limit.";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", true, "Another operation of this transaction is still running.";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", false, "The transaction coordinator has been replaced by a newer one.";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false, "The principal may not use the transactional id.";
    SecurityDisabled = 54, "SECURITY_DISABLED", false, "No authorizer is configured.";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", false, "The operation was not tried, because another of the request failed.";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true, "The broker's storage failed.";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", false, "The broker has no such log directory.";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", false, "Authentication failed.";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false, "The broker has no state of this producer id.";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", false, "A reassignment of the partition is already running.";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", false, "Delegation tokens are disabled.";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", false, "The delegation token does not exist.";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", false, "The principal neither owns nor may renew the token.";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false, "This connection's way of authentication does not allow token requests.";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false, "The principal may not do this with the token.";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", false, "The delegation token has expired.";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", false, "The type of the principal is not supported.";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false, "The group still has members.";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false, "The group does not exist.";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", true, "The fetch session does not exist.";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", true, "The epoch of the fetch session is not the next one.";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", true, "The leader has no listener of the name that the request came in by.";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", false, "Deleting topics is disabled.";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true, "The leader epoch is older than the partition's.";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true, "The leader epoch is newer than the partition's.";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false, "The client cannot read the compression of this partition.";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false, "The broker's epoch is not the current one.";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true, "A new leader does not know its high watermark yet.";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", false, "The member must join again with the id that it was given.";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", true, "The preferred leader is not available.";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false, "The group has as many members as it may have.";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false, "Another member has taken over this instance id.";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true, "No replica is eligible as leader.";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", true, "The partition needs no election.";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", false, "No reassignment of the partition is running.";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false, "The group is subscribed to the topic.";
    InvalidRecord = 87, "INVALID_RECORD", false, "A record breaks the rules of the topic.";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true, "Open transactions hold offsets that may still change.";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", true, "The quota is used up.";
    ProducerFenced = 90, "PRODUCER_FENCED", false, "A newer producer uses the same transactional id.";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", false, "The resource does not exist.";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", false, "The request names a resource twice.";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", false, "The credential does not meet the rules.";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", false, "Sender or receiver is not a voter of the quorum.";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", false, "The version of the update is not valid.";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", false, "The feature could not be updated.";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", false, "The principal of a forwarded request cannot be read.";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", false, "The snapshot does not exist.";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", false, "The position lies outside the snapshot.";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true, "This broker has no topic of this id.";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", false, "Another broker uses this id.";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", false, "No broker of this id is registered.";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", true, "The topic id is not that of the log.";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", false, "The cluster id is not that of this cluster.";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", false, "The transactional id does not exist.";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", true, "The fetch session mixes topics with and without ids.";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", false, "A replica of the new in-sync set is not eligible.";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", false, "The change was made and elected another leader.";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", false, "The offset has moved to tiered storage.";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false, "The member's epoch is fenced; it must join again.";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false, "Another member still holds the instance id.";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false, "The group does not support the assignor.";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false, "The member's epoch is old; a heartbeat brings the new one.";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", false, "The request belongs to another type of endpoint.";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", false, "This type of endpoint is not supported.";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", false, "The controller id is not known.";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", false, "The telemetry subscription is not the current one.";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", false, "The telemetry is larger than the broker accepts.";
    InvalidRegistration = 119, "INVALID_REGISTRATION", false, "The registration is not valid.";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", false, "The transaction must be aborted; its id can be used again.";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", false, "The record's delivery state does not allow this acknowledgement.";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", true, "The share session does not exist.";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", true, "The epoch of the share session is not the next one.";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", false, "The share group's state epoch is not the current one.";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", false, "The voter's key is not that of the replica.";
    DuplicateVoter = 126, "DUPLICATE_VOTER", false, "The voter is already part of the quorum.";
    VoterNotFound = 127, "VOTER_NOT_FOUND", false, "The voter is not part of the quorum.";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false, "The regular expression is not valid.";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", false, "The client must start again from its bootstrap servers.";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", false, "The topology is not valid.";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", false, "The epoch of the topology is not valid.";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", false, "The epoch of the topology is old.";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", true, "The broker has as many share sessions as it may have.";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
