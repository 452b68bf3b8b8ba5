import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;

/** Groups of the consumer protocol (KIP-848). Arguments: bootstrap servers, and what to do. */
public class ConsumerGroups {
    static final int RECORDS = 600;
    static final long PATIENCE_MS = 60_000;
    final String servers;
    final Admin admin;
    /** How often each value was read. */
    final Map<String, Integer> read = new TreeMap<>();

    ConsumerGroups(String servers) {
        this.servers = servers;
        this.admin = Admin.create(Map.of("bootstrap.servers", servers));
    }

    public static void main(String[] arguments) {
        try {
            run(arguments);
        } catch (Throwable error) {
            error.printStackTrace();
            // Clients that are still open would keep the program.
            System.exit(1);
        }
    }

    static void run(String[] arguments) throws Exception {
        ConsumerGroups groups = new ConsumerGroups(arguments[0]);
        switch (arguments[1]) {
            case "share" -> groups.share();
            case "after-restart" -> groups.afterRestart();
            case "regex" -> groups.regex();
            case "static" -> groups.staticMembers();
            case "migrate" -> groups.migrate();
            default -> throw new IllegalArgumentException(arguments[1]);
        }
        groups.admin.close();
        System.out.println("done " + arguments[1]);
    }

    /** Two members share a topic, each record is read once, and one takes over what the other leaves. */
    void share() throws Exception {
        create("shared", 6);
        produce("shared", 0);
        KafkaConsumer<String, String> first = consumer("sharing", Map.of());
        first.subscribe(List.of("shared"));
        await("the first has everything", () -> poll(first).assignment().size() == 6);
        KafkaConsumer<String, String> second = consumer("sharing", Map.of());
        second.subscribe(List.of("shared"));
        await("both have half", () -> sizes(List.of(first, second)).equals(List.of(3, 3)));
        Set<TopicPartition> all = new HashSet<>(first.assignment());
        all.addAll(second.assignment());
        check("each partition has one reader", all.size() == 6);
        produce("shared", RECORDS);
        await("everything is read", () -> {
            poll(first);
            poll(second);
            return read.size() == 2 * RECORDS;
        });
        first.commitSync();
        second.commitSync();
        check("each record is read once: " + read, read.values().stream().allMatch(count -> count == 1));
        await("the group is stable", () -> {
            poll(first);
            poll(second);
            return describe("sharing").groupState().toString().equals("Stable");
        });
        ConsumerGroupDescription group = describe("sharing");
        check("described: " + group, group.type() == GroupType.CONSUMER && group.members().size() == 2
            && group.partitionAssignor().equals("uniform")
            && group.members().stream().allMatch(it -> it.assignment().topicPartitions().size() == 3
                && it.targetAssignment().get().topicPartitions().size() == 3 && it.memberEpoch().isPresent()));
        ListGroupsOptions ofType = new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER));
        List<String> listed = admin.listGroups(ofType).all().get().stream().map(it -> it.groupId()).toList();
        check("listed: " + listed, listed.equals(List.of("sharing")));
        first.close();
        await("the second has everything", () -> poll(second).assignment().size() == 6);
        admin.createPartitions(Map.of("shared", NewPartitions.increaseTo(8))).all().get();
        await("new partitions are assigned", () -> poll(second).assignment().size() == 8);
        second.close();
        check("each record is read once: " + read, read.size() == 2 * RECORDS);
    }

    /** What was committed is there, and the group goes on. */
    void afterRestart() throws Exception {
        long committed = admin.listConsumerGroupOffsets("sharing").partitionsToOffsetAndMetadata().get().values()
            .stream().mapToLong(it -> it.offset()).sum();
        check("committed: " + committed, committed == 2 * RECORDS);
        check("empty", describe("sharing").groupState().toString().equals("Empty"));
        produce("shared", 2 * RECORDS);
        KafkaConsumer<String, String> again = consumer("sharing", Map.of("group.remote.assignor", "range"));
        again.subscribe(List.of("shared"));
        await("the new ones are read", () -> {
            poll(again);
            return read.size() == RECORDS;
        });
        check("none of the old ones: " + read, Integer.parseInt(read.keySet().iterator().next()) >= 2 * RECORDS);
        check("its assignor", describe("sharing").partitionAssignor().equals("range"));
        again.close();
        admin.deleteConsumerGroups(List.of("sharing")).all().get();
    }

    /** A regular expression is looked up by the broker, and again when topics come. */
    void regex() throws Exception {
        create("metrics-a", 2);
        create("other", 2);
        KafkaConsumer<String, String> member = consumer("by-regex", Map.of());
        member.subscribe(new SubscriptionPattern("metrics-.*"));
        await("what matches", () -> topics(poll(member)).equals(Set.of("metrics-a")));
        create("metrics-b", 1);
        await("what comes", () -> topics(poll(member)).equals(Set.of("metrics-a", "metrics-b")));
        member.close();
        KafkaConsumer<String, String> wrong = consumer("by-wrong-regex", Map.of());
        wrong.subscribe(new SubscriptionPattern("("));
        String[] said = new String[1];
        await("what is no expression", () -> {
            try {
                poll(wrong);
            } catch (org.apache.kafka.common.errors.InvalidRegularExpression error) {
                said[0] = error.getMessage();
            }
            return said[0] != null;
        });
        wrong.close();
    }

    /** A static member finds its partitions again; while it is there another one of its name is refused. */
    void staticMembers() throws Exception {
        create("kept", 4);
        Map<String, String> name = Map.of("group.instance.id", "one");
        KafkaConsumer<String, String> one = consumer("static", name);
        KafkaConsumer<String, String> other = consumer("static", Map.of("group.instance.id", "other"));
        one.subscribe(List.of("kept"));
        other.subscribe(List.of("kept"));
        await("both have half", () -> sizes(List.of(one, other)).equals(List.of(2, 2)));
        Set<TopicPartition> kept = one.assignment();
        KafkaConsumer<String, String> twin = consumer("static", name);
        twin.subscribe(List.of("kept"));
        boolean[] refused = new boolean[1];
        await("a twin is refused", () -> {
            poll(one);
            poll(other);
            try {
                poll(twin);
            } catch (org.apache.kafka.common.errors.UnreleasedInstanceIdException error) {
                refused[0] = true;
            }
            return refused[0];
        });
        twin.close();
        one.close();
        int epoch = describe("static").groupEpoch().get();
        KafkaConsumer<String, String> again = consumer("static", name);
        again.subscribe(List.of("kept"));
        await("it finds its own", () -> sizes(List.of(again, other)).equals(List.of(2, 2)) && again.assignment().equals(kept));
        check("nothing has changed", describe("static").groupEpoch().get() == epoch);
        again.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
        await("it has left for good", () -> poll(other).assignment().size() == 4);
        other.close();
    }

    /** A group changes its protocol, and back, one member at a time, and nobody stops reading. */
    void migrate() throws Exception {
        create("moving", 4);
        produce("moving", 0);
        for (String assignor : List.of("RangeAssignor", "CooperativeStickyAssignor")) {
            read.clear();
            String group = "from-" + assignor;
            Map<String, String> classic = Map.of("group.protocol", "classic", "partition.assignment.strategy",
                "org.apache.kafka.clients.consumer." + assignor);
            List<KafkaConsumer<String, String>> members = new ArrayList<>();
            for (int number = 0; number < 2; number++) {
                members.add(consumer(group, classic));
                members.get(number).subscribe(List.of("moving"));
            }
            await("classic members share", () -> sizes(members).equals(List.of(2, 2)));
            check("classic", listedType(group) == GroupType.CLASSIC);
            members.add(consumer(group, Map.of()));
            members.get(2).subscribe(List.of("moving"));
            await("three share", () -> sizes(members).stream().sorted().toList().equals(List.of(1, 1, 2)));
            check("consumer", listedType(group) == GroupType.CONSUMER);
            long oldOnes = describe(group).members().stream().filter(it -> !it.upgraded().get()).count();
            check("two have not changed: " + oldOnes, oldOnes == 2);
            members.remove(0).close();
            await("two share", () -> sizes(members).equals(List.of(2, 2)));
            // The member of the new protocol goes: a classic group again.
            members.remove(1).close();
            await("one has everything", () -> sizes(members).equals(List.of(4)));
            check("classic again", listedType(group) == GroupType.CLASSIC);
            // And now for good.
            members.add(consumer(group, Map.of()));
            members.get(1).subscribe(List.of("moving"));
            await("two share again", () -> sizes(members).equals(List.of(2, 2)));
            members.remove(0).close();
            await("the new one has everything", () -> sizes(members).equals(List.of(4)));
            await("every record is read", () -> sizes(members).size() == 1 && read.size() == RECORDS);
            check("consumer for good", listedType(group) == GroupType.CONSUMER);
            members.remove(0).close();
        }
    }

    void create(String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
    }

    void produce(String topic, int from) {
        Map<String, Object> settings = Map.of("bootstrap.servers", servers, "key.serializer",
            "org.apache.kafka.common.serialization.StringSerializer", "value.serializer",
            "org.apache.kafka.common.serialization.StringSerializer");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            for (int number = from; number < from + RECORDS; number++) {
                producer.send(new ProducerRecord<>(topic, "k" + number, String.format("%06d", number)));
            }
        }
    }

    KafkaConsumer<String, String> consumer(String group, Map<String, String> more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("group.id", group);
        settings.put("group.protocol", "consumer");
        settings.put("auto.offset.reset", "earliest");
        settings.put("metadata.max.age.ms", "1000");
        settings.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        settings.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        settings.putAll(more);
        return new KafkaConsumer<>(settings);
    }

    KafkaConsumer<String, String> poll(KafkaConsumer<String, String> consumer) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(50))) {
            read.merge(record.value(), 1, Integer::sum);
        }
        return consumer;
    }

    List<Integer> sizes(List<KafkaConsumer<String, String>> members) {
        return members.stream().map(it -> poll(it).assignment().size()).toList();
    }

    Set<String> topics(KafkaConsumer<String, String> consumer) {
        return consumer.assignment().stream().map(TopicPartition::topic).collect(Collectors.toSet());
    }

    ConsumerGroupDescription describe(String group) {
        try {
            return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        } catch (Exception error) {
            throw new RuntimeException(error);
        }
    }

    GroupType listedType(String group) throws Exception {
        return admin.listGroups().all().get().stream().filter(it -> it.groupId().equals(group)).findFirst().get()
            .type().get();
    }

    static void await(String what, BooleanSupplier holds) {
        long end = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (!holds.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("in vain: " + what);
            }
        }
        System.out.println(what);
    }

    static void check(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError("not so: " + what);
        }
    }
}
