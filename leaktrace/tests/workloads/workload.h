/* Owns what the workloads share: the protocol with a test, and a table of truths.
 * Must not know any tracer, and must not allocate: every block belongs to a site.
 *
 * The protocol, lines on stdout and stdin:
 *   ready PID           set up; what follows waits for a line
 *   truth {...}         a site's live blocks, as a tracer must report them
 *   note ...            what happened, of no consequence to the truth
 *   settled             all truths are told and nothing moves until a line comes
 * A closed stdin counts as a line each time, so that nothing is left running.
 *
 * Build: cc -O1 -g -fno-omit-frame-pointer -pthread NAME.c -o NAME
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#ifndef __cplusplus
#include <stdatomic.h>
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A site is one function with a name of its own, which makes real calls, none of
 * them in tail position: its frame must be on the stack. */
#define SITE __attribute__((noinline, noclone)) static

/* Hides a pointer's origin from the compiler, which would otherwise drop pairs of
 * malloc and free, and keeps the call from becoming a jump. */
#define HIDE(pointer) __asm__ volatile("" : "+r"(pointer) : : "memory")

/* A size that the compiler cannot see through, for calls that must fail. */
static volatile size_t huge_size = SIZE_MAX / 2 - 4096;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            dprintf(2, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            _exit(3);                                                             \
        }                                                                         \
    } while (0)

struct truth {
    const char *function;
    unsigned long live_count, live_bytes;
};

#define MAX_TRUTHS 64
static struct truth truths[MAX_TRUTHS];

static struct truth *truth_of(const char *function) {
    for (int i = 0; i < MAX_TRUTHS; i++) {
        if (truths[i].function == NULL) truths[i].function = function;
        if (strcmp(truths[i].function, function) == 0) return &truths[i];
    }
    CHECK(!"room for another site");
    return NULL;
}

/* Adds blocks of one size to a site; zero blocks name a site that holds nothing. */
__attribute__((unused)) static void lives(const char *function, unsigned long count,
                                          unsigned long bytes_each) {
    struct truth *truth = truth_of(function);
    truth->live_count += count;
    truth->live_bytes += count * bytes_each;
}

__attribute__((unused)) static void dies(const char *function, unsigned long count,
                                         unsigned long bytes_each) {
    struct truth *truth = truth_of(function);
    CHECK(truth->live_count >= count && truth->live_bytes >= count * bytes_each);
    truth->live_count -= count;
    truth->live_bytes -= count * bytes_each;
}

/* A line on stdout. Not by stdio, whose buffers are blocks; dprintf's too. */
__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(length > 0 && (size_t)length < sizeof line);
    CHECK(write(1, line, (size_t)length) == length);
}

static void tell_truth(pid_t pid, const char *function, unsigned long count, unsigned long bytes) {
    tell("truth {\"pid\":%d,\"function\":\"%s\",\"live_count\":%lu,\"live_bytes\":%lu}\n",
            (int)pid, function, count, bytes);
}

__attribute__((unused)) static void tell_truths(void) {
    for (int i = 0; i < MAX_TRUTHS && truths[i].function; i++)
        tell_truth(getpid(), truths[i].function, truths[i].live_count, truths[i].live_bytes);
}

/* Byte by byte, so that a program executed later finds the rest. */
static void await_line(void) {
    char byte;
    ssize_t got;
    do got = read(0, &byte, 1);
    while ((got == 1 && byte != '\n') || (got < 0 && errno == EINTR));
}

__attribute__((unused)) static void ready(void) {
    tell("ready %d\n", (int)getpid());
    await_line();
}

__attribute__((unused)) static void settled(void) {
    tell("settled\n");
    await_line();
}

__attribute__((unused)) static uint64_t now_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#endif
