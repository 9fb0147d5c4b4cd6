/*
 * Streams as in gRPC, many on one connection: the server keeps each in a table until its client half closes it, and
 * forgets that a reset ends a stream too. Beside them streams that are closed, and a list of frames used again.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { STREAMS = 4096, WINDOW_BYTES = 4096, HEADER_BYTES = 160, FRAMES = 32, FRAME_BYTES = 1024, RESETS_ONE_IN = 40 };
enum { OPEN, CLOSE, RESET };

struct frame { unsigned kind, stream; };
struct stream { struct stream *next; unsigned id; char *headers, *window; };

static int sockets[2];
static struct stream *table[STREAMS];
static char *frames[FRAMES];

static NOINLINE void accept_reset_soon(struct stream *stream)
{
    stream->headers = must(calloc(1, HEADER_BYTES)); /* LEAK: headers of a reset stream 800 bytes/s */
    stream->window = must(calloc(1, WINDOW_BYTES)); /* LEAK: window of a reset stream 20480 bytes/s */
}

static NOINLINE void accept_well(struct stream *stream)
{
    stream->headers = must(calloc(1, HEADER_BYTES)); /* INNOCENT: headers of a closed stream */
    stream->window = must(calloc(1, WINDOW_BYTES)); /* INNOCENT: window of a closed stream */
}

/* The two kinds of clients open different methods, so that their streams are made at different lines. */
static NOINLINE void accept_stream(unsigned id)
{
    struct stream *stream;
    if (id % RESETS_ONE_IN == 0) {
        stream = must(malloc(sizeof *stream)); /* LEAK: reset stream 160 bytes/s */
        accept_reset_soon(stream);
    } else {
        stream = must(malloc(sizeof *stream)); /* INNOCENT: closed stream */
        accept_well(stream);
    }
    stream->id = id;
    stream->next = table[id % STREAMS];
    table[id % STREAMS] = stream;
}

static void end_stream(unsigned id)
{
    for (struct stream **at = &table[id % STREAMS]; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            struct stream *stream = *at;
            *at = stream->next;
            free(stream->headers);
            free(stream->window);
            free(stream);
            return;
        }
}

static NOINLINE void use_frame(unsigned id)
{
    char **frame = &frames[id % FRAMES];
    if (!*frame)
        *frame = must(malloc(FRAME_BYTES)); /* INNOCENT: list of frames */
    memset(*frame, (int)id, FRAME_BYTES);
}

static void send_frame(unsigned kind, unsigned stream)
{
    struct frame frame = { kind, stream };
    if (write(sockets[0], &frame, sizeof frame) != sizeof frame || read(sockets[1], &frame, sizeof frame) != sizeof frame)
        abort();
    if (frame.kind == OPEN)
        accept_stream(frame.stream);
    else if (frame.kind == CLOSE)
        end_stream(frame.stream);
    /* RESET: nothing is waited for any more, so nothing is done. */
    use_frame(frame.stream);
}

static void serve(unsigned id)
{
    send_frame(OPEN, id);
    send_frame(id % RESETS_ONE_IN ? CLOSE : RESET, id);
}

int main(int argc, char **argv)
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
        abort();
    drive(argc, argv, serve);
}
