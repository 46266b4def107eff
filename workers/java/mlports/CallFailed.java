package mlports;

/** A call that this worker made to another service failed. Uncaught, it fails the handler's own call alike. */
public final class CallFailed extends Failure {
    private static final long serialVersionUID = 1;

    CallFailed(String code, String message) {
        super(code, message);
    }

    CallFailed(String code, String message, Object data, boolean retryable) {
        super(code, message, data, retryable);
    }
}
