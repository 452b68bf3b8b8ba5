import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.Utils;

/**
 * Reads lines of hex, each one record batch. Checks and reads it with Kafka's own classes and prints what it holds, a
 * space, and the batch that these classes write of the same records, in hex.
 */
public class Batches {
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
        RecordBatch batch = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).firstBatch();
        batch.ensureValid();
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(batch.compressionType()).build(), batch.timestampType(), batch.baseOffset(), -1L,
            batch.producerId(), batch.producerEpoch(), batch.baseSequence(), batch.isTransactional(),
            batch.partitionLeaderEpoch());
        StringBuilder text = new StringBuilder();
        text.append(batch.compressionType().name).append(',').append(batch.maxTimestamp());
        for (Record record : batch) {
            text.append('|').append(record.offset()).append(',').append(record.timestamp());
            text.append(',').append(hex(record.key())).append(',').append(hex(record.value()));
            for (Header header : record.headers()) {
                text.append(',').append(header.key()).append('=').append(hex(ByteBuffer.wrap(header.value())));
            }
            builder.append(record.timestamp(), record.key(), record.value(), record.headers());
        }
        return text + " " + hex(builder.build().buffer());
    }

    private static String hex(ByteBuffer bytes) {
        return bytes == null ? "null" : HEX.formatHex(Utils.toArray(bytes));
    }
}
