/* Owns two programs that are hard to judge: one that leaks little under much churn, and one that only
 * replaces what it has had for long.
 * Must not know how they are judged.
 *
 * usage: aging leak|replace
 *
 * `leak`: 64 bytes each 62.5 ms stay, 1 KiB a second, while 20 MB a second live for a tenth of one.
 * `replace`: 8 000 blocks were there before `ready`; 200 a second are replaced.
 * Either runs until its stdin closes, ten minutes at most. */
#include "workload.h"
#include <poll.h>

enum { TICKS_PER_SECOND = 200, CHURN_PER_TICK = 25, CHURN_BYTES = 4096, CHURN_ALIVE = 500, OLD = 8000 };

static void *churn[CHURN_ALIVE];
static void *old[OLD];

SITE void site_slow(void) {
    void *block = malloc(64);
    HIDE(block);
}

SITE void site_churn(unsigned long slot) {
    free(churn[slot]);
    churn[slot] = malloc(CHURN_BYTES);
    HIDE(churn[slot]);
}

SITE void site_replaced(unsigned long slot) {
    free(old[slot]);
    old[slot] = malloc(128);
    HIDE(old[slot]);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    int leaks = strcmp(argv[1], "leak") == 0;
    CHECK(leaks || strcmp(argv[1], "replace") == 0);
    for (unsigned long slot = 0; !leaks && slot < OLD; slot++) site_replaced(slot);
    ready();
    unsigned long churned = 0, replaced = 0;
    uint64_t begun = now_ns(CLOCK_MONOTONIC);
    for (unsigned long tick = 0; tick < 600ul * TICKS_PER_SECOND; tick++) {
        if (leaks) {
            for (int i = 0; i < CHURN_PER_TICK; i++) site_churn(churned++ % CHURN_ALIVE);
            if (tick * 16 / TICKS_PER_SECOND != (tick + 1) * 16 / TICKS_PER_SECOND) site_slow();
        } else {
            site_replaced(replaced++ % OLD);
        }
        uint64_t due = begun + (tick + 1) * (1000000000u / TICKS_PER_SECOND);
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        int wait_ms = now < due ? (int)((due - now) / 1000000) : 0;
        struct pollfd line = {0, POLLIN, 0};
        if (poll(&line, 1, wait_ms) > 0) return 0;
    }
    return 0;
}
