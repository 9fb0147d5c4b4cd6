/*
 * Shares of threads that never end: each waits for a signal that no one gives. Beside them workers that end.
 *
 * A thread has a table of its thread-local storage, which the C library makes:
 * LEAKS WITH: allocate_dtv
 */
#include <pthread.h>

#include "load.h"

enum { SHARE_BYTES = 32768, WAITS_ONE_IN = 200, JOB_BYTES = 4096, JOBS_ONE_IN = 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void *wait_for_ever(void *share)
{
    pthread_mutex_lock(&lock);
    while (*(volatile char *)share)
        pthread_cond_wait(&never, &lock);
    pthread_mutex_unlock(&lock);
    free(share);
    return NULL;
}

static void *finish(void *job)
{
    free(job);
    return NULL;
}

static void start(void *(*run)(void *), void *share)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, run, share))
        abort();
    pthread_attr_destroy(&attributes);
}

static NOINLINE void subscribe(void)
{
    char *share = must(malloc(SHARE_BYTES)); /* LEAK: thread's share 32768 bytes/s */
    memset(share, 1, SHARE_BYTES);
    start(wait_for_ever, share);
}

static NOINLINE void dispatch(void)
{
    start(finish, must(malloc(JOB_BYTES))); /* INNOCENT: worker's job */
}

static void serve(unsigned id)
{
    if (id % WAITS_ONE_IN == 0)
        subscribe();
    if (id % JOBS_ONE_IN == 0)
        dispatch();
}

int main(int argc, char **argv) { drive(argc, argv, serve); exit(0); }
