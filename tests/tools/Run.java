import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's tools one after another in one virtual machine: {@code COMMANDS OUTPUTS}. A command is a line of
 * {@code NAME TAB INPUT TAB CLASS TAB ARGUMENT...}, with {@code \n} for line ends in the input. What a tool prints goes to the
 * files {@code OUTPUTS/NAME.out} and {@code .err}, and its exit status to {@code .rc}.
 */
public final class Run {
    /** Ends a tool where it would have ended the process. No tool catches it but those that catch everything. */
    private static final class Ended extends Error {
        private static final long serialVersionUID = 1;
    }

    private static Integer status;

    private Run() {
    }

    public static void main(String[] args) throws Exception {
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        // What a tool leaves for the end of its process belongs to the tool: producers send there what they still hold.
        List<Runnable> hooks = new ArrayList<>();
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        PrintStream ownOut = System.out;
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String[] parts = line.split("\t", -1);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(parts[1].replace("\\n", "\n").getBytes(StandardCharsets.UTF_8)));
            System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
            int code = run(parts[2], Arrays.copyOfRange(parts, 3, parts.length));
            hooks.forEach(Runnable::run);
            hooks.clear();
            System.out.flush();
            System.err.flush();
            Path files = Path.of(args[1]);
            Files.write(files.resolve(parts[0] + ".out"), out.toByteArray());
            Files.write(files.resolve(parts[0] + ".err"), err.toByteArray());
            Files.writeString(files.resolve(parts[0] + ".rc"), Integer.toString(code));
        }
        System.setOut(ownOut);
        System.out.println("DONE");
        // Tools leave threads behind that would keep the process alive.
        Runtime.getRuntime().halt(0);
    }

    private static int run(String className, String[] arguments) throws Exception {
        synchronized (Run.class) {
            status = null;
        }
        try {
            Class.forName(className).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException error) {
            if (!(error.getCause() instanceof Ended)) {
                error.getCause().printStackTrace();
                end1(1);
            }
        }
        synchronized (Run.class) {
            return status == null ? 0 : status;
        }
    }

    /** The first end counts: tools that catch everything end again. */
    private static void end(int code) {
        end1(code);
        throw new Ended();
    }

    private static synchronized void end1(int code) {
        if (status == null) {
            status = code;
            System.out.flush();
            System.err.flush();
            // What a tool still says on its way is about the error that ends it.
            System.setOut(new PrintStream(OutputStream.nullOutputStream()));
            System.setErr(new PrintStream(OutputStream.nullOutputStream()));
        }
    }

    /** Opens a transaction and ends without a word: {@code BOOTSTRAP TOPIC ID}. */
    public static final class OpenTransaction {
        private OpenTransaction() {
        }

        public static void main(String[] args) throws Exception {
            Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "transactional.id", args[2]);
            StringSerializer text = new StringSerializer();
            KafkaProducer<String, String> producer = new KafkaProducer<>(settings, text, text);
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(args[1], "left open")).get();
            producer.close(Duration.ZERO);
        }
    }
}
