"""What the members in Python share."""

import queue
import sys
import threading


def print_assigned(partitions):
    print("assigned", ",".join(str(partition) for partition in sorted(partitions)) or "-", flush=True)


def print_record(partition, offset, key, value):
    key = "-" if key is None else key.decode()
    print("record", partition, offset, key, value.decode(), flush=True)


def print_committed():
    print("committed", flush=True)


input_lines = queue.SimpleQueue()


def input_has_ended():
    """An event that is set when standard input ends, which asks the member to leave."""
    ended = threading.Event()

    def wait():
        for line in sys.stdin:
            input_lines.put(line)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def is_asked_to_stall():
    return not input_lines.empty()


def stall():
    """Does nothing until it is told to go on."""
    input_lines.get()
    print("stalled", flush=True)
    input_lines.get()
