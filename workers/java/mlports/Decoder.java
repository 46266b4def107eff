package mlports;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.msgpack.core.ExtensionTypeHeader;
import org.msgpack.core.MessageFormat;
import org.msgpack.core.MessagePack;
import org.msgpack.core.MessagePackException;
import org.msgpack.core.MessageUnpacker;
import org.msgpack.core.buffer.ArrayBufferInput;
import org.msgpack.core.buffer.MessageBuffer;

/**
 * One MessagePack value from the bytes of a frame.
 *
 * <p>Integers become {@code Long}, from 2^63 on {@code BigInteger}; floats {@code Double}; str {@code String}; bin
 * {@code byte[]} (as a key {@code ByteBuffer}, which compares by content); arrays {@code List}; maps
 * {@code LinkedHashMap}; timestamps {@code Instant}; ext 1 {@link NDArray}; other extensions {@link Extension}.
 */
final class Decoder {
    static final int MAX_NESTING = 128;
    private static final BigInteger MOST_LONG = BigInteger.valueOf(Long.MAX_VALUE);

    private final ArrayBufferInput input = new ArrayBufferInput(new byte[0]);
    private final MessageUnpacker unpacker = MessagePack.newDefaultUnpacker(input);
    private final boolean ndarray;
    private int size;

    /** {@code ndarray} says whether extension 1 was agreed. */
    Decoder(boolean ndarray) {
        this.ndarray = ndarray;
    }

    /** The value that the frame is. Throws a {@link Violation} unless it is exactly one. */
    Object decode(byte[] bytes, int offset, int length) {
        begin(bytes, offset, length);
        Object value = valueOrViolation();
        if (left() > 0) {
            throw new Violation("TrailingBytes", left() + " bytes behind the value in a frame");
        }
        return value;
    }

    /** The value at the beginning of the bytes; {@link #left()} then tells how many follow. */
    Object decodeFirst(byte[] bytes) {
        begin(bytes, 0, bytes.length);
        return valueOrViolation();
    }

    /** The bytes behind what was decoded. */
    long left() {
        return size - unpacker.getTotalReadBytes();
    }

    private void begin(byte[] bytes, int offset, int length) {
        size = length;
        input.reset(bytes, offset, length);
        try {
            unpacker.reset(input);
        } catch (IOException impossible) {
            throw new AssertionError(impossible);
        }
    }

    private Object valueOrViolation() {
        try {
            return value(0);
        } catch (MessagePackException | CharacterCodingException wrong) {
            String text = wrong.getMessage();
            throw malformed(wrong.getClass().getSimpleName() + (text == null ? "" : ": " + text));
        } catch (IOException impossible) {
            throw new AssertionError(impossible);
        }
    }

    private Object value(int depth) throws IOException {
        MessageFormat format = unpacker.getNextFormat();
        switch (format.getValueType()) {
            case NIL:
                unpacker.unpackNil();
                return null;
            case BOOLEAN:
                return unpacker.unpackBoolean();
            case INTEGER:
                return format == MessageFormat.UINT64 ? unsigned() : (Object) unpacker.unpackLong();
            case FLOAT:
                return unpacker.unpackDouble();
            case STRING:
                return text(payload(unpacker.unpackRawStringHeader()));
            case BINARY:
                return bytes(unpacker.unpackBinaryHeader());
            case ARRAY:
                return array(depth + 1);
            case MAP:
                return map(depth + 1);
            default:
                return extension(unpacker.unpackExtensionTypeHeader());
        }
    }

    private Object unsigned() throws IOException {
        BigInteger value = unpacker.unpackBigInteger();
        return value.compareTo(MOST_LONG) > 0 ? value : (Object) value.longValue();
    }

    private List<Object> array(int depth) throws IOException {
        int count = unpacker.unpackArrayHeader();
        check(count, depth);
        List<Object> values = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            values.add(value(depth));
        }
        return values;
    }

    private Map<Object, Object> map(int depth) throws IOException {
        int count = unpacker.unpackMapHeader();
        check(2L * count, depth);
        Map<Object, Object> entries = new LinkedHashMap<>(Math.max(4, count * 4 / 3 + 1));
        for (int i = 0; i < count; i++) {
            Object key = value(depth);
            if (key instanceof List || key instanceof Map) {
                throw malformed("an array or a map as the key of a map");
            }
            entries.put(key instanceof byte[] name ? ByteBuffer.wrap(name) : key, value(depth));
        }
        return entries;
    }

    private void check(long values, int depth) {
        if (depth > MAX_NESTING) {
            throw malformed("arrays and maps nested deeper than " + MAX_NESTING);
        }
        if (values > left()) {
            throw malformed("an array or a map that is longer than the rest of its frame");
        }
    }

    private MessageBuffer payload(int length) throws IOException {
        if (length > left()) {
            throw malformed("a value of " + length + " bytes with " + left() + " left in its frame");
        }
        return unpacker.readPayloadAsReference(length);
    }

    private byte[] bytes(int length) throws IOException {
        return payload(length).toByteArray();
    }

    private static String text(MessageBuffer raw) throws CharacterCodingException {
        String text = new String(raw.array(), raw.arrayOffset(), raw.size(), UTF_8);
        // The constructor puts this character for what is wrong; that it was sent is the rare case.
        return text.indexOf('\uFFFD') < 0 ? text : strict(raw.sliceAsByteBuffer());
    }

    /** The text in these bytes; throws unless they are UTF-8. */
    static String strict(ByteBuffer bytes) throws CharacterCodingException {
        return UTF_8.newDecoder().decode(bytes).toString();
    }

    private Object extension(ExtensionTypeHeader header) throws IOException {
        byte[] data = bytes(header.getLength());
        switch (header.getType()) {
            case -1:
                return timestamp(data);
            case 1:
                if (ndarray) {
                    return NDArray.decode(data);
                }
                throw notAgreed(header);
            case 2:
            case 3:
                throw notAgreed(header);
            default:
                return new Extension(header.getType(), data);
        }
    }

    private static Violation notAgreed(ExtensionTypeHeader header) {
        return new Violation("InvalidExtension", "extension " + header.getType() + ", which was not agreed on");
    }

    private static Object timestamp(byte[] data) {
        ByteBuffer buffer = ByteBuffer.wrap(data);
        long seconds;
        long nanoseconds = 0;
        if (data.length == 4) {
            seconds = buffer.getInt() & 0xFFFFFFFFL;
        } else if (data.length == 8) {
            long both = buffer.getLong();
            nanoseconds = both >>> 34;
            seconds = both & 0x3FFFFFFFFL;
        } else if (data.length == 12) {
            nanoseconds = buffer.getInt() & 0xFFFFFFFFL;
            seconds = buffer.getLong();
        } else {
            throw malformed("a timestamp of " + data.length + " bytes");
        }
        if (nanoseconds > 999_999_999) {
            throw malformed("a timestamp with " + nanoseconds + " nanoseconds");
        }
        try {
            return Instant.ofEpochSecond(seconds, nanoseconds);
        } catch (DateTimeException beyondJava) {
            return new Extension((byte) -1, Arrays.copyOf(data, data.length));
        }
    }

    private static Violation malformed(String reason) {
        return new Violation("MalformedValue", reason);
    }
}
