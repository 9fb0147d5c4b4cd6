/*
 * A global map whose entries no one removes, keyed by what never comes again. Beside it a bounded cache, one that takes
 * ten seconds to fill, and a warm-up.
 */
#include "load.h"

enum { BUCKETS = 4096, ENTRY_BYTES = 128, SLOTS = 512, SESSION_BYTES = 512, WARM = 600, TABLE_BYTES = 1024 };
enum { PAGES = 2000, PAGE_BYTES = 256 };

struct entry { struct entry *next; unsigned id; char value[ENTRY_BYTES - 16]; };

static struct entry *orphans[BUCKETS];
static char *sessions[SLOTS];
static char *tables[WARM];
static char *pages[PAGES];

static NOINLINE void remember(unsigned id)
{
    struct entry *entry = must(malloc(sizeof *entry)); /* LEAK: orphaned entry 25600 bytes/s */
    memset(entry->value, 'x', sizeof entry->value);
    entry->id = id;
    entry->next = orphans[id % BUCKETS];
    orphans[id % BUCKETS] = entry;
}

static NOINLINE void cache_session(unsigned id)
{
    char **slot = &sessions[id % SLOTS];
    free(*slot);
    *slot = must(calloc(1, SESSION_BYTES)); /* INNOCENT: bounded cache */
}

/* The oldest page goes once there are enough; until then it looks like a leak. */
static NOINLINE void cache_page(unsigned id)
{
    free(pages[id % PAGES]);
    pages[id % PAGES] = must(calloc(1, PAGE_BYTES)); /* INNOCENT: cache that fills slowly */
}

/* What is loaded in the first three seconds and kept. */
static NOINLINE void warm_up(unsigned id)
{
    tables[id] = must(calloc(1, TABLE_BYTES)); /* INNOCENT: warm-up */
}

static void serve(unsigned id)
{
    remember(id);
    cache_session(id);
    cache_page(id);
    if (id < WARM)
        warm_up(id);
}

int main(int argc, char **argv) { drive(argc, argv, serve); }
