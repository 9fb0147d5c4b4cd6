//! Owns a program that leaks 2 KiB 200 times a second beside blocks that it frees, for ten minutes.
//! Must not know that it is traced.

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) static void *keep_forever(size_t size) {
    void *block = malloc(size);
    memset(block, 1, size);
    return block;
}

static void *kept[120000];

int main(void) {
    for (int i = 0; i < 120000; i++) {
        kept[i] = keep_forever(2048);
        free(malloc(64));
        usleep(5000);
    }
    return 0;
}
