/* Owns blocks that a parent makes and its child gives back, all of them.
 * Must not know how they are traced. */
#include "workload.h"

#define COUNT 20000

static void *blocks[COUNT];

SITE void site_parent(void) {
    for (int i = 0; i < COUNT; i++) blocks[i] = malloc(256);
}

int main(void) {
    ready();
    site_parent();
    lives("site_parent", COUNT, COUNT * 256L);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        /* The first half at once, the rest when whoever follows it has had time to. */
        for (int i = 0; i < COUNT / 2; i++) free(blocks[i]);
        usleep(500000);
        for (int i = COUNT / 2; i < COUNT; i++) free(blocks[i]);
        _exit(0);
    }
    tell("child {\"pid\":%d}\n", (int)child);
    int status;
    tell_truths();
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    settled();
    return 0;
}
