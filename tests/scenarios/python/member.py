"""What the members in Python share."""

import sys
import threading


def print_assigned(partitions):
    print("assigned", ",".join(str(partition) for partition in sorted(partitions)) or "-", flush=True)


def print_record(partition, offset, key, value):
    key = "-" if key is None else key.decode()
    print("record", partition, offset, key, value.decode(), flush=True)


def print_committed():
    print("committed", flush=True)


def input_has_ended():
    """An event that is set when standard input ends, which asks the member to leave."""
    ended = threading.Event()

    def wait():
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended
