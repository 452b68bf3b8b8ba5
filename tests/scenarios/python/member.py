"""What the members in Python share."""

import queue
import sys
import threading


output = threading.Lock()


def say(line):
    """Prints a line in one piece: some clients tell of assignments on a thread of their own."""
    with output:
        print(line, flush=True)


def print_assigned(partitions):
    say("assigned " + (",".join(str(partition) for partition in sorted(partitions)) or "-"))


def print_record(partition, offset, key, value):
    key = "-" if key is None else key.decode()
    say(f"record {partition} {offset} {key} {value.decode()}")


def print_committed():
    say("committed")


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
    say("stalled")
    input_lines.get()
