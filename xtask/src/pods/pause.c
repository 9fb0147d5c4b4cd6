//! Owns the program that holds a pod's namespaces. Must not know anything else.

#include <unistd.h>

int main(void) {
    for (;;) {
        pause();
    }
}
