package mlports;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * A streamed argument, to be gone through once. The caller is held while 32 items, or 8 MiB of them, wait here.
 *
 * <p>A wait for an item throws a {@link Failure} when the caller has cancelled, the deadline has passed or the
 * orchestrator went away.
 */
public final class Input implements Iterable<Object>, Iterator<Object> {
    private static final int FIRST = 2; // items, while nothing is known of their size
    private static final int MOST = 32; // items
    private static final int MOST_BYTES = 8 * 1024 * 1024;

    private record Item(Object value, int size) {}

    private final Context context; // its monitor guards all that follows
    private final Deque<Item> waiting = new ArrayDeque<>();
    private long waitingBytes;
    private int coming; // items that were let come and did not
    private int size; // bytes that the next is expected to have; 0: not known
    private boolean finished;

    Input(Context context) {
        this.context = context;
    }

    @Override
    public Iterator<Object> iterator() {
        return this;
    }

    @Override
    public boolean hasNext() {
        letCome();
        if (!context.await(() -> !waiting.isEmpty() || finished)) {
            String text = "the orchestrator went away within the streamed argument of " + context.method();
            throw new Failure("unavailable", text);
        }
        synchronized (context) {
            return !waiting.isEmpty();
        }
    }

    @Override
    public Object next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the streamed argument is at its end");
        }
        synchronized (context) {
            Item item = waiting.remove();
            waitingBytes -= item.size;
            return item.value;
        }
    }

    /** An item came. A {@link Violation} unless it was let come. */
    void add(Object value, int bytes) {
        synchronized (context) {
            if (finished || coming == 0) {
                String text = "an item of the streamed argument of request " + context.id() + " beyond its credit";
                throw new Violation("CreditExceeded", text);
            }
            coming--;
            waiting.add(new Item(value, bytes));
            waitingBytes += bytes;
            size = Math.max(1, Math.max(bytes, size - size / 8));
            context.wake();
        }
    }

    /** No more items follow. */
    void finish() {
        synchronized (context) {
            finished = true;
            context.wake();
        }
    }

    private void letCome() {
        int more;
        synchronized (context) {
            more = finished || context.answered() ? 0 : grant();
            coming += more;
        }
        if (more > 0) {
            context.server().notify("$/input_credit", context.id(), more);
        }
    }

    /** How many more may come; given in large parts, since each part costs a message. */
    private int grant() {
        int ahead = coming + waiting.size();
        if (ahead > MOST / 2) {
            return 0;
        }
        if (size == 0) {
            return Math.max(0, FIRST - ahead);
        }
        long room = (MOST_BYTES - waitingBytes - (long) coming * size) / size;
        int more = (int) Math.min(MOST - ahead, room);
        if (more <= 0) {
            return ahead == 0 ? 1 : 0;
        }
        return more < ahead ? 0 : more;
    }
}
