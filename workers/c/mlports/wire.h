/* Frames on two descriptors: whole ones in, whole ones out. */
#ifndef MLP_WIRE_H
#define MLP_WIRE_H

#include "value.h"

#define MLP_DEFAULT_MAX_FRAME 67108864u

/* A frame that was read: its value lies in its own memory. */
typedef struct mlp_frame {
    struct mlp_frame *next;
    msgpack_zone zone;
    msgpack_object value;
    uint32_t size;
    char bytes[];
} mlp_frame;

void mlp_frame_free(mlp_frame *frame);

typedef struct {
    int descriptor;
    uint32_t max_frame;
    bool arrays; /* extension 1 was agreed */
    char *buffer;
    size_t start, end;
} mlp_input;

typedef enum { MLP_FRAME, MLP_NOTHING_YET, MLP_END, MLP_FAULT } mlp_got;

void mlp_input_open(mlp_input *input, int descriptor);
/* The next frame of what was read already, decoded. */
mlp_got mlp_next_frame(mlp_input *input, mlp_frame **frame, mlp_fault *fault);
/* Waits and reads more: MLP_NOTHING_YET when something came. */
mlp_got mlp_read_more(mlp_input *input, mlp_fault *fault);

typedef struct {
    const char *bytes;
    size_t size;
} mlp_part;

/* Takes the descriptors that frames travel on, and points 0 at nothing and 1 at stderr (SPEC.md 1.4, 1.6).
 * Returns false, having said why, when there are none. */
bool mlp_take_descriptors(const char *name, int *in, int *out);

void mlp_output_open(int descriptor);
void mlp_set_peer_max_frame(uint32_t max_frame);
/* One frame of these parts, written with what is sent until mlp_flush. False when it is longer than the peer accepts. */
bool mlp_send(const mlp_part *parts, size_t count);
void mlp_flush(void); /* ends the process when nobody reads any more */
bool mlp_nobody_reads(void);
double mlp_now(void); /* seconds, monotonic */

#endif
