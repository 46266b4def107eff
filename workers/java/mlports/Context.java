package mlports;

import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.function.BooleanSupplier;

/** One call, as its handler sees it. */
public final class Context {
    static final long CAST = -1;

    private final Server server;
    private final long id;
    private final String method;
    private final Map<String, Object> meta;
    private final boolean limited;
    private final long expires; // by System.nanoTime(), when limited
    private final Input input;
    private long credit; // items that the caller still takes
    private Thread runner;
    private boolean answered;
    private volatile boolean cancelled;

    Context(Server server, long id, String method, Map<String, Object> meta) {
        this.server = server;
        this.id = id;
        this.method = method;
        this.meta = meta;
        Object deadline = meta.get("deadline_ms");
        if (deadline != null && !(deadline instanceof Number n && n.doubleValue() >= 0)) {
            throw Failure.invalidArgument("meta deadline_ms is a number from 0, not " + Violation.shown(deadline));
        }
        limited = deadline != null;
        expires = limited ? System.nanoTime() + (long) Math.min(1e18, ((Number) deadline).doubleValue() * 1e6) : 0;
        credit = wantsStream() ? Message.count("meta credit", meta.get("credit"), 0) : 0;
        input = hasInput(meta) ? new Input(this) : null;
    }

    /** Whether a request with this meta announces a streamed argument. */
    static boolean hasInput(Map<String, Object> meta) {
        Object said = meta.get("input");
        if (said == null || said instanceof Boolean) {
            return said != null && (Boolean) said;
        }
        throw Message.invalid("meta input is a boolean, not " + Violation.shown(said));
    }

    /** The name of the method that was called. */
    public String method() {
        return method;
    }

    /** The service's own settings. */
    public Map<String, Object> config() {
        return server.config();
    }

    /** What came with the call, such as "traceparent" or "idempotency_key". */
    public Map<String, Object> meta() {
        return meta;
    }

    /** Whether the caller gave the call up. Its handler's thread is interrupted then, too. */
    public boolean cancelled() {
        return cancelled;
    }

    /** The time that is left for this call, negative when it is late; empty when it may take for ever. */
    public Optional<Duration> timeLeft() {
        return limited ? Optional.of(Duration.ofNanos(nanosLeft())) : Optional.empty();
    }

    /** Throws a {@link Failure} once the caller has cancelled, or the deadline has passed. */
    public void check() {
        if (cancelled) {
            throw Failure.cancelled();
        }
        if (expired()) {
            throw new Failure("deadline_exceeded", "the deadline passed while " + method + " was at work");
        }
    }

    /** The streamed argument of a method with {@link Option#INPUT}. */
    public Input input() {
        if (input == null) {
            throw new IllegalStateException(method + " has no streamed argument: Option.INPUT asks for one");
        }
        return input;
    }

    /** Tells the caller how far the work has come, in any unit. {@code total} is null when it is not known. */
    public void progress(Number done, Number total, String text) {
        if (id != CAST) {
            server.notify("$/progress", id, done, total, text);
        }
    }

    /** A line for the orchestrator's log; see {@link Worker#log}. */
    public void log(String level, String text) {
        server.log(level, text, Map.of());
    }

    /** Sends to {@code service.method}, and waits for nothing. */
    public void cast(String target, Object... args) {
        server.notify(target, args);
    }

    /**
     * Calls {@code service.method} through the orchestrator, and waits for the result within this call's own deadline.
     * Throws {@link CallFailed}.
     */
    public Object call(String target, Object... args) {
        return call(null, target, args);
    }

    /** The same with a time of its own at most; null for none. */
    public Object call(Duration timeout, String target, Object... args) {
        return server.calls().call(this, timeout, target, args);
    }

    // -- for the SDK

    long id() {
        return id;
    }

    boolean wantsStream() {
        return meta.get("credit") != null && id != CAST;
    }

    boolean hasInput() {
        return input != null;
    }

    boolean expired() {
        return limited && nanosLeft() <= 0;
    }

    long nanosLeft() {
        return limited ? expires - System.nanoTime() : Long.MAX_VALUE;
    }

    Server server() {
        return server;
    }

    /** Begins: from now on {@code cancel()} interrupts this thread. */
    synchronized void enter() {
        runner = Thread.currentThread();
    }

    /** Ends: nothing interrupts this thread for this call any more. */
    synchronized void leave() {
        runner = null;
        answered = true;
        Thread.interrupted();
    }

    synchronized void cancel() {
        cancelled = true;
        if (runner != null) {
            runner.interrupt();
        }
        notifyAll();
    }

    synchronized void addCredit(long more) {
        credit += more;
        notifyAll();
    }

    /** Waits for credit and uses up one. Throws when nobody takes items any more. */
    synchronized void takeCredit() {
        check();
        if (answered || !await(() -> credit > 0)) {
            throw new Failure("cancelled", "nobody takes the stream's items any more");
        }
        credit--;
    }

    synchronized boolean answered() {
        return answered;
    }

    /**
     * Waits until {@code done}, which whoever makes it true tells by {@code notifyAll()}; false when the orchestrator
     * went away before. Throws as {@link #check()}.
     */
    synchronized boolean await(BooleanSupplier done) {
        while (!done.getAsBoolean()) {
            check();
            if (server.ended()) {
                return false;
            }
            try {
                wait(limited ? Math.max(1, nanosLeft() / 1_000_000) : 0);
            } catch (InterruptedException interrupted) {
                throw interrupted();
            }
        }
        return true;
    }

    synchronized void wake() {
        notifyAll();
    }

    /** What a wait that was interrupted throws. */
    static Failure interrupted() {
        Thread.currentThread().interrupt();
        return Failure.cancelled();
    }

    /** The error map for what this call's handler threw. */
    Map<String, Object> errorOf(Throwable thrown) {
        if (thrown instanceof InterruptedException && cancelled) {
            return Failure.errorOf(Failure.cancelled());
        }
        if (thrown instanceof Unencodable unencodable) {
            return Failure.errorOf(new Failure(unencodable.code, unencodable.getMessage()));
        }
        return Failure.errorOf(thrown);
    }
}
