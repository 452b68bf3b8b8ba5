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
 * copy  BOOTSTRAP FROM TO ID GROUP             copies records with their offsets, and ends when there are no more
 * </pre>
 */
public class Transactions {
    /** After so many polls without a record a copy is complete. */
    private static final int QUIET_POLLS = 6;

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
                copy(bootstrap, arguments[2], arguments[3], arguments[4], arguments[5]);
                break;
            default:
                throw new IllegalArgumentException(arguments[0]);
        }
    }

    static KafkaProducer<String, String> producer(String bootstrap, String id) {
        Properties properties = new Properties();
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
        KafkaProducer<String, String> producer = producer(bootstrap, id);
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(topic, 0, null, "left open")).get();
        System.out.println("open");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static void copy(String bootstrap, String from, String to, String id, String group) throws Exception {
        try (KafkaProducer<String, String> producer = producer(bootstrap, id);
                KafkaConsumer<String, String> consumer = consumer(bootstrap, "read_committed", group)) {
            consumer.subscribe(List.of(from));
            // The group is without its partitions until a member that was killed is missed.
            int transactions = 0;
            for (int empty = 0; empty < QUIET_POLLS; empty = consumer.assignment().isEmpty() ? 0 : empty + 1) {
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                int copied = 0;
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    if (copied == 0) {
                        producer.beginTransaction();
                    }
                    producer.send(new ProducerRecord<>(to, record.partition(), null, record.value()));
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
                    copied++;
                }
                if (copied > 0) {
                    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                    producer.commitTransaction();
                    System.out.println("copied " + ++transactions);
                    empty = 0;
                }
            }
        }
        System.out.println("done");
    }
}
