// Package load has what every Go program of the corpus shares: a load that the program drives itself, and
// the garbage that a service makes beside it, without which a collection comes every two minutes only.
//
// The truth stands in comments: `LEAK: NAME N bytes/s` and `INNOCENT: NAME` on the line whose call makes
// the objects. Where it is `EITHER: NAME`, growth is no error and no growth neither. The runner finds lines by these marks.
package load

import (
	"os"
	"runtime/pprof"
	"strconv"
	"time"
)

// PerSecond is how many requests come each second.
const PerSecond = 200

// Seconds is how long the program is to run.
func Seconds() int {
	if len(os.Args) > 1 {
		if seconds, err := strconv.Atoi(os.Args[1]); err == nil {
			return seconds
		}
	}
	return 60
}

// Drive calls serve with 0, 1, 2… at the rate above until the seconds of the command line are over.
func Drive(serve func(id int)) {
	begun := time.Now()
	for id := 0; id < Seconds()*PerSecond; id++ {
		serve(id)
		Answer(id)
		due := begun.Add(time.Duration(id+1) * time.Second / PerSecond)
		time.Sleep(time.Until(due))
	}
	profile()
}

// For comparison, what Go's own profiler makes of it, if a file is named.
func profile() {
	file, err := os.Create(os.Getenv("CORPUS_HEAP_PROFILE"))
	if err == nil {
		pprof.WriteHeapProfile(file)
		file.Close()
	}
}

var answer []byte

// Answer makes the garbage of one request: 6 MB a second in all.
//
//go:noinline
func Answer(id int) {
	answer = make([]byte, 32<<10) // INNOCENT: garbage
	answer[0] = byte(id)
}
