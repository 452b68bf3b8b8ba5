import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Two consumers of a group: {@code BOOTSTRAP TOPIC GROUP COUNT}. They share the partitions, say so, and read COUNT records
 * whenever a line on standard input says that those have been written. Each record is read once. What was committed at the
 * end is said as one number.
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
        consumers.forEach(consumer -> consumer.subscribe(List.of(args[1])));
        while (!consumers.stream().allMatch(consumer -> consumer.assignment().size() == 3)) {
            for (KafkaConsumer<byte[], byte[]> consumer : consumers) {
                check(consumer.poll(MOMENT).isEmpty(), "there is nothing to read yet");
            }
        }
        Set<String> seen = new HashSet<>();
        for (int turn = 1; turn <= 2; turn++) {
            System.out.println("WAITING " + turn);
            System.in.read();
            int[] shares = new int[2];
            while (seen.size() < count * turn) {
                for (int number = 0; number < 2; number++) {
                    for (ConsumerRecord<byte[], byte[]> record : consumers.get(number).poll(MOMENT)) {
                        check(seen.add(record.partition() + "-" + record.offset()), "a record is read twice");
                        shares[number]++;
                    }
                }
            }
            check(shares[0] > 0 && shares[1] > 0, "one has read everything");
            consumers.forEach(KafkaConsumer::commitSync);
        }
        long committed = 0;
        for (KafkaConsumer<byte[], byte[]> consumer : consumers) {
            for (OffsetAndMetadata offset : consumer.committed(consumer.assignment()).values()) {
                committed += offset.offset();
            }
        }
        System.out.println("COMMITTED " + committed);
        consumers.forEach(KafkaConsumer::close);
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }
}
