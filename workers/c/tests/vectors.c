/* Reads lines `MAX_FRAME PIECE,PIECE,…` (pieces in hex, as reads are to give them) and writes for each, in hex, the
 * frames of the messages in that stream as this SDK encodes them, and the name of the fault that ended it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message.h"

typedef struct {
    int descriptor;
    char *pieces;
} feed;

static size_t unhex(const char *text, char *bytes) {
    size_t size = 0;
    unsigned value;
    for (; sscanf(text + 2 * size, "%2x", &value) == 1; size++) bytes[size] = (char)value;
    return size;
}

/* Each piece is one packet, and so one read. */
static void *write_pieces(void *argument) {
    feed *to = argument;
    char *state, *bytes = mlp_need(malloc(strlen(to->pieces) + 1));
    for (char *piece = strtok_r(to->pieces, ",", &state); piece != NULL; piece = strtok_r(NULL, ",", &state)) {
        const size_t size = unhex(piece, bytes);
        if (send(to->descriptor, bytes, size, MSG_NOSIGNAL) < 0) break;
    }
    free(bytes);
    close(to->descriptor);
    return NULL;
}

static void pack_message(msgpack_packer *packer, const mlp_message *message) {
    const bool meta = message->meta != NULL && message->meta->size > 0;
    msgpack_pack_array(packer, (message->kind == MLP_NOTIFICATION ? 3 : 4) + meta);
    msgpack_pack_int(packer, (int)message->kind);
    if (message->kind != MLP_NOTIFICATION) msgpack_pack_uint64(packer, message->id);
    if (message->kind == MLP_RESPONSE) {
        if (message->error != NULL) msgpack_pack_object(packer, *message->error);
        else msgpack_pack_nil(packer);
        msgpack_pack_object(packer, *message->result);
    } else {
        msgpack_pack_str_with_body(packer, message->method.ptr, message->method.size);
        msgpack_pack_object(packer, (msgpack_object){.type = MSGPACK_OBJECT_ARRAY, .via.array = message->params});
    }
    if (meta) msgpack_pack_object(packer, (msgpack_object){.type = MSGPACK_OBJECT_MAP, .via.map = *message->meta});
}

static bool print_frame(const mlp_frame *frame, mlp_fault *fault) {
    mlp_message message;
    msgpack_sbuffer body;
    msgpack_packer packer;
    if (!mlp_parse_message(&frame->value, &message, fault)) return false;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&packer, &body, msgpack_sbuffer_write);
    pack_message(&packer, &message);
    printf("%08zx", body.size);
    for (size_t i = 0; i < body.size; i++) printf("%02x", (unsigned char)body.data[i]);
    printf(" ");
    msgpack_sbuffer_destroy(&body);
    return true;
}

static void read_stream(mlp_input *input) {
    mlp_fault fault = {0};
    mlp_got got = MLP_FRAME;
    while (got == MLP_FRAME || got == MLP_NOTHING_YET) {
        mlp_frame *frame;
        got = mlp_next_frame(input, &frame, &fault);
        if (got == MLP_NOTHING_YET) {
            got = mlp_read_more(input, &fault);
        } else if (got == MLP_FRAME) {
            if (!print_frame(frame, &fault)) got = MLP_FAULT;
            mlp_frame_free(frame);
        }
    }
    puts(got == MLP_FAULT ? fault.name : "");
}

int main(void) {
    char *line = NULL, *pieces;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        int pair[2];
        pthread_t writer;
        mlp_input input;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) return 1;
        line[strcspn(line, "\n")] = 0;
        mlp_input_open(&input, pair[0]);
        input.max_frame = (uint32_t)strtoul(line, &pieces, 10);
        input.arrays = true;
        feed to = {pair[1], pieces + 1};
        if (pthread_create(&writer, NULL, write_pieces, &to) != 0) return 1;
        read_stream(&input);
        close(pair[0]);
        pthread_join(writer, NULL);
        free(input.buffer);
    }
    free(line);
    return 0;
}
