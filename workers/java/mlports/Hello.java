package mlports;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** The handshake: what the orchestrator says, and what the worker answers (SPEC.md, section 5). */
record Hello(int maxFrame, Set<String> features, Map<String, Object> config) {
    static final int VERSION = 1;
    static final List<String> FEATURES = List.of("batch", "cancel", "input", "ndarray", "ping", "stream");

    private static final String SDK = "mlports-java 0.1.0";

    static Hello parse(List<Object> params) {
        if (params.isEmpty() || !(params.get(0) instanceof Map<?, ?> map)) {
            throw invalid("$/hello takes one map, not " + Violation.shown(params));
        }
        Map<String, Object> said = Message.textKeys(map);
        checkVersion(said.get("protocol"));
        text("service", said.get("service"));
        integer("replica", said.get("replica"), 0, Message.MAX_ID, 0);
        int maxFrame = (int) integer(
                "max_frame", said.get("max_frame"), 1, Integer.MAX_VALUE, FrameReader.DEFAULT_MAX_FRAME);
        Object config = said.get("config");
        if (config != null && !(config instanceof Map)) {
            throw invalid("config is a map, not " + Violation.shown(config));
        }
        Map<String, Object> settings = config == null ? Map.of() : Message.textKeys((Map<?, ?>) config);
        return new Hello(maxFrame, names(said.get("features")), settings);
    }

    /** The answer's result. {@code ownMaxFrame} is the longest frame that this worker accepts. */
    static Map<String, Object> answer(String name, Iterable<Handler> handlers, int ownMaxFrame, int concurrency) {
        Map<String, Object> methods = new LinkedHashMap<>();
        handlers.forEach(handler -> methods.put(handler.name, handler.info()));
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("protocol", VERSION);
        answer.put("max_frame", ownMaxFrame);
        answer.put("name", name);
        answer.put("language", "java");
        answer.put("sdk", SDK);
        answer.put("methods", methods);
        answer.put("features", FEATURES);
        answer.put("concurrency", concurrency);
        return answer;
    }

    private static void checkVersion(Object value) {
        if (!(value instanceof Map<?, ?> map)) {
            throw invalid("protocol is {min, max}, not " + Violation.shown(value));
        }
        Map<String, Object> versions = Message.textKeys(map);
        if (!(versions.get("min") instanceof Long min) || !(versions.get("max") instanceof Long max)) {
            throw invalid("protocol is {min, max}, two integers, not " + Violation.shown(value));
        }
        if (VERSION < min || VERSION > max) {
            String reason = "the orchestrator speaks versions " + min + " to " + max + ", this worker " + VERSION;
            throw new Violation("UnsupportedVersion", reason);
        }
    }

    private static Set<String> names(Object value) {
        Set<String> names = new TreeSet<>();
        if (value == null) {
            return names;
        }
        if (!(value instanceof List<?> list)) {
            throw invalid("features are an array of strings, not " + Violation.shown(value));
        }
        for (Object name : list) {
            names.add(text("a feature", name == null ? 0 : name));
        }
        return names;
    }

    private static String text(String what, Object value) {
        if (value == null) {
            return "";
        }
        if (Message.asText(value) instanceof String text) {
            return text;
        }
        throw invalid(what + " is a string, not " + Violation.shown(value));
    }

    private static long integer(String what, Object value, long least, long most, long unsaid) {
        if (value == null) {
            return unsaid;
        }
        if (value instanceof Long number && number >= least && number <= most) {
            return number;
        }
        throw invalid(what + " is an integer from " + least + " to " + most + ", not " + Violation.shown(value));
    }

    private static Violation invalid(String reason) {
        return new Violation("InvalidHello", reason);
    }
}
