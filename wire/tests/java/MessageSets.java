import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.Utils;

/**
 * Reads lines of hex, each one message set of magic 0 or 1. Checks and reads it with Kafka's own classes and prints what it
 * holds, a space, and the message set that these classes write of the same records, in hex.
 */
public class MessageSets {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        PrintStream out = new PrintStream(System.out, false);
        String line;
        while ((line = lines.readLine()) != null) {
            out.println(rewrite(HEX.parseHex(line)));
        }
        out.flush();
    }

    private static String rewrite(byte[] bytes) {
        MemoryRecords set = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes));
        RecordBatch first = set.firstBatch();
        boolean stamped = first.timestampType() == TimestampType.LOG_APPEND_TIME;
        long firstOffset = set.records().iterator().next().offset();
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), first.magic(),
            Compression.of(first.compressionType()).build(),
            first.magic() == 0 ? TimestampType.CREATE_TIME : first.timestampType(), firstOffset,
            stamped ? first.maxTimestamp() : RecordBatch.NO_TIMESTAMP);
        StringBuilder text = new StringBuilder();
        text.append(first.magic()).append(',').append(first.compressionType().name).append(',').append(stamped);
        for (RecordBatch batch : set.batches()) {
            batch.ensureValid();
            for (Record record : batch) {
                record.ensureValid();
                text.append('|').append(record.offset()).append(',').append(record.timestamp());
                text.append(',').append(hex(record.key())).append(',').append(hex(record.value()));
                builder.appendWithOffset(record.offset(), record.timestamp(), record.key(), record.value());
            }
        }
        return text + " " + hex(builder.build().buffer());
    }

    private static String hex(ByteBuffer bytes) {
        return bytes == null ? "null" : HEX.formatHex(Utils.toArray(bytes));
    }
}
