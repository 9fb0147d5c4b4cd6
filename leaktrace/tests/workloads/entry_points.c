/* Owns a known set of live blocks for every entry point of the allocator.
 * Must not know how they are traced.
 *
 * A block that realloc returns belongs to the caller of realloc, with the size
 * asked for there, wherever it lies; where realloc fails, the old block stays with
 * its own site. Blocks of size 0 are blocks: one object of no bytes. */
#include "workload.h"
#include <malloc.h>

/* Everything that stays is kept here: reachable, so no tool calls it lost. */
static void *volatile kept[256];
static int kept_count;

static void *keep(void *block) {
    CHECK(block != NULL);
    kept[kept_count++] = block;
    return block;
}

/* Whether a block moves is the allocator's choice (valgrind's always does), and
 * the truth does not depend on it; a test that wants the case looks for the note. */
static void note_place(const char *function, uintptr_t before, const void *after) {
    const char *place = before == (uintptr_t)after ? "stayed" : "moved";
    tell("note %s %s\n", function, place);
}

SITE void site_malloc(void) {
    void *block;
    for (int i = 0; i < 10; i++) {
        block = malloc(100);
        HIDE(block);
        if (i < 3) free(block);
        else keep(block);
    }
    lives(__func__, 7, 100);
}

SITE void site_malloc_zero(void) {
    keep(malloc(0));
    lives(__func__, 1, 0);
}

SITE void site_calloc(void) {
    for (int i = 0; i < 4; i++) keep(calloc(5, 30));
    CHECK(calloc(huge_size, 16) == NULL);
    lives(__func__, 4, 150);
}

SITE void site_malloc_fails(void) {
    CHECK(malloc(huge_size) == NULL);
    lives(__func__, 0, 0);
}

SITE void site_realloc_null(void) {
    for (int i = 0; i < 3; i++) keep(realloc(NULL, 64));
    lives(__func__, 3, 64);
}

SITE void site_realloc_null_zero(void) {
    void *block = realloc(NULL, 0);
    HIDE(block);
    keep(block);
    lives(__func__, 1, 0);
}

/* The blocks that the sites below reallocate. */
SITE void *site_seed(size_t size) {
    void *block = malloc(size);
    HIDE(block);
    CHECK(block != NULL);
    return block;
}

SITE void site_realloc_moves(void) {
    void *old = site_seed(24);
    void *barrier = site_seed(24);
    uintptr_t before = (uintptr_t)old;
    void *block = realloc(old, 100000);
    HIDE(block);
    note_place(__func__, before, block);
    keep(block);
    free(barrier);
    lives(__func__, 1, 100000);
}

SITE void site_realloc_stays(void) {
    void *old = site_seed(1000);
    uintptr_t before = (uintptr_t)old;
    void *block = realloc(old, 1001);
    HIDE(block);
    note_place(__func__, before, block);
    keep(block);
    lives(__func__, 1, 1001);
}

SITE void site_realloc_shrinks(void) {
    void *old = site_seed(5000);
    uintptr_t before = (uintptr_t)old;
    void *block = realloc(old, 40);
    HIDE(block);
    note_place(__func__, before, block);
    keep(block);
    lives(__func__, 1, 40);
}

SITE void site_realloc_mmapped(void) {
    void *block = site_seed(1 << 20);
    for (size_t size = 2; size <= 8; size *= 2) {
        block = realloc(block, size << 20);
        HIDE(block);
    }
    keep(block);
    lives(__func__, 1, 8 << 20);
}

SITE void site_realloc_fails(void) {
    void *block = site_seed(48);
    CHECK(realloc(block, huge_size) == NULL);
    keep(block);
    lives("site_seed", 1, 48);
    lives(__func__, 0, 0);
}

SITE void site_realloc_frees(void) {
    volatile size_t nothing = 0;
    void *block = realloc(site_seed(56), nothing);
    CHECK(block == NULL);
    lives(__func__, 0, 0);
}

SITE void site_reallocarray(void) {
    keep(reallocarray(NULL, 7, 11));
    keep(reallocarray(site_seed(10), 100, 20));
    lives(__func__, 1, 77);
    lives(__func__, 1, 2000);
}

SITE void site_reallocarray_fails(void) {
    void *block = site_seed(72);
    CHECK(reallocarray(block, huge_size, 16) == NULL);
    CHECK(reallocarray(block, huge_size, 1) == NULL);
    keep(block);
    lives("site_seed", 1, 72);
    lives(__func__, 0, 0);
}

SITE void site_posix_memalign(void) {
    for (int i = 0; i < 2; i++) {
        void *block = NULL;
        CHECK(posix_memalign(&block, 256, 1000) == 0);
        keep(block);
    }
    lives(__func__, 2, 1000);
}

SITE void site_posix_memalign_fails(void) {
    void *block = NULL;
    volatile size_t odd = 3;
    CHECK(posix_memalign(&block, odd, 1000) == EINVAL);
    CHECK(posix_memalign(&block, 64, huge_size) == ENOMEM);
    CHECK(block == NULL);
    lives(__func__, 0, 0);
}

SITE void site_aligned_alloc(void) {
    keep(aligned_alloc(64, 640));
    lives(__func__, 1, 640);
}

SITE void site_memalign(void) {
    keep(memalign(128, 500));
    lives(__func__, 1, 500);
}

SITE void site_valloc(void) {
    keep(valloc(300));
    lives(__func__, 1, 300);
}

/* Served by whole pages, but 300 bytes were asked for. */
SITE void site_pvalloc(void) {
    keep(pvalloc(300));
    lives(__func__, 1, 300);
}

static char text[100];

SITE void site_strdup(void) {
    for (int i = 0; i < 3; i++) keep(strdup(text));
    lives(__func__, 3, sizeof text);
}

SITE void site_strndup(void) {
    keep(strndup(text, 9));
    lives(__func__, 1, 10);
}

/* Everything that stdio itself takes and gives back. */
SITE void site_getline(void) {
    int ends[2];
    char *line = NULL;
    size_t size = 0;
    CHECK(pipe(ends) == 0);
    dprintf(ends[1], "%s%s%s\n", text, text, text);
    FILE *file = fdopen(ends[0], "r");
    CHECK(file != NULL);
    CHECK(getline(&line, &size, file) == 3 * (sizeof text - 1) + 1);
    fclose(file);
    close(ends[1]);
    keep(line);
    lives(__func__, 1, size);
}

SITE void site_asprintf(void) {
    char *line = NULL;
    int length = asprintf(&line, "%s %d", text, 12345);
    CHECK(length == sizeof text - 1 + 6);
    keep(line);
    lives(__func__, 1, (unsigned long)length + 1);
}

/* glibc cuts the buffer to the text and its end when the stream is closed. */
SITE void site_open_memstream(void) {
    char *buffer = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&buffer, &size);
    CHECK(stream != NULL);
    for (int i = 0; i < 100; i++) fputs(text, stream);
    fclose(stream);
    CHECK(size == 100 * (sizeof text - 1));
    keep(buffer);
    lives(__func__, 1, size + 1);
}

/* free(NULL) frees nothing. */
SITE void site_free_null(void) {
    void *volatile nothing = NULL;
    free(nothing);
    lives(__func__, 0, 0);
}

int main(void) {
    memset(text, 'x', sizeof text - 1);
    ready();
    site_malloc();
    site_malloc_zero();
    site_malloc_fails();
    site_calloc();
    site_realloc_null();
    site_realloc_null_zero();
    site_realloc_moves();
    site_realloc_stays();
    site_realloc_shrinks();
    site_realloc_mmapped();
    site_realloc_fails();
    site_realloc_frees();
    site_reallocarray();
    site_reallocarray_fails();
    site_posix_memalign();
    site_posix_memalign_fails();
    site_aligned_alloc();
    site_memalign();
    site_valloc();
    site_pvalloc();
    site_strdup();
    site_strndup();
    site_getline();
    site_asprintf();
    site_open_memstream();
    site_free_null();
    tell_truths();
    settled();
    return 0;
}
