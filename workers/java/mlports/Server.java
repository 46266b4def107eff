package mlports;

import java.io.IOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * A worker at work for one orchestrator, from its hello to its goodbye.
 *
 * <p>The thread in {@link #serve} reads and sorts, and answers pings, however long handlers take; those run on a pool
 * of {@code concurrency} threads.
 */
final class Server {
    private enum Phase {
        NEW,
        GREETING,
        READY
    }

    private static final long GRACE = 1000; // ms that handlers go on when nobody may be there any more

    private final String name;
    private final Map<String, Handler> handlers;
    private final Worker.Setup setup;
    private final int concurrency;
    private final Integer ownMaxFrame; // null: the orchestrator's
    private final FrameReader reader;
    private final Outbox out;
    private final Calls calls;
    private final ExecutorService pool;
    private final Map<Long, Job> open = new ConcurrentHashMap<>();
    private volatile Decoder decoder = new Decoder(false);
    private volatile Phase phase = Phase.NEW;
    private volatile Map<String, Object> config = Map.of();
    private volatile boolean cancels; // whether the orchestrator takes $/cancel
    private volatile boolean ended; // nothing is read any more
    private boolean stopping;

    Server(Worker worker, Transport transport) {
        name = worker.name();
        handlers = worker.handlers();
        setup = worker.setup();
        concurrency = worker.concurrency();
        ownMaxFrame = worker.maxFrame();
        reader = new FrameReader(transport.in(), ownMaxFrame == null ? FrameReader.DEFAULT_MAX_FRAME : ownMaxFrame);
        out = new Outbox(transport.out());
        calls = new Calls(this, out);
        pool = Executors.newFixedThreadPool(concurrency, Server::thread);
    }

    private static Thread thread(Runnable work) {
        Thread thread = new Thread(work, "mlports-handler");
        thread.setDaemon(true);
        return thread;
    }

    /** Works until the orchestrator says stop or goes away; gives the status to exit with. */
    int serve() throws InterruptedException {
        String fault = null;
        try {
            while (reader.next()) {
                receive(Message.parse(decoder.decode(reader.bytes, reader.offset, reader.length)));
            }
        } catch (Violation violation) {
            fault = violation.name + ": " + violation.getMessage();
        } catch (IOException unreadable) {
            fault = "the input cannot be read: " + unreadable.getMessage();
        }
        ended = true;
        calls.end();
        open.values().forEach(job -> job.context().wake());
        pool.shutdown();
        pool.awaitTermination(stopping && fault == null ? Long.MAX_VALUE : GRACE, TimeUnit.MILLISECONDS);
        if (fault != null) {
            System.err.println(fault);
        }
        return fault == null ? 0 : 1;
    }

    // -- what comes in

    private void receive(Message message) {
        if (message instanceof Message.Request request) {
            receiveRequest(request);
        } else if (message instanceof Message.Response response) {
            calls.answered(response);
        } else if (message instanceof Message.Notification notification) {
            receiveNotification(notification);
        }
    }

    private void receiveRequest(Message.Request request) {
        if (open.containsKey(request.id())) {
            throw new Violation("DuplicateId", "request id " + request.id() + " is still in use");
        }
        if (request.method().equals("$/hello")) {
            receiveHello(request);
            return;
        }
        if (phase != Phase.READY) {
            throw new Violation("HandshakeExpected", "request " + request.method() + " before the handshake was done");
        }
        if (request.method().equals("$/ping")) {
            answer(request.id(), encodeAnswer(request.id(), null, null));
            return;
        }
        try {
            accept(request);
        } catch (Failure refused) {
            answer(request.id(), encodeAnswer(request.id(), Failure.errorOf(refused), null));
        }
    }

    private void accept(Message.Request request) {
        Handler handler = handlers.get(request.method());
        if (request.method().startsWith("$/")) {
            throw new Failure("unimplemented", request.method() + " is not known to this worker");
        }
        if (handler == null) {
            String known = String.join(", ", handlers.keySet());
            String text = "the worker " + name + " has no method " + request.method() + "; it has: " + known;
            throw new Failure("unimplemented", text);
        }
        if (stopping) {
            throw new Failure("unavailable", "the worker " + name + " is stopping", null, true);
        }
        checkMeta(handler, request);
        Job job = new Job(this, request, handler, new Context(this, request.id(), request.method(), request.meta()));
        open.put(request.id(), job);
        pool.execute(job);
    }

    private static void checkMeta(Handler handler, Message.Request request) {
        Map<String, Object> meta = request.meta();
        boolean input = Context.hasInput(meta);
        if (meta.containsKey("batch")) {
            int count = request.params().size();
            if (input || meta.get("credit") != null) {
                throw Failure.invalidArgument(handler.name + ": a batch has no streams");
            }
            if (!Long.valueOf(count).equals(meta.get("batch"))) {
                String said = "meta batch says " + Violation.shown(meta.get("batch"));
                throw Failure.invalidArgument(said + ", and there are " + count + " argument lists");
            }
        }
        if (input != handler.options.contains(Option.INPUT)) {
            throw Failure.invalidArgument(handler.name
                    + (input ? " takes no streamed argument" : " takes a streamed argument, and this call has none"));
        }
    }

    private void receiveNotification(Message.Notification message) {
        if (phase != Phase.READY) {
            String what = "notification " + message.method();
            throw new Violation("HandshakeExpected", what + " before the handshake was done");
        }
        if (message.method().startsWith("$/")) {
            receiveControl(message.method(), message.params());
        } else if (!stopping) {
            pool.execute(() -> cast(message));
        }
    }

    private void receiveControl(String method, List<Object> params) {
        switch (method) {
            case "$/cancel" -> {
                Job job = job(method, params, 1);
                if (job != null) {
                    job.cancel();
                }
            }
            case "$/credit" -> {
                Job job = job(method, params, 2);
                long more = Message.count("the count in $/credit", params.get(1), 1);
                if (job != null) {
                    job.context().addCredit(more);
                }
            }
            case "$/input" -> {
                Job job = job(method, params, 2);
                if (job != null) {
                    input(job, method).add(params.get(1), reader.length);
                }
            }
            case "$/input_end" -> {
                Job job = job(method, params, 1);
                if (job != null && job.context().hasInput()) {
                    job.context().input().finish();
                }
            }
            case "$/stop" -> receiveStop(params);
            default -> {} // version 1 may grow
        }
    }

    /** The open request that the first of the params names; null when it is answered. */
    private Job job(String method, List<Object> params, int count) {
        if (params.size() < count) {
            throw Message.invalid(method + " has at least " + count + " params, not " + params.size());
        }
        return open.get(Message.id(params.get(0)));
    }

    private static Input input(Job job, String method) {
        if (!job.context().hasInput()) {
            throw new Violation("CreditExceeded", method + " for a request without a streamed argument");
        }
        return job.context().input();
    }

    private void receiveStop(List<Object> params) {
        if (!params.isEmpty() && params.get(0) != null && !(Message.asText(params.get(0)) instanceof String)) {
            throw Message.invalid("the reason in $/stop is a string, not " + Violation.shown(params.get(0)));
        }
        stopping = true;
        pool.shutdown();
        Thread last = new Thread(this::exitWhenDone, "mlports-stop");
        last.setDaemon(true);
        last.start();
    }

    private void exitWhenDone() {
        try {
            pool.awaitTermination(Long.MAX_VALUE, TimeUnit.MILLISECONDS);
            System.exit(0);
        } catch (InterruptedException never) {
            Thread.currentThread().interrupt();
        }
    }

    // -- the handshake

    private void receiveHello(Message.Request request) {
        if (phase != Phase.NEW) {
            throw new Violation("HandshakeExpected", "a second $/hello");
        }
        Hello hello = Hello.parse(request.params());
        phase = Phase.GREETING;
        config = hello.config();
        if (ownMaxFrame == null) {
            reader.maxFrame(hello.maxFrame());
        }
        out.agree(false, hello.maxFrame());
        int accepted = reader.maxFrame();
        pool.execute(() -> answerHello(request.id(), hello, accepted));
    }

    private void answerHello(long id, Hello hello, int accepted) {
        try {
            setup.run(config);
        } catch (Failure chosen) {
            System.err.println(name + ": " + chosen.getMessage());
            System.exit(1);
        } catch (Throwable thrown) {
            System.err.print(name + ": setup failed: ");
            thrown.printStackTrace();
            System.exit(1);
        }
        byte[] answer = encodeAnswer(id, null, Hello.answer(name, handlers.values(), accepted, concurrency));
        boolean ndarray = hello.features().contains("ndarray");
        out.agree(ndarray, hello.maxFrame());
        decoder = new Decoder(ndarray);
        cancels = hello.features().contains("cancel");
        phase = Phase.READY;
        out.write(answer);
    }

    // -- what goes out

    byte[] encodeAnswer(long id, Map<String, Object> error, Object result) {
        return out.encode(1, id, error, result);
    }

    /** Answers a request, which is then no longer open. */
    void answer(long id, byte[] frame) {
        open.remove(id); // before it is written: then the orchestrator may use the id again
        out.write(frame);
    }

    void notify(String method, Object... params) {
        out.write(out.encode(2, method, Arrays.asList(params)));
    }

    void log(String level, String text, Map<String, ?> fields) {
        try {
            notify("$/log", level, Failure.sendable(text), fields);
        } catch (Unencodable value) {
            Map<String, String> plain = new LinkedHashMap<>();
            fields.forEach((key, field) -> plain.put(Failure.sendable(key), Failure.sendable(String.valueOf(field))));
            notify("$/log", level, Failure.sendable(text), plain);
        }
    }

    /** Tells the orchestrator that nobody waits for this call of the worker's own any more. */
    void cancelCall(long id) {
        if (cancels) {
            notify("$/cancel", id);
        }
    }

    private void cast(Message.Notification message) {
        Handler handler = handlers.get(message.method());
        if (handler == null || handler.options.contains(Option.INPUT)) {
            String why = handler == null ? "which this worker does not have" : "which takes a streamed argument";
            log("warning", "a cast to " + message.method() + ", " + why + ", was dropped", Map.of());
            return;
        }
        try {
            Context context = new Context(this, Context.CAST, message.method(), message.meta());
            handler.one(context, new Arguments(message.params()));
        } catch (Throwable thrown) {
            Map<String, Object> error = Failure.errorOf(thrown);
            String text = "the cast to " + message.method() + " failed: " + error.get("message");
            log("error", text, error.get("data") instanceof Map<?, ?> data ? Message.textKeys(data) : Map.of());
        }
    }

    // -- what handlers use

    Calls calls() {
        return calls;
    }

    Map<String, Object> config() {
        return config;
    }

    boolean ended() {
        return ended;
    }
}
