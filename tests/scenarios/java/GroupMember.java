import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.Scanner;
import java.util.TreeSet;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A group's member by Apache Kafka's Java client, of this release or an old one:
 * {@code PROTOCOL [SETTING=VALUE...] BOOTSTRAP TOPIC GROUP}, where the protocol is the assignor of a classic group or
 * {@code consumer}; see tests/scenarios/group.rs for what members print.
 */
public class GroupMember {
    private static final LinkedBlockingQueue<String> INPUT = new LinkedBlockingQueue<>();
    private static volatile boolean ended = false;
    /** Whether there are records that were printed and not committed. */
    private static boolean uncommitted = false;

    public static void main(String[] args) throws Exception {
        String[] place = Arrays.copyOfRange(args, args.length - 3, args.length);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", place[0]);
        settings.put("group.id", place[2]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("max.poll.records", "50");
        settings.put("key.deserializer", StringDeserializer.class.getName());
        settings.put("value.deserializer", StringDeserializer.class.getName());
        if (args[0].equals("consumer")) {
            // The broker decides about assignors and time-outs.
            settings.put("group.protocol", "consumer");
        } else {
            settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + args[0]);
            settings.put("session.timeout.ms", "6000");
            settings.put("heartbeat.interval.ms", "500");
        }
        for (String setting : Arrays.copyOfRange(args, 1, args.length - 3)) {
            String[] words = setting.split("=", 2);
            settings.put(words[0], words[1]);
        }
        Thread input = new Thread(GroupMember::readInput);
        input.setDaemon(true);
        input.start();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings)) {
            consumer.subscribe(List.of(place[1]), new Printer(consumer));
            read(consumer);
        } catch (KafkaException refusal) {
            System.out.println("refused " + refusal.getClass().getSimpleName());
            throw refusal;
        }
    }

    private static void read(KafkaConsumer<String, String> consumer) throws InterruptedException {
        try {
            readToTheEnd(consumer);
        } finally {
            // After a refusal nothing of it can be committed any more.
            uncommitted = false;
        }
    }

    private static void readToTheEnd(KafkaConsumer<String, String> consumer) throws InterruptedException {
        while (uncommitted || !ended) {
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
            for (ConsumerRecord<String, String> record : records) {
                String key = record.key() == null ? "-" : record.key();
                String place = record.partition() + " " + record.offset();
                // In one piece, since it may be killed at any time.
                System.out.println("record " + place + " " + key + " " + record.value());
                uncommitted = true;
            }
            if (uncommitted && INPUT.poll() != null) {
                System.out.println("stalled");
                INPUT.take();
                commit(consumer);
            } else if (uncommitted) {
                commitIfPossible(consumer);
            }
        }
    }

    private static void commit(KafkaConsumer<String, String> consumer) {
        consumer.commitSync();
        uncommitted = false;
        System.out.println("committed");
    }

    /**
     * With the cooperative assignor a member goes on reading what it keeps while the group changes, and may not commit that
     * before it has its new generation: the next commit has these records as well.
     */
    private static void commitIfPossible(KafkaConsumer<String, String> consumer) {
        try {
            commit(consumer);
        } catch (RebalanceInProgressException groupChanges) {
            System.err.println("not now: " + groupChanges.getMessage());
        }
    }

    private static void readInput() {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            INPUT.add(lines.nextLine());
        }
        ended = true;
    }

    private record Printer(KafkaConsumer<String, String> consumer) implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
            if (uncommitted) {
                // The last chance for records of these partitions.
                commit(consumer);
            }
            print(revoked);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
            print(List.of());
        }

        /** All partitions but those that go. */
        private void print(Collection<TopicPartition> without) {
            TreeSet<Integer> partitions =
                consumer.assignment().stream().filter(each -> !without.contains(each)).map(TopicPartition::partition)
                    .collect(Collectors.toCollection(TreeSet::new));
            String listed = partitions.stream().map(String::valueOf).collect(Collectors.joining(","));
            System.out.println("assigned " + (listed.isEmpty() ? "-" : listed));
        }
    }
}
