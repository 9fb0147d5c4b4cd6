//! Owns a program that leaks 64 KiB five times a second, at one site, until it is killed.
//! Must not know that it is traced.

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct block {
    struct block *next;
    char text[65000];
};

static struct block *kept;

__attribute__((noinline)) static void grow(void) {
    struct block *block = malloc(sizeof *block);
    memset(block, 1, sizeof *block);
    block->next = kept;
    kept = block;
}

int main(void) {
    const struct timespec pause = {0, 200000000};
    for (;;) {
        grow();
        nanosleep(&pause, NULL);
    }
}
