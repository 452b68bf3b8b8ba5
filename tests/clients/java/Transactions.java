import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Transactions by the Java client. The same source runs with old and new releases of it.
 *
 * <pre>
 * write BOOTSTRAP TOPIC ID COUNT PARTITIONS    transactions of one record per partition; every third is aborted
 * read  BOOTSTRAP TOPIC PARTITIONS ISOLATION   prints "partition value" for each record up to the end
 * fence BOOTSTRAP TOPIC ID                     a second producer takes over from one with an open transaction
 * hang  BOOTSTRAP TOPIC ID                     opens a transaction and ends without a word
 * copy  BOOTSTRAP FROM TO ID GROUP PARTITIONS  copies records with their offsets, and ends when there are no more
 * stall BOOTSTRAP FROM TO ID GROUP PARTITIONS  as copy, and stops in the middle of its fourth transaction until it is killed
 * </pre>
 */
public class Transactions {
    /** Transactions that are whole before a copy stalls. */
    private static final int BEFORE_STALL = 3;

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[1];
        switch (arguments[0]) {
            case "write":
                write(bootstrap, arguments[2], arguments[3], Integer.parseInt(arguments[4]), Integer.parseInt(arguments[5]));
                break;
            case "read":
                read(bootstrap, arguments[2], Integer.parseInt(arguments[3]), arguments[4]);
                break;
            case "fence":
                fence(bootstrap, arguments[2], arguments[3]);
                break;
            case "hang":
                hang(bootstrap, arguments[2], arguments[3]);
                break;
            case "copy":
            case "stall":
                int before = arguments[0].equals("stall") ? BEFORE_STALL : Integer.MAX_VALUE;
                copy(bootstrap, arguments[2], arguments[3], arguments[4], arguments[5], Integer.parseInt(arguments[6]), before);
                break;
            default:
                throw new IllegalArgumentException(arguments[0]);
        }
    }

    static KafkaProducer<String, String> producer(String bootstrap, String id) {
        return producer(bootstrap, id, 60_000);
    }

    static KafkaProducer<String, String> producer(String bootstrap, String id, int timeoutMs) {
        Properties properties = new Properties();
        properties.put("transaction.timeout.ms", Integer.toString(timeoutMs));
        properties.put("bootstrap.servers", bootstrap);
        properties.put("transactional.id", id);
        KafkaProducer<String, String> producer =
                new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    static KafkaConsumer<String, String> consumer(String bootstrap, String isolation, String group) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("isolation.level", isolation);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        if (group != null) {
            properties.put("group.id", group);
            properties.put("max.poll.records", "7");
            properties.put("session.timeout.ms", "6000");
            properties.put("heartbeat.interval.ms", "1000");
        }
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    static void write(String bootstrap, String topic, String id, int count, int partitions) {
        long began = System.nanoTime();
        try (KafkaProducer<String, String> producer = producer(bootstrap, id)) {
            for (int number = 0; number < count; number++) {
                producer.beginTransaction();
                for (int partition = 0; partition < partitions; partition++) {
                    producer.send(new ProducerRecord<>(topic, partition, null, id + "-" + number));
                }
                if (number % 3 == 2) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        System.err.println(count + " transactions in " + (System.nanoTime() - began) / 1_000_000 + " ms");
        System.out.println("written");
    }

    static void read(String bootstrap, String topic, int partitions, String isolation) {
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap, isolation, null)) {
            List<TopicPartition> all = new ArrayList<>();
            for (int partition = 0; partition < partitions; partition++) {
                all.add(new TopicPartition(topic, partition));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println(record.partition() + " " + record.value());
                }
            }
        }
    }

    static void fence(String bootstrap, String topic, String id) throws Exception {
        KafkaProducer<String, String> first = producer(bootstrap, id);
        first.beginTransaction();
        first.send(new ProducerRecord<>(topic, 0, null, "first")).get();
        KafkaProducer<String, String> second = producer(bootstrap, id);
        try {
            first.commitTransaction();
            System.out.println("not fenced");
        } catch (ProducerFencedException error) {
            System.out.println("fenced");
        } catch (KafkaException error) {
            // Old releases say so of the epoch.
            System.out.println(error.getClass().getSimpleName().equals("InvalidProducerEpochException") ? "fenced" : error);
        }
        second.beginTransaction();
        second.send(new ProducerRecord<>(topic, 0, null, "second")).get();
        second.commitTransaction();
        second.close();
        first.close(Duration.ZERO);
        System.out.println("committed");
    }

    static void hang(String bootstrap, String topic, String id) throws Exception {
        // As long as a broker allows: it is to be ended by others, and not before they have come to it.
        KafkaProducer<String, String> producer = producer(bootstrap, id, 900_000);
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(topic, 0, null, "left open")).get();
        System.out.println("open");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static void copy(String bootstrap, String from, String to, String id, String group, int partitions, int beforeStall)
            throws Exception {
        try (KafkaProducer<String, String> producer = producer(bootstrap, id);
                KafkaConsumer<String, String> consumer = consumer(bootstrap, "read_committed", group)) {
            consumer.subscribe(List.of(from));
            int transactions = 0;
            while (!isThrough(consumer, partitions)) {
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    if (offsets.isEmpty()) {
                        producer.beginTransaction();
                    }
                    producer.send(new ProducerRecord<>(to, record.partition(), null, record.value()));
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
                }
                if (offsets.isEmpty()) {
                    continue;
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                if (transactions == beforeStall) {
                    producer.flush();
                    System.out.println("stalled");
                    Thread.currentThread().join();
                }
                producer.commitTransaction();
                System.out.println("copied " + ++transactions);
            }
        }
        System.out.println("done");
    }

    /** Whether it has all partitions, which a member that was killed may still hold, and has read each to its end. */
    private static boolean isThrough(KafkaConsumer<String, String> consumer, int partitions) {
        if (consumer.assignment().size() < partitions) {
            return false;
        }
        Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment());
        return ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue());
    }
}
