// Leaks some blocks and ends at once: what is known of it must have been learned while it lived.

#include <stdio.h>
#include <stdlib.h>

static void *volatile kept;

__attribute__((noinline)) void site_brief(void) {
    for (int i = 0; i < 25; i++) {
        kept = malloc(100);
    }
}

__attribute__((noinline)) static void between(void) {
    site_brief();
    __asm__ volatile("");
}

int main(void) {
    between();
    return 0;
}
