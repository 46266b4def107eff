package mlports;

/** A value that MessagePack, or this connection, has no form for. {@code code} is the error it becomes. */
final class Unencodable extends RuntimeException {
    private static final long serialVersionUID = 1;

    final String code;

    Unencodable(String reason) {
        this("internal", reason);
    }

    private Unencodable(String code, String reason) {
        super(reason);
        this.code = code;
    }

    static Unencodable tooLong(int size, int most) {
        String reason = "the message is " + size + " bytes long, and the orchestrator accepts " + most + " (max_frame)";
        return new Unencodable("resource_exhausted", reason);
    }
}
