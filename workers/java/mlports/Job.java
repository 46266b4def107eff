package mlports;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/** A request for one of the worker's methods, on its way to the handler. It is answered once. */
final class Job implements Runnable {
    private final Server server;
    private final Message.Request request;
    private final Handler handler;
    private final Context context;
    private final AtomicBoolean taken = new AtomicBoolean();

    Job(Server server, Message.Request request, Handler handler, Context context) {
        this.server = server;
        this.request = request;
        this.handler = handler;
        this.context = context;
    }

    Context context() {
        return context;
    }

    @Override
    public void run() {
        if (!taken.compareAndSet(false, true)) {
            return;
        }
        if (context.expired()) {
            String text = "the deadline of " + handler.name + " passed before it began";
            answerError(Failure.errorOf(new Failure("deadline_exceeded", text)));
            return;
        }
        Object result = null;
        Map<String, Object> error = null;
        context.enter();
        try {
            result = isBatch()
                    ? handler.many(context, request.params())
                    : handler.one(context, new Arguments(request.params()));
        } catch (Throwable thrown) { // errors too: a stack that overflowed is this call's trouble alone
            error = context.errorOf(thrown);
        } finally {
            context.leave();
        }
        if (error == null) {
            answer(result);
        } else {
            answerError(error);
        }
    }

    /** The caller gave it up: answers at once if it has not begun, else tells the handler. */
    void cancel() {
        context.cancel();
        if (taken.compareAndSet(false, true)) {
            answerError(Failure.errorOf(Failure.cancelled()));
        }
    }

    private boolean isBatch() {
        return request.meta().containsKey("batch");
    }

    private void answer(Object result) {
        byte[] frame;
        try {
            frame = server.encodeAnswer(request.id(), null, result);
        } catch (Unencodable reason) {
            frame = isBatch() ? withoutUnencodable((List<?>) result) : null;
            if (frame == null) {
                answerError(errorOf(reason));
                return;
            }
        }
        server.answer(request.id(), frame);
    }

    /** A batch's answer in which what cannot be sent is an error of its own; null if that does not help. */
    private byte[] withoutUnencodable(List<?> pairs) {
        List<?> sendable = pairs.stream().map(this::sendable).toList();
        try {
            return server.encodeAnswer(request.id(), null, sendable);
        } catch (Unencodable whole) {
            return null;
        }
    }

    private Object sendable(Object pair) {
        try {
            server.encodeAnswer(request.id(), null, pair);
            return pair;
        } catch (Unencodable reason) {
            return Arrays.asList(errorOf(reason), null);
        }
    }

    private Map<String, Object> errorOf(Unencodable reason) {
        String text = "the result of " + handler.name + " cannot be sent: " + reason.getMessage();
        return Failure.errorOf(new Failure(reason.code, text));
    }

    private void answerError(Map<String, Object> error) {
        byte[] frame;
        try {
            frame = server.encodeAnswer(request.id(), error, null);
        } catch (Unencodable data) {
            Object message = error.get("message");
            frame = server.encodeAnswer(request.id(), Map.of("code", error.get("code"), "message", message), null);
        }
        server.answer(request.id(), frame);
    }
}
