package mlports;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import sun.misc.Signal;
import sun.misc.SignalHandler;

/**
 * A program of methods that an orchestrator calls.
 *
 * <pre>{@code
 * new Worker("digits")
 *     .setup(config -> load(config))
 *     .method("add", (ctx, args) -> args.number(0) + args.number(1), Option.IDEMPOTENT)
 *     .batch("predict", (ctx, calls) -> predict(calls))
 *     .stream("count", (ctx, args, out) -> {
 *         for (long i = 0; i < args.integer(0); i++) out.emit(i);
 *     })
 *     .run();
 * }</pre>
 *
 * <p>From its making on, {@code System.out} prints on standard error, because standard output belongs to the protocol.
 */
public final class Worker {
    /** Called once with the service's config, before the first call. What it throws ends the worker with status 1. */
    @FunctionalInterface
    public interface Setup {
        void run(Map<String, Object> config) throws Exception;
    }

    /** Arguments in, a result out. */
    @FunctionalInterface
    public interface Method {
        Object call(Context context, Arguments args) throws Exception;
    }

    /** Many calls at once: as many results, in order. An exception in a result's place is that call's error. */
    @FunctionalInterface
    public interface Batch {
        List<?> call(Context context, List<Arguments> calls) throws Exception;
    }

    /** Sends items while it runs, as fast as they are taken. */
    @FunctionalInterface
    public interface Stream {
        void run(Context context, Arguments args, Emitter out) throws Exception;
    }

    private final String name;
    private final Transport transport = Transport.take();
    private final Map<String, Handler> handlers = new LinkedHashMap<>();
    private Setup setup = config -> {};
    private int concurrency = 1;
    private Integer maxFrame;
    private volatile Server server;

    /** {@code name} is what the worker calls itself. */
    public Worker(String name) {
        this.name = name;
    }

    /** How many calls it works on at the same time, each on a thread of its own: 1 unless said otherwise. */
    public Worker concurrency(int count) {
        if (count < 1) {
            throw new IllegalArgumentException("concurrency is at least 1, not " + count);
        }
        concurrency = count;
        return this;
    }

    /** The longest frame, in bytes, that it accepts: as long as the orchestrator accepts unless said otherwise. */
    public Worker maxFrame(int bytes) {
        if (bytes < 1) {
            throw new IllegalArgumentException("max_frame is at least 1, not " + bytes);
        }
        maxFrame = bytes;
        return this;
    }

    public Worker setup(Setup function) {
        setup = function;
        return this;
    }

    public Worker method(String name, Method function, Option... options) {
        return add(new Handler.Plain(name, function, options));
    }

    public Worker batch(String name, Batch function, Option... options) {
        if (List.of(options).contains(Option.INPUT)) {
            throw new IllegalArgumentException("the batch method " + name + " cannot take a streamed argument");
        }
        return add(new Handler.Batched(name, function, options));
    }

    public Worker stream(String name, Stream function, Option... options) {
        return add(new Handler.Streaming(name, function, options));
    }

    private Worker add(Handler handler) {
        String method = handler.name;
        if (method.isEmpty() || method.startsWith("$/")) {
            throw new IllegalArgumentException("'" + method + "' cannot be a method's name: $/ is the protocol's");
        }
        if (handlers.putIfAbsent(method, handler) != null) {
            throw new IllegalArgumentException("the worker " + name + " already has a method " + method);
        }
        return this;
    }

    /**
     * Serves the orchestrator at the other end, and ends the program: with status 0 when it said stop or closed the
     * stream; 1 when setup fails, the orchestrator breaks the protocol, or goes away within an answer; 2 at a terminal.
     */
    public void run() {
        if (System.console() != null && System.getenv("MLPORTS_TRANSPORT") == null) {
            System.err.println(name + " is a worker: it speaks frames with an orchestrator, not with a person.");
            System.err.println("Make it a service's command in mlports.toml, and start that with \"mlports run\".");
            System.exit(2);
        }
        ignoreInterrupts();
        server = new Server(this, transport);
        int status = 1;
        try {
            status = server.serve();
        } catch (Throwable thrown) {
            thrown.printStackTrace();
        }
        System.exit(status); // threads that user code left behind do not keep a program alive that serves nobody
    }

    /** Ctrl-C reaches every process of a terminal: what it means is for the orchestrator to decide. */
    private static void ignoreInterrupts() {
        try {
            Signal.handle(new Signal("INT"), SignalHandler.SIG_IGN);
        } catch (IllegalArgumentException unavailable) {
            // the JVM was told to leave signals alone (-Xrs)
        }
    }

    /** Calls another service outside of any handler; within one, use {@link Context#call}. */
    public Object call(Duration timeout, String target, Object... args) {
        return serving().calls().call(null, timeout, target, args);
    }

    /** Sends to {@code service.method}, and waits for nothing. From any thread. */
    public void cast(String target, Object... args) {
        serving().notify(target, args);
    }

    /** A line for the orchestrator's log: level "debug", "info", "warning" or "error". From any thread. */
    public void log(String level, String text) {
        log(level, text, Map.of());
    }

    /** The same with fields beside the text, anything that can be sent. */
    public void log(String level, String text, Map<String, ?> fields) {
        serving().log(level, text, fields);
    }

    private Server serving() {
        if (server == null) {
            throw new IllegalStateException("the worker " + name + " is not running: this works from its setup on");
        }
        return server;
    }

    String name() {
        return name;
    }

    Map<String, Handler> handlers() {
        return handlers;
    }

    Setup setup() {
        return setup;
    }

    int concurrency() {
        return concurrency;
    }

    Integer maxFrame() {
        return maxFrame;
    }
}
