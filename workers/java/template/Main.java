import java.util.List;
import java.util.Map;
import mlports.Arguments;
import mlports.Context;
import mlports.Emitter;
import mlports.Option;
import mlports.Worker;

/** A worker: a program whose methods mlports calls, in a process of its own. */
public final class Main {
    private double slope;
    private double intercept;

    public static void main(String[] none) {
        Main line = new Main();
        new Worker("@NAME@")
                .setup(line::load)
                .method("describe", line::describe)
                .batch("predict", line::predict, Option.IDEMPOTENT)
                .stream("steps", line::steps)
                .run();
    }

    /** Called once, before the first call, with `config` from mlports.toml: the place to load a model. */
    private void load(Map<String, Object> config) {
        slope = ((Number) config.getOrDefault("slope", 1.0)).doubleValue();
        intercept = ((Number) config.getOrDefault("intercept", 0.0)).doubleValue();
    }

    /** A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol. */
    private Object describe(Context ctx, Arguments args) {
        System.out.println("somebody asked what this is");
        return Map.of("kind", "line", "slope", slope, "intercept", intercept);
    }

    /**
     * A batch method: many calls in, as many results out, so that a model can work on them at once.
     *
     * <p>When it throws, each call is tried alone, so that only the wrong one fails: Option.IDEMPOTENT allows that, and
     * mlports may repeat a call after a crash.
     */
    private List<?> predict(Context ctx, List<Arguments> calls) {
        return calls.stream().map(args -> slope * args.number(0) + intercept).toList();
    }

    /** A stream: it goes on only as fast as its items are read. */
    private void steps(Context ctx, Arguments args, Emitter out) throws InterruptedException {
        long n = args.integer(0);
        double seconds = args.size() > 1 ? args.number(1) : 0.1;
        for (long number = 1; number <= n; number++) {
            Thread.sleep((long) (1000 * seconds));
            ctx.progress(number, n, "");
            out.emit(number);
        }
    }
}
