"""A group's member by confluent-kafka: `ASSIGNOR [SETTING=VALUE...] BOOTSTRAP TOPIC GROUP`; see tests/scenarios/group.rs for what
members print."""

import sys

from confluent_kafka import Consumer, KafkaError, KafkaException

from member import input_has_ended, is_asked_to_stall, print_assigned, print_committed, print_record, stall

# What a commit is refused with while the group is on its way to its next generation: it has come between the member's
# JoinGroup and its SyncGroup, or was sent before and has arrived behind.
GROUP_CHANGES = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION)

assignor, *wishes, bootstrap, topic, group = sys.argv[1:]
owned = set()
# Whether there are records that were printed and not committed.
uncommitted = False


def commit():
    global uncommitted
    consumer.commit(asynchronous=False)
    uncommitted = False
    print_committed()


def commit_if_possible():
    """With the cooperative assignor a member goes on reading what it keeps while the group changes, and may not always
    commit that. librdkafka leaves it to the program: the next commit has these records as well."""
    try:
        commit()
    except KafkaException as refusal:
        if refusal.args[0].code() not in GROUP_CHANGES:
            raise


def why(error):
    """The name of an error. What was fatal to a member librdkafka tells by its words alone."""
    fatal = map(KafkaError, (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID))
    return next((known.name() for known in fatal if known.str() in error.str()), error.name())


def on_assign(_consumer, partitions):
    owned.update(partition.partition for partition in partitions)
    print_assigned(owned)


def on_revoke(_consumer, partitions):
    if uncommitted:
        # The last chance for records of these partitions, and one that the broker gives: the member has not joined again.
        commit()
    owned.difference_update(partition.partition for partition in partitions)
    print_assigned(owned)


settings = {
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
}
if assignor == "consumer":
    # The protocol of KIP-848, where the broker decides about assignments and time-outs.
    settings["group.protocol"] = "consumer"
else:
    settings.update({"partition.assignment.strategy": assignor, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500})
settings.update(wish.split("=", 1) for wish in wishes)
consumer = Consumer(settings)
# Closed after an error as well. An interpreter that exits destroys the consumer without, and librdkafka then waits for ever
# for the program's answer to a rebalance that has just come.
try:
    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
    ended = input_has_ended()
    while uncommitted or not ended.is_set():
        records = consumer.consume(num_messages=50, timeout=0.2)
        for record in records:
            if record.error():
                raise KafkaException(record.error())
            print_record(record.partition(), record.offset(), record.key(), record.value())
            uncommitted = True
        if uncommitted and is_asked_to_stall():
            stall()
            commit()
        elif uncommitted:
            commit_if_possible()
except KafkaException as refusal:
    # Nothing of it can be committed any more.
    uncommitted = False
    print("refused", why(refusal.args[0]), flush=True)
    raise
finally:
    consumer.close()
