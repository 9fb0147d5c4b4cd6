/* Owns processes that come from one another with blocks in their hands.
 * Must not know how they are traced.
 *
 * usage: forker fork | exec | vfork | spawn | short [COUNT] | short-exec [COUNT]
 *
 *   fork        the child frees half of what it inherits and makes its own
 *   exec        the process replaces itself: all its blocks are gone
 *   vfork spawn the child borrows the parent's memory, then executes this program
 *   short       COUNT children leak and are gone within milliseconds
 *   short-exec  the same, each in a program of its own
 * The other modes are what the program gives itself when it is executed again. */
#include "workload.h"
#include <spawn.h>

extern char **environ;

#define PARENT_BLOCKS 100
#define CHILD_BLOCKS 30
#define EXEC_BLOCKS 5
#define LEAKED_BLOCKS 20

static void *blocks[PARENT_BLOCKS];

SITE void site_parent(void) {
    for (int i = 0; i < PARENT_BLOCKS; i++) CHECK((blocks[i] = malloc(64)) != NULL);
    lives(__func__, PARENT_BLOCKS, 64);
}

SITE void site_child(void) {
    static void *own[CHILD_BLOCKS];
    for (int i = 0; i < CHILD_BLOCKS; i++) CHECK((own[i] = malloc(128)) != NULL);
    lives(__func__, CHILD_BLOCKS, 128);
}

SITE void site_after_exec(void) {
    static void *own[EXEC_BLOCKS];
    for (int i = 0; i < EXEC_BLOCKS; i++) CHECK((own[i] = malloc(32)) != NULL);
    lives(__func__, EXEC_BLOCKS, 32);
}

SITE void site_short_leak(void) {
    for (int i = 0; i < LEAKED_BLOCKS; i++) {
        void *block = malloc(50);
        HIDE(block);
        CHECK(block != NULL);
    }
}

/* Two pipes: the child tells that it has told its truth, and stays until the
 * parent closes its end. Inherited over exec. */
static int told[2], stay[2];

static void tell_and_stay(int told_end, int stay_end) {
    char byte = 0;
    tell_truths();
    CHECK(write(told_end, &byte, 1) == 1);
    while (read(stay_end, &byte, 1) < 0 && errno == EINTR) {}
    _exit(0);
}

static void finish(pid_t child) {
    char byte;
    int status;
    CHECK(read(told[0], &byte, 1) == 1);
    tell_truths();
    settled();
    close(stay[1]);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void by_fork(void) {
    site_parent();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(stay[1]);
        for (int i = 0; i < PARENT_BLOCKS / 2; i++) free(blocks[i]);
        dies("site_parent", PARENT_BLOCKS / 2, 64);
        site_child();
        tell_and_stay(told[1], stay[0]);
    }
    finish(child);
}

static void by_exec_in_child(const char *mode) {
    char told_end[12], stay_end[12], closed_end[12];
    snprintf(told_end, sizeof told_end, "%d", told[1]);
    snprintf(stay_end, sizeof stay_end, "%d", stay[0]);
    snprintf(closed_end, sizeof closed_end, "%d", stay[1]);
    char *arguments[] = {"forker", "executed", told_end, stay_end, closed_end, NULL};
    pid_t child;
    site_parent();
    if (strcmp(mode, "vfork") == 0) {
        child = vfork();
        if (child == 0) {
            execv("/proc/self/exe", arguments);
            _exit(3);
        }
    } else {
        CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0);
    }
    CHECK(child > 0);
    finish(child);
}

static void short_lived(int count, int execute) {
    char *arguments[] = {"forker", "leak", NULL};
    for (int i = 0; i < count; i++) {
        int status;
        pid_t child;
        if (execute) {
            CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0);
        } else {
            child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                site_short_leak();
                _exit(0);
            }
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        tell_truth(child, "site_short_leak", LEAKED_BLOCKS, LEAKED_BLOCKS * 50);
    }
    settled();
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "fork";
    if (strcmp(mode, "leak") == 0) {
        site_short_leak();
        _exit(0);
    }
    if (strcmp(mode, "executed") == 0) {
        CHECK(argc == 5);
        close(atoi(argv[4]));
        site_after_exec();
        tell_and_stay(atoi(argv[2]), atoi(argv[3]));
    }
    if (strcmp(mode, "replaced") == 0) {
        site_after_exec();
        tell_truths();
        settled();
        return 0;
    }
    CHECK(pipe(told) == 0 && pipe(stay) == 0);
    ready();
    if (strcmp(mode, "fork") == 0) {
        by_fork();
    } else if (strcmp(mode, "exec") == 0) {
        char *arguments[] = {"forker", "replaced", NULL};
        site_parent();
        execv("/proc/self/exe", arguments);
        return 3;
    } else if (strcmp(mode, "vfork") == 0 || strcmp(mode, "spawn") == 0) {
        by_exec_in_child(mode);
    } else if (strncmp(mode, "short", 5) == 0) {
        short_lived(argc > 2 ? atoi(argv[2]) : 5, strcmp(mode, "short-exec") == 0);
    } else {
        dprintf(2, "forker: no such mode: %s\n", mode);
        return 2;
    }
    return 0;
}
