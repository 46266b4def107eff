package mlports;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A user's function as a method: what it is, and how it is called for one call and for a batch of them. */
abstract class Handler {
    final String name;
    final Set<Option> options;

    Handler(String name, Option... options) {
        this.name = name;
        this.options = Set.of(options);
    }

    /** The result of one call. */
    abstract Object one(Context context, Arguments args) throws Exception;

    /** What `$/hello` is told of the method. */
    Map<String, Object> info() {
        Map<String, Object> info = new LinkedHashMap<>();
        info.put("batch", this instanceof Batched);
        info.put("stream", this instanceof Streaming);
        info.put("idempotent", options.contains(Option.IDEMPOTENT));
        if (options.contains(Option.INPUT)) {
            info.put("input", true);
        }
        return info;
    }

    /** The [error, result] of each call of a batch. */
    List<Object> many(Context context, List<Object> items) throws Exception {
        List<Object> pairs = new ArrayList<>(items.size());
        for (Object item : items) {
            pairs.add(pair(context, item));
        }
        return pairs;
    }

    final List<Object> pair(Context context, Object item) {
        try {
            context.check();
            return Arrays.asList(null, one(context, arguments(item)));
        } catch (Throwable thrown) {
            return failed(context, thrown);
        }
    }

    static List<Object> failed(Context context, Throwable thrown) {
        return Arrays.asList(context.errorOf(thrown), null);
    }

    static Arguments arguments(Object item) {
        if (item instanceof List<?> values) {
            return new Arguments(values);
        }
        throw Failure.invalidArgument("an item of a batch is a list of arguments, not " + Violation.shown(item));
    }

    static final class Plain extends Handler {
        private final Worker.Method function;

        Plain(String name, Worker.Method function, Option... options) {
            super(name, options);
            this.function = function;
        }

        @Override
        Object one(Context context, Arguments args) throws Exception {
            return function.call(context, args);
        }
    }

    static final class Streaming extends Handler {
        private final Worker.Stream function;

        Streaming(String name, Worker.Stream function, Option... options) {
            super(name, options);
            this.function = function;
        }

        @Override
        Object one(Context context, Arguments args) throws Exception {
            Emitter emitter = new Emitter(context);
            function.run(context, args, emitter);
            return emitter.outcome();
        }
    }

    static final class Batched extends Handler {
        private final Worker.Batch function;

        Batched(String name, Worker.Batch function, Option... options) {
            super(name, options);
            this.function = function;
        }

        @Override
        Object one(Context context, Arguments args) throws Exception {
            Object result = call(context, List.of(args)).get(0);
            if (result instanceof Exception failed) {
                throw failed;
            }
            return result;
        }

        @Override
        List<Object> many(Context context, List<Object> items) throws Exception {
            if (!items.stream().allMatch(item -> item instanceof List)) {
                return super.many(context, items);
            }
            List<Arguments> calls = items.stream().map(Handler::arguments).toList();
            try {
                List<Object> pairs = new ArrayList<>(items.size());
                for (Object result : call(context, calls)) {
                    boolean failed = result instanceof Exception;
                    pairs.add(failed ? failed(context, (Exception) result) : Arrays.asList(null, result));
                }
                return pairs;
            } catch (Exception thrown) {
                // One item may have spoilt it for all. Doing it again one by one tells which, where that is allowed.
                if (items.size() == 1 || !options.contains(Option.IDEMPOTENT) || context.cancelled()) {
                    throw thrown;
                }
                return super.many(context, items);
            }
        }

        private List<?> call(Context context, List<Arguments> calls) throws Exception {
            List<?> results = function.call(context, calls);
            if (results == null || results.size() != calls.size()) {
                String got = results == null ? "null" : results.size() + " results";
                String text = "the batch method " + name + " gave " + got + " for " + calls.size() + " items";
                throw new Failure("internal", text);
            }
            return results;
        }
    }
}
