package mlports;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The three messages of SPEC.md, section 4. */
sealed interface Message {
    long MAX_ID = (1L << 53) - 1;

    record Request(long id, String method, List<Object> params, Map<String, Object> meta) implements Message {}

    /** {@code error} is null or a map with code and message. */
    record Response(long id, Map<String, Object> error, Object result, Map<String, Object> meta) implements Message {}

    record Notification(String method, List<Object> params, Map<String, Object> meta) implements Message {}

    /** The message that a decoded value is. Throws a {@link Violation} that says which element is wrong and how. */
    static Message parse(Object value) {
        if (!(value instanceof List<?> elements) || elements.isEmpty()) {
            throw invalid("a message is an array of 3 to 5 elements, not " + Violation.shown(value));
        }
        if (elements.get(0) instanceof Long type) {
            if (type == 0) {
                checkLength("request", elements, 4);
                return new Request(
                        id(elements.get(1)), method(elements.get(2)), params(elements.get(3)), meta(elements, 4));
            }
            if (type == 1) {
                return response(elements);
            }
            if (type == 2) {
                checkLength("notification", elements, 3);
                return new Notification(method(elements.get(1)), params(elements.get(2)), meta(elements, 3));
            }
        }
        throw invalid("a message begins with 0, 1 or 2, not " + Violation.shown(elements.get(0)));
    }

    private static Response response(List<?> elements) {
        checkLength("response", elements, 4);
        Object result = elements.get(3);
        Map<String, Object> error = elements.get(2) == null ? null : error(elements.get(2));
        if (error != null && result != null) {
            throw invalid("a response with an error has nil for its result, not " + Violation.shown(result));
        }
        return new Response(id(elements.get(1)), error, result, meta(elements, 4));
    }

    private static Map<String, Object> error(Object value) {
        if (!(value instanceof Map<?, ?> map)) {
            throw invalid("an error is nil or a map with code and message, not " + Violation.shown(value));
        }
        Map<String, Object> error = textKeys(map);
        for (String key : List.of("code", "message")) {
            if (!(asText(error.get(key)) instanceof String text)) {
                throw invalid("an error's " + key + " is a string, not " + Violation.shown(error.get(key)));
            }
            error.put(key, text);
        }
        if (!(error.getOrDefault("retryable", false) instanceof Boolean)) {
            throw invalid("an error's retryable is a boolean, not " + Violation.shown(error.get("retryable")));
        }
        return error;
    }

    private static void checkLength(String name, List<?> elements, int least) {
        if (elements.size() < least) {
            throw invalid("a " + name + " has at least " + least + " elements, this one " + elements.size());
        }
    }

    /** A request's id. */
    static long id(Object value) {
        return count("an id", value, 0);
    }

    /** An integer from {@code least} to 2^53 - 1. */
    static long count(String what, Object value, long least) {
        if (value instanceof Long number && number >= least && number <= MAX_ID) {
            return number;
        }
        throw invalid(what + " is an integer from " + least + " to 2^53 - 1, not " + Violation.shown(value));
    }

    private static String method(Object value) {
        if (asText(value) instanceof String method && !method.isEmpty()) {
            return method;
        }
        throw invalid("a method is a string of at least 1 byte, not " + Violation.shown(value));
    }

    @SuppressWarnings("unchecked") // the decoder makes no other lists
    private static List<Object> params(Object value) {
        if (value instanceof List<?> params) {
            return (List<Object>) params;
        }
        throw invalid("params are an array, not " + Violation.shown(value));
    }

    private static Map<String, Object> meta(List<?> elements, int index) {
        Object value = elements.size() > index ? elements.get(index) : null;
        if (value == null) {
            return Map.of();
        }
        if (value instanceof Map<?, ?> map) {
            return textKeys(map);
        }
        throw invalid("meta is a map, not " + Violation.shown(value));
    }

    /** The map with those of its keys that are text, also as bin; nobody asks for others. */
    static Map<String, Object> textKeys(Map<?, ?> map) {
        Map<String, Object> named = new LinkedHashMap<>();
        map.forEach((key, value) -> {
            if (asText(key) instanceof String name) {
                named.put(name, value);
            }
        });
        return named;
    }

    /** Some languages have one type for str and bin, so that a name may come as either. */
    static Object asText(Object value) {
        try {
            if (value instanceof byte[] bytes) {
                return Decoder.strict(ByteBuffer.wrap(bytes));
            }
            return value instanceof ByteBuffer key ? Decoder.strict(key.duplicate()) : value;
        } catch (CharacterCodingException notText) {
            return value;
        }
    }

    static Violation invalid(String reason) {
        return new Violation("InvalidMessage", reason);
    }
}
