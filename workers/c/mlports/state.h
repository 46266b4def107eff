/* A worker at work. One thread reads (reader.c): it answers pings, takes cancels and credit, and queues calls; the
 * threads of serving.c work through them. What both touch is under `mlp.lock`. */
#ifndef MLP_STATE_H
#define MLP_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "message.h"

enum { MLP_OPEN_SLOTS = 256 };

struct mlports_context {
    struct mlports_context *next;  /* in the queue */
    struct mlports_context *chain; /* in the slot of `open` */
    const mlports_method *method;
    mlp_frame *frame;
    mlports_text name; /* of a cast, whose method may not be there */
    msgpack_object_array params;
    const msgpack_object_map *meta;
    uint64_t id;
    double deadline; /* on mlp_now's clock, INFINITY: none */
    uint32_t batch;  /* calls in this request; 0: not a batch */
    bool cast;
    bool begun;           /* under the lock, like all up to `inputs` */
    bool dropped;         /* answered before it began: to be thrown away */
    atomic_bool cancelled;
    bool streams;         /* the caller gave credit */
    uint64_t credit;
    bool takes_input, input_ended;
    uint64_t coming;      /* items that may still come */
    uint64_t waiting;     /* items here, in `inputs` */
    size_t waiting_bytes, item_size;
    mlp_frame *inputs, **inputs_tail;
    /* The handler's own. */
    mlp_frame *input;     /* the item that it has */
    msgpack_sbuffer *out; /* the answer so far */
    msgpack_packer packer;
    size_t item, mark;    /* in `out`: where this call's pair begins, and where its value does */
    uint32_t done;        /* calls of the batch, or items collected, so far */
    bool pairs;
    msgpack_sbuffer failure; /* packed; empty: none */
    char code[32];
};

/* A call of our own. */
typedef struct mlp_pending {
    struct mlp_pending *next;
    uint64_t id;
    bool abandoned; /* nobody waits for the answer */
    mlp_frame *answer;
    mlp_message message;
} mlp_pending;

typedef enum { MLP_NEW, MLP_GREETING, MLP_READY } mlp_phase;

extern struct mlp_state {
    mlports_worker worker;
    pthread_mutex_t lock;
    pthread_cond_t jobs;    /* something is in the queue, or it is over */
    pthread_cond_t changed; /* credit, cancel, an item, an answer, the end */
    mlp_input input;
    mlports_context *queue, **queue_tail;
    mlports_context *open[MLP_OPEN_SLOTS];
    unsigned running, idle; /* threads */
    _Atomic mlp_phase phase;
    bool greeted;        /* the hello is there for set-up */
    bool ended;          /* nothing is read any more */
    bool stopping;
    mlp_fault fault;
    mlp_frame *hello_frame;
    mlp_hello hello;
    atomic_uint features; /* agreed */
    mlp_pending *pending;
    uint64_t next_id;
} mlp;

void *mlp_reader(void *unused);
mlports_context **mlp_find_open(uint64_t id); /* the place that holds it, or that holds NULL */
void mlp_context_free(mlports_context *context);
void mlp_handle_jobs(void); /* until there is nothing more to come */
bool mlp_wait_until(double time); /* on `changed`, locked; false when the time is over */

/* Answers that are errors; the caller has taken the request out of `open`. */
void mlp_answer_error(uint64_t id, const char *code, const char *message, bool retryable);
void mlp_pack_error(msgpack_packer *packer, const char *code, const char *message, const msgpack_sbuffer *data,
                    bool retryable);
bool mlp_check_value(mlports_context *context); /* what lies behind mark is one value; nothing becomes nil */
bool mlp_late(const mlports_context *context);
void mlp_fail_default(mlports_context *context);

#endif
