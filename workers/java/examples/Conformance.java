package examples;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import mlports.Arguments;
import mlports.Context;
import mlports.Failure;
import mlports.Option;
import mlports.Worker;

/** The methods that the conformance kit looks for. */
public final class Conformance {
    private static final List<Object> marks = Collections.synchronizedList(new ArrayList<>());

    private Conformance() {}

    public static void main(String[] none) {
        Worker worker = new Worker("conformance")
                .method("echo", (ctx, args) -> args.get(0))
                .method("add", Conformance::add, Option.IDEMPOTENT)
                .method("fail", (ctx, args) -> {
                    throw new IllegalStateException(args.text(0));
                })
                .method("refuse", (ctx, args) -> {
                    throw new Failure(args.text(0), args.text(1));
                })
                .method("sleep", Conformance::sleep)
                .method("print", (ctx, args) -> {
                    System.out.println(args.text(0));
                    return null;
                })
                .batch("root", (ctx, calls) -> calls.stream().map(Conformance::root).toList(), Option.IDEMPOTENT)
                .stream("count", (ctx, args, out) -> {
                    for (long i = 0; i < args.integer(0); i++) {
                        out.emit(i);
                    }
                })
                .method("total", Conformance::total, Option.INPUT)
                .method("relay", (ctx, args) -> ctx.call(args.text(0), args.list(1).toArray()))
                .method("note", (ctx, args) -> {
                    ctx.log(args.text(0), args.text(1));
                    return null;
                })
                .method("advance", Conformance::advance)
                .method("mark", (ctx, args) -> marks.add(args.get(0)))
                .method("marks", (ctx, args) -> List.copyOf(marks));
        worker.run();
    }

    private static Object add(Context ctx, Arguments args) {
        if (args.get(0) instanceof Long a && args.get(1) instanceof Long b) {
            return Math.addExact(a, b);
        }
        return args.number(0) + args.number(1);
    }

    private static Object sleep(Context ctx, Arguments args) throws InterruptedException {
        Thread.sleep((long) (args.number(0) * 1000)); // $/cancel interrupts it
        return args.get(0);
    }

    /** The root, or the failure that is this call's alone. */
    private static Object root(Arguments args) {
        try {
            double x = args.number(0);
            return x < 0 ? new Failure("invalid_argument", x + " has no real root") : (Object) Math.sqrt(x);
        } catch (Failure noNumber) {
            return noNumber;
        }
    }

    private static Object total(Context ctx, Arguments args) {
        long whole = 0;
        double fraction = 0;
        boolean floats = false;
        for (Object item : ctx.input()) {
            if (item instanceof Long number) {
                whole = Math.addExact(whole, number);
            } else if (item instanceof Double number) {
                fraction += number;
                floats = true;
            } else {
                throw new Failure("invalid_argument", item + " is no number");
            }
        }
        return floats ? whole + fraction : (Object) whole;
    }

    private static Object advance(Context ctx, Arguments args) {
        long n = args.integer(0);
        for (long i = 1; i <= n; i++) {
            ctx.progress(i, n, "");
        }
        return n;
    }
}
