/* Owns malloc and free at full speed or at a given rate, and what a pair costs.
 * Must not know how they are traced.
 *
 * usage: churn [PAIRS-PER-SECOND, 0 is full speed] [THREADS] [SECONDS] [WINDOW-SECONDS]
 *
 * Starts at once after `ready PID`, and prints a line each window, which is a second:
 *   churn {"pairs":N,"pairs_per_second":N,"cpu_fraction":X,"cpu_ns_per_pair":X}
 * `pairs` counts from the start, the others are of the last window. Holds at most
 * one block a thread at any time. At a low rate the sleeping is most of the CPU
 * time, so compare costs at full speed. Ends by itself after ten minutes, so that a test
 * that is killed does not leave it behind for ever. */
#include "workload.h"
#include <pthread.h>

static double rate_per_thread;
static atomic_bool over;

/* A line of cache each: the count must not cost more than the pair. */
static struct counter {
    _Alignas(64) atomic_ulong pairs;
} counters[64];

SITE void site_churn(unsigned long count) {
    static const size_t sizes[4] = {16, 48, 160, 1000};
    for (unsigned long i = 0; i < count; i++) {
        void *block = malloc(sizes[i % 4]);
        HIDE(block);
        free(block);
    }
}

static void *work(void *argument) {
    struct counter *counter = argument;
    uint64_t begun = now_ns(CLOCK_MONOTONIC);
    unsigned long done = 0;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        unsigned long batch = 1000;
        if (rate_per_thread > 0) {
            double seconds = (double)(now_ns(CLOCK_MONOTONIC) - begun) / 1e9;
            double due = seconds * rate_per_thread - (double)done;
            if (due < 1) {
                nanosleep(&(struct timespec){0, 5000000}, NULL);
                continue;
            }
            batch = (unsigned long)due < batch ? (unsigned long)due : batch;
        }
        site_churn(batch);
        done += batch;
        atomic_store_explicit(&counter->pairs, done, memory_order_relaxed);
    }
    return NULL;
}

int main(int argc, char **argv) {
    double rate = argc > 1 ? atof(argv[1]) : 0;
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    double seconds = argc > 3 ? atof(argv[3]) : 600;
    double window = argc > 4 ? atof(argv[4]) : 1;
    pthread_t ids[64];
    CHECK(threads > 0 && threads <= 64);
    rate_per_thread = rate / threads;
    tell("ready %d\n", (int)getpid());
    for (int i = 0; i < threads; i++)
        CHECK(pthread_create(&ids[i], NULL, work, &counters[i]) == 0);

    uint64_t begun = now_ns(CLOCK_MONOTONIC), last = begun;
    uint64_t last_cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    unsigned long last_pairs = 0;
    while ((double)(last - begun) / 1e9 < seconds) {
        double left = seconds - (double)(last - begun) / 1e9;
        usleep((useconds_t)((left < window ? left : window) * 1e6) + 1);
        uint64_t now = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        unsigned long pairs = 0;
        for (int i = 0; i < threads; i++)
            pairs += atomic_load_explicit(&counters[i].pairs, memory_order_relaxed);
        double elapsed = (double)(now - last), used = (double)(cpu - last_cpu);
        unsigned long made = pairs - last_pairs;
        tell("churn {\"pairs\":%lu,\"pairs_per_second\":%.0f,\"cpu_fraction\":%.4f,"
                "\"cpu_ns_per_pair\":%.1f}\n",
                pairs, (double)made / elapsed * 1e9, used / elapsed,
                made ? used / (double)made : 0.0);
        last = now;
        last_cpu = cpu;
        last_pairs = pairs;
    }
    atomic_store(&over, 1);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    return 0;
}
