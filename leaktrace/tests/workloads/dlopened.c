/* Owns an allocator that is loaded while the program runs, and blocks of it.
 * Must not know how it is traced.
 *
 * Usage: dlopened LIBRARY, one that has jemalloc's functions. */
#include "workload.h"
#include <dlfcn.h>

static void *(*make)(size_t, int);
static void *(*resize)(void *, size_t, int);
static void (*drop)(void *, int);
static void *volatile kept[64];

SITE void site_before(void) {
    kept[0] = malloc(1000);
    lives(__func__, 1, 1000);
}

/* What comes right after the loading may be missed: it is given back again. */
SITE void load(const char *library) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    CHECK(handle != NULL);
    make = (void *(*)(size_t, int))dlsym(handle, "mallocx");
    resize = (void *(*)(void *, size_t, int))dlsym(handle, "rallocx");
    drop = (void (*)(void *, int))dlsym(handle, "dallocx");
    CHECK(make && resize && drop);
}

SITE void site_loaded(void) {
    for (int i = 0; i < 20; i++) {
        void *block = make(100 + i, 0);
        HIDE(block);
        if (i % 2) {
            drop(block, 0);
        } else {
            kept[1 + i] = resize(block, 3000 + i, 0);
            lives(__func__, 1, 3000 + i);
        }
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    ready();
    load(argv[1]);
    settled();
    site_before();
    site_loaded();
    tell_truths();
    settled();
    return 0;
}
