// Loads itself a library some time after its start, which makes blocks 100 ms after that: the library is this file too.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void *volatile kept;

#ifdef PLUGIN
__attribute__((noinline)) static void between(int depth) {
    char room[80];
    // No frame pointer leads from here to the caller.
    __asm__ volatile("mov $16, %%ebp" ::"r"(room) : "memory", "rbp");
    if (depth > 0) {
        between(depth - 1);
    } else {
        kept = malloc(4321);
    }
    __asm__ volatile("" ::"r"(room) : "memory");
}

void site_plugin(void) {
    between(5);
    __asm__ volatile("");
}
#else
int main(int argc, char **argv) {
    printf("ready %d\n", getpid());
    fflush(stdout);
    (void)argc;
    getchar();
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        return 1;
    }
    void (*site)(void) = (void (*)(void))dlsym(library, "site_plugin");
    struct timespec pause = {.tv_nsec = 100000000};
    nanosleep(&pause, NULL);
    for (int i = 0; i < 10; i++) {
        site();
        __asm__ volatile("");
    }
    puts("settled");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
#endif
