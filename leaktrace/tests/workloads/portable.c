/* Owns a known set of live blocks for every entry point that all allocators have.
 * Must not know which allocator serves it, or how it is traced. */
#include "workload.h"
#include <malloc.h>
#include <pthread.h>

static void *volatile kept[512];
static int kept_count;

static void *keep(void *block) {
    CHECK(block != NULL);
    kept[kept_count++] = block;
    return block;
}

SITE void site_malloc(void) {
    void *block;
    for (int i = 0; i < 40; i++) {
        block = malloc((size_t)i * 700 + 1);
        HIDE(block);
        if (i % 4 == 0) {
            keep(block);
            lives(__func__, 1, (unsigned long)i * 700 + 1);
        } else {
            free(block);
        }
    }
}

SITE void site_malloc_fails(void) {
    CHECK(malloc(huge_size) == NULL);
    lives(__func__, 0, 0);
}

SITE void site_malloc_large(void) {
    keep(malloc(40 << 20));
    void *block = malloc(50 << 20);
    HIDE(block);
    free(block);
    lives(__func__, 1, 40 << 20);
}

SITE void site_calloc(void) {
    for (int i = 0; i < 4; i++) keep(calloc(5, 30));
    keep(calloc(3000, 300));
    CHECK(calloc(huge_size, 16) == NULL);
    lives(__func__, 4, 150);
    lives(__func__, 1, 900000);
}

SITE void *site_seed(size_t size) {
    void *block = malloc(size);
    HIDE(block);
    CHECK(block != NULL);
    return block;
}

SITE void site_realloc(void) {
    static const size_t sizes[] = {10, 17, 4000, 3999, 70000, 69000, 3 << 20, 2 << 20, 40};
    void *block = NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        block = realloc(block, sizes[i]);
        HIDE(block);
        CHECK(block != NULL);
    }
    keep(block);
    keep(realloc(site_seed(100), 101));
    keep(realloc(site_seed(100), 100001));
    lives(__func__, 1, 40);
    lives(__func__, 1, 101);
    lives(__func__, 1, 100001);
}

SITE void site_realloc_fails(void) {
    void *block = site_seed(48);
    CHECK(realloc(block, huge_size) == NULL);
    keep(block);
    lives("site_seed", 1, 48);
    lives(__func__, 0, 0);
}

SITE void site_posix_memalign(void) {
    for (size_t alignment = 16; alignment <= 65536; alignment *= 16) {
        void *block = NULL;
        CHECK(posix_memalign(&block, alignment, 1000) == 0);
        keep(block);
        lives(__func__, 1, 1000);
    }
    void *block = NULL;
    CHECK(posix_memalign(&block, 64, huge_size) == ENOMEM);
}

SITE void site_aligned_alloc(void) {
    keep(aligned_alloc(64, 640));
    void *block = aligned_alloc(4096, 8192);
    HIDE(block);
    free(block);
    lives(__func__, 1, 640);
}

SITE void site_memalign(void) {
    keep(memalign(128, 500));
    lives(__func__, 1, 500);
}

/* Blocks that another thread gives back, and more of each size than any cache of a thread holds. */
static void *exchanged[2000];

SITE void site_exchanged(void) {
    for (int i = 0; i < 2000; i++) {
        exchanged[i] = malloc((size_t)(i % 50) * 16 + 8);
        CHECK(exchanged[i] != NULL);
    }
}

static void *free_most(void *unused) {
    for (int i = 0; i < 2000; i++) {
        if (i % 100 == 0) lives("site_exchanged", 1, (unsigned long)(i % 50) * 16 + 8);
        else free(exchanged[i]);
    }
    return unused;
}

/* The thread is made before anything is traced: what its making allocates is nobody's truth. */
static pthread_barrier_t begin, end;

static void *other(void *unused) {
    pthread_barrier_wait(&begin);
    free_most(unused);
    pthread_barrier_wait(&end);
    // Not to its end: glibc gives the blocks in a thread's cache back once more then.
    for (;;) pause();
    return NULL;
}

int main(void) {
    pthread_t thread;
    pthread_barrier_init(&begin, NULL, 2);
    pthread_barrier_init(&end, NULL, 2);
    CHECK(pthread_create(&thread, NULL, other, NULL) == 0);
    ready();
    site_malloc();
    site_malloc_fails();
    site_malloc_large();
    site_calloc();
    site_realloc();
    site_realloc_fails();
    site_posix_memalign();
    site_aligned_alloc();
    site_memalign();
    site_exchanged();
    pthread_barrier_wait(&begin);
    pthread_barrier_wait(&end);
    tell_truths();
    settled();
    return 0;
}
