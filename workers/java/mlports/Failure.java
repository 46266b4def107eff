package mlports;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.LinkedHashMap;
import java.util.Map;

/** Thrown by a handler, or put in a result's place in a batch, to choose the error that the caller sees. */
public class Failure extends RuntimeException {
    private static final long serialVersionUID = 1;
    private static final int MOST_TEXT = 16 * 1024; // characters

    private final String code;
    private final transient Object data;
    private final boolean retryable;

    /** {@code code} is one of gRPC's in lower case, such as "not_found" or "invalid_argument". */
    public Failure(String code, String message) {
        this(code, message, null, false);
    }

    /**
     * @param data anything that can be sent, or null
     * @param retryable promises that the call had no effect, so that it may be sent again
     */
    public Failure(String code, String message, Object data, boolean retryable) {
        super(message);
        this.code = code;
        this.data = data;
        this.retryable = retryable;
    }

    public String code() {
        return code;
    }

    public Object data() {
        return data;
    }

    public boolean retryable() {
        return retryable;
    }

    static Failure invalidArgument(String message) {
        return new Failure("invalid_argument", message);
    }

    static Failure cancelled() {
        return new Failure("cancelled", "the caller cancelled the call");
    }

    /** The protocol's error map for what a handler threw. */
    static Map<String, Object> errorOf(Throwable thrown) {
        Map<String, Object> error = new LinkedHashMap<>();
        if (thrown instanceof Failure failure) {
            error.put("code", sendable(failure.code));
            error.put("message", oneLine(failure.getMessage()));
            if (failure.data != null) {
                error.put("data", failure.data);
            }
            if (failure.retryable) {
                error.put("retryable", true);
            }
            return error;
        }
        Class<?> type = thrown.getClass();
        String name = type.getSimpleName().isEmpty() ? type.getName() : type.getSimpleName();
        String text = thrown.getMessage();
        error.put("code", "unknown");
        error.put("message", oneLine(text == null || text.isEmpty() ? name : name + ": " + text));
        error.put("data", Map.of("type", type.getName(), "traceback", sendable(traceback(thrown))));
        return error;
    }

    private static String traceback(Throwable thrown) {
        StringWriter text = new StringWriter();
        thrown.printStackTrace(new PrintWriter(text));
        return text.toString();
    }

    private static String oneLine(String text) {
        return text == null ? "" : sendable(text).replaceAll("\\s*\\R\\s*", " ");
    }

    /** The text without its middle where it is too long, and with '?' for what is no Unicode. */
    static String sendable(String text) {
        String shorter = text;
        if (text.length() > MOST_TEXT) {
            int half = MOST_TEXT / 2;
            shorter = text.substring(0, half) + "\n … \n" + text.substring(text.length() - half);
        }
        return new String(shorter.getBytes(UTF_8), UTF_8);
    }
}
