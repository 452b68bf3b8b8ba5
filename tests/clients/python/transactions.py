"""Transactions by confluent-kafka (librdkafka): see java/Transactions.java for what the commands do."""

import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

# Transactions that are whole before a copy stalls.
BEFORE_STALL = 3


def producer(bootstrap, transactional_id):
    made = Producer({"bootstrap.servers": bootstrap, "transactional.id": transactional_id, "linger.ms": 0})
    made.init_transactions(30)
    return made


def consumer(bootstrap, isolation, group):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "isolation.level": isolation,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
        }
    )


def write(bootstrap, topic, transactional_id, count, partitions):
    began = time.monotonic()
    writer = producer(bootstrap, transactional_id)
    for number in range(int(count)):
        writer.begin_transaction()
        for partition in range(int(partitions)):
            writer.produce(topic, f"{transactional_id}-{number}".encode(), partition=partition)
        if number % 3 == 2:
            writer.flush()
            writer.abort_transaction(30)
        else:
            writer.commit_transaction(30)
    print(f"{count} transactions in {time.monotonic() - began:.3f} s", file=sys.stderr)
    print("written")


def read(bootstrap, topic, partitions, isolation):
    reader = consumer(bootstrap, isolation, "nobody")
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(int(partitions))])
    left = int(partitions)
    while left:
        message = reader.poll(1)
        if message is None:
            continue
        if message.error() is None:
            print(message.partition(), message.value().decode())
        elif message.error().name() == "_PARTITION_EOF":
            left -= 1
        else:
            raise KafkaException(message.error())
    reader.close()


def fence(bootstrap, topic, transactional_id):
    first = producer(bootstrap, transactional_id)
    first.begin_transaction()
    first.produce(topic, b"first", partition=0)
    first.flush()
    second = producer(bootstrap, transactional_id)
    try:
        first.commit_transaction(30)
        print("not fenced")
    except KafkaException as error:
        print("fenced" if error.args[0].name() == "_FENCED" else error)
    second.begin_transaction()
    second.produce(topic, b"second", partition=0)
    second.commit_transaction(30)
    print("committed")


def copy(bootstrap, source, target, transactional_id, group, partitions, before_stall=None):
    writer = producer(bootstrap, transactional_id)
    reader = consumer(bootstrap, "read_committed", group)
    reader.subscribe([source])
    transactions = 0
    # Partitions that were read to their ends. A member that was killed may still hold some.
    through = set()
    while len(through) < int(partitions):
        records = []
        for message in reader.consume(7, 0.5):
            if message.error() is None:
                records.append(message)
            elif message.error().name() == "_PARTITION_EOF":
                through.add(message.partition())
            else:
                raise KafkaException(message.error())
        if not records:
            continue
        writer.begin_transaction()
        for record in records:
            writer.produce(target, record.value(), partition=record.partition())
        positions = reader.position(reader.assignment())
        offsets = [position for position in positions if position.offset >= 0]
        writer.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), 30)
        if transactions == before_stall:
            writer.flush()
            print("stalled", flush=True)
            signal.pause()
        writer.commit_transaction(30)
        transactions += 1
        print("copied", transactions, flush=True)
    reader.close()
    print("done")


def stall(*arguments):
    copy(*arguments, before_stall=BEFORE_STALL)


if __name__ == "__main__":
    commands = {"write": write, "read": read, "fence": fence, "copy": copy, "stall": stall}
    commands[sys.argv[1]](*sys.argv[2:])
