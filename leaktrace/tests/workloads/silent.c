/* Owns a program that has nothing, no C library and no allocator, and waits to be killed.
 * Must not know who looks at it. */

void _start(void) {
    for (;;) {
        long pause = 34;
        __asm__ volatile("syscall" : "+a"(pause) : : "rcx", "r11", "memory");
    }
}
