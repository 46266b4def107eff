package mlports;

import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;

/** Cuts a byte stream into frames: 4 bytes of length, big-endian, and so many bytes. */
final class FrameReader {
    static final int DEFAULT_MAX_FRAME = 64 * 1024 * 1024;

    private static final int BUFFER = 64 * 1024; // also the longest read: the JVM allocates as much outside its heap
    private static final int FIRST_PART = 1024 * 1024; // bytes: what a length may make us allocate before they come

    private final InputStream in;
    private final byte[] buffer = new byte[BUFFER];
    private int start;
    private int end;
    private int maxFrame;

    /** The payload of the latest frame: {@code length} bytes of {@code bytes} from {@code offset}, until the next. */
    byte[] bytes;

    int offset;
    int length;

    FrameReader(InputStream in, int maxFrame) {
        this.in = in;
        this.maxFrame = maxFrame;
    }

    void maxFrame(int most) {
        maxFrame = most;
    }

    int maxFrame() {
        return maxFrame;
    }

    /** Waits for a frame. False at a clean end of the stream; a {@link Violation} for a frame that is wrong. */
    boolean next() throws IOException {
        if (!fill(4)) {
            if (start == end) {
                return false;
            }
            throw truncated(end - start, 4);
        }
        long size = (buffer[start] & 0xFFL) << 24
                | (buffer[start + 1] & 0xFF) << 16
                | (buffer[start + 2] & 0xFF) << 8
                | (buffer[start + 3] & 0xFF);
        check(size);
        start += 4;
        length = (int) size;
        if (length <= BUFFER) {
            if (!fill(length)) {
                throw truncated(end - start, length);
            }
            bytes = buffer;
            offset = start;
            start += length;
        } else {
            readLong();
        }
        return true;
    }

    private void check(long size) {
        if (size == 0) {
            throw new Violation("EmptyFrame", "a frame of length 0");
        }
        if (size > maxFrame) {
            boolean text = isText(buffer[start]);
            throw new Violation(
                    text ? "StdoutPolluted" : "FrameTooLarge",
                    "a frame of " + size + " bytes, and at most " + maxFrame + " are accepted (max_frame)"
                            + (text ? "; its length looks like printed text" : ""));
        }
    }

    private static boolean isText(byte first) {
        return first >= 0x20 && first <= 0x7e || first == '\t' || first == '\n' || first == '\r' || first == 0x1b;
    }

    /** Makes {@code count} bytes lie in the buffer from {@code start}; false if the stream ends before. */
    private boolean fill(int count) throws IOException {
        if (end - start >= count) {
            return true;
        }
        if (start == end) {
            start = end = 0;
        } else if (start + count > BUFFER) {
            System.arraycopy(buffer, start, buffer, 0, end - start);
            end -= start;
            start = 0;
        }
        while (end - start < count) {
            int read = in.read(buffer, end, BUFFER - end);
            if (read < 0) {
                return false;
            }
            end += read;
        }
        return true;
    }

    /** A frame that is longer than the buffer. It grows as its bytes come, since its length is only a claim. */
    private void readLong() throws IOException {
        byte[] whole = new byte[Math.min(length, FIRST_PART)];
        int have = end - start;
        System.arraycopy(buffer, start, whole, 0, have);
        start = end = 0;
        while (have < length) {
            if (have == whole.length) {
                whole = Arrays.copyOf(whole, (int) Math.min(length, 2L * have));
            }
            int read = in.read(whole, have, Math.min(whole.length - have, BUFFER));
            if (read < 0) {
                throw truncated(have, length);
            }
            have += read;
        }
        bytes = whole;
        offset = 0;
    }

    private static Violation truncated(int have, int of) {
        return new Violation("TruncatedFrame", "the stream ended after " + have + " of " + of + " bytes");
    }
}
