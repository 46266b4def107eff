/* MessagePack values as the protocol has them: read and checked in one pass. */
#ifndef MLP_VALUE_H
#define MLP_VALUE_H

#include "mlports.h"

/* What the other side did wrong: a name of SPEC.md 13. */
typedef struct {
    const char *name; /* NULL: nothing */
    char reason[256];
} mlp_fault;

/* Notes the fault; returns false. */
bool mlp_blame(mlp_fault *fault, const char *name, const char *format, ...) MLPORTS_PRINTF(3, 4);

/* Reads one value from `size` bytes into `out`, whose parts lie in `zone` and in the bytes themselves. Returns the
 * bytes it took, 0 with `fault` set. `depth`: containers around it. Without a zone it only checks. */
size_t mlp_read_value(const char *bytes, size_t size, bool arrays, int depth, msgpack_zone *zone, msgpack_object *out,
                      mlp_fault *fault);

bool mlp_is_utf8(const char *bytes, size_t size);
bool mlp_text_is(const msgpack_object *value, const char *text);
bool mlp_check_ndarray(const char *bytes, size_t size, mlports_ndarray *array, mlp_fault *fault);
void mlp_pack_text(msgpack_packer *packer, const char *text); /* what is not UTF-8 as '?' */
void *mlp_need(void *memory); /* ends the process when there is none */

#endif
