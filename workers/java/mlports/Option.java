package mlports;

/** What a method is besides its function. */
public enum Option {
    /** Running it twice does the same as once: the orchestrator may send a call again after a crash. */
    IDEMPOTENT,
    /** It takes a streamed argument, which {@link Context#input()} gives. */
    INPUT
}
