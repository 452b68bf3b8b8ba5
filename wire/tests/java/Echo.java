import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Reads lines of "class version hex", each one message. Decodes it with Kafka's own class, encodes it again and prints
 * the bytes in hex, or "error" and the cause.
 */
public class Echo {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        PrintStream out = new PrintStream(System.out, false);
        String line;
        while ((line = lines.readLine()) != null) {
            String[] words = line.split(" ", -1);
            out.println(echo(words[0], Short.parseShort(words[1]), HexFormat.of().parseHex(words[2])));
        }
        out.flush();
    }

    private static String echo(String name, short version, byte[] bytes) {
        try {
            Message message = (Message) Class.forName(name).getDeclaredConstructor().newInstance();
            ByteBuffer in = ByteBuffer.wrap(bytes);
            message.read(new ByteBufferAccessor(in), version);
            if (in.hasRemaining()) {
                return "error: " + in.remaining() + " bytes left over";
            }
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer out = ByteBuffer.allocate(message.size(cache, version));
            message.write(new ByteBufferAccessor(out), cache, version);
            return HexFormat.of().formatHex(out.array(), 0, out.position());
        } catch (Throwable error) {
            return "error: " + error;
        }
    }
}
