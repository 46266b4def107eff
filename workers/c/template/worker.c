/* A worker: a program whose methods mlports calls, in a process of its own. */
#include <mlports.h>
#include <stdio.h>
#include <string.h>

static double slope = 1, intercept = 0;

/* Called once, before the first call, with `config` from mlports.toml: the place to load a model. */
static int load(const msgpack_object_map *config) {
    const msgpack_object *said = mlports_get(config, "slope");
    if (said != NULL && !mlports_as_double(said, &slope)) return fputs("config slope is a number\n", stderr), -1;
    said = mlports_get(config, "intercept");
    if (said != NULL && !mlports_as_double(said, &intercept)) return fputs("config intercept is a number\n", stderr), -1;
    return 0;
}

static void pack_text(msgpack_packer *packer, const char *text) { msgpack_pack_str_with_body(packer, text, strlen(text)); }

/* A plain method: arguments in, one value out. What it prints goes to the log and never breaks the protocol. */
static int describe(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    if (mlports_arguments(context, args, "") != 0) return -1;
    puts("somebody asked what this is");
    msgpack_pack_map(result, 3);
    pack_text(result, "kind");
    pack_text(result, "line");
    pack_text(result, "slope");
    msgpack_pack_double(result, slope);
    pack_text(result, "intercept");
    return msgpack_pack_double(result, intercept);
}

/* A batch method: many calls at once, so that a model can work on all of them. A call that fails, fails alone. */
static int predict(mlports_context *context, const msgpack_object_array *calls, msgpack_packer *result) {
    for (uint32_t i = 0; i < calls->size; i++) {
        double x;
        if (mlports_arguments(context, &calls->ptr[i].via.array, "d", &x) == 0)
            msgpack_pack_double(result, slope * x + intercept);
        mlports_next(context);
    }
    return 0;
}

/* A stream: items go only as fast as they are read. */
static int steps(mlports_context *context, const msgpack_object_array *args, msgpack_packer *result) {
    int64_t n;
    double seconds = 0.1;
    if (mlports_arguments(context, args, "i|d", &n, &seconds) != 0) return -1;
    for (int64_t number = 1; number <= n; number++) {
        if (mlports_wait(context, seconds) != 0) return -1; /* cancelled */
        mlports_progress(context, (double)number, (double)n, "");
        msgpack_pack_int64(result, number);
        if (mlports_yield(context) != 0) return -1;
    }
    return 0;
}

int main(void) {
    static const mlports_method methods[] = {
        {"describe", describe, 0},
        {"predict", predict, MLPORTS_BATCH | MLPORTS_IDEMPOTENT},
        {"steps", steps, MLPORTS_STREAM},
        {0},
    };
    return mlports_run(&(mlports_worker){.name = "@NAME@", .methods = methods, .setup = load});
}
