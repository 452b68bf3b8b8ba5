import java.time.Duration;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Two consumers of a group: {@code BOOTSTRAP TOPIC GROUP COUNT}. They share the partitions, say so, and read COUNT records
 * whenever a line on standard input says that those have been written. Each record is read once. What was committed at the
 * end is said as one number.
 *
 * <p>A consumer that has lost its only broker starts from its bootstrap servers again (KIP-899) and knows no topic until
 * these have answered. The leader of the group, if it is polled in between, takes that for a change and joins anew. A
 * consumer commits what it has read whenever partitions are taken from it, so that a record is read once all the same.
 */
public final class Groups {
    private static final Duration MOMENT = Duration.ofMillis(100);

    private Groups() {}

    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "group.id", args[2], "auto.offset.reset", "earliest",
                "enable.auto.commit", false, "group.protocol", "classic");
        int count = Integer.parseInt(args[3]);
        List<KafkaConsumer<byte[], byte[]>> consumers = List.of(
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer()),
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer()));
        consumers.forEach(consumer -> consumer.subscribe(List.of(args[1]), new CommitOnRevocation(consumer)));
        while (!shared(consumers)) {
            for (KafkaConsumer<byte[], byte[]> consumer : consumers) {
                check(consumer.poll(MOMENT).isEmpty(), "there is nothing to read yet");
            }
        }
        Set<String> seen = new HashSet<>();
        for (int turn = 1; turn <= 2; turn++) {
            System.out.println("WAITING " + turn);
            System.in.read();
            int[] shares = new int[2];
            while (seen.size() < count * turn || !shared(consumers)) {
                for (int number = 0; number < 2; number++) {
                    for (ConsumerRecord<byte[], byte[]> record : consumers.get(number).poll(MOMENT)) {
                        String place = record.partition() + "-" + record.offset();
                        check(seen.add(place), place + " is read twice");
                        shares[number]++;
                    }
                }
            }
            check(shares[0] > 0 && shares[1] > 0, "one has read everything");
            consumers.forEach(KafkaConsumer::commitSync);
        }
        KafkaConsumer<byte[], byte[]> either = consumers.get(0);
        Set<TopicPartition> partitions = either.partitionsFor(args[1]).stream()
                .map(info -> new TopicPartition(info.topic(), info.partition()))
                .collect(Collectors.toSet());
        long committed = either.committed(partitions).values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        System.out.println("COMMITTED " + committed);
        consumers.forEach(KafkaConsumer::close);
    }

    private static boolean shared(List<KafkaConsumer<byte[], byte[]>> consumers) {
        return consumers.stream().allMatch(consumer -> consumer.assignment().size() == 3);
    }

    private record CommitOnRevocation(KafkaConsumer<byte[], byte[]> consumer) implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            consumer.commitSync();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            throw new IllegalStateException(partitions + " are lost: the group has forgotten a member");
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }
}
