// Owns the leak of the origin: a goroutine that fills a map for ever while main sleeps, and which no collector
// can reclaim, because a global map is a root. Beside it a bounded cache and a warm-up.
package main

import (
	"corpus/load"
	"time"
)

const slots, warm = 512, 600

var orphans = map[string][]byte{}
var sessions [slots][]byte
var tables [warm][]byte

// leakyCache puts a value under a key that never comes again, 50 times a second.
func leakyCache() {
	for {
		orphans[time.Now().String()] = make([]byte, 1024) // LEAK: orphaned entry 54400 bytes/s
		time.Sleep(20 * time.Millisecond)
	}
}

func cacheSession(id int) {
	sessions[id%slots] = make([]byte, 512) // INNOCENT: bounded cache
}

// What is loaded in the first three seconds and kept.
func warmUp(id int) {
	tables[id] = make([]byte, 1024) // INNOCENT: warm-up
}

func main() {
	go leakyCache()
	load.Drive(func(id int) {
		cacheSession(id)
		if id < warm {
			warmUp(id)
		}
	})
}
