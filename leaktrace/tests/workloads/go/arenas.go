// A program that makes its objects in an arena of its own.
package main

import "arena"

type node struct {
	next *node
	data [40]byte
}

func main() {
	objects := arena.NewArena()
	var last *node
	for i := 0; i < 1000; i++ {
		made := arena.New[node](objects)
		made.next = last
		last = made
	}
	println(last != nil)
	objects.Free()
}
