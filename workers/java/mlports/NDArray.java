package mlports;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.msgpack.core.MessageBufferPacker;
import org.msgpack.core.MessagePack;

/**
 * An n-dimensional array of elements of one size, as numpy knows it: row-major, little-endian, not to be changed.
 *
 * <p>To an orchestrator that does not know arrays it goes as nested lists of numbers.
 */
public final class NDArray {
    private final Object dtype;
    private final long[] shape;
    private final byte[] elements;

    private NDArray(Object dtype, long[] shape, byte[] elements) {
        this.dtype = dtype;
        this.shape = shape;
        this.elements = elements;
    }

    /**
     * An array of any dtype.
     *
     * @param dtype as numpy writes it, such as "&lt;f4" or "|u1"; for records a list of [name, dtype] lists
     * @param elements row-major and little-endian; not copied, and not to be changed any more
     * @throws IllegalArgumentException when dtype, shape and number of bytes do not agree
     */
    public static NDArray of(Object dtype, long[] shape, byte[] elements) {
        try {
            return checked(dtype, shape.clone(), elements);
        } catch (Violation wrong) {
            throw new IllegalArgumentException(wrong.getMessage());
        }
    }

    /** 64-bit floats; without a shape, of one dimension. */
    public static NDArray of(double[] values, long... shape) {
        ByteBuffer buffer = buffer(values.length, 8);
        buffer.asDoubleBuffer().put(values);
        return of("<f8", shapeOr(values.length, shape), buffer.array());
    }

    /** 32-bit floats; without a shape, of one dimension. */
    public static NDArray of(float[] values, long... shape) {
        ByteBuffer buffer = buffer(values.length, 4);
        buffer.asFloatBuffer().put(values);
        return of("<f4", shapeOr(values.length, shape), buffer.array());
    }

    /** 64-bit integers; without a shape, of one dimension. */
    public static NDArray of(long[] values, long... shape) {
        ByteBuffer buffer = buffer(values.length, 8);
        buffer.asLongBuffer().put(values);
        return of("<i8", shapeOr(values.length, shape), buffer.array());
    }

    /** 32-bit integers; without a shape, of one dimension. */
    public static NDArray of(int[] values, long... shape) {
        ByteBuffer buffer = buffer(values.length, 4);
        buffer.asIntBuffer().put(values);
        return of("<i4", shapeOr(values.length, shape), buffer.array());
    }

    /** A matrix of 64-bit floats from rows of one length. */
    public static NDArray of(double[][] rows) {
        int width = rows.length == 0 ? 0 : rows[0].length;
        double[] values = new double[rows.length * width];
        for (int i = 0; i < rows.length; i++) {
            if (rows[i].length != width) {
                throw new IllegalArgumentException("row " + i + " has another length than row 0");
            }
            System.arraycopy(rows[i], 0, values, i * width, width);
        }
        return of(values, rows.length, width);
    }

    /** As numpy writes it: a {@code String}, or a {@code List} of fields. */
    public Object dtype() {
        return dtype;
    }

    public long[] shape() {
        return shape.clone();
    }

    /** The number of elements. */
    public int size() {
        return (int) DType.product(1, shape);
    }

    /** The elements, read-only and little-endian. */
    public ByteBuffer bytes() {
        return ByteBuffer.wrap(elements).asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN);
    }

    /** The elements in order, of booleans and real numbers of any size; else {@code ArithmeticException}. */
    public double[] toDoubles() {
        String name = numeric();
        ByteBuffer buffer = bytes();
        double[] values = new double[size()];
        if (name.equals("<f8")) {
            buffer.asDoubleBuffer().get(values);
            return values;
        }
        for (int i = 0; i < values.length; i++) {
            values[i] = DType.real(name, buffer, i);
        }
        return values;
    }

    /** The elements in order, of booleans and integers; else {@code ArithmeticException}. */
    public long[] toLongs() {
        String name = numeric();
        ByteBuffer buffer = bytes();
        long[] values = new long[size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = DType.integer(name, buffer, i);
        }
        return values;
    }

    /** The rows of an array of two dimensions; else {@code ArithmeticException}. */
    public double[][] toRows() {
        if (shape.length != 2) {
            throw new ArithmeticException("an array of 2 dimensions is needed, not of " + shape.length);
        }
        double[] values = toDoubles();
        int width = (int) shape[1];
        double[][] rows = new double[(int) shape[0]][];
        for (int i = 0; i < rows.length; i++) {
            rows[i] = Arrays.copyOfRange(values, i * width, (i + 1) * width);
        }
        return rows;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof NDArray that
                && dtype.equals(that.dtype)
                && Arrays.equals(shape, that.shape)
                && Arrays.equals(elements, that.elements);
    }

    @Override
    public int hashCode() {
        return 31 * Arrays.hashCode(shape) + Arrays.hashCode(elements);
    }

    @Override
    public String toString() {
        return "NDArray(" + dtype + ", " + Arrays.toString(shape) + ")";
    }

    /** The array in the bytes of an extension 1. Throws a {@link Violation} unless they are one. */
    static NDArray decode(byte[] payload) {
        Object head;
        long left;
        try {
            Decoder decoder = new Decoder(false);
            head = decoder.decodeFirst(payload);
            left = decoder.left();
        } catch (Violation wrong) {
            throw new Violation("InvalidExtension", "an ndarray: [dtype, shape]: " + wrong.getMessage());
        }
        if (!(head instanceof List<?> pair) || pair.size() != 2) {
            String reason = "an ndarray begins with [dtype, shape], not " + Violation.shown(head);
            throw new Violation("InvalidExtension", reason);
        }
        byte[] elements = Arrays.copyOfRange(payload, payload.length - (int) left, payload.length);
        return checked(textual(pair.get(0)), DType.shape(pair.get(1)), elements);
    }

    /** [dtype, shape] in MessagePack: what stands before the elements. */
    byte[] head() {
        try (MessageBufferPacker packer = MessagePack.newDefaultBufferPacker()) {
            packer.packArrayHeader(2);
            pack(packer, dtype);
            packer.packArrayHeader(shape.length);
            for (long size : shape) {
                packer.packLong(size);
            }
            return packer.toByteArray();
        } catch (IOException impossible) {
            throw new AssertionError(impossible);
        }
    }

    byte[] elements() {
        return elements;
    }

    /** Lists in lists of numbers. Throws {@link Unencodable} for elements that are none. */
    Object nested() {
        if (!DType.isNumeric(dtype)) {
            throw new Unencodable("an array of dtype " + dtype + " for an orchestrator that takes only lists");
        }
        return nested(0, new int[1], bytes());
    }

    private Object nested(int axis, int[] next, ByteBuffer buffer) {
        if (axis == shape.length) {
            return number((String) dtype, buffer, next[0]++);
        }
        List<Object> values = new ArrayList<>((int) shape[axis]);
        for (long i = 0; i < shape[axis]; i++) {
            values.add(nested(axis + 1, next, buffer));
        }
        return values;
    }

    private static Object number(String name, ByteBuffer buffer, int index) {
        switch (name.charAt(1)) {
            case 'f':
                return DType.real(name, buffer, index);
            case 'b':
                return DType.integer(name, buffer, index) != 0;
            default:
                try {
                    return DType.integer(name, buffer, index);
                } catch (ArithmeticException large) {
                    return new BigInteger(Long.toUnsignedString(buffer.getLong(8 * index)));
                }
        }
    }

    private String numeric() {
        if (!DType.isNumeric(dtype)) {
            throw new ArithmeticException("an array of dtype " + dtype + " does not hold numbers");
        }
        return (String) dtype;
    }

    private static NDArray checked(Object dtype, long[] shape, byte[] elements) {
        long expected = DType.product(DType.itemSize(dtype), shape);
        if (expected != elements.length) {
            String what = "an ndarray of dtype " + Violation.shown(dtype) + " and shape " + Arrays.toString(shape);
            throw new Violation(
                    "InvalidExtension", what + " has " + expected + " bytes of elements, not " + elements.length);
        }
        return new NDArray(dtype, shape, elements);
    }

    /** A dtype whose strings may have come as bin. */
    private static Object textual(Object described) {
        if (!(described instanceof List<?> values)) {
            return Message.asText(described);
        }
        List<Object> text = new ArrayList<>();
        values.forEach(value -> text.add(textual(value)));
        return text;
    }

    private static void pack(MessageBufferPacker packer, Object described) throws IOException {
        if (described instanceof List<?> values) {
            packer.packArrayHeader(values.size());
            for (Object value : values) {
                pack(packer, value);
            }
        } else if (described instanceof Number number) {
            packer.packLong(number.longValue());
        } else {
            byte[] name = described.toString().getBytes(UTF_8);
            packer.packRawStringHeader(name.length).writePayload(name);
        }
    }

    private static ByteBuffer buffer(int count, int size) {
        return ByteBuffer.allocate(Math.multiplyExact(count, size)).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static long[] shapeOr(int length, long[] shape) {
        return shape.length == 0 ? new long[] {length} : shape;
    }
}
