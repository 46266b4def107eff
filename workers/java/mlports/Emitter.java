package mlports;

import java.util.ArrayList;
import java.util.List;

/** Where a streaming method puts its items. */
public final class Emitter {
    private final Context context;
    private final List<Object> collected; // for a caller that asked for no stream, else null
    private Object result;

    Emitter(Context context) {
        this.context = context;
        this.collected = context.wantsStream() ? null : new ArrayList<>();
    }

    /**
     * Sends an item, once the caller has room for it. Throws a {@link Failure} that ends the handler when the caller
     * has cancelled, the deadline has passed or nobody is there any more.
     */
    public void emit(Object item) {
        if (collected != null) {
            context.check();
            collected.add(item);
            return;
        }
        context.takeCredit();
        context.server().notify("$/item", context.id(), item);
    }

    /** The value that ends the stream, null by default. */
    public void result(Object value) {
        result = value;
    }

    Object outcome() {
        return collected == null ? result : collected;
    }
}
