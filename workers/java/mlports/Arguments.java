package mlports;

import java.util.AbstractList;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.RandomAccess;

/**
 * The arguments of one call, from 0. What is missing or of another type is answered {@code invalid_argument}.
 *
 * <p>{@link #get} gives an argument as it came: null, {@code Boolean}, {@code Long} ({@code BigInteger} from 2^63 on),
 * {@code Double}, {@code String}, {@code byte[]}, {@code List}, {@code Map}, {@code Instant}, {@link NDArray} or
 * {@link Extension}.
 */
public final class Arguments extends AbstractList<Object> implements RandomAccess {
    private final List<?> values;

    Arguments(List<?> values) {
        this.values = values;
    }

    @Override
    public int size() {
        return values.size();
    }

    @Override
    public Object get(int index) {
        if (index >= values.size()) {
            throw Failure.invalidArgument("argument " + (index + 1) + " is missing: there are " + values.size());
        }
        return values.get(index);
    }

    /** An integer or a float, as the nearest double. */
    public double number(int index) {
        return as(index, Number.class, "a number").doubleValue();
    }

    /** An integer that fits into a long; no float. */
    public long integer(int index) {
        return as(index, Long.class, "an integer below 2^63");
    }

    /** A str, or a bin that holds UTF-8. */
    public String text(int index) {
        if (Message.asText(get(index)) instanceof String text) {
            return text;
        }
        throw wrong(index, "a string");
    }

    public boolean truth(int index) {
        return as(index, Boolean.class, "a boolean");
    }

    @SuppressWarnings("unchecked") // the decoder makes no other lists
    public List<Object> list(int index) {
        return as(index, List.class, "a list");
    }

    @SuppressWarnings("unchecked") // the decoder makes no other maps
    public Map<Object, Object> map(int index) {
        return as(index, Map.class, "a map");
    }

    public NDArray array(int index) {
        return as(index, NDArray.class, "an array");
    }

    /** Numbers: a list of them, or an array. */
    public double[] vector(int index) {
        try {
            return vector(get(index));
        } catch (ClassCastException | NullPointerException | ArithmeticException other) {
            throw wrong(index, "a list or an array of numbers");
        }
    }

    /** Rows of numbers: a list of vectors, or an array of two dimensions. */
    public double[][] rows(int index) {
        return rows(get(index));
    }

    /** {@link #rows(int)} for a value that lies elsewhere, such as within a map. */
    public static double[][] rows(Object value) {
        try {
            if (value instanceof NDArray array) {
                return array.toRows();
            }
            List<double[]> rows = new ArrayList<>();
            for (Object row : (List<?>) value) {
                rows.add(vector(row));
            }
            return rows.toArray(double[][]::new);
        } catch (ClassCastException | NullPointerException | ArithmeticException other) {
            throw Failure.invalidArgument("rows of numbers are needed, not " + Violation.shown(value));
        }
    }

    private static double[] vector(Object value) {
        if (value instanceof NDArray array) {
            return array.toDoubles();
        }
        List<?> numbers = (List<?>) value;
        double[] vector = new double[numbers.size()];
        for (int i = 0; i < vector.length; i++) {
            vector[i] = ((Number) numbers.get(i)).doubleValue();
        }
        return vector;
    }

    private <T> T as(int index, Class<T> type, String expected) {
        Object value = get(index);
        if (type.isInstance(value)) {
            return type.cast(value);
        }
        throw wrong(index, expected);
    }

    private Failure wrong(int index, String expected) {
        String text = "argument " + (index + 1) + " is " + expected + ", not " + Violation.shown(get(index));
        return Failure.invalidArgument(text);
    }
}
