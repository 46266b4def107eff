package mlports;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.math.BigInteger;
import java.util.AbstractList;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.ConcurrentModificationException;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ValuesTest {
    private static Object sentAndReceived(Object value, boolean ndarray) {
        byte[] frame = new Encoder(ndarray, FrameReader.DEFAULT_MAX_FRAME).frame(value);
        List<?> message = (List<?>) new Decoder(ndarray).decode(frame, 4, frame.length - 4);
        return message.get(0);
    }

    private static String refusal(Object value) {
        return assertThrows(Unencodable.class, () -> sentAndReceived(value, true)).getMessage();
    }

    @Test
    void numbersKeepTheirKind() {
        assertEquals(List.of(1L, 1.0, 2.5, 7L), sentAndReceived(List.of(1, 1.0, 2.5f, (short) 7), true));
        BigInteger large = BigInteger.TWO.pow(64).subtract(BigInteger.ONE);
        assertEquals(large, sentAndReceived(large, true));
    }

    @Test
    void javaArraysAreLists() {
        assertEquals(List.of(List.of(1L, 2L), List.of(3L)), sentAndReceived(new int[][] {{1, 2}, {3}}, true));
    }

    @Test
    void longTextAndBytesSurvive() {
        String text = "ä€😀".repeat(50_000);
        assertEquals(text, sentAndReceived(text, true));
        byte[] bytes = new byte[300_000];
        Arrays.fill(bytes, (byte) 0xff);
        assertArrayEquals(bytes, (byte[]) sentAndReceived(bytes, true));
    }

    @Test
    void whatCannotBeSentIsRefused() {
        assertEquals("a java.lang.Object has no form in MessagePack", refusal(new Object()));
        assertEquals("a java.lang.Double cannot be the key of a map", refusal(Map.of(1.5, 1)));
        assertEquals(true, refusal("half a \ud83d").contains("no Unicode"));
        assertEquals(true, refusal(BigInteger.TWO.pow(64)).contains("64 bits"));
        List<Object> circle = new ArrayList<>();
        circle.add(circle);
        assertEquals("arrays and maps nested deeper than 128", refusal(circle));
    }

    @Test
    void whatFailsWhileItIsSentIsRefusedAndHarmsNothingLater() {
        Encoder encoder = new Encoder(true, FrameReader.DEFAULT_MAX_FRAME);
        byte[] before = encoder.frame("text");
        Object failing = new AbstractList<Object>() {
            @Override
            public Object get(int index) {
                throw new ConcurrentModificationException("somebody changes it");
            }

            @Override
            public int size() {
                return 2;
            }
        };
        Unencodable refused = assertThrows(Unencodable.class, () -> encoder.frame("text", failing));
        assertEquals(true, refused.getMessage().contains("somebody changes it"));
        assertArrayEquals(before, encoder.frame("text"));
    }

    @Test
    void arraysTravelAsListsWhereTheyWereNotAgreed() {
        NDArray matrix = NDArray.of(new double[][] {{1, 2.5}, {-3, 4}});
        assertEquals(matrix, sentAndReceived(matrix, true));
        assertEquals(List.of(List.of(1.0, 2.5), List.of(-3.0, 4.0)), sentAndReceived(matrix, false));
        assertEquals(List.of(1L, 2L), sentAndReceived(NDArray.of(new long[] {1, 2}), false));
    }

    @Test
    void arraysOfEveryNumberAreRead() {
        NDArray halves = NDArray.of("<f2", new long[] {2}, bytes(0, 0x3e, 0, 0xc0));
        assertArrayEquals(new double[] {1.5, -2}, halves.toDoubles());
        assertArrayEquals(new double[] {255, 1}, NDArray.of("|u1", new long[] {2}, bytes(255, 1)).toDoubles());
        assertArrayEquals(new long[] {-1, 1}, NDArray.of("<i2", new long[] {2}, bytes(255, 255, 1, 0)).toLongs());
        NDArray large = NDArray.of("<u8", new long[] {1}, bytes(255, 255, 255, 255, 255, 255, 255, 255));
        assertEquals(0x1p64, large.toDoubles()[0]);
        assertThrows(ArithmeticException.class, large::toLongs);
    }

    @Test
    void arraysThatDoNotAgreeWithThemselvesAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> NDArray.of("<f8", new long[] {2}, new byte[8]));
        assertThrows(IllegalArgumentException.class, () -> NDArray.of(">f8", new long[] {1}, new byte[8]));
        assertThrows(IllegalArgumentException.class, () -> NDArray.of(new double[3], 2, 2));
    }

    @Test
    void argumentsSayWhatIsWrong() {
        Arguments args = new Arguments(Arrays.asList(1L, "two", List.of(1L, "x")));
        assertEquals("argument 2 is a number, not two", failure(() -> args.number(1)));
        assertEquals("argument 4 is missing: there are 3", failure(() -> args.text(3)));
        assertEquals("argument 3 is a list or an array of numbers, not [1, x]", failure(() -> args.vector(2)));
    }

    private static String failure(Runnable action) {
        Failure failure = assertThrows(Failure.class, action::run);
        assertEquals("invalid_argument", failure.code());
        return failure.getMessage();
    }

    private static byte[] bytes(int... values) {
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            bytes[i] = (byte) values[i];
        }
        return bytes;
    }
}
