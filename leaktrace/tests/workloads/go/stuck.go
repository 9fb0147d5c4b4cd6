// A program whose memory profile is on: senders that nobody hears hold most of its memory, by way of small structures,
// and a slice holds the rest. It says "ready PID" once all wait, and stays so until its input ends.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"
)

const senders, bufferBytes = 64, 1 << 20

type answer struct {
	length int
	body   *[]byte
}

var kept [][]byte

//go:noinline
func read() []byte {
	return make([]byte, bufferBytes) // LEAK: held by blocked senders
}

//go:noinline
func send(answers chan *answer, waiting *sync.WaitGroup) {
	body := read()
	waiting.Done()
	answers <- &answer{len(body), &body}
}

//go:noinline
func keep() {
	kept = append(kept, make([]byte, bufferBytes)) // innocent of goroutines
}

func main() {
	var waiting sync.WaitGroup
	for i := 0; i < senders; i++ {
		waiting.Add(1)
		go send(make(chan *answer), &waiting)
		keep()
	}
	waiting.Wait()
	// What reads the profile keeps the linker from switching it off.
	runtime.MemProfile(nil, true)
	runtime.GC()
	go func() {
		for range time.Tick(time.Second) {
			runtime.GC()
		}
	}()
	fmt.Println("ready", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
}
