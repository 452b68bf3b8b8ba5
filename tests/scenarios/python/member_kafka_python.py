"""A group's member by kafka-python; see tests/scenarios/group.rs for what members print."""

import sys

from kafka import ConsumerRebalanceListener, KafkaConsumer

from member import input_has_ended, print_assigned, print_committed, print_record


class Listener(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        print_assigned(partition.partition for partition in consumer.assignment())


bootstrap, topic, group = sys.argv[1:]
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap,
    group_id=group,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    session_timeout_ms=6000,
    heartbeat_interval_ms=500,
    max_poll_records=50,
)
consumer.subscribe([topic], listener=Listener())
ended = input_has_ended()
while not ended.is_set():
    # A rebalance that ends between two polls is lost on kafka-python 3.0: so a poll is longer than one takes. For good it loses
    # the second of those at the beginning, when it has found its topic.
    found = consumer.poll(timeout_ms=2000 if consumer.assignment() else 10000)
    for records in found.values():
        for record in records:
            print_record(record.partition, record.offset, record.key, record.value)
    if found:
        consumer.commit()
        print_committed()
consumer.close()
