package mlports;

import java.util.Collection;
import java.util.Map;

/** The orchestrator broke the protocol: the connection is over. {@code name} is SPEC.md's, section 13. */
final class Violation extends RuntimeException {
    private static final long serialVersionUID = 1;

    final String name;

    Violation(String name, String reason) {
        super(reason);
        this.name = name;
    }

    /** A value as a message about it shows it. */
    static String shown(Object value) {
        if (value instanceof byte[] bytes) {
            return bytes.length + " bytes";
        }
        if (value instanceof Collection<?> values && values.size() > 8) {
            return "a list of " + values.size();
        }
        if (value instanceof Map<?, ?> map && map.size() > 8) {
            return "a map of " + map.size();
        }
        String text = String.valueOf(value);
        return text.length() > 80 ? text.substring(0, 80) + "…" : text;
    }
}
