/* Owns blocks that are made and given back at a test's word, a step at a time.
 * Must not know how they are traced.
 *
 * After `ready`, each line on stdin is a step, answered by `did STEP`:
 *   alloc COUNT SIZE   makes blocks and keeps them
 *   free COUNT         gives back the oldest that it keeps
 *   pair COUNT SIZE    makes a block and gives it back, COUNT times
 *   resize COUNT SIZE  resizes the oldest that it keeps, which are the youngest then
 * Any other line tells the truths and settles. It takes steps until stdin is closed. */
#include "workload.h"

#define KEPT_MAX 65536

static struct kept {
    void *block;
    size_t size;
    const char *site;
} kept[KEPT_MAX];
/* Both only grow: the oldest is at `oldest` modulo the size of the table. */
static unsigned long oldest, youngest;

static void keep(void *block, size_t size, const char *site) {
    CHECK(block != NULL && youngest - oldest < KEPT_MAX);
    kept[youngest++ % KEPT_MAX] = (struct kept){block, size, site};
    lives(site, 1, size);
}

static struct kept take(void) {
    CHECK(oldest < youngest);
    struct kept taken = kept[oldest++ % KEPT_MAX];
    dies(taken.site, 1, taken.size);
    return taken;
}

SITE void site_alloc(unsigned long count, size_t size) {
    for (unsigned long i = 0; i < count; i++) keep(malloc(size), size, __func__);
}

SITE void site_resize(unsigned long count, size_t size) {
    for (unsigned long i = 0; i < count; i++) keep(realloc(take().block, size), size, __func__);
}

SITE void site_pair(unsigned long count, size_t size) {
    for (unsigned long i = 0; i < count; i++) {
        void *block = malloc(size);
        HIDE(block);
        free(block);
    }
}

static void do_free(unsigned long count) {
    for (unsigned long i = 0; i < count; i++) free(take().block);
}

/* One line without its end; 0 when there are no more. */
static int read_line(char *line, size_t size) {
    size_t length = 0;
    char byte;
    while (read(0, &byte, 1) == 1) {
        if (byte == '\n') {
            line[length] = 0;
            return 1;
        }
        CHECK(length + 1 < size);
        line[length++] = byte;
    }
    return 0;
}

int main(void) {
    char line[80], step[16];
    unsigned long count, size;
    tell("ready %d\n", (int)getpid());
    while (read_line(line, sizeof line)) {
        int words = sscanf(line, "%15s %lu %lu", step, &count, &size);
        if (words == 3 && strcmp(step, "alloc") == 0) site_alloc(count, size);
        else if (words == 2 && strcmp(step, "free") == 0) do_free(count);
        else if (words == 3 && strcmp(step, "pair") == 0) site_pair(count, size);
        else if (words == 3 && strcmp(step, "resize") == 0) site_resize(count, size);
        else {
            tell_truths();
            tell("settled\n");
            continue;
        }
        tell("did %s\n", line);
    }
    return 0;
}
