import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's Java client of releases from 0.10.2 on as a client under test, by what all of them have:
 * {@code VERB BOOTSTRAP WORKLOAD OUT PARTITIONS TOPIC=CODEC…}, where the verb is {@code write} or {@code read}.
 */
public class OldJavaClient {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        for (int topic = 5; topic < arguments.length; topic++) {
            String[] parts = arguments[topic].split("=");
            if (arguments[0].equals("write")) {
                write(arguments[1], Path.of(arguments[2]), parts[0], parts[1]);
            } else {
                read(arguments[1], Path.of(arguments[3]), Integer.parseInt(arguments[4]), parts[0]);
            }
        }
    }

    private static void write(String bootstrap, Path workload, String topic, String codec) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("compression.type", codec);
        settings.put("linger.ms", 5);
        settings.put("max.in.flight.requests.per.connection", 1);
        List<Future<?>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                 new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String line : Files.readAllLines(workload)) {
                String[] columns = line.split("\t");
                byte[] value = columns[2].equals("-") ? null : HEX.parseHex(columns[2]);
                sent.add(producer.send(new ProducerRecord<>(topic, null, Long.parseLong(columns[0]),
                    HEX.parseHex(columns[1]), value)));
            }
        }
        for (Future<?> one : sent) {
            one.get();
        }
    }

    @SuppressWarnings("deprecation")
    private static void read(String bootstrap, Path out, int count, String topic) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("enable.auto.commit", false);
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < count; partition++) {
            partitions.add(new TopicPartition(topic, partition));
        }
        try (KafkaConsumer<byte[], byte[]> consumer =
                 new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
             PrintWriter file = new PrintWriter(Files.newBufferedWriter(out.resolve(topic + ".tsv")))) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(500)) {
                    String value = record.value() == null ? "-" : HEX.formatHex(record.value());
                    file.println(record.partition() + "\t" + record.offset() + "\t" + record.timestamp() + "\t"
                        + HEX.formatHex(record.key()) + "\t" + value + "\t-");
                }
            }
        }
    }
}
