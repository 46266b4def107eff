package mlports;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.lang.reflect.Array;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.RandomAccess;
import org.msgpack.core.MessageBufferPacker;
import org.msgpack.core.MessagePack;

/** Messages as whole frames, header included. Not for several threads at once. */
final class Encoder {
    private static final byte[] ROOM_FOR_LENGTH = new byte[4];
    private static final int WORTH_NO_COPY = 8192; // bytes

    private final MessageBufferPacker packer = MessagePack.newDefaultBufferPacker();
    private final boolean ndarray;
    private final int maxFrame;

    /** {@code ndarray} says whether arrays go as extension 1, else as lists; {@code maxFrame} is the other side's. */
    Encoder(boolean ndarray, int maxFrame) {
        this.ndarray = ndarray;
        this.maxFrame = maxFrame;
    }

    /** The frame of a message, which is an array of these. Throws {@link Unencodable}. */
    byte[] frame(Object... message) {
        try {
            packer.writePayload(ROOM_FOR_LENGTH);
            packer.packArrayHeader(message.length);
            for (Object element : message) {
                value(element, 1);
            }
            byte[] frame = packer.toByteArray();
            int size = frame.length - 4;
            if (size > maxFrame) {
                throw Unencodable.tooLong(size, maxFrame);
            }
            ByteBuffer.wrap(frame).putInt(size);
            return frame;
        } catch (Unencodable reason) {
            throw reason;
        } catch (IOException | RuntimeException | OutOfMemoryError fault) { // a list that somebody changes meanwhile
            throw new Unencodable("it could not be encoded: " + fault);
        } finally {
            packer.clear(); // at once, because it keeps what is large
        }
    }

    private void value(Object value, int depth) throws IOException {
        if (value == null) {
            packer.packNil();
        } else if (value instanceof String text) {
            text(text);
        } else if (value instanceof Number number) {
            number(number);
        } else if (value instanceof Boolean truth) {
            packer.packBoolean(truth);
        } else if (value instanceof byte[] bytes) {
            packer.packBinaryHeader(bytes.length);
            payload(bytes);
        } else if (value instanceof Map<?, ?> map) {
            map(map, nested(depth));
        } else if (value instanceof Collection<?> values) {
            array(values, nested(depth));
        } else {
            rarer(value, depth);
        }
    }

    private void rarer(Object value, int depth) throws IOException {
        if (value instanceof NDArray array) {
            ndarray(array, depth);
        } else if (value instanceof Instant instant) {
            packer.packTimestamp(instant);
        } else if (value instanceof Extension extension) {
            packer.packExtensionTypeHeader(extension.code(), extension.data().length);
            payload(extension.data());
        } else if (value instanceof ByteBuffer buffer) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.duplicate().get(bytes);
            packer.packBinaryHeader(bytes.length);
            payload(bytes);
        } else if (value instanceof CharSequence || value instanceof Character) {
            text(value.toString());
        } else if (value.getClass().isArray()) {
            int length = Array.getLength(value);
            int inside = nested(depth);
            packer.packArrayHeader(length);
            for (int i = 0; i < length; i++) {
                value(Array.get(value, i), inside);
            }
        } else {
            throw new Unencodable("a " + value.getClass().getName() + " has no form in MessagePack");
        }
    }

    private static int nested(int depth) {
        if (depth >= Decoder.MAX_NESTING) {
            throw new Unencodable("arrays and maps nested deeper than " + Decoder.MAX_NESTING);
        }
        return depth + 1;
    }

    private void number(Number number) throws IOException {
        if (number instanceof Long || number instanceof Integer || number instanceof Short || number instanceof Byte) {
            packer.packLong(number.longValue());
        } else if (number instanceof Double || number instanceof Float) {
            packer.packDouble(number.doubleValue());
        } else if (number instanceof BigInteger big) {
            if (big.bitLength() > (big.signum() < 0 ? 63 : 64)) {
                throw new Unencodable("the integer " + Violation.shown(big) + " has more than 64 bits");
            }
            packer.packBigInteger(big);
        } else {
            throw new Unencodable("a " + number.getClass().getName() + " has no form in MessagePack");
        }
    }

    private void text(String text) throws IOException {
        byte[] bytes = text.getBytes(UTF_8);
        if (hasLoneSurrogate(text)) {
            String shown = Failure.sendable(Violation.shown(text));
            throw new Unencodable("the text " + shown + " is no Unicode: there is half a character in it");
        }
        packer.packRawStringHeader(bytes.length);
        payload(bytes);
    }

    private static boolean hasLoneSurrogate(String text) {
        for (int i = 0; i < text.length(); i++) {
            char unit = text.charAt(i);
            if (Character.isSurrogate(unit)) {
                boolean pair = i + 1 < text.length() && Character.isSurrogatePair(unit, text.charAt(i + 1));
                if (!pair) {
                    return true;
                }
                i++;
            }
        }
        return false;
    }

    private void array(Collection<?> values, int depth) throws IOException {
        packer.packArrayHeader(values.size());
        if (values instanceof List<?> list && values instanceof RandomAccess) { // without an iterator
            for (int i = 0; i < list.size(); i++) {
                value(list.get(i), depth);
            }
        } else {
            for (Object value : values) {
                value(value, depth);
            }
        }
    }

    private void map(Map<?, ?> map, int depth) throws IOException {
        packer.packMapHeader(map.size());
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            Object key = entry.getKey();
            if (!canBeKey(key)) {
                throw new Unencodable("a " + key.getClass().getName() + " cannot be the key of a map");
            }
            value(key, depth);
            value(entry.getValue(), depth);
        }
    }

    private static boolean canBeKey(Object key) {
        return key == null
                || key instanceof CharSequence
                || key instanceof Boolean
                || key instanceof ByteBuffer
                || key instanceof byte[]
                || key instanceof Number && !(key instanceof Double || key instanceof Float);
    }

    private void ndarray(NDArray array, int depth) throws IOException {
        if (!ndarray) {
            value(array.nested(), depth);
            return;
        }
        byte[] head = array.head();
        byte[] elements = array.elements();
        packer.packExtensionTypeHeader((byte) 1, Math.addExact(head.length, elements.length));
        payload(head);
        payload(elements);
    }

    private void payload(byte[] bytes) throws IOException {
        if (bytes.length < WORTH_NO_COPY) {
            packer.writePayload(bytes);
        } else {
            packer.addPayload(bytes);
        }
    }
}
