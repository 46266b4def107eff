package mlports;

import java.util.Arrays;

/** A MessagePack extension value that this SDK does not interpret. Codes 64 to 127 are the applications'. */
public record Extension(byte code, byte[] data) {
    @Override
    public boolean equals(Object other) {
        return other instanceof Extension that && code == that.code && Arrays.equals(data, that.data);
    }

    @Override
    public int hashCode() {
        return 31 * code + Arrays.hashCode(data);
    }
}
