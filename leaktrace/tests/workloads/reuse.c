/* Owns two processes that have one pid, the second born once the first is gone.
 * Must not know how they are traced.
 *
 * The truths of both carry the same pid: the first that is told is the first
 * process's. Needs CAP_SYS_ADMIN (clone3 with set_tid) and ends with 4 without. */
#include "workload.h"
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>

#define FIRST_BLOCKS 10
#define SECOND_BLOCKS 25

SITE void site_first(void) {
    for (int i = 0; i < FIRST_BLOCKS; i++) {
        void *block = malloc(40);
        HIDE(block);
        CHECK(block != NULL);
    }
}

SITE void site_second(void) {
    for (int i = 0; i < SECOND_BLOCKS; i++) {
        void *block = malloc(70);
        HIDE(block);
        CHECK(block != NULL);
    }
}

/* A child with this pid, or with any where it is 0. */
static pid_t fork_as(pid_t pid) {
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    if (pid != 0) {
        arguments.set_tid = (uintptr_t)&pid;
        arguments.set_tid_size = 1;
    }
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static pid_t live_and_die(pid_t pid, void (*site)(void)) {
    int status;
    pid_t child = fork_as(pid);
    if (child < 0) _exit(4);
    if (child == 0) {
        site();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return child;
}

int main(void) {
    ready();
    pid_t pid = live_and_die(0, site_first);
    CHECK(live_and_die(pid, site_second) == pid);
    tell_truth(pid, "site_first", FIRST_BLOCKS, FIRST_BLOCKS * 40);
    tell_truth(pid, "site_second", SECOND_BLOCKS, SECOND_BLOCKS * 70);
    settled();
    return 0;
}
