/* Owns a program whose rate of allocations a test sets, beside one site that leaks.
 * Must not know how it is traced.
 *
 * After `ready`, each line on stdin is a number of pairs of malloc and free to make a second, 0 for
 * as many as it can, and a number of bytes to leak a second in blocks of 128; where a third follows, so many
 * bytes a second are held for a second in such blocks. It is answered by `did`. A quarter of a second later, and each quarter from then on, the line `pace PAIRS CPU_NS WALL_NS`
 * tells what it has done in all since it began. It ends with its input. */
#include "workload.h"
#include <fcntl.h>
#include <poll.h>

static unsigned long pairs, leaked;

SITE void site_churn(void *slots[64], unsigned long count) {
    for (unsigned long i = 0; i < count; i++) {
        unsigned long slot = (pairs * 7 + i) % 64;
        free(slots[slot]);
        slots[slot] = malloc(16 + (i % 8) * 16);
    }
    pairs += count;
}

SITE void site_leak(void) {
    void *block = malloc(128);
    HIDE(block);
    memset(block, 1, 128);
    leaked += 128;
}

/* Blocks that live for a second: more than any pace of a test has at once. */
#define HELD 65536
static struct { void *block; uint64_t until; } held[HELD];
static unsigned long held_from, held_to;

SITE void site_session(uint64_t now) {
    if (held_to - held_from == HELD) return;
    void *block = malloc(128);
    HIDE(block);
    memset(block, 1, 128);
    held[held_to % HELD].block = block;
    held[held_to % HELD].until = now + 1000000000;
    held_to++;
}

static void end_sessions(uint64_t now) {
    while (held_from < held_to && held[held_from % HELD].until <= now) {
        free(held[held_from % HELD].block);
        held_from++;
    }
}

static int read_line(char *line, size_t size) {
    size_t length = 0;
    while (length + 1 < size && read(0, line + length, 1) == 1) {
        if (line[length] == '\n') {
            line[length] = 0;
            return 1;
        }
        length++;
    }
    return 0;
}

int main(void) {
    static void *slots[64];
    char line[64];
    unsigned long rate = 1000, leak_rate = 0, session_rate = 0;
    tell("ready %d\n", (int)getpid());
    uint64_t began = now_ns(CLOCK_MONOTONIC), told = began;
    /* What it owes is counted from here. */
    uint64_t since = began;
    unsigned long made = 0, lost = 0, begun = 0;
    for (;;) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        if (poll(&input, 1, 0) == 1) {
            if (!read_line(line, sizeof line)) return 0;
            session_rate = 0;
            CHECK(sscanf(line, "%lu %lu %lu", &rate, &leak_rate, &session_rate) >= 2);
            since = now_ns(CLOCK_MONOTONIC);
            made = lost = begun = 0;
            tell("did\n");
        }
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        if (now - told > 250000000) {
            told = now;
            tell("pace %lu %lu %lu\n", pairs, now_ns(CLOCK_PROCESS_CPUTIME_ID), now - began);
        }
        double passed = (now - since) / 1e9;
        while (lost < leak_rate * passed) {
            site_leak();
            lost += 128;
        }
        end_sessions(now);
        while (begun < session_rate * passed) {
            site_session(now);
            begun += 128;
        }
        unsigned long due = rate == 0 ? made + 2000 : rate * passed;
        if (made < due) {
            unsigned long count = due - made < 2000 ? due - made : 2000;
            site_churn(slots, count);
            made += count;
        } else {
            usleep(1000);
        }
    }
}
