/*
 * What every program of the corpus shares: a load that the program drives itself,
 * at a rate that one core does not notice, for as many seconds as it is told.
 *
 * The truth stands in comments: `LEAK: NAME N bytes/s` and `INNOCENT: NAME` on the
 * line whose call makes the blocks. The runner finds lines by these marks.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { REQUESTS_PER_SECOND = 200 };

static inline void *must(void *block)
{
    if (!block)
        abort();
    return block;
}

/* Calls `serve` with 0, 1, 2… at the rate above until the seconds of the command line are over. */
static inline void drive(int argc, char **argv, void (*serve)(unsigned id))
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 60;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (unsigned id = 0; id < seconds * REQUESTS_PER_SECOND; id++) {
        serve(id);
        next.tv_nsec += 1000000000 / REQUESTS_PER_SECOND;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}

#endif
