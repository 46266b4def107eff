package mlports;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.OutputStream;

/** The two streams that carry frames. */
record Transport(InputStream in, OutputStream out) {
    private static Transport taken;

    /**
     * Takes the streams away from everybody else. The first call decides; later ones agree.
     *
     * <p>The JVM cannot move descriptor 1: {@code System.out} is pointed at standard error, but what native code prints
     * still goes among the frames. Where the frames are on descriptors 3 and 4 this cannot happen.
     */
    static synchronized Transport take() {
        if (taken == null) {
            taken = "fd34".equals(System.getenv("MLPORTS_TRANSPORT")) ? descriptors3and4() : standardStreams();
        }
        return taken;
    }

    private static Transport standardStreams() {
        Transport transport = new Transport(
                new FileInputStream(FileDescriptor.in), new FileOutputStream(FileDescriptor.out));
        System.setIn(InputStream.nullInputStream());
        System.setOut(System.err);
        return transport;
    }

    /** Opened anew, since Java has no other way to them; the originals are not inherited by what Java starts. */
    private static Transport descriptors3and4() {
        try {
            return new Transport(new FileInputStream("/dev/fd/3"), new FileOutputStream("/dev/fd/4"));
        } catch (FileNotFoundException missing) {
            throw new IllegalStateException(
                    "MLPORTS_TRANSPORT is fd34, and descriptors 3 and 4 are no pipes that can be opened", missing);
        }
    }
}
