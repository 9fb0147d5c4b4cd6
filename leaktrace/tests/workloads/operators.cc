// Owns a known set of live blocks for every overload of C++'s operators new and delete.
// Must not know what serves them, or how it is traced.
#include "workload.h"
#include <new>

static void *volatile kept[256];
static int kept_count;

static void keep(void *block) {
    CHECK(block != nullptr);
    kept[kept_count++] = block;
}

struct alignas(64) Aligned {
    char bytes[192];
};

struct Plain {
    char bytes[40];
};

SITE void site_new(void) {
    for (int i = 0; i < 5; i++) keep(::operator new(100 + i));
    void *block = ::operator new(500);
    HIDE(block);
    ::operator delete(block);
    Plain *plain = new Plain;
    HIDE(plain);
    delete plain;
    for (int i = 0; i < 5; i++) lives(__func__, 1, 100 + i);
}

SITE void site_new_array(void) {
    keep(::operator new[](1000));
    char *block = new char[3000];
    HIDE(block);
    delete[] block;
    lives(__func__, 1, 1000);
}

SITE void site_new_zero(void) {
    keep(::operator new(0));
    lives(__func__, 1, 0);
}

SITE void site_new_nothrow(void) {
    keep(::operator new(70, std::nothrow));
    keep(::operator new[](71, std::nothrow));
    CHECK(::operator new(huge_size, std::nothrow) == nullptr);
    void *block = ::operator new(72, std::nothrow);
    HIDE(block);
    ::operator delete(block, std::nothrow);
    block = ::operator new[](73, std::nothrow);
    HIDE(block);
    ::operator delete[](block, std::nothrow);
    lives(__func__, 1, 70);
    lives(__func__, 1, 71);
}

SITE void site_new_aligned(void) {
    std::align_val_t alignment{256};
    keep(::operator new(300, alignment));
    keep(::operator new[](301, alignment));
    keep(::operator new(302, alignment, std::nothrow));
    void *block = ::operator new(303, alignment);
    HIDE(block);
    ::operator delete(block, 303, alignment);
    block = ::operator new[](304, alignment, std::nothrow);
    HIDE(block);
    ::operator delete[](block, alignment);
    Aligned *aligned = new Aligned;
    HIDE(aligned);
    delete aligned;
    lives(__func__, 1, 300);
    lives(__func__, 1, 301);
    lives(__func__, 1, 302);
}

SITE void site_delete_sized(void) {
    void *block = ::operator new(128);
    HIDE(block);
    ::operator delete(block, 128);
    block = ::operator new[](129);
    HIDE(block);
    ::operator delete[](block, 129);
    ::operator delete(nullptr);
    lives(__func__, 0, 0);
}

// What is thrown for want of memory leaves several calls at once, and what comes after it counts as
// if nothing had been.
SITE void site_new_fails(void) {
    for (int i = 0; i < 3; i++) {
        bool failed = false;
        try {
            keep(::operator new(huge_size));
        } catch (const std::bad_alloc &) {
            failed = true;
        }
        CHECK(failed);
        keep(::operator new(60));
    }
    lives(__func__, 3, 60);
}

// Blocks of malloc and of new beside each other, of one size.
SITE void site_both(void) {
    for (int i = 0; i < 10; i++) {
        void *block = malloc(33);
        HIDE(block);
        void *other = ::operator new(33);
        HIDE(other);
        if (i % 2 == 0) {
            free(block);
            keep(other);
        } else {
            keep(block);
            ::operator delete(other);
        }
    }
    lives(__func__, 10, 33);
}

int main(int argc, char **) {
    // The first exception takes a reserve that is never given back.
    try {
        throw 1;
    } catch (int) {
    }
    ready();
    site_new();
    site_new_array();
    site_new_zero();
    site_new_nothrow();
    site_new_aligned();
    site_delete_sized();
    // mimalloc that was built as C ends the program instead.
    if (argc == 1) site_new_fails();
    site_both();
    tell_truths();
    settled();
    return 0;
}
