"""A group's member by aiokafka; see tests/scenarios/group.rs for what members print."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from member import input_has_ended, print_assigned, print_committed, print_record


class Listener(ConsumerRebalanceListener):
    def __init__(self, handling):
        self.handling = handling

    async def on_partitions_revoked(self, revoked):
        # Rebalances go on in the background: what is being handled is committed before the partitions go.
        async with self.handling:
            pass

    async def on_partitions_assigned(self, assigned):
        print_assigned(partition.partition for partition in assigned)


async def main(bootstrap, topic, group):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
    )
    handling = asyncio.Lock()
    consumer.subscribe([topic], listener=Listener(handling))
    await consumer.start()
    ended = input_has_ended()
    while not ended.is_set():
        # Outside of the lock: it waits until a rebalance is over, and so until partitions have been given up.
        found = await consumer.getmany(timeout_ms=200, max_records=50)
        async with handling:
            for records in found.values():
                for record in records:
                    print_record(record.partition, record.offset, record.key, record.value)
            if found:
                await consumer.commit()
                print_committed()
    await consumer.stop()


asyncio.run(main(*sys.argv[1:]))
