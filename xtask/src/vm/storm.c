//! Owns a program whose threads preempt each other: each allocates below functions that no other thread calls, so that a
//! stack of two threads' functions never was.
//! Must not know that it is traced.

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 3000, DEPTHS = 12 };

static void *kept[4][BLOCKS];

static void rest(int i) {
    // A thread that wakes takes the CPU from one that runs, in a probe as anywhere.
    struct timespec pause = {0, 50000};
    if (i % 8 == 0) {
        nanosleep(&pause, NULL);
    }
}

#define THREAD(name, number)                                                                       \
    __attribute__((noinline)) static int name##_descend(int depth, int i) {                        \
        if (depth == 0) {                                                                          \
            kept[number][i] = malloc(32 + number);                                                 \
            return 1;                                                                              \
        }                                                                                          \
        return 1 + name##_descend(depth - 1, i);                                                   \
    }                                                                                              \
    __attribute__((noinline)) static void *name##_thread(void *unused) {                           \
        long sum = 0;                                                                              \
        for (int i = 0; i < BLOCKS; i++) {                                                         \
            sum += name##_descend(1 + i % DEPTHS, i);                                              \
            rest(i);                                                                               \
        }                                                                                          \
        return sum > 0 ? NULL : unused;                                                            \
    }

THREAD(north, 0)
THREAD(east, 1)
THREAD(south, 2)
THREAD(west, 3)

int main(void) {
    static void *(*const mains[4])(void *) = {north_thread, east_thread, south_thread, west_thread};
    pthread_t threads[4];
    char go;
    if (read(0, &go, 1) != 1) {
        return 1;
    }
    for (int i = 0; i < 4; i++) {
        if (pthread_create(&threads[i], NULL, mains[i], NULL) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    if (write(1, "settled\n", 8) != 8) {
        return 1;
    }
    pause();
    return kept[0][0] != NULL;
}
