// Owns what goroutines share and keep alive: subscribers that wait on a condition that no one signals, each with its
// snapshot, and listeners that a publisher knows for ever. Beside them workers that share a queue, listeners that
// unsubscribe, and a snapshot that all share and that is replaced.
//
// Those who wait hold records that the runtime's own goroutines then lack, and make anew:
// LEAKS WITH: runtime.acquireSudog
package main

import (
	"corpus/load"
	"sync"
	"sync/atomic"
)

const snapshotBytes, one = 8 << 10, 40

var lock sync.Mutex
var never = sync.NewCond(&lock)
var listeners = map[int]chan int{}
var jobs = make(chan []byte, 4)
var current atomic.Pointer[[]byte]

//go:noinline
func snapshot(id int) []byte {
	snapshot := make([]byte, snapshotBytes) // LEAK: snapshot of a waiting goroutine 40960 bytes/s
	snapshot[0] = byte(id)
	return snapshot
}

func wait(snapshot []byte) {
	lock.Lock()
	for snapshot[1] == 0 {
		never.Wait()
	}
	lock.Unlock()
}

func subscribe(id int) {
	go wait(snapshot(id))              // LEAK: waiting goroutine 44000 bytes/s
	listeners[id] = make(chan int, 16) // LEAK: channel of a listener 1200 bytes/s
}

func subscribeWell(id int) {
	listeners[id] = make(chan int, 16) // INNOCENT: listener that unsubscribes
	delete(listeners, id)
}

func work() {
	for job := range jobs {
		job[0]++
	}
}

func serve(id int) {
	if id%one == 0 {
		subscribe(id)
	} else {
		subscribeWell(id)
	}
	jobs <- make([]byte, 2048)          // INNOCENT: job of a worker
	replacement := make([]byte, 16<<10) // INNOCENT: snapshot that is replaced
	current.Store(&replacement)         // INNOCENT: its holder
}

func main() {
	for range 4 {
		go work()
	}
	load.Drive(serve)
}
