/* Large objects that a small reference of a request context keeps; an arena that is reset beside them. */
#include "load.h"

enum { BODY_BYTES = 16384, KEEPS_ONE_IN = 50, TOKENS = 1 << 16, ARENA_CHUNKS = 64, CHUNK_BYTES = 4096 };

/* Sixteen bytes of a body stand in a list for ever, and with them the whole body. */
static const char *tokens[TOKENS];
static unsigned token_count;
static char *arena[ARENA_CHUNKS];
static unsigned arena_used;

static NOINLINE char *read_body(unsigned id)
{
    char *body = must(malloc(BODY_BYTES)); /* LEAK: request body 65536 bytes/s */
    memset(body, 'a' + (int)(id % 26), BODY_BYTES);
    return body;
}

static NOINLINE void carve(void)
{
    if (arena_used == ARENA_CHUNKS) {
        while (arena_used)
            free(arena[--arena_used]);
    }
    arena[arena_used++] = must(malloc(CHUNK_BYTES)); /* INNOCENT: arena */
}

static void serve(unsigned id)
{
    char *body = read_body(id);
    if (id % KEEPS_ONE_IN == 0)
        tokens[token_count++ % TOKENS] = body + 100;
    else
        free(body);
    carve();
}

int main(int argc, char **argv) { drive(argc, argv, serve); }
