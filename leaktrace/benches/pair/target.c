/* Owns the program that is measured: pairs of malloc and free below a stack of a given depth.
 * Must not know who traces it.
 *
 * Reads lines `DEPTH PAIRS`, and answers each with the nanoseconds of CPU time, user and system,
 * that the process spent on the pairs. Ends when its standard input does. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long cpu_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

__attribute__((noinline, noclone)) static long long pairs(long count) {
    long long begun = cpu_ns();
    for (long i = 0; i < count; i++) {
        void *block = malloc(64);
        /* Keeps the compiler from dropping the pair. */
        __asm__ volatile("" : "+r"(block) : : "memory");
        free(block);
    }
    return cpu_ns() - begun;
}

__attribute__((noinline, noclone)) static long long below(long depth, long count) {
    long long spent = depth > 0 ? below(depth - 1, count) : pairs(count);
    /* Keeps the call from becoming a jump: each call is a frame. */
    __asm__ volatile("" : "+r"(spent));
    return spent;
}

int main(void) {
    char line[64];
    size_t length = 0;
    /* Byte by byte and by dprintf: nothing here may allocate. */
    while (length < sizeof line - 1 && read(0, &line[length], 1) == 1) {
        if (line[length++] != '\n') continue;
        line[length] = 0;
        length = 0;
        char *rest;
        long depth = strtol(line, &rest, 10);
        dprintf(1, "%lld\n", below(depth, strtol(rest, NULL, 10)));
    }
    return 0;
}
