/* Owns threads that free each other's blocks at full speed, and what is left.
 * Must not know how they are traced.
 *
 * usage: exchange [SECONDS] [THREADS]
 *
 * Each thread puts a new block into a random slot and frees what it finds there,
 * which another thread made as often as not; now and then it reallocates what it
 * finds instead, so that an address changes hands between two threads within
 * microseconds. A block says itself how large it is and who asked for it. */
#include "workload.h"
#include <pthread.h>

enum maker { BY_MALLOC, BY_CALLOC, BY_REALLOC, MAKERS };
static const char *const names[MAKERS] = {
    "site_exchange_malloc", "site_exchange_calloc", "site_exchange_realloc"};

struct block {
    size_t size;
    enum maker maker;
};

/* Few enough that threads meet, and that the allocator reuses addresses at once. */
#define SLOTS 256
static _Atomic(struct block *) slots[SLOTS];
static atomic_bool over;
static pthread_barrier_t start;
static atomic_ulong operations;

static struct block *sign(void *memory, size_t size, enum maker maker) {
    struct block *block = memory;
    CHECK(block != NULL);
    *block = (struct block){size, maker};
    return block;
}

SITE struct block *site_exchange_malloc(size_t size) {
    return sign(malloc(size), size, BY_MALLOC);
}

SITE struct block *site_exchange_calloc(size_t size) {
    return sign(calloc(1, size), size, BY_CALLOC);
}

SITE struct block *site_exchange_realloc(struct block *block, size_t size) {
    return sign(realloc(block, size), size, BY_REALLOC);
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t pick_size(uint64_t random) {
    static const size_t sizes[] = {24, 24, 40, 100, 100, 300, 1200, 5000};
    return sizes[random % (sizeof sizes / sizeof *sizes)];
}

static void *work(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed * 0x9e3779b97f4a7c15u;
    unsigned long done = 0;
    pthread_barrier_wait(&start);
    for (; !atomic_load_explicit(&over, memory_order_relaxed); done++) {
        uint64_t random = next_random(&state);
        _Atomic(struct block *) *slot = &slots[random % SLOTS];
        size_t size = pick_size(random >> 16);
        struct block *block = NULL;
        switch ((random >> 32) % 8) {
        case 0:
            block = atomic_exchange(slot, NULL);
            block = site_exchange_realloc(block, size);
            break;
        case 1:
            block = site_exchange_calloc(size);
            break;
        case 2:
            break;
        default:
            block = site_exchange_malloc(size);
        }
        block = atomic_exchange(slot, block);
        HIDE(block);
        free(block);
    }
    atomic_fetch_add(&operations, done);
    return NULL;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    int threads = argc > 2 ? atoi(argv[2]) : 2;
    pthread_t ids[64];
    CHECK(threads > 0 && threads <= 64);
    /* Before the trace begins, as a thread's own tables are blocks too, of no site here. */
    CHECK(pthread_barrier_init(&start, NULL, (unsigned)threads + 1) == 0);
    for (int i = 0; i < threads; i++)
        CHECK(pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)(i + 1)) == 0);
    ready();
    pthread_barrier_wait(&start);
    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&over, 1);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);

    for (int i = 0; i < MAKERS; i++) lives(names[i], 0, 0);
    for (int i = 0; i < SLOTS; i++) {
        struct block *block = atomic_load(&slots[i]);
        if (block) lives(names[block->maker], 1, block->size);
    }
    tell("operations %lu\n", atomic_load(&operations));
    tell_truths();
    settled();
    return 0;
}
