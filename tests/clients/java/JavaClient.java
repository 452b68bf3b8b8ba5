import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's own Java client as a client under test: {@code VERB PLAN}; see harness/src/client.rs. */
public final class JavaClient {
    private record Item(long timestamp, byte[] key, byte[] value, List<Header> headers) {}

    private final JsonNode plan;
    private final List<Item> records = new ArrayList<>();

    private JavaClient(Path path) throws Exception {
        plan = new ObjectMapper().readTree(path.toFile());
        for (String line : Files.readAllLines(Path.of(text("workload")))) {
            records.add(parse(line));
        }
    }

    public static void main(String[] args) throws Exception {
        JavaClient client = new JavaClient(Path.of(args[1]));
        switch (args[0]) {
            case "create" -> client.create();
            case "write" -> client.write();
            case "read" -> client.read();
            case "refuse" -> client.refuse();
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private void create() throws Exception {
        try (Admin admin = Admin.create(properties())) {
            List<NewTopic> topics = new ArrayList<>();
            for (JsonNode topic : plan.get("topics")) {
                topics.add(new NewTopic(topic.get("name").asText(), plan.get("partitions").asInt(), (short) 1));
            }
            admin.createTopics(topics).all().get();
            try {
                admin.createTopics(topics.subList(0, 1)).all().get();
            } catch (ExecutionException error) {
                System.out.println("existing=" + error.getCause().getClass().getSimpleName());
            }
            for (NewTopic topic : topics) {
                // Kafka's broker learns of a creation a moment after its controller.
                for (int attempt = 0; !admin.listTopics().names().get().contains(topic.name()); attempt++) {
                    if (attempt == 100) {
                        throw new IllegalStateException(topic.name() + " is not listed");
                    }
                    Thread.sleep(100);
                }
            }
        }
    }

    private void write() throws Exception {
        List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
        for (JsonNode topic : plan.get("topics")) {
            Properties properties = properties();
            properties.put("compression.type", topic.get("codec").asText());
            properties.put("linger.ms", "5");
            if (!topic.get("idempotent").asBoolean()) {
                properties.put("enable.idempotence", "false");
                properties.put("acks", "1");
                properties.put("max.in.flight.requests.per.connection", "1");
            }
            producers.add(new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer()));
        }
        int half = plan.get("half").asInt();
        for (List<Item> part : List.of(records.subList(0, half), records.subList(half, records.size()))) {
            for (int index = 0; index < producers.size(); index++) {
                String topic = plan.get("topics").get(index).get("name").asText();
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (Item item : part) {
                    sent.add(producers.get(index).send(
                            new ProducerRecord<>(topic, null, item.timestamp, item.key, item.value, item.headers)));
                }
                producers.get(index).flush();
                for (Future<RecordMetadata> one : sent) {
                    one.get();
                }
            }
            if (part.get(0) == records.get(0)) {
                System.out.println("PAUSED");
                new BufferedReader(new InputStreamReader(System.in)).readLine();
            }
        }
        producers.forEach(KafkaProducer::close);
    }

    private void read() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(properties(), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            for (JsonNode topic : plan.get("topics")) {
                List<TopicPartition> partitions = new ArrayList<>();
                for (int partition = 0; partition < plan.get("partitions").asInt(); partition++) {
                    partitions.add(new TopicPartition(topic.get("name").asText(), partition));
                }
                consumer.assign(partitions);
                consumer.seekToBeginning(partitions);
                long remaining = consumer.endOffsets(partitions).values().stream().mapToLong(Long::longValue).sum();
                Path file = Path.of(text("out"), topic.get("name").asText() + ".tsv");
                try (BufferedWriter back = Files.newBufferedWriter(file)) {
                    while (remaining > 0) {
                        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                            back.write(line(record));
                            remaining--;
                        }
                    }
                }
            }
        }
    }

    private void refuse() throws Exception {
        byte[] large = new byte[plan.get("large_bytes").asInt()];
        // How long the client waits for a topic that does not come.
        refuse("missing", text("missing_topic"), new byte[] {'v'}, "max.block.ms", "3000");
        refuse("large", plan.get("topics").get(0).get("name").asText(), large, "max.request.size", Integer.toString(8 << 20));
    }

    private void refuse(String what, String topic, byte[] value, String setting, String wish) throws Exception {
        Properties properties = properties();
        properties.put(setting, wish);
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.send(new ProducerRecord<>(topic, new byte[] {'k'}, value)).get();
        } catch (ExecutionException error) {
            System.out.println(what + "=" + error.getCause().getClass().getSimpleName());
        }
    }

    private Properties properties() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", text("bootstrap"));
        return properties;
    }

    private String text(String name) {
        return plan.get(name).asText();
    }

    private static Item parse(String line) {
        String[] columns = line.split("\t");
        List<Header> headers = new ArrayList<>();
        if (!columns[3].equals("-")) {
            for (String header : columns[3].split(";")) {
                String[] parts = header.split(":", -1);
                headers.add(new RecordHeader(parts[0], unhex(parts[1])));
            }
        }
        return new Item(Long.parseLong(columns[0]), unhex(columns[1]), unhex(columns[2]), headers);
    }

    private static String line(ConsumerRecord<byte[], byte[]> record) {
        List<String> headers = new ArrayList<>();
        record.headers().forEach(header -> headers.add(header.key() + ":" + tohex(header.value())));
        return String.join("\t",
                Integer.toString(record.partition()), Long.toString(record.offset()), Long.toString(record.timestamp()),
                tohex(record.key()), tohex(record.value()), headers.isEmpty() ? "-" : String.join(";", headers)) + "\n";
    }

    private static byte[] unhex(String text) {
        return text.equals("-") ? null : HexFormat.of().parseHex(text);
    }

    private static String tohex(byte[] bytes) {
        return bytes == null ? "-" : HexFormat.of().formatHex(bytes);
    }
}
