// Calls C from several goroutines, which makes blocks with C's allocator: stacks that cross from C's stack to a
// goroutine's.
package main

/*
#include <stdlib.h>
#include <string.h>
static char *twice(const char *text) {
	size_t length = strlen(text);
	char *copy = malloc(2 * length + 1);
	memcpy(copy, text, length);
	memcpy(copy + length, text, length + 1);
	return copy;
}
*/
import "C"

import (
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"
)

//go:noinline
func process(text string) int {
	given := C.CString(text)
	copied := C.twice(given)
	length := int(C.strlen(copied))
	C.free(unsafe.Pointer(copied))
	C.free(unsafe.Pointer(given))
	return length
}

func worker(number int) {
	for round := 0; ; round++ {
		process(fmt.Sprintf("worker %d, round %d", number, round))
		time.Sleep(200 * time.Microsecond)
	}
}

func main() {
	for number := 0; number < 4; number++ {
		go worker(number)
	}
	fmt.Printf("ready %d\n", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
}
