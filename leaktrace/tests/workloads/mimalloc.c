/* Owns a known set of live blocks of mimalloc's own functions.
 * Must not know how it is traced. */
#include "workload.h"
#include <mimalloc.h>

static void *volatile kept[256];
static int kept_count;

static void *keep(void *block) {
    CHECK(block != NULL);
    kept[kept_count++] = block;
    return block;
}

SITE void site_malloc(void) {
    for (size_t size = 1; size < 1 << 22; size *= 8) {
        keep(mi_malloc(size));
        void *block = mi_malloc(size);
        HIDE(block);
        mi_free(block);
        lives(__func__, 1, size);
    }
    CHECK(mi_malloc(huge_size) == NULL);
}

SITE void site_zeroed(void) {
    keep(mi_zalloc(300));
    keep(mi_calloc(7, 30));
    keep(mi_mallocn(9, 11));
    lives(__func__, 1, 300);
    lives(__func__, 1, 210);
    lives(__func__, 1, 99);
}

SITE void site_small(void) {
    keep(mi_malloc_small(40));
    keep(mi_zalloc_small(41));
    lives(__func__, 1, 40);
    lives(__func__, 1, 41);
}

SITE void site_aligned(void) {
    keep(mi_malloc_aligned(500, 256));
    keep(mi_zalloc_aligned(501, 4096));
    void *block = mi_malloc_aligned(502, 64);
    HIDE(block);
    mi_free_aligned(block, 64);
    block = mi_malloc(503);
    HIDE(block);
    mi_free_size(block, 503);
    lives(__func__, 1, 500);
    lives(__func__, 1, 501);
}

SITE void site_realloc(void) {
    void *block = NULL;
    for (size_t size = 10; size < 1 << 21; size = size * 3 + 1) {
        block = mi_realloc(block, size);
        HIDE(block);
        CHECK(block != NULL);
    }
    keep(mi_realloc(block, 60));
    keep(mi_reallocn(mi_malloc(5), 30, 10));
    keep(mi_rezalloc(mi_zalloc(5), 301));
    CHECK(mi_reallocf(mi_malloc(9), huge_size) == NULL);
    lives(__func__, 1, 60);
    lives(__func__, 1, 300);
    lives(__func__, 1, 301);
}

SITE void site_heap(void) {
    mi_heap_t *heap = mi_heap_get_default();
    keep(mi_heap_malloc(heap, 80));
    keep(mi_heap_zalloc(heap, 81));
    keep(mi_heap_calloc(heap, 4, 20));
    keep(mi_heap_realloc(heap, mi_heap_malloc(heap, 4), 82));
    lives(__func__, 1, 80);
    lives(__func__, 1, 81);
    lives(__func__, 1, 80);
    lives(__func__, 1, 82);
}

int main(void) {
    ready();
    site_malloc();
    site_zeroed();
    site_small();
    site_aligned();
    site_realloc();
    site_heap();
    tell_truths();
    settled();
    return 0;
}
