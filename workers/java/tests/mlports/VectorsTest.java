package mlports;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.IntUnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class VectorsTest {
    /** Gives its bytes in pieces, and tells at their end whether the stream has ended or only nothing has come yet. */
    private static final class Pieces extends ByteArrayInputStream {
        private final IntUnaryOperator piece;
        private final boolean ends;

        Pieces(byte[] bytes, IntUnaryOperator piece, boolean ends) {
            super(bytes);
            this.piece = piece;
            this.ends = ends;
        }

        @Override
        public int read(byte[] into, int offset, int length) {
            if (available() == 0 && !ends) {
                throw new NothingYet();
            }
            return super.read(into, offset, Math.max(1, Math.min(length, piece.applyAsInt(length))));
        }
    }

    private static final class NothingYet extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    private record Outcome(List<Message> messages, String error) {}

    static Stream<Vector> all() throws IOException {
        return Vector.all();
    }

    static Stream<Vector> encodings() throws IOException {
        return Vector.all().filter(Vector::isEncoding);
    }

    @Test
    void areThere() throws IOException {
        assertTrue(Vector.all().count() > 200, "the vectors were read from another place");
    }

    @ParameterizedTest
    @MethodSource("all")
    void decodesWholeByteByByteAndInPieces(Vector vector) throws IOException {
        Random random = new Random(1);
        List<IntUnaryOperator> cuts = List.of(length -> length, length -> 1, length -> 1 + random.nextInt(7));
        for (IntUnaryOperator cut : cuts) {
            Outcome outcome = decode(new Pieces(vector.bytes(), cut, vector.ends()), vector.maxFrame());
            assertEquals(vector.error(), outcome.error);
            assertSame(vector.messages(), outcome.messages);
        }
    }

    @ParameterizedTest
    @MethodSource("encodings")
    void encodesExactly(Vector vector) throws IOException {
        Encoder encoder = new Encoder(true, FrameReader.DEFAULT_MAX_FRAME);
        ByteArrayOutputStream stream = new ByteArrayOutputStream();
        for (Message message : vector.messages()) {
            stream.write(encode(encoder, message));
        }
        assertEquals(HexFormat.of().formatHex(vector.bytes()), HexFormat.of().formatHex(stream.toByteArray()));
    }

    private static Outcome decode(InputStream stream, int maxFrame) throws IOException {
        FrameReader reader = new FrameReader(stream, maxFrame);
        Decoder decoder = new Decoder(true);
        List<Message> messages = new ArrayList<>();
        try {
            while (reader.next()) {
                messages.add(Message.parse(decoder.decode(reader.bytes, reader.offset, reader.length)));
            }
            return new Outcome(messages, null);
        } catch (NothingYet waits) {
            return new Outcome(messages, null);
        } catch (Violation fault) {
            return new Outcome(messages, fault.name);
        }
    }

    /** Compares by what is sent, since neither byte arrays nor NaN equal themselves. */
    private static void assertSame(List<Message> expected, List<Message> found) {
        Encoder encoder = new Encoder(true, FrameReader.DEFAULT_MAX_FRAME);
        assertEquals(expected.size(), found.size());
        for (int i = 0; i < expected.size(); i++) {
            assertEquals(expected.get(i).getClass(), found.get(i).getClass());
            assertArrayEquals(encode(encoder, expected.get(i)), encode(encoder, found.get(i)), found.get(i).toString());
        }
    }

    private static byte[] encode(Encoder encoder, Message message) {
        List<Object> elements = new ArrayList<>();
        Map<String, Object> meta;
        if (message instanceof Message.Request request) {
            elements.addAll(List.of(0, request.id(), request.method(), request.params()));
            meta = request.meta();
        } else if (message instanceof Message.Response response) {
            elements.addAll(List.of(1, response.id()));
            elements.add(response.error());
            elements.add(response.result());
            meta = response.meta();
        } else {
            Message.Notification notification = (Message.Notification) message;
            elements.addAll(List.of(2, notification.method(), notification.params()));
            meta = notification.meta();
        }
        if (!meta.isEmpty()) {
            elements.add(meta);
        }
        return encoder.frame(elements.toArray());
    }
}
