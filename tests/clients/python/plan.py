"""What a client program is told to do, and the notation of records in files.

A record is one line, its columns divided by tabs: timestamp in milliseconds, key, value, headers. Key and value are in
hex, `-` is null. Headers are `name:hex` divided by `;`, `-` for none. What was read back has partition and offset in front.
"""

import json
import sys


class Plan:
    """The plan: `bootstrap`, `partitions`, `half`, `out`, `missing_topic`, `topics` and the records to write."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        self.bootstrap = fields["bootstrap"]
        self.partitions = fields["partitions"]
        self.half = fields["half"]
        self.out = fields["out"]
        self.missing_topic = fields["missing_topic"]
        self.large_bytes = fields["large_bytes"]
        self.topics = fields["topics"]
        with open(fields["workload"], encoding="utf-8") as file:
            self.records = [parse(line) for line in file]


def run(verbs):
    """Runs the verb and the plan that the command line names."""
    verb, path = sys.argv[1:]
    verbs[verb](Plan(path))


def missing_topics(plan, listed):
    """The topics of the plan that a broker does not list."""
    return {topic["name"] for topic in plan.topics} - set(listed)


def pause():
    """Says that all is acknowledged so far and waits for the word to go on; the broker restarts meanwhile."""
    print("PAUSED", flush=True)
    sys.stdin.readline()


def parse(line):
    """A record as (timestamp, key, value, [(name, value)])."""
    timestamp, key, value, headers = line.rstrip("\n").split("\t")
    headers = [] if headers == "-" else [header.split(":") for header in headers.split(";")]
    return int(timestamp), unhex(key), unhex(value), [(name, unhex(data)) for name, data in headers]


def unhex(text):
    return None if text == "-" else bytes.fromhex(text)


def tohex(data):
    return "-" if data is None else bytes(data).hex()


class ReadBack:
    """The file that takes what was read back from one topic."""

    def __init__(self, plan, topic):
        self.file = open(f"{plan.out}/{topic}.tsv", "w", encoding="utf-8")

    def add(self, partition, offset, timestamp, key, value, headers):
        headers = ";".join(f"{name}:{tohex(data)}" for name, data in headers or []) or "-"
        self.file.write(f"{partition}\t{offset}\t{timestamp}\t{tohex(key)}\t{tohex(value)}\t{headers}\n")

    def close(self):
        self.file.close()


def refused(what, error):
    """Reports the error that the client saw."""
    print(f"{what}={error}", flush=True)
