// Owns the example that the project began from, as it stands in the text but for the load beside it: one value of
// 1 KiB a second, under keys that never come again. "Cache reclaimed by GC", the text says; a global map is a root.
// Beside it a ring of the latest values, which does forget.
package main

import (
	"corpus/load"
	"time"
)

var cache = make(map[string][]byte)
var latest [16][]byte

func leakyCache() {
	for {
		key := time.Now().String()      // LEAK: the example's key 80 bytes/s
		cache[key] = make([]byte, 1024) // LEAK: the example's value 1024 bytes/s
		time.Sleep(time.Second)
	}
}

func remember(id int) {
	latest[id%len(latest)] = make([]byte, 1024) // INNOCENT: ring of the latest
}

func main() {
	go leakyCache()
	load.Drive(remember)
}
