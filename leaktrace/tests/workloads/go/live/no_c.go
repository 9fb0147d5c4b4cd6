//go:build !cgo

// The same program without C.
package main

const keptInC, sizeInC = 0, 0

func allocateInC() {}
