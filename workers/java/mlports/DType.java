package mlports;

import java.nio.ByteBuffer;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What the elements of an {@link NDArray} are, as SPEC.md 12.1 writes it: a string, or a list of fields. */
final class DType {
    private static final int MOST_NESTING = 8; // structures in structures
    private static final Pattern SIMPLE = Pattern.compile("(?:\\|b1|\\|[iu]1|<[iu][248]|<f[248])");
    private static final Pattern OTHER = Pattern.compile(
            "<c(?<complex>8|16)|<U(?<text>[1-9]\\d{0,8})|\\|[SV](?<bytes>[1-9]\\d{0,8})"
                    + "|<[Mm]8(?:\\[(?:[1-9]\\d{0,8})?(?:[YMWDhms]|[munpfa]s)\\])?");

    private DType() {}

    /** The bytes of one element. Throws a {@link Violation} for what is no dtype. */
    static long itemSize(Object dtype) {
        return itemSize(dtype, 0);
    }

    /** Whether the elements are booleans or real numbers. */
    static boolean isNumeric(Object dtype) {
        return dtype instanceof String name && SIMPLE.matcher(name).matches();
    }

    private static long itemSize(Object dtype, int depth) {
        if (dtype instanceof List<?> fields) {
            return recordSize(fields, depth);
        }
        if (!(dtype instanceof String name)) {
            throw invalid("a dtype is a string or an array of fields, not " + Violation.shown(dtype));
        }
        if (SIMPLE.matcher(name).matches()) {
            return name.charAt(2) - '0';
        }
        Matcher match = OTHER.matcher(name);
        if (!match.matches()) {
            throw invalid("the dtype " + Violation.shown(name) + " is not one of the protocol's");
        }
        if (match.group("complex") != null) {
            return Long.parseLong(match.group("complex"));
        }
        if (match.group("text") != null) {
            return 4 * Long.parseLong(match.group("text"));
        }
        return match.group("bytes") != null ? Long.parseLong(match.group("bytes")) : 8;
    }

    private static long recordSize(List<?> fields, int depth) {
        if (fields.isEmpty() || depth >= MOST_NESTING) {
            throw invalid(fields.isEmpty() ? "a dtype without fields" : "fields nested deeper than " + MOST_NESTING);
        }
        Set<String> names = new HashSet<>();
        long size = 0;
        for (Object each : fields) {
            if (!(each instanceof List<?> field) || field.size() < 2 || field.size() > 3) {
                throw invalid("a field is [name, dtype] or [name, dtype, shape], not " + Violation.shown(each));
            }
            if (!(Message.asText(field.get(0)) instanceof String name) || name.isEmpty() || !names.add(name)) {
                throw invalid("a field's name is missing, no string or there twice: " + Violation.shown(field));
            }
            long item = itemSize(Message.asText(field.get(1)), depth + 1);
            size = add(size, field.size() == 3 ? product(item, shape(field.get(2))) : item);
        }
        return size;
    }

    /** A shape as it came. */
    static long[] shape(Object value) {
        if (!(value instanceof List<?> sizes) || sizes.size() > 64) {
            throw invalid("a shape is an array of at most 64 integers, not " + Violation.shown(value));
        }
        long[] shape = new long[sizes.size()];
        for (int i = 0; i < shape.length; i++) {
            if (!(sizes.get(i) instanceof Long size) || size < 0) {
                throw invalid("a shape is an array of integers from 0, not " + Violation.shown(value));
            }
            shape[i] = size;
        }
        return shape;
    }

    /** {@code itemSize} times the product of the shape. */
    static long product(long itemSize, long[] shape) {
        for (long size : shape) {
            if (size == 0) {
                return 0;
            }
        }
        long product = itemSize;
        try {
            for (long size : shape) {
                product = Math.multiplyExact(product, size);
            }
        } catch (ArithmeticException overflow) {
            throw invalid("an array of 2^63 bytes or more");
        }
        return product;
    }

    private static long add(long a, long b) {
        try {
            return Math.addExact(a, b);
        } catch (ArithmeticException overflow) {
            throw invalid("elements of 2^63 bytes or more");
        }
    }

    /** The boolean or real number at {@code index}. */
    static double real(String dtype, ByteBuffer elements, int index) {
        switch (dtype.substring(1)) {
            case "f8":
                return elements.getDouble(8 * index);
            case "f4":
                return elements.getFloat(4 * index);
            case "f2":
                return half(elements.getShort(2 * index));
            case "u8":
                long bits = elements.getLong(8 * index);
                return bits >= 0 ? bits : (bits >>> 1 | bits & 1) * 2.0;
            default:
                return integer(dtype, elements, index);
        }
    }

    /** The boolean or integer at {@code index}; one from 2^63 on throws {@code ArithmeticException}. */
    static long integer(String dtype, ByteBuffer elements, int index) {
        switch (dtype.substring(1)) {
            case "b1":
            case "u1":
                return elements.get(index) & 0xFF;
            case "i1":
                return elements.get(index);
            case "i2":
                return elements.getShort(2 * index);
            case "u2":
                return elements.getShort(2 * index) & 0xFFFF;
            case "i4":
                return elements.getInt(4 * index);
            case "u4":
                return elements.getInt(4 * index) & 0xFFFFFFFFL;
            case "i8":
                return elements.getLong(8 * index);
            case "u8":
                long bits = elements.getLong(8 * index);
                if (bits < 0) {
                    throw new ArithmeticException(Long.toUnsignedString(bits) + " does not fit into a long");
                }
                return bits;
            default:
                throw new ArithmeticException("elements of dtype " + dtype + " are no integers");
        }
    }

    private static double half(short bits) {
        int exponent = bits >> 10 & 0x1F;
        int fraction = bits & 0x3FF;
        double size;
        if (exponent == 0) {
            size = fraction * 0x1p-24;
        } else if (exponent == 31) {
            size = fraction == 0 ? Double.POSITIVE_INFINITY : Double.NaN;
        } else {
            size = Math.scalb(1 + fraction * 0x1p-10, exponent - 15);
        }
        return bits < 0 ? -size : size;
    }

    private static Violation invalid(String reason) {
        return new Violation("InvalidExtension", "an ndarray: " + reason);
    }
}
