"""A group's member by confluent-kafka with the assignor of the command line; see tests/scenarios/group.rs for what members
print."""

import sys

from confluent_kafka import Consumer, KafkaException

from member import input_has_ended, print_assigned, print_record

assignor, bootstrap, topic, group = sys.argv[1:]
owned = set()


def on_assign(_consumer, partitions):
    owned.update(partition.partition for partition in partitions)
    print_assigned(owned)


def on_revoke(_consumer, partitions):
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
consumer = Consumer(settings)
consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
ended = input_has_ended()
while not ended.is_set():
    records = consumer.consume(num_messages=50, timeout=0.2)
    for record in records:
        if record.error():
            raise KafkaException(record.error())
        print_record(record.partition(), record.offset(), record.key(), record.value())
    if records:
        consumer.commit(asynchronous=False)
consumer.close()
