// The other heap of a program that calls C: of the blocks that C makes some are kept and some are freed.
package main

/*
#include <stdlib.h>
__attribute__((noinline)) static void *site_c(void) {
	void *block = malloc(120);
	*(volatile char *)block = 1;
	return block;
}
*/
import "C"

import "unsafe"

const keptInC, sizeInC = 200, 120

var inC []unsafe.Pointer

func allocateInC() {
	for i := 0; i < 4*keptInC; i++ {
		block := C.site_c()
		if i%4 == 0 {
			inC = append(inC, block)
		} else {
			C.free(block)
		}
	}
}
