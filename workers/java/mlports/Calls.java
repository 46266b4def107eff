package mlports;

import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** The calls that this worker makes of other services, each until its answer is here. */
final class Calls {
    private static final class Pending {
        final CountDownLatch settled = new CountDownLatch(1);
        volatile Message.Response answer; // null once settled: the orchestrator went away
    }

    private final Server server;
    private final Outbox out;
    private final Map<Long, Pending> pending = new ConcurrentHashMap<>();
    private long next; // id

    Calls(Server server, Outbox out) {
        this.server = server;
        this.out = out;
    }

    /** {@code context} is the call that this one is made in, or null; {@code timeout} may be null. */
    Object call(Context context, Duration timeout, String target, Object[] args) {
        long nanos = timeout == null ? Long.MAX_VALUE : timeout.toNanos();
        if (context != null) {
            context.check();
            nanos = Math.min(nanos, context.nanosLeft());
        }
        Pending call = new Pending();
        long id = send(call, target, args, meta(context, nanos));
        try {
            if (!call.settled.await(nanos, TimeUnit.NANOSECONDS)) {
                server.cancelCall(id);
                String text = target + " was not answered within " + TimeUnit.NANOSECONDS.toMillis(nanos) + " ms";
                throw new CallFailed("deadline_exceeded", text);
            }
        } catch (InterruptedException interrupted) {
            server.cancelCall(id);
            throw Context.interrupted();
        }
        return result(call.answer, target);
    }

    private synchronized long send(Pending call, String target, Object[] args, Map<String, Object> meta) {
        byte[] frame = meta.isEmpty()
                ? out.encode(0, next, target, Arrays.asList(args))
                : out.encode(0, next, target, Arrays.asList(args), meta);
        long id = next++;
        pending.put(id, call);
        if (server.ended()) { // looked at last, so that either this or end() settles it
            settle(id, null);
        } else {
            out.write(frame);
        }
        return id;
    }

    private static Map<String, Object> meta(Context context, long nanos) {
        Map<String, Object> meta = new LinkedHashMap<>();
        if (nanos != Long.MAX_VALUE) {
            meta.put("deadline_ms", Math.max(0, nanos / 1_000_000));
        }
        if (context != null) {
            Object trace = context.meta().get("traceparent");
            if (trace != null) {
                meta.put("traceparent", trace);
            }
            if (context.id() != Context.CAST) {
                meta.put("parent", context.id());
            }
        }
        return meta;
    }

    private static Object result(Message.Response answer, String target) {
        if (answer == null) {
            throw new CallFailed("unavailable", "the orchestrator went away before " + target + " was answered");
        }
        Map<String, Object> error = answer.error();
        if (error == null) {
            return answer.result();
        }
        boolean retryable = Boolean.TRUE.equals(error.get("retryable"));
        throw new CallFailed((String) error.get("code"), (String) error.get("message"), error.get("data"), retryable);
    }

    /** An answer came. Throws a {@link Violation} when none was due. */
    void answered(Message.Response answer) {
        if (settle(answer.id(), answer)) {
            return;
        }
        boolean made;
        synchronized (this) {
            made = answer.id() < next;
        }
        throw made
                ? new Violation("AnsweredTwice", "request " + answer.id() + " was answered already")
                : new Violation("UnknownId", "an answer to request " + answer.id() + ", which was never made");
    }

    /** No answer comes any more. */
    void end() {
        pending.keySet().forEach(id -> settle(id, null));
    }

    private boolean settle(long id, Message.Response answer) {
        Pending call = pending.remove(id);
        if (call == null) {
            return false;
        }
        call.answer = answer;
        call.settled.countDown();
        return true;
    }
}
