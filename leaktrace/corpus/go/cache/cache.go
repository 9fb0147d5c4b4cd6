// Owns a global map that a goroutine fills for ever, and which no collector can reclaim, because a global map is a
// root. Beside it a bounded cache, one that takes ten seconds to fill, and a warm-up.
package main

import (
	"corpus/load"
	"time"
)

const slots, pages, warm = 512, 2000, 600

var orphans = map[string][]byte{}
var sessions [slots][]byte
var cached [pages][]byte
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

// The oldest page goes once there are enough; until then it looks like a leak.
func cachePage(id int) {
	cached[id%pages] = make([]byte, 256) // INNOCENT: cache that fills slowly
}

// What is loaded in the first three seconds and kept.
func warmUp(id int) {
	tables[id] = make([]byte, 1024) // INNOCENT: warm-up
}

func main() {
	go leakyCache()
	load.Drive(func(id int) {
		cacheSession(id)
		cachePage(id)
		if id < warm {
			warmUp(id)
		}
	})
}
