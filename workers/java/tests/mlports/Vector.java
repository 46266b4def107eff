package mlports;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** The protocol's golden frames, protocol/vectors/frames.json, as Java values. */
record Vector(JsonObject said) {
    private static final Path FRAMES = Path.of("../../protocol/vectors/frames.json");

    /** All that need no shared memory, which this SDK does not have. */
    static Stream<Vector> all() throws IOException {
        JsonObject file = JsonParser.parseString(Files.readString(FRAMES)).getAsJsonObject();
        JsonArray vectors = file.getAsJsonArray("vectors");
        return StreamSupport.stream(vectors.spliterator(), false)
                .map(element -> new Vector(element.getAsJsonObject()))
                .filter(vector -> !vector.said.has("segments"));
    }

    byte[] bytes() {
        return HexFormat.of().parseHex(said.get("hex").getAsString());
    }

    int maxFrame() {
        return said.has("max_frame") ? said.get("max_frame").getAsInt() : FrameReader.DEFAULT_MAX_FRAME;
    }

    boolean isEncoding() {
        return said.has("encode");
    }

    boolean ends() {
        return said.has("eof");
    }

    /** The fault's name, or null. */
    String error() {
        return said.has("error") ? said.get("error").getAsString() : null;
    }

    List<Message> messages() {
        List<Message> messages = new ArrayList<>();
        if (said.has("messages")) {
            said.getAsJsonArray("messages").forEach(message -> messages.add(message(message.getAsJsonObject())));
        }
        return messages;
    }

    private static Message message(JsonObject said) {
        Map<String, Object> meta = named(said.get("meta"));
        return switch (said.get("type").getAsString()) {
            case "request" -> new Message.Request(
                    said.get("id").getAsLong(), said.get("method").getAsString(), values(said.get("params")), meta);
            case "response" -> new Message.Response(
                    said.get("id").getAsLong(),
                    said.get("error").isJsonNull() ? null : named(said.get("error")),
                    value(said.get("result")),
                    meta);
            default -> new Message.Notification(said.get("method").getAsString(), values(said.get("params")), meta);
        };
    }

    private static Map<String, Object> named(JsonElement map) {
        return value(map) instanceof Map<?, ?> entries ? Message.textKeys(entries) : Map.of();
    }

    private static List<Object> values(JsonElement array) {
        List<Object> values = new ArrayList<>();
        array.getAsJsonArray().forEach(element -> values.add(value(element)));
        return values;
    }

    private static Object value(JsonElement said) {
        if (said.isJsonNull()) {
            return null;
        }
        if (said.isJsonArray()) {
            return values(said);
        }
        if (said.isJsonObject()) {
            Map.Entry<String, JsonElement> tag = said.getAsJsonObject().entrySet().iterator().next();
            return tagged(tag.getKey(), tag.getValue());
        }
        if (said.getAsJsonPrimitive().isBoolean()) {
            return said.getAsBoolean();
        }
        return said.getAsJsonPrimitive().isNumber() ? (Object) said.getAsLong() : said.getAsString();
    }

    private static Object tagged(String tag, JsonElement said) {
        return switch (tag) {
            case "int" -> integer(new BigInteger(said.getAsString()));
            case "float" -> number(said.getAsString());
            case "bin" -> HexFormat.of().parseHex(said.getAsString());
            case "map" -> map(said.getAsJsonArray());
            case "timestamp" -> Instant.ofEpochSecond(
                    said.getAsJsonArray().get(0).getAsLong(), said.getAsJsonArray().get(1).getAsLong());
            case "ndarray" -> array(said.getAsJsonObject());
            case "ext" -> new Extension(
                    said.getAsJsonArray().get(0).getAsByte(),
                    HexFormat.of().parseHex(said.getAsJsonArray().get(1).getAsString()));
            default -> throw new AssertionError("no value is tagged " + tag);
        };
    }

    private static Object integer(BigInteger number) {
        return number.bitLength() < 64 ? (Object) number.longValueExact() : number;
    }

    private static double number(String text) {
        return switch (text) {
            case "inf" -> Double.POSITIVE_INFINITY;
            case "-inf" -> Double.NEGATIVE_INFINITY;
            case "nan" -> Double.NaN;
            default -> Double.parseDouble(text);
        };
    }

    private static Map<Object, Object> map(JsonArray entries) {
        Map<Object, Object> map = new LinkedHashMap<>();
        for (JsonElement entry : entries) {
            Object key = value(entry.getAsJsonArray().get(0));
            map.put(key instanceof byte[] bytes ? ByteBuffer.wrap(bytes) : key, value(entry.getAsJsonArray().get(1)));
        }
        return map;
    }

    private static NDArray array(JsonObject said) {
        long[] shape = values(said.get("shape")).stream().mapToLong(size -> (Long) size).toArray();
        return NDArray.of(value(said.get("dtype")), shape, HexFormat.of().parseHex(said.get("hex").getAsString()));
    }

    @Override
    public String toString() {
        return said.get("name").getAsString();
    }
}
