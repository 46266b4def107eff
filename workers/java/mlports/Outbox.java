package mlports;

import java.io.IOException;
import java.io.OutputStream;

/** What the worker sends, from any thread: each message whole and at once. */
final class Outbox {
    private static final int PART = 64 * 1024; // bytes: the JVM copies what it writes, to memory outside its heap

    private final OutputStream out;
    private volatile ThreadLocal<Encoder> encoders = encoders(false, FrameReader.DEFAULT_MAX_FRAME);

    Outbox(OutputStream out) {
        this.out = out;
    }

    /** From now on arrays go as {@code ndarray} says, and no frame is longer than {@code maxFrame}. */
    void agree(boolean ndarray, int maxFrame) {
        encoders = encoders(ndarray, maxFrame);
    }

    /** A message as a frame, to be written. Throws {@link Unencodable}. */
    byte[] encode(Object... message) {
        return encoders.get().frame(message);
    }

    /** Writes a frame. When nobody reads any more, the program ends, quietly. */
    synchronized void write(byte[] frame) {
        try {
            for (int at = 0; at < frame.length; at += PART) {
                out.write(frame, at, Math.min(PART, frame.length - at));
            }
            out.flush();
        } catch (IOException gone) {
            // Not System.exit(), which never comes back to a shutdown hook that wanted to send something.
            Runtime.getRuntime().halt(1);
        }
    }

    private static ThreadLocal<Encoder> encoders(boolean ndarray, int maxFrame) {
        return ThreadLocal.withInitial(() -> new Encoder(ndarray, maxFrame));
    }
}
