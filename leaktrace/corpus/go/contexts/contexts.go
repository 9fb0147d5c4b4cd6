// Owns large objects that small references retain: a subslice that pins its request's body, and contexts whose
// cancel functions are forgotten. Beside them a copy of the subslice in a bounded index, and a pool of buffers.
package main

import (
	"context"
	"corpus/load"
	"sync"
)

const bodyBytes, entries = 4 << 10, 256

type key struct{}

var index = map[int][]byte{}
var bounded [entries][]byte
var root, stop = context.WithCancel(context.Background())
var buffers = sync.Pool{New: newBuffer}

func newBuffer() any {
	return make([]byte, bodyBytes) // INNOCENT: pooled buffer
}

//go:noinline
func read(id int) []byte {
	body := make([]byte, bodyBytes) // LEAK: pinned body 81920 bytes/s
	body[0] = byte(id)
	return body
}

//go:noinline
func readShort(id int) []byte {
	body := make([]byte, bodyBytes) // INNOCENT: body that is copied from
	body[0] = byte(id)
	return body
}

// The parent knows each child until it is cancelled, and the child its values.
func begin(id int) context.Context {
	values := context.WithValue(root, key{}, make([]byte, 512)) // LEAK: request context 11200 bytes/s
	child, _ := context.WithCancel(values)                      // LEAK: forgotten cancel 2500 bytes/s
	return child
}

func serve(id int) {
	if id%10 == 0 {
		index[id] = read(id)[:16] // LEAK: index of bodies 83000 bytes/s
		begin(id)
	}
	bounded[id%entries] = append([]byte(nil), readShort(id)[:16]...) // INNOCENT: bounded index
	buffer := buffers.Get().([]byte)
	buffer[0] = byte(id)
	buffers.Put(buffer) // INNOCENT: pool
}

func main() {
	defer stop()
	load.Drive(serve)
}
