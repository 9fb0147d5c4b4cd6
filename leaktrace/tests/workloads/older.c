/* Owns blocks that are older than the trace, and what becomes of them during it.
 * Must not know how they are traced.
 *
 * A block made before `ready` is no block of the trace: freeing it is no error and
 * takes nothing off a site. Reallocated during the trace, it becomes a block of the
 * caller of realloc. `untraced` tells how many of the old ones were given back. */
#include "workload.h"

#define OLD_BLOCKS 50
#define OLD_SIZE 200

static void *blocks[OLD_BLOCKS];
static int next;

SITE void site_older(void) {
    for (int i = 0; i < OLD_BLOCKS; i++) CHECK((blocks[i] = malloc(OLD_SIZE)) != NULL);
    lives(__func__, 0, 0);
}

SITE void site_older_free(void) {
    for (int i = 0; i < 20; i++) free(blocks[next++]);
    lives(__func__, 0, 0);
}

SITE void site_older_realloc(void) {
    for (int i = 0; i < 10; i++, next++)
        CHECK((blocks[next] = realloc(blocks[next], 300)) != NULL);
    lives(__func__, 10, 300);
}

SITE void site_older_realloc_frees(void) {
    volatile size_t nothing = 0;
    for (int i = 0; i < 3; i++) {
        void *block = realloc(blocks[next++], nothing);
        CHECK(block == NULL);
    }
    lives(__func__, 0, 0);
}

SITE void site_older_realloc_fails(void) {
    CHECK(realloc(blocks[next], huge_size) == NULL);
    next++;
    lives(__func__, 0, 0);
}

/* Takes the very addresses that the old blocks have left. */
SITE void site_new(void) {
    static void *fresh[25];
    for (int i = 0; i < 25; i++) CHECK((fresh[i] = malloc(OLD_SIZE)) != NULL);
    for (int i = 0; i < 5; i++) free(fresh[i]);
    lives(__func__, 20, OLD_SIZE);
}

int main(void) {
    site_older();
    ready();
    site_older_free();
    site_older_realloc();
    site_older_realloc_frees();
    site_older_realloc_fails();
    site_new();
    tell("untraced {\"pid\":%d,\"freed_count\":33}\n", (int)getpid());
    tell_truths();
    settled();
    return 0;
}
