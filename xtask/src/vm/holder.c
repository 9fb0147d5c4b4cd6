//! Owns a program whose live blocks are known: of 3000 it keeps 2000, which hold 81000 bytes.
//! Must not know that it is traced.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *kept[3000];

__attribute__((noinline)) static void *hold(int i) { return kept[i] = malloc(40 + i % 3); }

int main(void) {
    // Unbuffered, so that the C library allocates nothing beside what is counted.
    char go;
    if (read(0, &go, 1) != 1) {
        return 1;
    }
    for (int i = 0; i < 3000; i++) {
        void *block = hold(i);
        if (i % 3 == 2) {
            free(block);
        }
    }
    if (write(1, "settled\n", 8) != 8) {
        return 1;
    }
    pause();
    return 0;
}
