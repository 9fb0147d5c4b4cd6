// A service that keeps pieces for ever beside requests whose objects die at once: its memory grows fast enough to be
// suspected soon.
//
// Its argument says whether its memory profile is on: "profile" as the runtime has it where something reads it, which
// this program does, or "no-profile". It says "ready PID" and goes on until its input ends.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

const (
	// 2 MiB a second.
	pause      = 50 * time.Millisecond
	pieceBytes = 26 << 12
	// Objects of requests, between two pieces: more than can be looked at one by one for what that may cost.
	requests = 5000
)

type request struct {
	next *request
	id   int
	body [40]byte
}

var kept [][]byte

//go:noinline
func keep() {
	piece := make([]byte, pieceBytes) // LEAK: pieces
	for at := range piece {
		piece[at] = byte(at)
	}
	kept = append(kept, piece)
}

//go:noinline
func serve() int {
	var last *request
	for id := 0; id < requests; id++ {
		if id%10 == 0 {
			last = nil
		}
		last = &request{next: last, id: id}
	}
	return last.id
}

func work() {
	for range time.Tick(pause) {
		keep()
		serve()
	}
}

func main() {
	if os.Args[1] == "no-profile" {
		runtime.MemProfileRate = 0
	} else {
		// What reads the profile keeps the linker from switching it off.
		runtime.MemProfile(nil, true)
	}
	go work()
	fmt.Printf("ready %d\n", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
}
