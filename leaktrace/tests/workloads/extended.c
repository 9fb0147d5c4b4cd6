/* Owns a known set of live blocks of jemalloc's own functions, by whatever prefix.
 * Must not know how it is traced.
 *
 * Build with -DPREFIX=name_ for an allocator whose names begin so. */
#include "workload.h"

#ifndef PREFIX
#define PREFIX
#endif
#define PASTE(a, b) a##b
#define NAME(a, b) PASTE(a, b)
#define je(name) NAME(PREFIX, name)

void *je(malloc)(size_t);
void je(free)(void *);
void *je(mallocx)(size_t, int);
void *je(rallocx)(void *, size_t, int);
size_t je(xallocx)(void *, size_t, size_t, int);
void je(dallocx)(void *, int);
void je(sdallocx)(void *, size_t, int);
size_t je(nallocx)(size_t, int);

/* As jemalloc's header has them. */
#define ALIGN_LG(bits) ((int)(bits))
#define ZERO 0x40

static void *volatile kept[256];
static int kept_count;

static void *keep(void *block) {
    CHECK(block != NULL);
    kept[kept_count++] = block;
    return block;
}

SITE void site_malloc(void) {
    keep(je(malloc)(77));
    void *block = je(malloc)(78);
    HIDE(block);
    je(free)(block);
    lives(__func__, 1, 77);
}

SITE void site_mallocx(void) {
    keep(je(mallocx)(100, 0));
    keep(je(mallocx)(101, ZERO));
    keep(je(mallocx)(5000, ALIGN_LG(8)));
    keep(je(mallocx)(3 << 20, ALIGN_LG(16) | ZERO));
    void *block = je(mallocx)(1000, 0);
    HIDE(block);
    je(dallocx)(block, 0);
    block = je(mallocx)(2000, ALIGN_LG(7));
    HIDE(block);
    je(sdallocx)(block, 2000, ALIGN_LG(7));
    lives(__func__, 1, 100);
    lives(__func__, 1, 101);
    lives(__func__, 1, 5000);
    lives(__func__, 1, 3 << 20);
}

SITE void site_rallocx(void) {
    void *block = je(mallocx)(50, 0);
    for (size_t size = 50; size < 200000; size = size * 2 + 1) {
        block = je(rallocx)(block, size, size % 3 ? 0 : ZERO);
        HIDE(block);
        CHECK(block != NULL);
    }
    keep(je(rallocx)(block, 900, 0));
    lives(__func__, 1, 900);
}

/* In place or not at all: where it is not, the block is what it was. */
SITE void site_xallocx(void) {
    void *block = keep(je(mallocx)(100, 0));
    size_t usable = je(nallocx)(100, 0);
    CHECK(je(xallocx)(block, usable, 0, 0) == usable);
    CHECK(je(xallocx)(block, 100000, 0, 0) == usable);
    lives(__func__, 1, usable);
}

int main(void) {
    ready();
    site_malloc();
    site_mallocx();
    site_rallocx();
    site_xallocx();
    tell_truths();
    settled();
    return 0;
}
