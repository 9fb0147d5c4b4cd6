/* Owns a program with one block at a time, which it writes to, grows or frees as it is told.
 * Must not know who watches the block.
 *
 * A number on stdin has it make a block of so many bytes, and another behind it, so that it is not the last of the heap: it
 * answers `block ADDRESS`. `write`, `copy`, `free` and `realloc` do so to the block, and are answered by `did`. */
#include "workload.h"

int main(void) {
    char line[64];
    static char text[64];
    char *volatile block = 0;
    void *volatile behind = 0;
    tell("ready %d\n", (int)getpid());
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] >= '0' && line[0] <= '9') {
            block = malloc(strtoul(line, 0, 10));
            /* Not one that was freed somewhere before. */
            do behind = malloc(64);
            while ((char *)behind < block);
            tell("block %lu\n", (unsigned long)block);
            continue;
        }
        if (line[0] == 'w') *(volatile long *)block = 7;
        if (line[0] == 'c') memcpy(block, text, strlen(line) * 8);
        if (line[0] == 'f') free(block);
        if (line[0] == 'r') behind = realloc(block, 1000000);
        tell("did\n");
    }
    return 0;
}
